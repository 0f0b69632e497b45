"""The parser's boundary, its pure half: whatever a head holds, judging and rewriting it ends in an answer, and never in two readings."""

import re
from urllib.parse import urlsplit

from hypothesis import example, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from trimtab.gateway.headers import HOP_BY_HOP, Sender, request_headers, request_id, response_head, response_headers
from trimtab.gateway.limits import Limits
from trimtab.gateway.refusals import Head, head_size, origin_form, path_of, refusal

LIMITS = Limits(header_bytes=600, body_bytes=1000)
STATUSES = {400, 413, 417, 431, 501, 505}
OWN = {"host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "via", "x-request-id"}
KNOWN = sorted(HOP_BY_HOP | OWN | {"content-length", "expect", "cookie", "x-class"})

# What the parser lets through: names are tokens, values hold no line break; bytes beyond ASCII may stand as lone surrogates.
names = st.one_of(st.sampled_from(KNOWN), st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True)).map(
    lambda name: name.title() if len(name) % 2 else name
)
values = st.one_of(
    st.sampled_from(["chunked", "Chunked", "gzip, chunked", "100-continue", "close", "keep-alive, X-Class", "content-length", "5", ""]),
    st.text(st.characters(exclude_characters="\r\n\0", max_codepoint=0x2FF) | st.characters(categories=["Cs"]), max_size=40),
)
plain_headers = st.lists(st.tuples(names.filter(lambda name: name.lower() != "content-length"), values), max_size=8)
lengths = st.lists(st.tuples(st.sampled_from(["Content-Length", "content-length"]), st.integers(0, 5000).map(str)), max_size=1)
headers = st.builds(lambda some, length: some + length, plain_headers, lengths)
# The parser lets no white space or control character into a target; every other byte may come.
targets = st.one_of(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60),
    st.builds("".join, st.lists(st.sampled_from(["http:", "HTTP:", "//", "/", "a", "@", ":", "80", "[", "]", "?", "#", "*", "%2f", ".."]))),
).filter(bool)
heads = st.builds(
    lambda method, target, version, pairs: (method, target, version, pairs),
    st.sampled_from(["GET", "POST", "OPTIONS", "CONNECT", "PROPFIND"]),
    targets,
    st.sampled_from([(0, 9), (1, 0), (1, 1), (2, 0)]),
    headers,
)


def _head(method, target, version, pairs):
    raw = tuple((name.encode(), value.encode("utf-8", "surrogateescape" if _escaped(value) else "surrogatepass")) for name, value in pairs)
    return Head(method, target, version, CIMultiDict(pairs), head_size(method, target, raw))


def _escaped(value):
    return all(not "\ud800" <= one <= "\udfff" or "\udc80" <= one <= "\udcff" for one in value)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(heads)
@example(("GET", "http://[", (1, 1), []))
@example(("GET", "http://a:99999/", (1, 1), []))
@example(("GET", "//a/b", (1, 1), []))
def test_a_head_is_refused_or_can_be_passed_on_without_an_error(parts):
    method, target, version, pairs = parts
    head = _head(*parts)
    refused = refusal(head, LIMITS)
    if refused is not None:
        assert refused.status in STATUSES
        assert "\r" not in refused.reason
        assert "\n" not in refused.reason
        return
    assert version in {(1, 0), (1, 1)}
    assert method != "CONNECT"
    assert head.size <= LIMITS.header_bytes
    assert int(head.headers.get("Content-Length", 0)) <= LIMITS.body_bytes
    assert all(value.strip().lower() == "chunked" for value in head.headers.getall("Transfer-Encoding", [])[:1])
    authority, origin = origin_form(target)
    assert origin.startswith("/")
    assert "#" not in origin
    assert path_of(target) == origin.partition("?")[0]
    if target.startswith("/"):
        assert (authority, origin) == ("", target)
    else:
        assert authority
        assert authority == urlsplit(target).netloc
        assert "@" not in authority
    for name, value in request_headers(pairs, Sender("127.0.0.1", authority or "a", "1.1"), "id"):
        assert f"{name}{value}".encode()  # can be written


@settings(derandomize=True, max_examples=300, deadline=None)
@given(headers, st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20))
def test_what_is_for_one_connection_never_passes_and_nothing_is_said_twice(pairs, host):
    sent = request_headers(pairs, Sender("10.0.0.1", host, "1.1"), "id")
    found = [name.lower() for name, _ in sent]
    assert not set(found) & (HOP_BY_HOP | {"expect"})
    assert all(found.count(name) == 1 for name in OWN - {"host"})
    assert found.count("host") == bool(host)
    assert dict(sent)["X-Request-Id"] == "id"
    assert dict(sent)["X-Forwarded-For"].endswith("10.0.0.1")
    named = {one.strip().lower() for name, value in pairs if name.lower() == "connection" for one in value.split(",")}
    offered = [(name, value) for name, value in pairs if name.lower() not in HOP_BY_HOP | OWN | {"expect"} | named]
    assert [pair for pair in sent if pair[0].lower() not in OWN] == offered  # all else, once, in its order


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.text(max_size=200) | st.none())
def test_an_id_is_the_clients_where_it_is_plain_and_a_new_one_where_it_is_not(offered):
    found = request_id(offered)
    assert re.fullmatch(r"[!-~]{1,128}", found)
    if offered is not None and re.fullmatch(r"[!-~]{1,128}", offered):
        assert found == offered


@settings(derandomize=True, max_examples=200, deadline=None)
@given(headers, st.tuples(names, st.text(st.characters(max_codepoint=0xFF, exclude_characters="\r\n\0"), max_size=20)))
def test_a_head_grows_with_every_header(pairs, more):
    size = _head("GET", "/", (1, 1), pairs).size
    assert _head("GET", "/", (1, 1), [*pairs, more]).size >= size + len(more[0]) + len(more[1]) + 2


raw_values = st.binary(max_size=30)
raw_names = st.one_of(st.sampled_from([name.encode() for name in KNOWN]), st.binary(min_size=1, max_size=10))


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(st.tuples(raw_names, raw_values), max_size=6), st.text(max_size=20), st.booleans())
def test_an_answers_head_has_as_many_lines_as_it_has_headers(pairs, reason, keep_length):
    try:
        kept = response_headers(pairs, "1.1", "id", keep_length=keep_length)
        head = response_head(200, reason, kept)
    except ValueError:
        return  # such an answer is not passed on
    lines = head.split(b"\r\n")
    assert len(lines) == 1 + len(kept) + 2
    assert b"\n" not in b"".join(lines)
    assert not {name.lower().decode() for name, _ in kept} & HOP_BY_HOP
    assert keep_length or all(name.lower() != b"content-length" for name, _ in kept)

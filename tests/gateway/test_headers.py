"""What goes on and what stays behind of a message's headers; which heads are refused."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from trimtab.gateway.headers import HOP_BY_HOP, PSEUDONYM, Sender, believes, request_headers, request_id, response_head, response_headers
from trimtab.gateway.limits import Limits
from trimtab.gateway.refusals import Head, head_size, origin_form, path_of, refusal

SENDER = Sender("10.0.0.9", "shop.example", "1.1", trusted=True)
STRANGER = SENDER._replace(trusted=False)
CLAIMS = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "x-forwarded-prefix", "Forwarded", "X-Real-IP")
VIA = f"1.1 {PSEUDONYM}"
TOKEN = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-", min_size=1, max_size=12)


def sent(*pairs):
    return request_headers(pairs, SENDER, "id-1")


def values(pairs, name):
    return [value for known, value in pairs if known.lower() == name.lower()]


# Requests


def test_what_is_end_to_end_keeps_its_order_and_its_repetitions():
    pairs = [("Accept", "a"), ("X-Twice", "1"), ("Cookie", "c=1"), ("X-Twice", "2"), ("Content-Length", "5")]
    assert [pair for pair in sent(*pairs) if pair in pairs] == pairs


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_what_belongs_to_one_connection_stays_behind(name):
    assert values(sent((name.title(), "anything"), ("X", "y")), name) == []


@given(TOKEN, TOKEN)
def test_connection_names_more_of_them(first, second):
    pairs = sent(("Connection", f"close, {first} "), ("connection", f"{second.upper()},,"), (first, "1"), (second, "2"), ("Kept_", "3"))
    added = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via", "x-request-id", "host"}
    assert {name.lower() for name, _ in pairs} - added == {"kept_"}


def test_the_sender_is_told_and_added_to_what_was_told_before():
    pairs = sent(
        ("X-Forwarded-For", "192.0.2.1"), ("Via", "1.0 front"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "front.example")
    )
    assert values(pairs, "X-Forwarded-For") == ["192.0.2.1, 10.0.0.9"]
    assert values(pairs, "X-Forwarded-Proto") == ["https"]
    assert values(pairs, "X-Forwarded-Host") == ["front.example"]
    assert values(pairs, "Via") == [f"1.0 front, {VIA}"]


def test_what_a_stranger_says_of_others_stays_behind():
    pairs = request_headers([(name, "forged") for name in CLAIMS] + [("X", "1"), ("Via", "1.0 front")], STRANGER, "id-1")
    assert "forged" not in dict(pairs).values()
    assert (values(pairs, "X-Forwarded-For"), values(pairs, "X-Forwarded-Proto")) == (["10.0.0.9"], ["http"])
    assert (values(pairs, "X-Forwarded-Host"), values(pairs, "Via")) == (["shop.example"], [f"1.0 front, {VIA}"])
    assert {name for name, _ in pairs if name in CLAIMS} == {"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}


def test_what_a_proxy_says_that_is_trusted_is_passed_on():
    pairs = sent(*[(name, "told") for name in CLAIMS])
    assert all(values(pairs, name)[0].startswith("told") for name in CLAIMS)


@pytest.mark.parametrize(
    ("address", "trusted"),
    [("10.1.2.3", True), ("11.0.0.1", False), ("::ffff:10.1.2.3", True), ("2001:db8::1", True), ("2001:db9::1", False), ("unknown", False)],
)
def test_proxies_are_known_by_their_network(address, trusted):
    proxies = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]
    assert believes(proxies, address) == trusted
    assert not believes([], address)


def test_the_sender_is_told_where_nobody_was_before():
    pairs = dict(sent(("Host", "shop.example")))
    assert pairs["Host"] == "shop.example"
    assert (pairs["X-Forwarded-For"], pairs["X-Forwarded-Proto"], pairs["X-Forwarded-Host"]) == ("10.0.0.9", "http", "shop.example")
    assert (pairs["Via"], pairs["X-Request-Id"]) == (VIA, "id-1")


def test_an_expectation_is_met_here_and_not_passed_on():
    assert values(sent(("Expect", "100-continue")), "Expect") == []


def test_an_id_is_passed_or_made():
    assert request_id("abc-1") == "abc-1"
    for bad in (None, "", "a b", "x" * 129, "é"):
        assert len(request_id(bad)) == 32
    assert request_id(None) != request_id(None)


# Answers


def answered(*pairs, keep_length=True):
    return response_headers(pairs, "1.1", "id-1", keep_length=keep_length)


def test_an_answer_passes_byte_for_byte_but_for_its_connection():
    kept = [(b"content-TYPE", b"text/x; q=\xe9"), (b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"X-Request-ID", b"theirs")]
    pairs = answered(*kept, (b"Connection", b"X-Private"), (b"x-private", b"1"), (b"Keep-Alive", b"5"), (b"Transfer-Encoding", b"chunked"))
    assert pairs == [*kept, (b"Via", VIA.encode())]


def test_an_answer_gets_the_requests_id_and_loses_a_length_that_is_not_its_own():
    assert answered((b"Content-Length", b"5"), keep_length=False) == [(b"Via", VIA.encode()), (b"X-Request-Id", b"id-1")]


@pytest.mark.parametrize("bad", [b"a\rb", b"a\nb", b"a\0b"])
def test_an_answer_that_would_split_its_head_is_refused(bad):
    with pytest.raises(ValueError, match="line break"):
        answered((b"X", bad))


def test_a_head_is_lines():
    assert response_head(404, "Not\r\nFound", [(b"A", b"1"), (b"B", b"2")]) == b"HTTP/1.1 404 Not  Found\r\nA: 1\r\nB: 2\r\n\r\n"


# Refusals


def refused(method="GET", target="/", version=(1, 1), size=100, limits=None, **headers):
    pairs = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    found = refusal(Head(method, target, version, pairs, size), limits or Limits())
    return found and found.status


@pytest.mark.parametrize("target", ["/", "/a/../b?x=%zz", "http://other.example:80/x", "http://[::1]:8080/", "//double"])
def test_paths_and_http_urls_pass(target):
    assert refused(target=target) is None
    assert refused(target=target, version=(1, 0)) is None


@pytest.mark.parametrize(
    ("target", "status"),
    [("*", 501), ("/a#b", 400), ("https://x/", 400), ("http:///x", 400), ("http://u@x/", 400), ("http://x:99999/", 400), ("x:1", 400)],
)
def test_other_targets_are_refused(target, status):
    assert refused(target=target) == status


def test_tunnels_and_other_versions_are_refused():
    assert refused("CONNECT", "example:443") == 501
    assert refused(version=(2, 0)) == 505


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Transfer_Encoding": "chunked"}, None),
        ({"Transfer_Encoding": " Chunked "}, None),
        ({"Transfer_Encoding": "gzip, chunked"}, 501),
        ({"Transfer_Encoding": "identity"}, 501),
        ({"Expect": "100-Continue"}, None),
        ({"Expect": "a miracle"}, 417),
        ({"X": "gr\u00fc\u00dfe"}, None),
        ({"X": "\udce9"}, 400),
        ({"Content_Length": "1000"}, None),
        ({"Content_Length": "1001"}, 413),
    ],
)
def test_headers_that_cannot_be_met_are_refused(headers, status):
    assert refused(limits=Limits(body_bytes=1000), **headers) == status


def test_a_length_in_chunks_under_the_old_protocol_is_refused():
    assert refused(version=(1, 0), Transfer_Encoding="chunked") == 400


@pytest.mark.parametrize(
    ("via", "status"),
    [(VIA, 508), (f"1.0 front, {VIA}, 1.1 x", 508), ("1.1 trimtab", None), ("1.1 trimtab-0", None)],
    ids=["own", "own among others", "no token", "another token"],  # the token is drawn anew in every process
)
def test_a_request_that_comes_back_is_refused(via, status):
    assert refused(Via=via) == status


def test_a_head_is_measured_as_it_came():
    raw = b"GET /path HTTP/1.1\r\nHost: a\r\nX-Y: zz\r\n\r\n"
    size = head_size("GET", "/path", ((b"Host", b"a"), (b"X-Y", b"zz")))
    assert 0 < len(raw) - size < 20
    assert refused(size=101, limits=Limits(header_bytes=100)) == 431
    assert refused(size=100, limits=Limits(header_bytes=100)) is None


def test_targets_are_taken_apart():
    assert path_of("/a/b?c=/d") == "/a/b"
    assert path_of("http://x?y") == "/"
    assert origin_form("http://x:1/a?b") == ("x:1", "/a?b")
    assert origin_form("//a?b") == ("", "//a?b")
    for path in ("/?", "/x?", "/x??", "/x?a=b?", "//x//?/"):
        assert origin_form(path) == ("", path)
        assert origin_form(f"http://x:1{path}") == ("x:1", path)
    assert origin_form("HTTP://[::1]:80") == ("[::1]:80", "/")
    assert origin_form("http://x?") == ("x", "/?")

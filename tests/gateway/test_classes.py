"""Which class a request belongs to: prefixes end at segments, the first class that fits wins, and what fits none has a place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import scenario, server
from server_profile import class_profile
from trimtab.core.scenario import Match, RequestClass
from trimtab.errors import UsageError
from trimtab.gateway.classes import REGEX_CHARACTERS, ClassMatcher


def matcher(*matches, default=None):
    """Classes a, b, c, ... with these matches, in this order."""
    classes = tuple(RequestClass(chr(ord("a") + i), 1 / len(matches), 0.01, match=one) for i, one in enumerate(matches))
    return ClassMatcher(scenario(server(classes=tuple(one.name for one in classes)), classes=classes), default)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/job/b", 1), ("/job/b/", 1), ("/job/b/deep/er", 1), ("/job/bb", 0), ("/job/", 0), ("/x/job/b", 0), ("", 0), ("*", 0)],
)
def test_without_match_a_class_is_the_path_that_the_servers_know(path, kind):
    assert matcher(None, None).kind_of(path, {}) == kind


@pytest.mark.parametrize(
    ("prefix", "path", "fits"),
    [
        ("/api", "/api", True),
        ("/api", "/api/x", True),
        ("/api", "/apis", False),
        ("/api/", "/api/x", True),
        ("/api/", "/api/", True),
        ("/api/", "/api", False),
        ("/api", "/API", False),
        ("/api", "/%61pi", False),
        ("/", "/whatever", True),
    ],
)
def test_a_prefix_ends_at_a_segment(prefix, path, fits):
    assert matcher(Match(prefix="/never"), Match(prefix=prefix)).kind_of(path, {}) == fits


def test_a_header_must_be_there_and_equal():
    gold = matcher(Match(prefix="/never"), Match(header="X-Class", value="gold"))
    assert [gold.kind_of("/", headers) for headers in ({"X-Class": "gold"}, {"X-Class": "Gold"}, {"X-Class": "gold "}, {})] == [1, 0, 0, 0]


def test_a_regex_is_searched_for_and_may_be_anchored():
    found = matcher(Match(prefix="/never"), Match(regex="^/v[0-9]+/heavy"), Match(regex="big"))
    assert [found.kind_of(path, {}) for path in ("/v12/heavy", "/x/v1/heavy", "/so/big/a/thing")] == [1, 0, 2]


def test_a_path_too_long_for_a_regex_goes_on_to_the_next_class():
    both = matcher(Match(regex="x"), Match(prefix="/"))
    longest = "/".ljust(REGEX_CHARACTERS, "x")
    assert (both.kind_of(longest, {}), both.kind_of(longest + "x", {})) == (0, 1)


def test_the_first_class_that_fits_wins():
    path = Match(prefix="/a")
    assert matcher(path, Match(prefix="/a/b"), path).kind_of("/a/b", {}) == 0
    assert matcher(Match(prefix="/a/b"), path, None).kind_of("/a/b", {}) == 0
    assert matcher(None, Match(header="h", value="v"), path).kind_of("/a", {"h": "v"}) == 1


def test_what_fits_no_class_is_the_first_or_the_default():
    nobody = (Match(prefix="/x"), Match(prefix="/y"), Match(prefix="/z"))
    assert matcher(*nobody).kind_of("/", {}) == 0
    assert matcher(*nobody, default="c").kind_of("/", {}) == 2


def test_a_default_that_is_no_class_is_an_error_of_one_line():
    with pytest.raises(UsageError, match=r"default class 'd' is no class of the scenario; allowed: a, b; name one") as caught:
        matcher(None, None, default="d")
    assert len(str(caught.value).splitlines()) == 1


@given(st.text(), st.dictionaries(st.text(), st.text(), max_size=3))
def test_every_request_has_exactly_one_class(path, headers):
    every = matcher(Match(prefix="/a"), Match(header="X", value="1"), Match(regex="[0-9]{3}$"), None, default="d")
    assert every.kind_of(path, headers) in range(4)


def test_servers_leave_match_to_the_gateway():
    plain = {"name": "a", "work_ms": 10}
    assert class_profile(plain | {"match": {"prefix": "/api/"}}) == class_profile(plain)

"""Settings that make no sense are refused; the room for connections follows the system's."""

import resource
from ipaddress import ip_network

import pytest

from trimtab.errors import UsageError
from trimtab.gateway.health import HealthConfig
from trimtab.gateway.limits import Limits, Timeouts
from trimtab.gateway.open_files import OTHERS, allow_connections


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_sizes_and_times_are_above_zero(value):
    with pytest.raises(UsageError, match=r"connections = .*: give a number above 0"):
        Limits(connections=value)
    with pytest.raises(UsageError, match=r"body_s = .*: give a number above 0"):
        Timeouts(body_s=value)


def test_a_lame_duck_may_die_at_once_and_nobody_need_be_trusted():
    assert Timeouts(lame_duck_s=0.0).lame_duck_s == 0.0
    assert Limits(trusted_proxies=(ip_network("10.0.0.0/8"),)).trusted_proxies[0].prefixlen == 8
    for value in (-1.0, float("inf"), float("nan")):
        with pytest.raises(UsageError, match=r"lame_duck_s = .*: give a number from 0 up"):
            Timeouts(lame_duck_s=value)


@pytest.mark.parametrize("path", ["health", "", "/a b", "/\r\nX: y", "http://x/"])
def test_the_path_of_the_checks_is_a_path(path):
    with pytest.raises(UsageError, match="begins with /"):
        HealthConfig(check_path=path)


@pytest.fixture
def files():
    """A soft limit that the test may move."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_open_files_are_allowed_for_clients_and_servers(files):
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, files))
    assert allow_connections(200) == 200
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 2 * 200 + OTHERS


def test_no_more_connections_than_the_system_can_hold(monkeypatch):
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, 1024))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, pair: limits.append(pair))
    assert allow_connections(4096) == (1024 - OTHERS) // 2
    assert limits == [(1024, 1024)]
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (resource.RLIM_INFINITY,) * 2)
    assert allow_connections(4096) == 4096

"""app.py's options about what stands before and behind it."""

import signal
import socket

import pytest

from programs.test_app import fleet, port, start
from trimtab.cli.app import build_parser, main

__all__ = ["fleet", "port", "start"]  # fixtures


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--trusted-proxies", "10.0.0.1/8"), "host bits set; give addresses or networks"),
        (("--trusted-proxies", "somebody"), "give addresses or networks such as"),
        (("--lame-duck", "-1"), "seconds from 0 up"),
        (("--lame-duck", "soon"), "seconds from 0 up"),
        (("--health-path", "health"), "begins with /"),
    ],
)
def test_what_makes_no_sense_is_refused(words, said, capsys):
    assert main(["--policy", "round-robin", *words]) == 2
    assert said in capsys.readouterr().err


def test_nobody_is_trusted_unless_named():
    assert build_parser().parse_args([]).trusted_proxies == ()
    named = build_parser().parse_args(["--trusted-proxies", "10.0.0.0/8, 2001:db8::7"]).trusted_proxies
    assert [str(one) for one in named] == ["10.0.0.0/8", "2001:db8::7/128"]


def test_a_lame_duck_is_seen_by_new_clients_before_it_ends(start):
    gateway = start("--policy", "round-robin", "--lame-duck", "30", "--trusted-proxies", "127.0.0.1", "--health-path", "/health")
    gateway.process.send_signal(signal.SIGTERM)
    while gateway.get("/readyz").status != 503:
        assert gateway.process.poll() is None
    assert gateway.get("/job/a").status == 200
    with socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2])), timeout=10):
        pass  # a connection that is new
    gateway.process.send_signal(signal.SIGTERM)  # a second signal does not wait
    assert gateway.ended()[0] == -signal.SIGTERM

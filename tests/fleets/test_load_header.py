import pytest

from trimtab.fleets.load_header import NOTHING, Load, Probed, parse_load, parse_probe


def test_a_report_as_our_servers_write_it():
    text = "TEXT cpu_utilization=0.3333,mem_utilization=0.1000,named_metrics.in_flight=7"
    assert parse_load(text) == Load(7, 0.3333, 0.1)


def test_other_order_other_metrics_and_no_memory():
    assert parse_load("TEXT named_metrics.in_flight=1, cpu_utilization=2, rps_fractional=9") == Load(1, 2.0, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "TEXT",
        "JSON {}",
        "cpu_utilization=1,named_metrics.in_flight=1",
        "TEXT cpu_utilization=0.5",
        "TEXT named_metrics.in_flight=2",
        "TEXT cpu_utilization=x,named_metrics.in_flight=2",
        "TEXT cpu_utilization=nan,named_metrics.in_flight=2",
        "TEXT cpu_utilization=-1,named_metrics.in_flight=2",
        "TEXT cpu_utilization=0.5,named_metrics.in_flight=1e300",
        "TEXT cpu_utilization=0.5,mem_utilization=inf,named_metrics.in_flight=2",
    ],
)
def test_anything_else_says_nothing(text):
    assert parse_load(text) == NOTHING


def test_the_answer_to_a_probe():
    assert parse_probe(b'{"server": "server-1", "in_flight": 3, "latency_ms": 12.5}') == Probed(3, 0.0125)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"\xff", b"3", b'{"in_flight": 3}', b'{"in_flight": null, "latency_ms": 1}', b'{"in_flight": -1, "latency_ms": 1}']
)
def test_anything_else_is_no_answer(body):
    assert parse_probe(body) is None

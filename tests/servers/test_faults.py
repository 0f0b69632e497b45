import pytest

from faults import FaultError, FaultSet, parse_fault
from gate import Gate


@pytest.fixture
def faults():
    return FaultSet(Gate(1, 1, 1))


def test_slowdowns_multiply_and_end(faults):
    assert faults.slowdown(0.0) == 1.0
    faults.add(parse_fault({"kind": "slowdown", "factor": 3}, 0.0))
    faults.add(parse_fault({"kind": "slowdown", "factor": 2, "duration_s": 86_400}, 1e9))
    assert faults.slowdown(1e9 + 1) == 6.0
    assert faults.slowdown(1e9 + 86_401) == 3.0
    faults.clear()
    assert faults.slowdown(0.0) == 1.0


def test_error_shares_combine_as_independent_faults(faults):
    for share in (0.5, 0.2):
        faults.add(parse_fault({"kind": "error_share", "share": share}, 0.0))
    assert faults.error_share(0.0) == pytest.approx(0.6)


def test_fail_fast_defaults_to_half_a_millisecond(faults):
    assert faults.fail_after_s(0.0) is None
    faults.add(parse_fault({"kind": "fail_fast"}, 0.0))
    assert faults.fail_after_s(0.0) == pytest.approx(0.0005)


def test_a_description_repeats_the_post_and_what_remains():
    fault = parse_fault({"kind": "slowdown", "factor": 20, "duration_s": 30}, 100.0)
    assert fault.description(110.0) == {"kind": "slowdown", "factor": 20.0, "remaining_s": 20.0}
    assert parse_fault({"kind": "freeze"}, 0.0).description(1.0) == {"kind": "freeze"}


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"kind": "leave"},
        {"kind": "slowdown"},
        {"kind": "slowdown", "factor": 0},
        {"kind": "slowdown", "factor": float("nan")},
        {"kind": "error_share", "share": 1.5},
        {"kind": "error_share", "share": "1"},
        {"kind": "freeze", "factor": 2},
        {"kind": "crash", "duration_s": -1},
        {"kind": {}},
    ],
)
def test_nonsense_is_refused(document):
    with pytest.raises(FaultError):
        parse_fault(document, 0.0)

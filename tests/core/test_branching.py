"""Copies of episodes: the right rows, cut where they may be, in the memory order they had, and nothing shared."""

from typing import NamedTuple

import numpy as np
import pytest

from trimtab.core.branching import rows_of

ROWS = np.array([2, 0, 2, 2])


class Inner(NamedTuple):
    clock: np.ndarray  # [B]
    due: np.ndarray  # [B, N]


class Outer(NamedTuple):
    load: np.ndarray  # [B, S]
    sent: np.ndarray  # [B, N]
    order: np.ndarray  # [B, N]
    cube: np.ndarray  # [B, S, K]
    inner: Inner
    draw: np.ndarray  # nothing


def record():
    """Three episodes; `sent` and `due` lie along B, the rest row by row."""
    return Outer(
        load=np.arange(6, dtype=np.int64).reshape(3, 2),
        sent=np.asfortranarray(np.arange(15, dtype=np.int32).reshape(3, 5)),
        order=np.arange(100.0, 115.0).reshape(3, 5),
        cube=np.arange(24.0).reshape(3, 2, 4),
        inner=Inner(np.arange(3.0), np.asfortranarray(np.arange(15.0).reshape(3, 5) % 7)),
        draw=np.zeros((0, 5)),
    )


def arrays(found):
    """Every array by name, nested ones too."""
    flat = found._asdict()
    inner = flat.pop("inner")
    return flat | inner._asdict()


def test_rows_are_taken_in_order_and_may_repeat():
    before, found = arrays(record()), arrays(rows_of(record(), ROWS))
    for name in ("load", "sent", "order", "cube", "clock", "due"):
        assert np.array_equal(found[name], before[name][ROWS]), name
        assert found[name].dtype == before[name].dtype, name


def test_the_copy_is_of_the_same_types():
    found = rows_of(record(), ROWS)
    assert type(found) is Outer
    assert type(found.inner) is Inner


@pytest.mark.parametrize("rows", [ROWS, np.arange(3), np.array([1])], ids=["some", "all", "one"])
def test_nothing_is_shared(rows):
    original = record()
    found = arrays(rows_of(original, rows, {"sent", "due"}, 5))
    for name, one in found.items():
        assert not np.shares_memory(one, arrays(original)[name]), name
        one[...] = -1
    for name, one in arrays(original).items():
        assert np.array_equal(one, arrays(record())[name]), name


def test_a_row_that_repeats_is_two_copies():
    found = rows_of(record(), ROWS)
    found.inner.due[0, 0] = -5.0
    assert found.inner.due[2:, 0].tolist() == record().inner.due[[2, 2], 0].tolist()


def test_only_what_is_named_is_cut():
    found, whole = arrays(rows_of(record(), ROWS, {"sent", "due"}, 2)), arrays(record())
    for name in ("sent", "due"):
        assert np.array_equal(found[name], whole[name][ROWS, :2]), name
    for name in ("load", "order", "cube"):
        assert found[name].shape[1:] == whole[name].shape[1:], name


@pytest.mark.parametrize("requests", [2, 5])
def test_memory_keeps_its_order(requests):
    found = arrays(rows_of(record(), ROWS, {"sent", "due", "order"}, requests))
    for name in ("sent", "due"):
        assert found[name].flags.f_contiguous, name
        assert not found[name].flags.c_contiguous, name
    for name in ("load", "order", "cube", "clock"):
        assert found[name].flags.c_contiguous, name


def test_empty_arrays_stay_empty():
    found = rows_of(record(), ROWS, {"draw"}, 2)
    assert found.draw.size == 0
    assert found.draw.dtype == np.float64


def test_no_rows_are_no_episodes():
    found = rows_of(record(), np.zeros(0, dtype=np.int64))
    assert found.load.shape == (0, 2)
    assert found.inner.clock.shape == (0,)

"""Phases and batches: nothing depends on how many episodes were asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trimtab.experiments.curriculum import BATCH, CHECKPOINT_EVERY, CURRICULUM, EPISODES, Phase, batch_at, phase_of


def test_the_curriculum_is_the_documented_one():
    assert (Phase(1000, 150), Phase(2000, 250), Phase(3000, 500)) == CURRICULUM
    assert EPISODES == 6000


@pytest.mark.parametrize(
    ("episode", "number", "decisions"), [(0, 1, 150), (999, 1, 150), (1000, 2, 250), (2999, 2, 250), (3000, 3, 500), (5999, 3, 500)]
)
def test_phase_boundaries(episode, number, decisions):
    assert (phase_of(episode)[0], phase_of(episode)[1].decisions) == (number, decisions)


def test_the_last_phase_goes_on_for_ever():
    assert phase_of(100_000) == (3, CURRICULUM[-1])


def ends_of(total, start=0):
    ends = []
    while start < total:
        start += batch_at(start, total)
        ends.append(start)
    return ends


@given(total=st.integers(1, 7000))
def test_batches_end_at_checkpoints_and_at_the_total(total):
    ends = ends_of(total)
    assert ends[-1] == total
    assert all(end % BATCH == 0 for end in ends[:-1])
    assert set(range(CHECKPOINT_EVERY, total + 1, CHECKPOINT_EVERY)) <= set(ends)


@given(first=st.integers(1, 3000), more=st.integers(1, 3000))
def test_a_run_made_longer_meets_the_checkpoints_of_the_longer_run(first, more):
    whole = {end for end in ends_of(first + more) if end % CHECKPOINT_EVERY == 0 and end > first}
    assert whole == {end for end in ends_of(first + more, start=first) if end % CHECKPOINT_EVERY == 0}


@given(start=st.integers(0, 6500), total=st.integers(1, 7000))
def test_a_batch_never_spans_two_phases(start, total):
    if start < total:
        assert phase_of(start) == phase_of(start + batch_at(start, total) - 1)


def test_a_batch_divides_the_distance_between_checkpoints():
    assert CHECKPOINT_EVERY % BATCH == 0
    assert all(phase.episodes % BATCH == 0 for phase in CURRICULUM)

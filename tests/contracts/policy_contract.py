"""What every policy promises. A test class inherits it and says how its policy is made."""

import numpy as np
import pytest

from builders import arrays_of, fleet_alone, random_view

SIZES = [(1, 1, 1), (1, 4, 3), (7, 2, 1), (24, 9, 4), (13, 5, 2)]


def decisions(policy, views, seeds):
    """Choices [T, B] of a fresh start."""
    policy.reset(seeds)
    return np.array([policy.select(view) for view in views])


def story(batch, servers, classes, length=12, seed=0):
    rng = np.random.default_rng([seed, batch, servers, classes])
    return [random_view(rng, batch, servers, classes) for _ in range(length)]


class PolicyContract:
    """Inherit it and define the fixture `make`: a function that returns a fresh policy."""

    @pytest.fixture(params=SIZES, ids=lambda size: "B{}-S{}-K{}".format(*size))
    def views(self, request):
        return story(*request.param)

    @pytest.fixture
    def seeds(self, views):
        return np.arange(100, 100 + views[0].now_s.size)

    def test_it_has_a_name(self, make):
        assert make().name

    def test_it_chooses_one_available_server_for_every_fleet(self, make, views, seeds):
        policy = make()
        policy.reset(seeds)
        for view in views:
            chosen = policy.select(view)
            assert chosen.shape == view.now_s.shape
            assert chosen.dtype == np.int64
            assert view.available[np.arange(chosen.size), chosen].all()

    def test_it_takes_the_only_server_left(self, make, seeds, views):
        policy = make()
        policy.reset(seeds)
        for view in views:
            left = np.random.default_rng(1).integers(0, view.slots.shape[1], view.now_s.size)
            view.available[:] = np.arange(view.slots.shape[1]) == left[:, None]
            assert (policy.select(view) == left).all()

    def test_the_same_seeds_give_the_same_choices(self, make, views, seeds):
        assert np.array_equal(decisions(make(), views, seeds), decisions(make(), views, seeds))

    def test_reset_forgets(self, make, views, seeds):
        policy = make()
        first = decisions(policy, views, seeds)
        decisions(policy, story(5, 3, 2, seed=9), np.arange(5))
        assert np.array_equal(decisions(policy, views, seeds), first)

    def test_a_fleet_is_decided_the_same_alone_and_among_others(self, make, views, seeds):
        together = decisions(make(), views, seeds)
        for b in {0, seeds.size // 2, seeds.size - 1}:
            alone = decisions(make(), [fleet_alone(view, b) for view in views], seeds[b : b + 1])
            assert np.array_equal(alone[:, 0], together[:, b])

    def test_it_changes_neither_the_view_nor_the_ledger(self, make, views, seeds):
        policy = make()
        policy.reset(seeds)
        for view in views:
            before = arrays_of(view)
            policy.select(view)
            assert all(np.array_equal(left, right) for left, right in zip(before, arrays_of(view), strict=True))

    def test_what_it_returns_is_the_callers_to_keep(self, make, views, seeds):
        policy = make()
        policy.reset(seeds)
        first = policy.select(views[0])
        kept = first.copy()
        policy.select(views[1])
        assert np.array_equal(first, kept)

"""Which requests go out when: prefix, continuation, split over workers, the same for the same seed."""

from dataclasses import replace

import numpy as np
import pytest
from locust_runs import settings
from schedule import draw_schedule, user_work

from trimtab.core.scenario import Traffic
from trimtab.core.traffic import draw_episode
from trimtab.problems.routing.scenario_files import load_scenario, load_trace


def test_without_a_duration_it_is_the_episode():
    drawn = draw_schedule(settings())
    episode = draw_episode(settings().scenario, 3, 0)
    assert np.array_equal(drawn.due_s, episode.arrival_s)
    assert np.array_equal(drawn.request_class, episode.request_class)
    means_s = np.array([one.work_s for one in settings().scenario.classes])
    assert np.allclose(drawn.work * means_s[drawn.request_class], episode.work_s, rtol=1e-12)
    assert drawn.span_s == episode.arrival_s[-1]


def test_a_short_duration_is_a_prefix():
    whole, cut = draw_schedule(settings()), draw_schedule(settings(duration_s=0.5))
    assert 0 < cut.due_s.size < whole.due_s.size
    assert np.array_equal(cut.due_s, whole.due_s[: cut.due_s.size])
    assert cut.due_s[-1] <= 0.5 < whole.due_s[cut.due_s.size]
    assert cut.span_s == 0.5


def test_a_long_duration_is_filled():
    drawn = draw_schedule(settings(duration_s=20.0))
    assert 0.8 * 2000 < drawn.due_s.size < 1.2 * 2000  # 2000 expected, standard deviation 45
    assert drawn.due_s[-1] > 19.5
    assert np.all(np.diff(drawn.due_s) > 0)


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_parts_make_the_whole(workers):
    drawn = draw_schedule(settings())
    parts = [list(drawn.part(index, workers)) for index in range(workers)]
    together = sorted((one for part in parts for one in part), key=lambda one: one.number)
    assert [one.number for one in together] == list(range(drawn.due_s.size))
    assert [one.due_s for one in together] == drawn.due_s.tolist()
    assert [one.work for one in together] == drawn.work.tolist()
    assert all(one.number % workers == index for index, part in enumerate(parts) for one in part)


def test_seed_and_episode_decide():
    first, again = draw_schedule(settings()), draw_schedule(settings())
    assert np.array_equal(first.due_s, again.due_s)
    for other in (settings(seed=4), settings(episode=1)):
        assert not np.array_equal(first.due_s, draw_schedule(other).due_s)


def test_what_was_due_before_a_moment():
    drawn = draw_schedule(settings())
    assert drawn.due_before(0.0) == 0
    assert drawn.due_before(drawn.due_s[10]) == 10
    assert drawn.due_before(drawn.span_s) == drawn.due_s.size


@pytest.mark.parametrize("name", ["sinusoid", "flash", "ramp", "mmpp", "trace"])
def test_every_kind_of_traffic_can_be_played(name):
    scenario = load_scenario(name)
    drawn = draw_schedule(settings(scenario=scenario, trace_rps=load_trace(scenario), duration_s=5.0))
    assert drawn.due_s.size > 0
    assert drawn.due_s[-1] <= 5.0


def test_a_users_work_is_its_own_and_repeats():
    scenario = settings().scenario
    draw = lambda kind, user: np.array([one for one, _ in zip(user_work(scenario, kind, 3, user), range(2500), strict=False)])  # noqa: E731
    first = draw(0, 0)
    assert np.array_equal(first, draw(0, 0))
    assert not np.array_equal(first, draw(0, 1))
    assert not np.array_equal(first[:1000], first[1000:2000])  # blocks differ
    assert abs(first.mean() - 1.0) < 0.1  # lognormal, cv 1: standard error 0.02
    assert np.array_equal(draw(2, 0), np.ones(2500))  # fixed work


def test_settings_survive_the_message():
    scenario = replace(settings().scenario, traffic=Traffic("sinusoid", rate_rps=40.0))
    before = settings(scenario=scenario, trace_rps=np.array([1.0, 2.0]), duration_s=2.0, targets=("http://a:1", "http://b:2"))
    after = type(before).from_message(before.to_message())
    assert after.trace_rps.tolist() == [1.0, 2.0]
    assert replace(after, trace_rps=None) == replace(before, trace_rps=None)

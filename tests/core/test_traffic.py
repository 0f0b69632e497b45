"""Traffic: reproducible, of the right length, and with the rates and spreads that the scenario asks for.

Statistical bounds are five standard errors under fixed seeds.
"""

from dataclasses import replace

import numpy as np
import pytest

from trimtab.core.scenario import F64, RequestClass, Scenario, Server, Traffic
from trimtab.core.traffic import Episode, draw_batch, draw_episode, intensity_rps, pareto_shape, solve_increasing
from trimtab.errors import ScenarioError

TRACE = np.array([40.0, 0.0, 200.0, 120.0, 40.0])  # mean 80
KINDS = {
    "poisson": Traffic("poisson", rate_rps=50.0),
    "mmpp": Traffic("mmpp", rates_rps=(20.0, 50.0, 80.0), dwell_s=3.0),
    "sinusoid": Traffic("sinusoid", rate_rps=50.0, amplitude=1.0, period_s=20.0),
    "flash": Traffic("flash", rate_rps=50.0, factor=5.0, start_s=10.0, rise_s=10.0, decay_s=10.0),
    "flash at once": Traffic("flash", rate_rps=50.0, factor=5.0, start_s=10.0, rise_s=0.0, decay_s=10.0),
    "ramp": Traffic("ramp", rate_rps=50.0, steps=(0.5, 0.0, 2.0, 1.0), step_s=10.0),
    "trace": Traffic("trace", rate_rps=50.0, file="some.csv", interval_s=7.0),
}


def scenario_of(traffic: Traffic, *classes: RequestClass, requests: int = 1900, warmup: int = 100) -> Scenario:
    classes = classes or (RequestClass("a", 0.7, 0.01), RequestClass("b", 0.3, 0.05))
    server = Server("server-1", 1, {one.name: 1.0 for one in classes})
    return Scenario("tiny", classes, (server,), traffic, requests=requests, warmup=warmup)


def same(left: Episode, right: Episode) -> bool:
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in ("arrival_s", "request_class", "work_s"))


@pytest.mark.parametrize("traffic", KINDS.values(), ids=KINDS)
def test_an_episode_has_its_length_types_and_order(traffic: Traffic) -> None:
    drawn = draw_episode(scenario_of(traffic), 3, 1, TRACE)
    assert drawn.arrival_s.shape == drawn.request_class.shape == drawn.work_s.shape == (2000,)
    assert (drawn.arrival_s.dtype, drawn.request_class.dtype, drawn.work_s.dtype) == (np.float64, np.int32, np.float64)
    assert drawn.arrival_s[0] > 0
    assert (np.diff(drawn.arrival_s) > 0).all()
    assert (drawn.work_s > 0).all()
    assert set(drawn.request_class) == {0, 1}


@pytest.mark.parametrize("traffic", KINDS.values(), ids=KINDS)
def test_seed_and_number_decide_the_episode(traffic: Traffic) -> None:
    scenario = scenario_of(traffic)
    first = draw_episode(scenario, 3, 1, TRACE)
    assert same(first, draw_episode(scenario, 3, 1, TRACE))
    for other in (draw_episode(scenario, 3, 2, TRACE), draw_episode(scenario, 4, 1, TRACE)):
        assert not np.array_equal(first.arrival_s, other.arrival_s)
        assert not np.array_equal(first.work_s, other.work_s)


def test_policies_share_episodes_whatever_was_drawn_before() -> None:
    scenario = scenario_of(KINDS["mmpp"])
    first = draw_episode(scenario, 0, 0)
    draw_episode(scenario, 0, 1)
    assert same(first, draw_episode(replace(scenario, id="other"), 0, 0))


def test_scenarios_that_differ_in_traffic_share_classes_and_work() -> None:
    episodes = [draw_episode(scenario_of(traffic), 5, 2, TRACE) for traffic in KINDS.values()]
    for one in episodes[1:]:
        assert np.array_equal(one.request_class, episodes[0].request_class)
        assert np.array_equal(one.work_s, episodes[0].work_s)


def test_a_batch_stacks_the_single_episodes() -> None:
    scenarios = [scenario_of(KINDS["poisson"]), scenario_of(KINDS["trace"]), scenario_of(KINDS["flash"])]
    batch = draw_batch(scenarios, 9, [4, 4, 7], [None, TRACE, None])
    assert batch.arrival_s.shape == batch.request_class.shape == batch.work_s.shape == (3, 2000)
    for row, (scenario, number) in enumerate(zip(scenarios, [4, 4, 7], strict=True)):
        single = draw_episode(scenario, 9, number, TRACE)
        assert np.array_equal(batch.arrival_s[row], single.arrival_s)
        assert np.array_equal(batch.request_class[row], single.request_class)
        assert np.array_equal(batch.work_s[row], single.work_s)


def test_a_batch_of_unequal_lengths_is_refused() -> None:
    scenario = scenario_of(KINDS["poisson"])
    with pytest.raises(ValueError, match="shape"):
        draw_batch([scenario, replace(scenario, requests=5)], 0, [0, 1])
    with pytest.raises(ValueError, match="zip"):
        draw_batch([scenario, scenario], 0, [0])


def test_shares_of_classes() -> None:
    drawn = draw_episode(scenario_of(KINDS["poisson"], requests=100_000), 0, 0)
    heavy = (drawn.request_class == 1).mean()
    assert abs(heavy - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 100_100)


def test_mean_rate_of_poisson_traffic_and_of_its_gaps() -> None:
    drawn = draw_episode(scenario_of(KINDS["poisson"], requests=99_900), 0, 0)
    gaps_s = np.diff(drawn.arrival_s)
    assert abs(gaps_s.mean() * 50 - 1) < 5 / np.sqrt(gaps_s.size)
    assert abs(gaps_s.std() / gaps_s.mean() - 1) < 5 / np.sqrt(gaps_s.size)  # exponential: coefficient of variation 1


def test_a_load_is_a_multiple_of_capacity() -> None:
    scenario = scenario_of(Traffic(load=0.5), RequestClass("a", 1.0, 0.01), requests=20_000)
    drawn = draw_episode(scenario, 1, 0)
    assert abs(drawn.arrival_s.size / drawn.arrival_s[-1] / 50 - 1) < 5 / np.sqrt(20_000)


# Arrivals against intensity_rps: with M arrivals up to T, counts in windows are close to the integral of the intensity.


def expected_counts(traffic: Traffic, edges_s: F64) -> F64:
    fine = np.linspace(edges_s[:-1], edges_s[1:], 2001)
    middle = (fine[:-1] + fine[1:]) / 2
    return intensity_rps(traffic, 50.0, middle, TRACE).mean(axis=0) * np.diff(edges_s)


@pytest.mark.parametrize("kind", ["poisson", "sinusoid", "flash", "flash at once", "ramp", "trace"])
def test_counts_in_windows_follow_the_intensity(kind: str) -> None:
    scenario = scenario_of(KINDS[kind], requests=8000)  # more than 40 s bring in any kind
    edges_s = np.arange(0.0, 41.0, 2.0)
    episodes = 30
    counts = sum(np.histogram(draw_episode(scenario, 11, number, TRACE).arrival_s, edges_s)[0] for number in range(episodes))
    expected = episodes * expected_counts(KINDS[kind], edges_s)
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected) + 1).all()


@pytest.mark.parametrize("kind", ["poisson", "sinusoid", "flash", "flash at once", "ramp", "trace"])
def test_rescaled_time_is_a_unit_poisson_process(kind: str) -> None:
    """The intensity integrated up to each arrival gives back the unit arrivals: the inverse is exact, not only its law."""
    unit = np.cumsum(np.random.Generator(np.random.PCG64(np.random.SeedSequence([2, 8]))).standard_exponential(2000))
    arrival_s = draw_episode(scenario_of(KINDS[kind]), 2, 8, TRACE).arrival_s
    grid_s = np.linspace(0.0, arrival_s[-1], 2_000_001)
    step_s = grid_s[1] - grid_s[0]
    middle_rps = intensity_rps(KINDS[kind], 50.0, grid_s[:-1] + step_s / 2, TRACE)
    mass = np.append(0.0, np.cumsum(middle_rps * step_s))
    assert np.interp(arrival_s, grid_s, mass) == pytest.approx(unit, rel=0, abs=0.02)  # the sum's own error at jumps


def test_sinusoid_and_flash_invert_to_a_microsecond() -> None:
    sinusoid, flash = replace(KINDS["sinusoid"], amplitude=0.9), KINDS["flash"]
    unit = np.cumsum(np.random.Generator(np.random.PCG64(np.random.SeedSequence([2, 8]))).standard_exponential(2000))
    t = draw_episode(scenario_of(sinusoid), 2, 8).arrival_s
    mass = 50 * (t + 0.9 * 20 / (2 * np.pi) * (1 - np.cos(2 * np.pi * t / 20)))
    assert np.abs((mass - unit) / intensity_rps(sinusoid, 50.0, t)).max() < 1e-6
    t = draw_episode(scenario_of(flash), 2, 8).arrival_s
    rising, falling = np.clip(t - 10, 0, 10), np.maximum(t - 20, 0)
    mass = 50 * (t + 4 * (rising**2 / 20 + 10 * -np.expm1(-falling / 10)))
    assert np.abs((mass - unit) / intensity_rps(flash, 50.0, t)).max() < 1e-6


def test_intensities_at_chosen_times() -> None:
    def at(kind: str, *t_s: float) -> list[float]:
        return intensity_rps(KINDS[kind], 50.0, t_s, TRACE).tolist()

    assert at("poisson", 0, 9) == [50, 50]
    assert at("mmpp", 0, 9) == [50, 50]
    assert at("sinusoid", 0, 5, 15) == pytest.approx([50, 100, 0])
    assert at("flash", 0, 10, 15, 20, 30) == pytest.approx([50, 50, 150, 250, 50 + 200 / np.e])
    assert at("flash at once", 9.99, 10, 20) == pytest.approx([50, 250, 50 + 200 / np.e])
    assert at("ramp", 0, 10, 25, 39, 400) == pytest.approx([25, 0, 100, 50, 50])
    assert at("trace", 0, 7, 14, 21, 35, 49) == pytest.approx([25, 0, 125, 75, 25, 125])


def test_nothing_arrives_where_the_intensity_is_zero() -> None:
    ramp = draw_episode(scenario_of(KINDS["ramp"]), 0, 0).arrival_s
    assert not ((ramp > 10) & (ramp < 20)).any()
    trace = draw_episode(scenario_of(KINDS["trace"]), 0, 0, TRACE).arrival_s % 35
    assert not ((trace > 7) & (trace < 14)).any()


def test_thinning_scales_the_mean_and_keeps_the_time_axis() -> None:
    whole, half = (replace(KINDS["trace"], rate_rps=rate) for rate in (80.0, 40.0))
    for traffic, rate in ((whole, 80.0), (half, 40.0)):
        arrival_s = draw_episode(scenario_of(traffic, requests=50_000), 0, 0, TRACE).arrival_s
        rounds = int(arrival_s[-1] // 35)
        within = arrival_s[arrival_s < rounds * 35]
        assert abs(within.size / (rounds * 35) / rate - 1) < 5 / np.sqrt(within.size)
        third = np.count_nonzero((within % 35 >= 14) & (within % 35 < 21)) / within.size
        assert abs(third - 0.5) < 5 * 0.5 / np.sqrt(within.size)  # 200 of 400: the bursts stay where they were


def test_a_trace_slower_than_asked_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"asks for 81 .*'some.csv'; allowed: at most its mean, 80, .*; lower rate_rps"):
        draw_episode(scenario_of(replace(KINDS["trace"], rate_rps=81.0)), 0, 0, TRACE)


def test_trace_traffic_needs_its_rates() -> None:
    with pytest.raises(ValueError, match="trace_rps"):
        draw_episode(scenario_of(KINDS["trace"]), 0, 0)


def test_mmpp_spends_equal_time_in_states_of_the_right_rates() -> None:
    traffic = Traffic("mmpp", rates_rps=(0.0, 100.0), dwell_s=2.0)
    arrival_s = draw_episode(scenario_of(traffic, requests=200_000), 0, 0).arrival_s
    gaps_s = np.diff(arrival_s)
    pauses_s = gaps_s[gaps_s > 0.2]  # a gap this long in the busy state has probability e^-20
    busy_s = arrival_s[-1] - arrival_s[0] - pauses_s.sum()
    assert abs(gaps_s.size / busy_s / 100 - 1) < 0.02
    # A pause is a dwell of 2 s (memoryless, so cutting at 0.2 s leaves its mean excess) between two busy gaps of 0.01 s.
    assert abs((pauses_s - 0.2).mean() / 2 - 1) < 5 / np.sqrt(pauses_s.size)
    assert abs(busy_s / pauses_s.size / 2.2 - 1) < 5 * 1.5 / np.sqrt(pauses_s.size)  # 2 s / P(dwell > 0.2 s), about 2.2


def test_loads_of_an_mmpp_are_multiples_of_capacity_and_a_load_sets_their_mean() -> None:
    one = RequestClass("a", 1.0, 0.01)
    by_rate = draw_episode(scenario_of(Traffic("mmpp", rates_rps=(20.0, 100.0)), one), 0, 0)
    by_load = draw_episode(scenario_of(Traffic("mmpp", loads=(0.2, 1.0)), one), 0, 0)
    doubled = draw_episode(scenario_of(Traffic("mmpp", loads=(0.1, 0.5), load=0.6), one), 0, 0)
    assert by_rate.arrival_s == pytest.approx(by_load.arrival_s)
    assert by_rate.arrival_s == pytest.approx(doubled.arrival_s)


def test_an_mmpp_of_one_state_is_poisson() -> None:
    one = draw_episode(scenario_of(Traffic("mmpp", rates_rps=(50.0,))), 0, 0)
    assert one.arrival_s == pytest.approx(draw_episode(scenario_of(KINDS["poisson"]), 0, 0).arrival_s)


# Work


def work_of(one: RequestClass) -> F64:
    return draw_episode(scenario_of(KINDS["poisson"], one, requests=200_000, warmup=0), 0, 0).work_s


@pytest.mark.parametrize(
    ("distribution", "cv"),
    [("lognormal", 0.5), ("lognormal", 1.0), ("lognormal", 0.0), ("exponential", 1.0), ("pareto", 0.25), ("fixed", 0.0)],
)
def test_mean_and_spread_of_the_work(distribution: str, cv: float) -> None:
    work_s = work_of(RequestClass("a", 1.0, 0.02, distribution, cv))
    assert abs(work_s.mean() / 0.02 - 1) <= 5 * cv / np.sqrt(work_s.size) + 1e-12
    assert abs(work_s.std() / work_s.mean() - cv) <= 0.03 * cv + 1e-12


def test_pareto_has_its_least_value_and_tail() -> None:
    """Its fourth moment may be infinite, so the law is checked, not the sample's spread."""
    shape = pareto_shape(1.0)
    least = 0.02 * (shape - 1) / shape
    work_s = work_of(RequestClass("a", 1.0, 0.02, "pareto", 1.0))
    assert shape == pytest.approx(1 + np.sqrt(2))
    assert least <= work_s.min() < 1.001 * least
    for multiple in (1.5, 3.0, 10.0):
        survival = multiple**-shape
        assert abs((work_s > multiple * least).mean() - survival) < 5 * np.sqrt(survival / work_s.size)


@pytest.mark.parametrize("cv", [0.1, 1.0, 5.0])
def test_pareto_shape_solves_the_variance(cv: float) -> None:
    shape = pareto_shape(cv)
    assert 1 / (shape * (shape - 2)) == pytest.approx(cv * cv)


def test_solving_survives_a_vanishing_slope() -> None:
    """x - sin x at 0: the slope is 0 at the root and Newton alone would crawl or jump."""
    target = np.array([0.0, 1e-9, 0.5, np.pi])
    x = solve_increasing(lambda v: v - np.sin(v), lambda v: 1 - np.cos(v), target=target, low=target, high=target + 1)
    assert x - np.sin(x) == pytest.approx(target, abs=1e-12)

"""Park's game: its rules against hand-computed cases and a plain simulation, its policies, and the figures that are known of it."""

import numpy as np
import pytest

from trimtab.core.tally import Tallies
from trimtab.errors import UsageError
from trimtab.experiments.evaluate import evaluate
from trimtab.problems.base import Task
from trimtab.problems.park.env import ParkEnv
from trimtab.problems.park.game import JOBS, MEAN_GAP_MS, MEAN_SIZE, RATES, UNIT_MS, Jobs, advance, draw_jobs, hurried, open_books, send
from trimtab.problems.park.problem import Park
from trimtab.problems.park.view import FEATURES, OBSERVATION_CAP, ParkView, look, observation, park_observation, relative_value_ms

TASK = Task("park", "twin")


def books_of(*jobs):
    """Books of one episode with the given (arrival, size), nothing sent."""
    arrival, size = np.array(jobs, dtype=np.float64).T
    return open_books(Jobs(arrival[None], size[None]))


def sent(books, *servers):
    """Send the jobs in order, time moving with them."""
    for job, server in enumerate(servers):
        advance(books, books.arrival_ms[:, job].copy())
        send(books, RATES, job, np.array([server]))
    return books


def view_of(**columns):
    """A view of one episode with three servers or as many as have a rate, idle where nothing is said."""
    servers = len(columns.get("rate", [1.0, 1.0, 1.0]))
    zeros = {name: np.zeros((1, servers)) for name in ("waiting_size", "running_size", "running_ms", "backlog_ms")}
    given = {name: np.array([values], dtype=np.float64) for name, values in columns.items() if name not in {"size", "jobs", "rate"}}
    return ParkView(
        now_ms=np.zeros(1),
        size=np.array([columns.get("size", 100.0)]),
        rate=np.array(columns.get("rate", [1.0, 1.0, 1.0])),
        available=np.ones((1, servers), dtype=np.bool_),
        jobs=np.array([columns.get("jobs", [0] * servers)]),
        **(zeros | given),
    )


def choice(name, view):
    policy = Park().build_policy(name)
    policy.reset(np.array([1]))
    return int(policy.select(view)[0])


def random_episodes(env, episodes, seed=3):
    """Play with random servers; the actions [N, B]."""
    rng, actions = np.random.default_rng(seed), []
    view = env.reset(0, episodes)
    while view is not None:
        actions.append(rng.integers(0, RATES.size, len(episodes)))
        view = env.step(actions[-1])
    return np.array(actions)


def finishes(arrivals, sizes, servers):
    """When each job ends: the rules once more, as plainly as can be."""
    free, ends = dict.fromkeys(range(RATES.size), 0), []
    for arrival, size, server in zip(arrivals, sizes, servers, strict=True):
        free[server] = max(free[server], int(arrival)) + int(size / RATES[server])
        ends.append(free[server])
    return np.array(ends)


# Rules


def test_two_jobs_of_one_server_are_served_one_after_the_other():
    books = sent(books_of((10, 310), (100, 200), (120, 105)), 0, 0, 9)
    # 310 / 0.15 = 2066.7 and 200 / 0.15 = 1333.3, rounded down; the third has the fastest server for itself: 105 / 1.05.
    assert books.finish_ms[0].tolist() == [10 + 2066, 10 + 2066 + 1333, 120 + 100]


def test_the_view_says_what_is_in_a_server():
    books = sent(books_of((10, 310), (100, 200), (500, 400)), 0, 0)
    advance(books, np.array([500.0]))
    view = look(books, 2)
    assert (view.size[0], view.jobs[0, 0], view.jobs[0, 1]) == (400, 2, 0)
    assert (view.running_size[0, 0], view.waiting_size[0, 0]) == (310, 200)
    assert (view.running_ms[0, 0], view.backlog_ms[0, 0]) == (2076 - 500, 3409 - 500)
    assert view.service_ms[0].tolist() == [int(400 / rate) for rate in RATES]
    assert view.completion_ms[0, 0] == 2909 + 2666


def test_park_s_observation_adds_sizes_and_time_and_is_capped():
    books = sent(books_of((0, 310), (1, 200), (2, 10_000_000), (3, 20_000_000)), 0, 0, 1, 1)
    advance(books, np.array([3.0]))
    seen = park_observation(look(books, 3))
    assert seen.shape == (1, RATES.size + 1)
    assert seen[0, 0] == 200 + (2066 - 3), "the waiting job's size and the running job's remaining time"
    assert seen[0, 1] == seen[0, -1] == OBSERVATION_CAP
    assert seen[0, 2] == 0


def test_a_job_that_ends_at_an_arrival_is_gone():
    books = sent(books_of((0, 105), (100, 100)), 9)
    assert advance(books, np.array([99.0])) == 0
    assert advance(books, np.array([100.0])) == 1
    assert books.jobs.sum() == 0
    assert (books.head == -1).all()


def test_ended_jobs_are_named_in_the_order_of_their_numbers():
    books = sent(books_of((0, 200), (0, 300), (0, 150), (0, 120)), 5, 2, 5, 9)
    assert books.done[: advance(books, np.array([np.inf]))].tolist() == [0, 1, 2, 3]


def test_a_whole_episode_is_that_of_a_plain_simulation():
    env = ParkEnv(0, 300, 2, "response")
    actions = random_episodes(env, [4, 9])
    env.drain()
    for b, row in enumerate(env.metrics()):
        arrivals, sizes = (column[b, :300] for column in env.books[:2])
        ends = finishes(arrivals, sizes, actions[:, b])
        assert (env.books.finish_ms[b, :300] == ends).all()
        assert row["mean_latency_ms"] == pytest.approx((ends - arrivals).mean())
        assert row["makespan_ms"] == ends.max()
        assert row["total_reward"] == pytest.approx(-(ends - arrivals).sum() / UNIT_MS)


def test_the_integral_counts_every_job_for_as_long_as_it_is_there():
    env = ParkEnv(5, 100, 2, "integral")
    random_episodes(env, [0, 1])
    env.closing()
    env.drain()
    credits = env.credits()
    assert sorted(zip(credits.episode.tolist(), credits.decision.tolist(), strict=True)) == [(b, n) for b in range(2) for n in range(100)]
    arrival, finish = env.books.arrival_ms, env.books.finish_ms
    for b, n, reward in zip(credits.episode, credits.decision, credits.reward, strict=True):
        start, stop, there = arrival[b, 5 + n], arrival[b, 6 + n], slice(0, 6 + n)
        inside = np.minimum(finish[b, there], stop) - np.maximum(arrival[b, there], start)
        assert reward == pytest.approx(-np.clip(inside, 0.0, None).sum() / UNIT_MS)


@pytest.mark.parametrize("reward", ["relative", "response", "integral"])
def test_every_decision_is_credited_at_the_next_arrival(reward):
    env = ParkEnv(3, 50, 2, reward)
    env.reset(0, [2, 3])
    for n in range(52):
        env.step(np.array([n % 10, 0]))
        credits = env.credits()
        wanted = [] if n < 3 else [(0, n - 3), (1, n - 3)]
        assert list(zip(credits.episode.tolist(), credits.decision.tolist(), strict=True)) == wanted


def test_the_response_reward_is_the_time_of_the_job():
    env = ParkEnv(4, 60, 2, "response")
    random_episodes(env, [0, 1])
    env.closing()
    credits = env.credits()
    job = credits.decision + 4
    assert -credits.reward * UNIT_MS == pytest.approx(
        env.books.finish_ms[credits.episode, job] - env.books.arrival_ms[credits.episode, job]
    )


def test_the_relative_reward_is_what_waiting_costs_and_a_rise_that_cancels():
    env = ParkEnv(0, 80, 1, "relative")
    random_episodes(env, [6])
    closing, books = env.closing(), env.books
    slowness = (books.finish_ms - books.arrival_ms)[0, :80] - np.floor(books.size[0, :80] / 1.05)
    total = slowness.sum() + relative_value_ms(closing.backlog_ms)[0]
    assert -env.credits().reward.sum() * UNIT_MS == pytest.approx(total), "servers began empty, at the value 0"


def test_the_relative_value_rises_by_the_externality():
    view = view_of(backlog_ms=[0, 300, 50], rate=RATES[[0, 5, 9]], size=400.0)
    for s, x in enumerate([2666, 615, 380]):
        u, factor = view.backlog_ms[0, s], 0.43e-3 * (RATES[[0, 5, 9]][s] / RATES[[0, 5, 9]].mean()) ** 2.5
        assert view.externality_ms[0, s] == pytest.approx(factor * ((u + x) ** 2 - u**2) / 2)
    behind = np.zeros((1, RATES.size))
    behind[0, 9] = 2000.0
    assert relative_value_ms(behind)[0] == pytest.approx(0.43e-3 * (1.05 / 0.6) ** 2.5 * 2000**2 / 2)


def test_the_relative_value_is_a_straight_line_beyond_the_longest_wait():
    values = [relative_value_ms(np.full((1, RATES.size), backlog))[0] for backlog in (8000.0, 9000.0, 10_000.0)]
    assert values[2] - values[1] == pytest.approx(values[1] - values[0])
    assert values[1] - values[0] == pytest.approx(8000 * 1000 * 0.43e-3 * ((RATES / 0.6) ** 2.5).sum())


# Jobs


def test_jobs_follow_their_distributions():
    jobs = draw_jobs(0, range(40), JOBS)
    gaps = np.diff(jobs.arrival_ms, axis=1)
    assert (jobs.size >= 100).all()
    assert (gaps == np.floor(gaps)).all()
    # P(size >= 200) = (100 / 200)^1.5; an exponential gap rounded down has mean 1 / (e^(1/55) - 1). Five standard errors.
    assert (jobs.size >= 200).mean() == pytest.approx(0.5**1.5, abs=5 * 0.48 / np.sqrt(jobs.size.size))
    assert gaps.mean() == pytest.approx(1 / np.expm1(1 / MEAN_GAP_MS), abs=5 * 55 / np.sqrt(gaps.size))


def test_the_offered_load_is_park_s():
    assert MEAN_SIZE / MEAN_GAP_MS / RATES.sum() == pytest.approx(0.909, abs=0.0005)
    assert RATES.tolist() == pytest.approx([0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95, 1.05])


def test_hurried_jobs_come_faster_only_at_first():
    jobs = draw_jobs(0, range(50), 90)
    fast = hurried(jobs, 0, range(50), 40)
    gaps, faster = (np.diff(one.arrival_ms, axis=1, prepend=0.0) for one in (jobs, fast))
    assert (fast.size == jobs.size).all()
    assert (faster[:, 40:] == gaps[:, 40:]).all()
    assert (faster[:, :40] <= gaps[:, :40]).all()
    pace = faster[:, :40].sum(axis=1) / gaps[:, :40].sum(axis=1)
    assert pace.min() < 0.2 < 0.8 < pace.max(), "each episode has its own factor"


def test_measured_episodes_are_not_hurried():
    env, jobs = ParkEnv(0, 30, 1, "response"), draw_jobs(0, [4], 31)
    env.reset(0, [4])
    assert (env.books.arrival_ms == jobs.arrival_ms).all()


def test_a_longer_episode_begins_with_the_same_jobs():
    short, long = draw_jobs(1, [7], 50), draw_jobs(1, [7], 80)
    assert (long.size[:, :50] == short.size).all()
    assert (long.arrival_ms[:, :50] == short.arrival_ms).all()


def test_every_policy_gets_the_same_jobs():
    world, seen = Park().open(TASK), []
    for name in ("random", "jsq"):
        env = world.evaluation_env(2)
        for _ in evaluate(world, [Park().build_policy(name)], 2, 5):
            pass
        env.reset(5, [0, 1])
        seen.append((env.books.size.copy(), env.books.arrival_ms.copy()))
    assert all((one == other).all() for one, other in zip(*seen, strict=True))


# Policies


@pytest.mark.parametrize(
    ("name", "columns", "chosen"),
    [
        ("jsq", {"jobs": [2, 1, 3]}, 1),
        ("sed", {"jobs": [0, 2, 5], "rate": [0.2, 0.5, 1.0]}, 0),  # 1 / 0.2, 3 / 0.5, 6 / 1
        ("sed", {"jobs": [1, 2, 4], "rate": [0.2, 0.5, 1.0]}, 2),  # 2 / 0.2, 3 / 0.5, 5 / 1
        # (waiting + running + own) / rate: 400 / 1, 700 / 2, 300 / 0.5
        ("sect", {"waiting_size": [100, 300, 0], "running_size": [200, 300, 200], "rate": [1.0, 2.0, 0.5]}, 1),
        ("park-observation", {"waiting_size": [100, 50, 0], "running_ms": [10, 70, 111]}, 0),
        ("least-remaining-time", {"backlog_ms": [30, 20, 25], "rate": [1.0, 0.1, 1.0]}, 1),
        # 30 + 100, 20 + 1000, 25 + 50
        ("least-completion-time", {"backlog_ms": [30, 20, 25], "rate": [1.0, 0.1, 2.0]}, 2),
        # Own 2000 and 1000; 0.43e-3 x (0.5 / 0.75)^2.5 x 2000^2 / 2 = 312; (1 / 0.75)^2.5 x 0.43e-3 x (500 x 1000 + 1000^2 / 2) = 883
        ("relative-value", {"size": 1000.0, "backlog_ms": [0, 500], "rate": [0.5, 1.0]}, 0),
        ("least-completion-time", {"size": 1000.0, "backlog_ms": [0, 500], "rate": [0.5, 1.0]}, 1),
    ],
)
def test_a_policy_chooses_as_computed_by_hand(name, columns, chosen):
    assert choice(name, view_of(**columns)) == chosen


def test_round_robin_takes_turns_from_the_first():
    policy, view = Park().build_policy("round-robin"), view_of()
    policy.reset(np.array([1]))
    assert [int(policy.select(view)[0]) for _ in range(5)] == [0, 1, 2, 0, 1]


def test_weighted_random_is_in_proportion_to_rates():
    policy, batch = Park().build_policy("weighted-random"), 20_000
    env = ParkEnv(0, 2, batch, "response")
    policy.reset(np.arange(batch))
    shares = np.bincount(policy.select(env.reset(0, range(batch))), minlength=RATES.size) / batch
    wanted = RATES / RATES.sum()
    assert (np.abs(shares - wanted) < 5 * np.sqrt(wanted / batch)).all()


def test_ties_are_broken_uniformly():
    env, policy = ParkEnv(0, 2, 5000, "response"), Park().build_policy("least-remaining-time")
    policy.reset(np.arange(5000))
    counts = np.bincount(policy.select(env.reset(0, range(5000))), minlength=RATES.size)
    assert (np.abs(counts - 500) < 5 * np.sqrt(450)).all(), "all are idle at the first arrival"


def test_least_completion_is_the_optimal_decision():
    rows = next(evaluate(Park().open(TASK), [Park().build_policy("least-completion-time")], 2, 0))
    assert [row["optimal_decision_rate"] for row in rows] == [1.0, 1.0]


# Figures


@pytest.fixture(scope="module")
def means():
    """Mean job time of each policy over 60 episodes, and mean p99."""
    problem = Park()
    found = {}
    for rows in evaluate(problem.open(TASK), [problem.build_policy(name) for name in problem.default_policies], 60, 0):
        found[rows[0]["policy"]] = tuple(np.mean([row[name] for row in rows]) for name in ("mean_latency_ms", "p99_latency_ms"))
    return found


@pytest.mark.parametrize(
    ("name", "low", "high"),
    # 400 episodes give about 15,700, 14,700, 1,215, 980 and 900; sizes have no variance, so 60 give them within a third.
    [
        ("random", 10_500, 21_000),
        ("round-robin", 10_000, 20_000),
        ("jsq", 900, 1_700),
        ("least-completion-time", 750, 1_350),
        ("least-remaining-time", 680, 1_200),
    ],
)
def test_known_mean_job_times_are_reproduced(means, name, low, high):
    assert low < means[name][0] < high


def test_known_order_is_reproduced(means):
    order = ["least-remaining-time", "least-completion-time", "sed", "p2c", "weighted-random", "round-robin"]
    assert sorted(order, key=lambda name: means[name][0]) == order
    assert means["least-completion-time"][1] < means["least-remaining-time"][1], "knowing the own size saves the tail"


def test_the_price_of_later_jobs_pays(means):
    value, remaining, completion = (means[name] for name in ("relative-value", "least-remaining-time", "least-completion-time"))
    assert value[0] < 0.95 * remaining[0]
    assert value[1] < completion[1]


# Observation


def test_the_price_is_what_the_relative_value_policy_compares():
    env = ParkEnv(0, 200, 4, "relative")
    random_episodes(env, range(4))
    view = env.closing()
    price = np.expm1(observation(view)[:, :, FEATURES.index("price")].astype(np.float64)) * UNIT_MS
    score = view.completion_ms + view.externality_ms
    assert price - price[:, :1] == pytest.approx(score - score[:, :1], rel=1e-4, abs=1.0)


# Around


def test_decisions_and_outcomes_are_counted():
    env, tallies = ParkEnv(0, 50, 2, "response"), Tallies()
    env.count_into(tallies, "anyone")
    actions = random_episodes(env, [0, 1])
    env.drain()
    ((key, tally),) = list(tallies)
    assert (key.backend, key.policy, len(key.servers)) == ("twin", "anyone", RATES.size)
    assert (tally.decisions[:, 0] == np.bincount(actions.ravel(), minlength=RATES.size)).all()
    assert (tally.outcomes[:, 0] == tally.decisions[:, 0]).all()
    assert tally.latencies.sum() == 100
    assert tally.latency_s[0] == pytest.approx(sum(row["mean_latency_ms"] * 50 for row in env.metrics()) / 1e3)


@pytest.mark.parametrize(
    ("task", "named"),
    [
        (Task("parks", "twin"), "parks"),
        (Task("park", "http"), "http"),
        (Task("park", "twin", ("http://localhost:1",)), "localhost:1"),
        (Task("park", "twin", reward="praise"), "praise"),
    ],
)
def test_mistakes_are_named(task, named):
    with pytest.raises(UsageError, match=named):
        Park().open(task)


def test_a_scenario_file_is_refused():
    with pytest.raises(UsageError, match=r"my\.toml"):
        Park().check_scenario("my.toml")

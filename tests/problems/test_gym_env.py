"""The Gymnasium environments: what the API demands, and rewards that add up to what really happened."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3 import DQN
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from tiny_runs import write_scenario
from trimtab.core.observation import FEATURES
from trimtab.core.request_log import FAILED, SERVED
from trimtab.core.reward import FAILURE_COST
from trimtab.errors import UsageError
from trimtab.problems.base import TRAINING_OFFSET
from trimtab.problems.routing.gym_env import ENV_ID, RoutingSingleEnv, RoutingVectorEnv, register_envs

# Under way from the first request: server 2 crashes in the middle of the episode, with requests waiting there.
STORM = """
[scenario]
id = "storm"
[traffic]
rate_rps = 100
[[classes]]
name = "a"
share = 1.0
work_ms = 18
distribution = "exponential"
[[servers]]
id = "server-1"
slots = 1
speed = { a = 1.0 }
queue_limit = 5
[[servers]]
id = "server-2"
slots = 1
speed = { a = 1.0 }
[[faults]]
server = "server-2"
kind = "crash"
start_s = 0.9
end_s = 1.1
[[faults]]
server = "server-1"
kind = "freeze"
start_s = 1.2
end_s = 1.4
"""


@pytest.fixture
def storm(tmp_path):
    path = tmp_path / "storm.toml"
    path.write_text(STORM)
    return str(path)


def play(env, seed=0, options=None):
    """Rewards, infos and observations of one episode under random actions."""
    observation, info = env.reset(seed=seed, options=options)
    rng = np.random.default_rng(seed)
    rewards, infos, observations, truncated = [], [info], [observation], False
    while not truncated:
        observation, reward, terminated, truncated, info = env.step(int(rng.choice(np.flatnonzero(info["action_mask"]))))
        assert not terminated, "traffic does not end because we stop looking"
        rewards.append(reward)
        infos.append(info)
        observations.append(observation)
    return rewards, infos, observations


def inner(env):
    """The episodes behind an environment."""
    return env.unwrapped._routing.rewards._env


# The API


@pytest.mark.parametrize(
    "options", [{}, {"scenario": "leave-join", "decisions": 40}, {"scenario": "family:affinity"}, {"reward": "integral"}]
)
def test_gymnasium_s_checker_has_nothing_to_say(options):
    check_env(gymnasium.make(ENV_ID, **options).unwrapped)


def test_stable_baselines_checker_has_nothing_to_say():
    sb3_check_env(RoutingSingleEnv(decisions=20))


def test_stable_baselines_trains_on_it():
    env = gymnasium.make(ENV_ID, decisions=50)
    model = DQN("MlpPolicy", env, learning_starts=50, buffer_size=500, policy_kwargs={"net_arch": [8]}, seed=0, device="cpu")
    model.learn(300)
    assert model.num_timesteps == 300
    action, _ = model.predict(env.reset(seed=0)[0], deterministic=True)
    assert env.action_space.contains(int(action))


def test_it_is_found_by_module_and_id_and_registers_once():
    register_envs()
    env = gymnasium.make(f"trimtab.problems.routing.gym_env:{ENV_ID}", scenario="uniform")
    assert isinstance(env.unwrapped, RoutingSingleEnv)


def test_spaces_are_those_of_the_scenario():
    env = RoutingSingleEnv("affinity-100")
    servers = env.action_space.n
    assert env.observation_space.shape == (servers * len(FEATURES),)
    assert np.isfinite(env.observation_space.low).all()
    assert np.isfinite(env.observation_space.high).all()


@pytest.mark.parametrize("scenario", ["compose-default", "freeze", "black-hole", "family:grey"])
def test_observations_stay_within_their_bounds(scenario):
    env = RoutingSingleEnv(scenario, decisions=150)
    assert all(env.observation_space.contains(one) for one in play(env)[2])


def test_the_data_sheet_names_every_feature_with_its_index():
    sheet = RoutingSingleEnv.__doc__
    for index, name in enumerate(FEATURES):
        assert any(line.split("|")[1:3] == [f" {index:<2} ", f" {name:<14} "] for line in sheet.splitlines()), name


def test_the_data_sheet_has_the_bounds_of_the_space():
    env = RoutingSingleEnv("compose-default", decisions=500)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in env.__doc__.splitlines() if line.count("|") == 7]
    bounds = {row[1]: row[4:6] for row in rows}
    for name, low, high in zip(FEATURES, env.observation_space.low, env.observation_space.high, strict=False):
        written_low, written_high = bounds[name]
        assert float(written_low) == pytest.approx(low, abs=0.005), name
        assert written_high.startswith("log(") or float(written_high) == pytest.approx(high), name


def test_an_episode_is_truncated_at_its_length():
    rewards, infos, _ = play(RoutingSingleEnv(decisions=30))
    assert len(rewards) == 30
    times = [info["now_s"] for info in infos]
    assert times == sorted(times)
    assert len(set(times)) == 31


def test_infos_hold_time_class_and_mask():
    env = RoutingSingleEnv("leave-join", decisions=20)
    _, info = env.reset(seed=0)
    assert info["now_s"] > 0.0
    assert info["request_class"] >= 0
    assert info["action_mask"].shape == (env.action_space.n,)
    kept = info["action_mask"].copy(), info["now_s"]
    env.step(int(np.flatnonzero(info["action_mask"])[0]))
    assert (info["action_mask"] == kept[0]).all()
    assert info["now_s"] == kept[1]


# Episodes


def test_the_same_seed_gives_the_same_episodes_and_consecutive_ones_differ():
    env = RoutingSingleEnv(decisions=20)
    first, second, third = play(env, seed=5)[0], play(env, seed=None)[0], play(env, seed=5)[0]
    assert first == third != second
    assert play(RoutingSingleEnv(decisions=20), seed=6)[0] != first


def test_drawn_episodes_are_never_those_of_evaluation():
    env = RoutingSingleEnv(decisions=1)
    asked = []
    begin = env._routing.rewards.begin
    env._routing.rewards.begin = lambda episodes: asked.extend(episodes) or begin(episodes)
    for seed in range(20):
        env.reset(seed=seed)
    assert min(asked) >= TRAINING_OFFSET
    assert len(set(asked)) == 20


def test_an_episode_can_be_asked_for():
    env = RoutingSingleEnv(decisions=10)
    arrivals = []
    for seed in (1, 2):
        env.reset(seed=seed, options={"episode": 3})
        arrivals.append(inner(env).fleet.log.scheduled_s.copy())
    assert (arrivals[0] == arrivals[1]).all()


# Rewards


@pytest.mark.parametrize("seed", range(3))
def test_rewards_add_up_to_what_really_happened(storm, seed):
    env = RoutingSingleEnv(storm, decisions=100)
    rewards, infos, _ = play(env, seed=seed)
    (row,) = inner(env).metrics()
    assert row["error_rate"] > 0.0, "the crash must have hit someone"
    assert sum(rewards) == pytest.approx(row["total_reward"])
    assert sum(len(info["credits"].reward) for info in infos[1:]) == 100, "each decision is credited once"


def test_a_calm_decision_is_charged_at_its_own_step():
    env = RoutingSingleEnv("compose-default", decisions=60)
    rewards, _, _ = play(env)
    log, first = inner(env).fleet.log, inner(env).plan.warmup
    own = -log.latency_s[0, first : first + 60] / inner(env).fleet.scenarios[0].fleet_service_s()
    np.testing.assert_allclose(rewards, own)


def test_a_refusal_is_charged_at_once(storm):
    env = RoutingSingleEnv(storm, decisions=60)
    env.reset(seed=0)
    rewards = [env.step(0)[1] for _ in range(60)]
    log, first = inner(env).fleet.log, inner(env).plan.warmup
    status = log.status[0, first : first + 60]
    refused = np.flatnonzero((status == FAILED) & (log.latency_s[0, first : first + 60] == 0.0))
    assert refused.size > 0
    assert all(rewards[n] <= -FAILURE_COST for n in refused)


def test_a_step_of_the_integral_is_the_requests_in_the_system_times_their_time():
    env = RoutingSingleEnv(decisions=40, reward="integral")
    rewards, _, _ = play(env)
    log, first, unit_s = inner(env).fleet.log, inner(env).plan.warmup, inner(env).fleet.scenarios[0].fleet_service_s()
    for n, reward in enumerate(rewards):
        start, stop = log.scheduled_s[0, first + n], log.scheduled_s[0, first + n + 1]
        sent = slice(0, first + n + 1)
        inside = np.minimum(log.completed_s[0, sent], stop) - np.maximum(log.scheduled_s[0, sent], start)
        assert reward == pytest.approx(-np.clip(inside, 0.0, None).sum() / unit_s)


def test_live_rewards_come_when_requests_complete_and_add_up(tmp_path):
    env = RoutingSingleEnv(str(write_scenario(tmp_path)), backend="http", decisions=40)
    try:
        rewards, infos, observations = play(env)
        log, first = inner(env).fleet.log, inner(env).plan.warmup
        completed = [len(info["credits"].reward) for info in infos[1:]]
        assert sum(completed) == 40
        assert all(reward == 0.0 for reward, count in zip(rewards, completed, strict=True) if count == 0)
        assert sum(rewards) == pytest.approx(inner(env).metrics()[0]["total_reward"])
        assert (log.status[0, first : first + 40] == SERVED).all()
        assert all(env.observation_space.contains(one) for one in observations)
    finally:
        env.close()


# Vector


def test_the_vector_environment_is_what_make_vec_gives():
    envs = gymnasium.make_vec(ENV_ID, num_envs=3, decisions=10)
    assert isinstance(envs.unwrapped, RoutingVectorEnv)
    observations, infos = envs.reset(seed=0)
    assert envs.observation_space.contains(observations)
    assert observations.shape == (3, envs.single_observation_space.shape[0])
    assert infos["action_mask"].shape == (3, envs.single_action_space.n)
    assert infos["now_s"].shape == infos["request_class"].shape == (3,)
    envs.close()


def test_episodes_of_a_vector_end_together_and_the_next_step_starts_anew():
    envs = RoutingVectorEnv(2, decisions=5)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    envs.reset(seed=0)
    ends, rewards = [], []
    for _ in range(12):
        _, reward, terminated, truncated, _ = envs.step(np.zeros(2, dtype=np.int64))
        assert not terminated.any()
        assert truncated[0] == truncated[1]
        ends.append(bool(truncated[0]))
        rewards.append(reward)
    assert [n for n, end in enumerate(ends) if end] == [4, 10]
    assert (rewards[5] == 0.0).all(), "the step that resets has no reward"


@pytest.mark.parametrize("reward", ["response", "integral"])
def test_a_vector_gives_what_its_episodes_give_alone(storm, reward):
    envs = RoutingVectorEnv(2, storm, decisions=80, reward=reward)
    alone = RoutingSingleEnv(storm, decisions=80, reward=reward)
    envs.reset(seed=0, options={"episode": 7})
    actions = np.random.default_rng(1).integers(0, 2, (80, 2))
    together = np.array([envs.step(row)[1] for row in actions])
    for b in range(2):
        alone.reset(options={"episode": 7 + b})
        np.testing.assert_allclose(together[:, b], [alone.step(int(action))[1] for action in actions[:, b]])
    if reward == "response":
        np.testing.assert_allclose(together.sum(axis=0), [row["total_reward"] for row in inner(envs).metrics()])


def test_late_credits_name_environment_and_decision(storm):
    envs = RoutingVectorEnv(3, storm, decisions=60)
    envs.reset(seed=0)
    named = []
    for _ in range(60):
        credits = envs.step(np.array([0, 1, 0]))[4]["credits"]
        named += list(zip(credits.episode.tolist(), credits.decision.tolist(), strict=True))
    assert sorted(named) == [(b, n) for b in range(3) for n in range(60)]


# Mistakes


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"scenario": "nowhere"}, "nowhere"),
        ({"scenario": "family:nowhere"}, "nowhere"),
        ({"backend": "cloud"}, "cloud"),
        ({"reward": "praise"}, "praise"),
        ({"decisions": 0}, "0 decisions"),
        ({"backend": "http", "scenario": "family:grey"}, "family:grey"),
        ({"backend": "http", "reward": "integral"}, "integral"),
    ],
)
def test_mistakes_are_named(options, named):
    with pytest.raises(UsageError, match=named):
        RoutingSingleEnv(**options)


def test_many_environments_on_one_live_fleet_are_refused():
    with pytest.raises(UsageError, match="2 environments on one live fleet"):
        RoutingVectorEnv(2, backend="http")


def test_an_unknown_reset_option_is_named():
    with pytest.raises(UsageError, match="speed"):
        RoutingSingleEnv(decisions=1).reset(options={"speed": 2})


def test_close_may_be_called_twice():
    env = RoutingSingleEnv()
    env.close()
    env.close()

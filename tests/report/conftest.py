"""Synthetic results files in the shape of real ones: a hybrid training run, and ten policies on the twin and live."""

import numpy as np
import pandas as pd
import pytest

# Mean latency of each policy as a multiple of the best, roughly what unequal servers under load give.
POLICIES = {
    "oracle-greedy": 1.0,
    "sed-known": 1.1,
    "dqn": 1.12,
    "sed-online": 1.18,
    "prequal": 1.9,
    "peak-ewma": 2.2,
    "least-connections": 2.3,
    "p2c": 2.6,
    "weighted-round-robin": 3.4,
    "round-robin": 7.5,
}
TRAINING_PHASES = (("1", "twin", 40, 150), ("2", "twin", 80, 250), ("3", "twin", 120, 500), ("4", "http", 20, 500))


def training_frame(phases=TRAINING_PHASES, seed=0):
    """A run that improves with its episodes; quantiles are blank where an episode is too short for them, as in real runs."""
    rng = np.random.default_rng(seed)
    rows = []
    total = sum(count for _, _, count, _ in phases)
    for phase, backend, count, length in phases:
        for _ in range(count):
            done = len(rows) / total
            mean = (22 + 60 * np.exp(-4 * done)) * rng.lognormal(0, 0.15) * (1.1 if backend == "http" else 1)
            reward = -mean / 12 * length
            rows.append(
                {
                    "episode": len(rows) + 1, "phase": phase, "backend": backend, "episode_length": length,
                    "total_reward": reward, "average_reward": reward / length,
                    "gini_coefficient": np.clip(0.35 - 0.15 * done + rng.normal(0, 0.02), 0, 1),
                    "utilization_std": np.clip(0.2 - 0.08 * done + rng.normal(0, 0.015), 0, 1),
                    "optimal_decision_rate": np.clip(0.3 + 0.5 * done + rng.normal(0, 0.03), 0, 1),
                    "mean_latency_ms": mean, "p95_latency_ms": mean * 3.2 if length >= 200 else np.nan, "p99_latency_ms": np.nan,
                    "error_rate": max(0.0, rng.normal(0.02 * np.exp(-6 * done), 0.003)),
                    "epsilon": max(0.02, 1 - 2 * done),
                    "loss": np.nan if len(rows) < 8 else 0.8 * np.exp(-3 * done) * rng.lognormal(0, 0.3),
                    "q_mean": -2 - 6 * (1 - np.exp(-5 * done)) + rng.normal(0, 0.1), "wall_s": 0.3,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def evaluation_frame(scenario="affinity-100", backend="twin", episodes=20, best_ms=18.0, policies=None, seed=3):
    """Episodes share their luck between policies, and between backends too, as common arrivals and work make them do."""
    luck = np.random.default_rng(seed).lognormal(0, 0.18, episodes)
    own = np.random.default_rng([seed, backend != "twin"])
    rows = []
    for policy, factor in (policies or POLICIES).items():
        for episode in range(episodes):
            mean = best_ms * factor * luck[episode] * own.lognormal(0, 0.03) * (1.08 if backend != "twin" else 1)
            rows.append(
                {
                    "scenario": scenario, "backend": backend, "policy": policy, "episode": episode, "seed": 0, "requests": 2000,
                    "mean_latency_ms": mean, "p50_latency_ms": 0.6 * mean, "p95_latency_ms": 3.1 * mean, "p99_latency_ms": 5.6 * mean,
                    "p999_latency_ms": np.nan, "slo_attainment": np.clip(1 - mean / 900, 0, 1),
                    "error_rate": 0.0 if factor < 3 else 0.004 * factor,
                    "throughput_rps": 99.0, "gini_coefficient": np.clip(0.1 + 0.05 * factor + own.normal(0, 0.01), 0, 1),
                    "utilization_std": 0.1,
                    "optimal_decision_rate": np.clip(1.05 - 0.2 * factor, 0.1, 1), "total_reward": -mean * 20, "decision_us": 40.0,
                    "schedule_lag_ms": np.nan if backend == "twin" else abs(own.normal(0.6, 0.2)),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def training():
    return training_frame()


@pytest.fixture(scope="session")
def make_training():
    return training_frame


@pytest.fixture
def evaluation():
    return evaluation_frame()


@pytest.fixture(scope="session")
def make_evaluation():
    return evaluation_frame


@pytest.fixture
def both_worlds():
    return pd.concat([evaluation_frame(), evaluation_frame(backend="http", episodes=5)], ignore_index=True)


@pytest.fixture(scope="session")
def metrics_folder(tmp_path_factory):
    """Models/metrics with a configuration above it, as training and evaluation leave it. Shared: tests do not write into it."""
    folder = tmp_path_factory.mktemp("run") / "Models" / "metrics"
    folder.mkdir(parents=True)
    training_frame().to_csv(folder / "training_metrics.csv", index=False)
    evaluation_frame().to_csv(folder / "evaluation.csv", index=False)
    evaluation_frame(backend="http", episodes=5).to_csv(folder / "evaluation_live.csv", index=False)
    (folder / "notes.csv").write_text("x\n1\n", encoding="utf-8")
    config = '{"problem": "routing", "learner": {"gamma": 0.9, "note": "<b>1 & 2</b>"}, "seed": 0}'
    (folder.parent / "config.json").write_text(config, encoding="utf-8")
    return folder

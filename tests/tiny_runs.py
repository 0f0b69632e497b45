"""A run small enough for tests: a fleet of two quick servers, a learner of eight units, a curriculum of a few decisions."""

import json
from pathlib import Path

import torch

from trimtab.experiments import curriculum, session, train
from trimtab.experiments.curriculum import Phase
from trimtab.problems.base import Credits

AGENT = Path(__file__).resolve().parents[1] / "agent"
LEARNER = {"hidden": 8, "batch": 32, "learn_start": 64, "decisions_per_update": 64, "replay_capacity": 4000}
# Rollouts so short that each of the few batches of a tiny run teaches something.
ROLLOUTS = {"rollout_every": 50, "rollout_horizon": 8, "rollouts_per_update": 16, "rollout_capacity": 300}
LEARNER |= ROLLOUTS
# A network whose every step shows in what it decides, so that a run that goes on with other weights is another run.
BOLD = {**LEARNER, "learning_rate": 0.03, "average": 0.0, "trust": 1.0, "lead": 0.0, "bound_factor": 3.0}


def words_of(learner):
    """Settings as options of the command line."""
    return [word for key, value in learner.items() for word in ("--set", f"{key}={value}")]


LEARNER_ARGS = words_of(LEARNER)
# Two servers that serve in 2 to 3 ms; an evaluation episode takes a quarter of a second live.
SCENARIO = """
[scenario]
id = "tiny"
requests = 60
warmup = 10
[traffic]
rate_rps = 300
[[classes]]
name = "a"
share = 0.5
work_ms = 2
distribution = "fixed"
spread = 0
[[classes]]
name = "b"
share = 0.5
work_ms = 3
[[servers]]
id = "server-1"
slots = 2
speed = { a = 1.0, b = 1.0 }
[[servers]]
id = "server-2"
slots = 2
speed = { a = 1.0, b = 0.5 }
"""
PHASES = (Phase(100, 12), Phase(60, 16), Phase(3000, 20))


def write_scenario(folder, text=SCENARIO):
    path = folder / "tiny.toml"
    path.write_text(text)
    return path


def shorten(setattr_of, *, batch=20, phases=PHASES, save_every_s=session.SAVE_EVERY_S):
    """A shorter curriculum in smaller batches; `setattr_of` is monkeypatch.setattr or setattr."""
    setattr_of(curriculum, "CURRICULUM", phases)
    setattr_of(train, "BATCH", batch)
    setattr_of(session, "SAVE_EVERY_S", save_every_s)


def files_of(folder):
    """Every file below a folder with its content, to see that nothing was changed, lost or created."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def same_content(one, other):
    """Are two nested states equal, tensors by content?"""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_content(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same_content, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return bool(one == other)


def rows_without_time(path):
    """The CSV's lines without their last column, wall_s."""
    lines = path.read_text().splitlines()
    assert lines[0].endswith(",wall_s")
    return [line.rpartition(",")[0] for line in lines]


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


class SpyWorld:
    """A world whose environments are remembered, with what was asked of them."""

    def __init__(self, world):
        self._world = world
        self.envs = []

    def __getattr__(self, name):
        return getattr(self._world, name)

    def training_env(self, decisions, batch):
        return self._spied(self._world.training_env(decisions, batch))

    def evaluation_env(self, batch):
        return self._spied(self._world.evaluation_env(batch))

    def _spied(self, env):
        self.envs.append(SpyEnv(env))
        return self.envs[-1]


class SpyEnv:
    """Remembers the episodes of each reset, the log of each, and all credits."""

    def __init__(self, env):
        self._env = env
        self.resets = []
        self.logs = []
        self.credited = []

    def __getattr__(self, name):
        return getattr(self._env, name)

    def reset(self, seed, episodes):
        self.resets.append((seed, list(episodes)))
        view = self._env.reset(seed, episodes)
        self.logs.append(self._env.fleet.log)
        return view

    def credits(self):
        credits = self._env.credits()
        self.credited.append(Credits(*(column.copy() for column in credits)))
        return credits


class AtOnce:
    """In place of `experiments.pool.Workers`: work is done where it is given, without the seconds that a new process takes to start."""

    def __init__(self, jobs):
        self.jobs = jobs

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def give(self, work, unit):
        result = work(unit)
        return lambda: result


class WhenAsked(AtOnce):
    """Work is done where its result is asked for, as by processes that are slower than the learner."""

    def give(self, work, unit):
        return lambda: work(unit)

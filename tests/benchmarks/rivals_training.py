"""Training against a clock: when a training is read, and this project's own learner under that clock."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trimtab.cli.progress import Bar
from trimtab.dqn.checkpoint import save_checkpoint
from trimtab.dqn.config import DQNConfig
from trimtab.experiments.runs import RunFolder
from trimtab.experiments.session import Settings, TrainingSession
from trimtab.problems.base import Policy, Task
from trimtab.problems.catalogue import build

OURS = "trimtab"
SECONDS, DECISIONS = "seconds", "decisions"  # the two moments at which a training is read
ENDLESS = 10**9  # episodes: the clock ends the run, and nothing in training depends on the total


@dataclass(frozen=True)
class Budget:
    """When a training is read: after `seconds` of wall-clock, and at `decisions` or, where those take longer, after `most_seconds`."""

    seconds: float
    decisions: int | None = None  # None: the first reading alone
    most_seconds: float = 0.0

    def due(self, stop: str, elapsed_s: float, decisions: int) -> bool:
        """Whether the reading of that name is to be taken now."""
        if stop == SECONDS:
            return elapsed_s >= self.seconds
        return self.decisions is not None and (decisions >= self.decisions or elapsed_s >= self.most_seconds)

    @property
    def stops(self) -> tuple[str, ...]:
        return (SECONDS,) if self.decisions is None else (SECONDS, DECISIONS)

    @property
    def longest_s(self) -> float:
        return self.seconds if self.decisions is None else max(self.seconds, self.most_seconds)


@dataclass(frozen=True)
class Reading:
    """A training at one of its moments, with the greedy policy that it had reached."""

    stop: str
    training_s: float
    decisions: int
    gradient_steps: int
    policy: Policy


class Readings:
    """Takes the readings of one training. Its clock stands still while a policy is copied."""

    def __init__(self, budget: Budget, title: str, *, until_first_step: bool = False) -> None:
        self.taken: list[Reading] = []
        self._until_first_step = until_first_step
        self._budget = budget
        self._open = list(budget.stops)
        self._total_s = math.ceil(budget.longest_s)
        self._bar = Bar(title, self._total_s)
        self._said_s = 0
        self._started_s = time.perf_counter()

    def __enter__(self) -> "Readings":
        self._bar.__enter__()
        self._started_s = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.__exit__(None, None, None)

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._started_s

    @property
    def share(self) -> float:
        """Part of the wall-clock budget that is used, 0 to 1."""
        return min(1.0, self.elapsed_s / self._budget.seconds)

    def look(self, decisions: int, gradient_steps: int, policy: Callable[[], Policy], ahead_s: float = 0.0) -> bool:
        """Take what is due; `ahead_s` is how long the next stretch is expected to take. True: there is more to train for."""
        elapsed_s = self.elapsed_s
        due = [stop for stop in self._open if self._budget.due(stop, elapsed_s + ahead_s, decisions)]
        if due:
            greedy = policy()
            self.taken += [Reading(stop, elapsed_s, decisions, gradient_steps, greedy) for stop in due]
            self._open = [stop for stop in self._open if stop not in due]
            self._started_s += self.elapsed_s - elapsed_s
        self._say(int(elapsed_s), f"{decisions:,} decisions, {gradient_steps:,} gradient steps")
        return bool(self._open) and not (self._until_first_step and gradient_steps)

    def _say(self, elapsed_s: int, text: str) -> None:
        """Once a second: a learner looks after every decision, and drawing would slow it down."""
        if elapsed_s > self._said_s:
            self._said_s = elapsed_s
            self._bar.update(min(elapsed_s, self._total_s), text)


def train_ours(scenario: str, seed: int, folder: Path, readings: Readings) -> None:
    """Train as train_dqn.py does with its defaults and --backend twin, files included, until the last reading is taken."""
    problem = build("routing")
    learner = DQNConfig.from_dict({**problem.learner_defaults, **problem.rollout_defaults})
    settings = Settings(scenario=scenario, backend="twin", seed=seed, episodes=ENDLESS, learning="rollouts", learner=learner)
    choices = problem.choices(Task(scenario, "twin"))

    def greedy() -> Policy:
        path = folder / "reading.pth"
        save_checkpoint(path, session.checkpoint())
        return problem.load_policy(path, choices)

    with TrainingSession(problem, settings, RunFolder(folder), "cpu") as session:
        session.start(overwrite=False)
        with readings:
            before_s = 0.0
            for _ in session.run():
                batch_s, before_s = readings.elapsed_s - before_s, readings.elapsed_s
                # A batch is not begun that would end after the clock: rivals stop at the very decision.
                if not readings.look(session.agent.decisions, session.agent.updates, greedy, ahead_s=batch_s):
                    return

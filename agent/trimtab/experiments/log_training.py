"""Learning from a decision log: decisions in, gradient steps, and a row of metrics every EPISODE decisions.

What is learned depends on the log, the settings and the seed alone: not on how fast the log grew, nor on where a run was interrupted.
"""

import time
from typing import Any, Final

import numpy as np

from trimtab.core.metrics import episode_metrics
from trimtab.core.request_log import FAILED, SERVED, RequestLog, empty_log
from trimtab.core.reward import own_response
from trimtab.core.tally import Tallies
from trimtab.dqn.agent import DQNAgent
from trimtab.dqn.learner import UpdateStats
from trimtab.experiments.decision_log import Header, Records
from trimtab.experiments.log_reader import Step, packed, unpacked
from trimtab.experiments.train import Row, mean
from trimtab.problems.base import F32, Mask, World

EPISODE: Final = 500  # decisions of one row; live traffic has no other episodes
BACKEND: Final = "gateway"
LIVE_PHASE: Final = 4  # number of training on live servers, after the curriculum's three


class LogTrainer:
    """Feeds an agent with one decision after the other, each with its outcome.

    The newest decision is held back until its successor is known. Where there is none, its observation closes the stream, as that of the
    decision after the last does in the twin; it is then not learned from itself.
    """

    def __init__(self, agent: DQNAgent, metrics: tuple[str, ...]) -> None:
        """`metrics`: the problem's columns; what a log does not tell is left blank."""
        self.agent = agent
        self.episode = 0
        self.tallies = Tallies()  # stays empty: the gateway counts what it decides on a page of its own
        self.world: World | None = None  # nowhere that a yardstick could be played
        self._metrics = metrics
        self._header: Header | None = None
        self._held: np.void | None = None
        self._episode: list[np.void] = []
        self._updates: list[UpdateStats] = []
        self._began_s = time.perf_counter()

    def open(self, header: Header) -> None:
        """The records that follow are of this log."""
        self._header = header
        self._scenario = header.read_scenario()
        self._unit_s = np.array([header.unit_s])

    def take(self, step: Step) -> Row | None:
        """Learn from one decision; the row of the episode that it completed, if it did."""
        if self._held is None:
            self.agent.begin(1)
        elif step.broken:
            self.agent.finish(*_seen(self._held))
            self.agent.begin(1)
        else:
            self._learn(self._held)
        self._held = step.record
        self._episode.append(step.record)
        return self._row() if len(self._episode) == EPISODE else None

    def rest(self) -> Row | None:
        """The row of an episode that remained shorter, if any decision is left."""
        return self._row() if self._episode else None

    def state_dict(self) -> dict[str, Any]:
        """What goes on elsewhere, the agent aside, in plain values."""
        losses = [[one.loss, one.q_mean, one.grad_norm] for one in self._updates]
        return {"held": packed([] if self._held is None else [self._held]), "episode": packed(self._episode), "updates": losses}

    def load_state_dict(self, state: dict[str, Any], header: Header) -> None:
        """Go on where `state_dict` was taken."""
        held = unpacked(state["held"], header.record)
        self._held = held[0] if len(held) else None
        self._episode = list(unpacked(state["episode"], header.record))
        self._updates = [UpdateStats(*one) for one in state["updates"]]

    def _learn(self, record: np.void) -> None:
        obs, mask = _seen(record)
        ids = self.agent.observe(obs, mask, np.array([record["server"]], dtype=np.int64))
        latency_s, status = np.array([record["latency_s"]]), np.array([record["status"]], dtype=np.int8)
        self.agent.credit(ids, *own_response(latency_s, status, self._unit_s))
        self._updates += self.agent.learn()

    def _row(self) -> Row:
        records = np.array(self._episode)
        self.episode += 1
        row: Row = {
            "episode": self.episode,
            "phase": LIVE_PHASE,
            "backend": BACKEND,
            "episode_length": len(records),
            **self._measured(records),
            "epsilon": self.agent.epsilon,
            "loss": mean([one.loss for one in self._updates]),
            "q_mean": mean([one.q_mean for one in self._updates]),
            "wall_s": time.perf_counter() - self._began_s,
        }
        self._episode, self._updates, self._began_s = [], [], time.perf_counter()
        return row

    def _measured(self, records: Records) -> Row:
        log = request_log(records)
        count = len(records)
        numbers = episode_metrics(log, 0, self._scenario, 0, count, np.zeros(count, dtype=np.bool_), np.zeros(count))
        status = log.status[0]
        reward, _ = own_response(log.latency_s[0], status, self._unit_s)
        total = float(reward[(status == SERVED) | (status == FAILED)].sum())
        known = {name: value for name, value in numbers.items() if name in self._metrics and name != "optimal_decision_rate"}
        return {"total_reward": total, "average_reward": total / count, **known}


def request_log(records: Records) -> RequestLog:
    """Records as the log of one fleet, oldest first; time starts with the first of them."""
    count = len(records)
    sent_s = records["wall_s"] - records["latency_s"]  # monotonic times of two sessions cannot be compared
    log = empty_log((sent_s - sent_s.min())[None, :], records["kind"][None, :].astype(np.int32), np.zeros((1, count)))
    for name in ("server", "status", "latency_s", "service_s", "queue_s"):
        getattr(log, name)[0] = records[name]
    log.completed_s[0] = records["wall_s"] - sent_s.min()
    log.order[0] = np.argsort(records["wall_s"], kind="stable")
    log.completed[0] = count
    return log


def _seen(record: np.void) -> tuple[F32, Mask]:
    """Observation [1, S, F] and mask [1, S] of one decision; copies, for a record's numbers lie unaligned."""
    return np.array(record["seen"], dtype=np.float32)[None], np.array(record["mask"], dtype=np.bool_)[None]

"""What a routing model goes by: how much its decisions, its own values and the latency depend on each feature, and who gets which class.

Permutation importance (Breiman 2001, section 10; Fisher, Rudin and Dominici 2019): a feature of all servers is replaced by what it was at
another moment, in another fleet, so it keeps its distribution and tells nothing about this decision.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from trimtab.core.observation import F32, FEATURES, Mask, observation
from trimtab.dqn.checkpoint import Checkpoint, load_checkpoint, load_network
from trimtab.dqn.network import QNetwork, q_values
from trimtab.errors import CheckpointError
from trimtab.experiments import detail_rows
from trimtab.experiments.csv_log import Cell, cell_text, write_text
from trimtab.experiments.details import Logged
from trimtab.experiments.learned_rule import RULE, RULE_COLUMNS, rule_rows
from trimtab.experiments.loop import play_out
from trimtab.experiments.statistics import Interval, paired_difference
from trimtab.policies.base import RoutingView
from trimtab.policies.catalogue import LEARNED
from trimtab.policies.learned import LearnedPolicy
from trimtab.problems.base import F64, I64, Policy, World

Row = dict[str, Cell]
PROBLEM: Final = "routing"
EPISODES: Final = 20
MOST_ROWS: Final = 100_000  # of servers, kept from the episodes: beyond this memory grows and shares change in the third digit
PLAYED: Final = 10  # features whose importance is also measured as latency
GROUP: Final = "all of core.moods"
# What `core.moods` infers. Without `expected_cost`: a model may be learned on top of it, so it has a row of its own.
MOODS: Final = (
    "log_own", "log_wait", "slow_share", "last_ratio", "recent_ratio", "long_ratio", "overdue", "mean_overdue", "progress",
    "contention", "spread", "uncertainty", "failing",
)  # fmt: skip
IMPORTANCE: Final = "explain_importance.csv"
SHARES: Final = "explain_shares.csv"
IMPORTANCE_COLUMNS: Final = (
    "model", "scenario", "episodes", "decisions", "feature", "changed_share", "q_loss", "q_loss_changed",
    "latency_percent", "latency_low_percent", "latency_high_percent",
)  # fmt: skip
_NO_OBS: Final[F32] = np.zeros((0, 0, len(FEATURES)), dtype=np.float32)
_NOBODY: Final[Mask] = np.zeros((0, 0), dtype=np.bool_)
SHARES_COLUMNS: Final = ("model", "episodes", *detail_rows.SHARES_COLUMNS)


@dataclass(frozen=True, slots=True)
class Seen:
    """Decisions of a model, the warm-up left out: what it saw, and which servers were open."""

    obs: F32  # [M, S, F]
    available: Mask  # [M, S]


@dataclass(frozen=True, slots=True)
class Importance:
    """What permuting some features does to M decisions."""

    name: str
    changed_share: float  # of the decisions
    q_loss: float  # mean over all decisions of Q(own choice) - Q(choice when permuted), both as seen unpermuted
    q_loss_changed: float  # the same over the changed ones; NaN without one


@dataclass
class _Keeper:
    """Keeps what a policy saw; of more rows than `MOST_ROWS` every second, every fourth and so on, evenly over the episodes."""

    obs: list[F32] = field(default_factory=list)
    available: list[Mask] = field(default_factory=list)
    stride: int = 1
    number: int = 0

    def add(self, obs: F32, available: Mask) -> None:
        if self.number % self.stride == 0:
            self.obs.append(obs.copy())
            self.available.append(np.array(available))
        self.number += 1
        if len(self.obs) * available.size > MOST_ROWS and len(self.obs) > 1:
            del self.obs[1::2], self.available[1::2]
            self.stride *= 2

    def seen(self) -> Seen:
        return Seen(np.concatenate(self.obs or [_NO_OBS]), np.concatenate(self.available or [_NOBODY]))


class _Permuted:
    """Observes as the network was trained to, but some features come from a moment drawn from `pool` [M, S, F]."""

    def __init__(self, pool: F32, columns: Sequence[int], seed: int) -> None:
        self._pool, self._columns = pool, list(columns)
        self._rng = np.random.default_rng([seed, *columns])

    def __call__(self, view: RoutingView) -> F32:
        rows = observation(view)
        drawn = self._rng.integers(len(self._pool), size=len(rows))
        rows[:, :, self._columns] = self._pool[drawn][:, :, self._columns]
        return rows


def explain(world: World, rival: Policy, checkpoint: Checkpoint, network: QNetwork, model: Path, folder: Path, seed: int = 0) -> list[Path]:
    """Play `model` and, for the shares, `rival`; write `IMPORTANCE`, `RULE` and `SHARES` into `folder`, and return what was written.

    A file for which there is nothing to say is removed: it would describe another model. Raises `ResultsError` where the disk refuses.
    """
    name = str(model)
    latency_ms, own, seen = play(world, LearnedPolicy(LEARNED, network), seed)
    others = play(world, rival, seed)[1]
    files: dict[str, tuple[Sequence[str], Sequence[Row]]] = {
        IMPORTANCE: (IMPORTANCE_COLUMNS, list(importance_rows(world, network, name, seen, latency_ms, seed))),
        RULE: (RULE_COLUMNS, rule_rows(network, name, checkpoint.servers if checkpoint.config.network == "mlp" else 2)),
        SHARES: (SHARES_COLUMNS, share_rows(world, name, {LEARNED: own, rival.name: others})),
    }
    return [path for file, (columns, rows) in files.items() if (path := _replace(folder / file, columns, rows))]


def load_routing_model(path: Path, servers: int) -> tuple[Checkpoint, QNetwork]:
    """A model and its network for fleets of `servers`. Raises `CheckpointError` where it is of another problem or version."""
    checkpoint = load_checkpoint(path)
    if checkpoint.problem != PROBLEM:
        raise CheckpointError(f"{path}: a model of problem {checkpoint.problem!r}; allowed: one of {PROBLEM!r}; name one with --explain")
    checkpoint = load_checkpoint(path, problem=PROBLEM, observation=FEATURES)
    return checkpoint, load_network(checkpoint, servers)


def subjects() -> dict[str, tuple[int, ...]]:
    """What is permuted, by name: every feature by itself, and those of `core.moods` together."""
    single = {name: (place,) for place, name in enumerate(FEATURES)}
    return {**single, GROUP: tuple(FEATURES.index(name) for name in MOODS)}


def play(world: World, policy: Policy, seed: int, episodes: int = EPISODES) -> tuple[F64, list[detail_rows.Requests], Seen]:
    """Held-out episodes under `policy`: mean latency of each [N] in ms, what became of the requests, and what a learned policy saw.

    Of another policy nothing is kept.
    """
    env, keeper = world.evaluation_env(episodes), _Keeper()

    def choose(view: RoutingView) -> I64:
        actions = policy.select(view)
        if isinstance(policy, LearnedPolicy) and not env.warming:
            keeper.add(policy.seen, view.available)
        return actions

    metrics = play_out(env, policy, choose, seed, range(episodes))
    parts: list[detail_rows.Requests] = []
    if isinstance(env, Logged):
        log, scenarios, counted = env.requests()
        parts = [detail_rows.requests_of(log, b, scenario, counted) for b, scenario in enumerate(scenarios)]
    return np.array([one["mean_latency_ms"] for one in metrics]), parts, keeper.seen()


def permuted_importance(network: QNetwork, seen: Seen, name: str, columns: Sequence[int], seed: int) -> Importance:
    """How choices and the network's own Q of them change where `columns` are those of another decision."""
    everyone = np.arange(len(seen.obs))
    q = q_values(network, seen.obs, seen.available).numpy()
    chosen = network.decide(seen.obs, seen.available)[2]
    obs = seen.obs.copy()
    order = np.random.default_rng([seed, *columns]).permutation(len(obs))
    obs[:, :, list(columns)] = obs[order][:, :, list(columns)]
    # A server that is open now may have been missing then, and has a row all the same.
    other = network.decide(obs, seen.available)[2]
    changed = other != chosen
    loss = (q[everyone, chosen] - q[everyone, other]).astype(np.float64)
    return Importance(name, float(changed.mean()), float(loss.mean()), float(loss[changed].mean()) if changed.any() else float("nan"))


def ranked(found: Sequence[Importance]) -> list[Importance]:
    """Most important first: by lost Q, ties by changed decisions."""
    return sorted(found, key=lambda one: (-one.q_loss, -one.changed_share))


def importance_rows(world: World, network: QNetwork, model: str, seen: Seen, latency_ms: F64, seed: int) -> Iterator[Row]:
    """Rows of `IMPORTANCE`, most important first; the first `PLAYED` features and the group are played, too, on the same episodes.

    `seen` and `latency_ms` [N] are those of the model as it is.
    """
    found = ranked([permuted_importance(network, seen, name, columns, seed) for name, columns in subjects().items()])
    to_play = {one.name for one in [one for one in found if one.name != GROUP][:PLAYED]} | {GROUP}
    for one in found:
        change = _played(world, network, seen, latency_ms, one.name, seed) if one.name in to_play else None
        yield {
            "model": model,
            "scenario": world.scenario_id,
            "episodes": latency_ms.size,
            "decisions": len(seen.obs),
            "feature": one.name,
            "changed_share": one.changed_share,
            "q_loss": one.q_loss,
            "q_loss_changed": one.q_loss_changed,
            "latency_percent": change.estimate if change else None,
            "latency_low_percent": change.low if change else None,
            "latency_high_percent": change.high if change else None,
        }


def share_rows(world: World, model: str, played: dict[str, list[detail_rows.Requests]]) -> list[Row]:
    """Rows of `SHARES` by policy."""
    rows: list[Row] = []
    for policy, parts in played.items():
        fixed: Row = {"model": model, "episodes": len(parts), "scenario": world.scenario_id, "backend": world.backend, "policy": policy}
        rows += [{**fixed, **row} for row in (detail_rows.share_rows(detail_rows.pooled(parts)) if parts else [])]
    return rows


def _replace(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> Path | None:
    """Write the CSV file, or remove it where there are no rows: None."""
    if not rows:
        path.unlink(missing_ok=True)
        return None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell_text(row.get(column)) for column in columns] for row in rows)
    write_text(path, text.getvalue())
    return path


def _played(world: World, network: QNetwork, seen: Seen, latency_ms: F64, name: str, seed: int) -> Interval:
    """Change of the mean latency, in percent, where the model decides by permuted features."""
    policy = LearnedPolicy(name, network, _Permuted(seen.obs, subjects()[name], seed))
    return paired_difference(play(world, policy, seed, latency_ms.size)[0], latency_ms)

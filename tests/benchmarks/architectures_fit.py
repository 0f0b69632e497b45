"""What architectures.py compares, and one fit of it in a process of its own: learn from the harvest, then play the held-out fleets."""

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import architectures_harvest as harvested
import numpy as np
import torch
from ablation_training import METRICS
from architectures_harvest import Harvest, Priced, pieces
from architectures_networks import QUANTILES, WORST, AttentionNetwork, OwnNetwork, QuantileNetwork, quantile_loss
from comparing import Job, Outcome, Row
from torch import Tensor, nn

from trimtab.core.observation import FEATURES
from trimtab.dqn.anchor import Caution
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.learner import step_size
from trimtab.dqn.network import FlatNetwork, QNetwork, SetNetwork
from trimtab.dqn.rollouts import RolloutBatch, RolloutMemory, Rollouts, advantage_loss
from trimtab.errors import TrimtabError
from trimtab.experiments.evaluate import evaluate
from trimtab.policies.learned import LearnedPolicy, load_policy, use_one_thread
from trimtab.problems.base import Policy, Task
from trimtab.problems.routing.problem import Routing

MODEL: Final = "harvesting model"
REFERENCES: Final = ("sed-online", "sed-moods", MODEL)  # the first is what everything is compared with
SPAN: Final = 0.5  # of the updates, after which the step size has halved


@dataclass(frozen=True)
class Variant:
    """A network, the cost that it learns, and for how long."""

    name: str
    network: str = "set"
    hidden: int = 32
    cost: str = "exponent 1.4"
    length: float = 1.0  # of the updates of everybody else


DEFAULTS: Final = Variant("set 32 (defaults)")
VARIANTS: Final = (
    DEFAULTS,
    *(Variant(f"set {hidden}", hidden=hidden) for hidden in (16, 64, 128)),
    *(Variant(name, name) for name in ("attention", "no context", "flat", "quantiles by mean", "quantiles by CVaR")),
    *(Variant(cost, cost=cost) for cost in harvested.COSTS if cost != DEFAULTS.cost),
    *(Variant(f"updates x {length:g}", length=length) for length in (0.25, 0.5, 2.0, 4.0)),
)


@dataclass(frozen=True)
class Plan:
    """What every variant goes through."""

    harvest: Harvest
    folder: Path  # of the harvest
    updates: int
    batch: int
    scenarios: tuple[str, ...]
    fleets: int  # held out, of each scenario
    seed: int  # of the held-out fleets


def learner_of(plan: Plan, variant: Variant) -> DQNConfig:
    """The settings of a training by rollouts, with this fit's length."""
    span = max(1, round(plan.updates * variant.length * SPAN))
    changes = {"hidden": variant.hidden, "batch": plan.batch, "learning_rate_updates": span}
    return DQNConfig.from_dict({**Routing.learner_defaults, **Routing.rollout_defaults, **changes})


def network_of(variant: Variant, config: DQNConfig, servers: int, seed: int) -> QNetwork:
    """Fresh weights from `seed` alone, with heads of zero. Networks of the package without their value stream, as those of others."""
    features, anchor = len(FEATURES), config.anchor
    generator = torch.Generator().manual_seed(seed)
    kinds = {
        "set": lambda: SetNetwork(features, config.hidden, False, generator, anchor),
        "flat": lambda: FlatNetwork(features, servers, config.hidden, False, generator, anchor),
        "attention": lambda: AttentionNetwork(features, config.hidden, anchor),
        "no context": lambda: OwnNetwork(features, config.hidden, anchor),
        "quantiles by mean": lambda: QuantileNetwork(features, config.hidden, anchor, QUANTILES),
        "quantiles by CVaR": lambda: QuantileNetwork(features, config.hidden, anchor, WORST),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for torch's own initialisation, which draws as that of the package does
        network = kinds[variant.network]()
    network.caution = Caution(config.trust, config.bound_factor, config.bound_slack, config.lead)
    return network


def work(job: Job) -> Outcome:
    """Do a job. A function of a module, so that another process can."""
    use_one_thread()
    if job.variant is None:
        return Outcome(rows={"fleets": _played(job.plan, _reference(job))})
    return _fitted(job, job.variant)


def _reference(job: Job) -> Policy:
    if job.name != MODEL:
        return Routing().build_policy(job.name)
    return load_policy(Path(job.plan.harvest.model), Routing.id, Routing().choices(Task(job.plan.harvest.scenario, "twin")), MODEL)


def _fitted(job: Job, variant: Variant) -> Outcome:
    plan, seed = job.plan, job.seed or 0
    data = harvested.load(tuple(piece.path for piece in pieces(plan.harvest, plan.folder)))
    config = learner_of(plan, variant)
    online = network_of(variant, config, data[0].mask.shape[1], seed)
    held_out, memory = _held_out(plan, data, variant.cost), _memory(plan, data, variant.cost)
    before = loss_of(online, held_out)
    fit(copy.deepcopy(online), memory, config, 1, seed)  # the first step of a process takes a second, and is nobody's
    started_s, cpu_s = time.perf_counter(), time.process_time()
    network = fit(online, memory, config, round(plan.updates * variant.length), seed)
    clocks = {"fit_s": time.perf_counter() - started_s, "fit_cpu_s": time.process_time() - cpu_s}
    counts = {"parameters": sum(one.numel() for one in online.parameters()), "updates": round(plan.updates * variant.length)}
    losses = {"held_out_loss": loss_of(network, held_out), "loss_before": before}
    played = _played(plan, LearnedPolicy(job.name, network, Routing().observe))
    return Outcome({**counts, **clocks, **losses}, {"fleets": played})


def _held_out(plan: Plan, data: Sequence[Priced], cost: str) -> list[RolloutBatch]:
    kept = [one.rollouts(cost, one.episode >= plan.harvest.held_out) for one in data]
    kept = [one for one in kept if len(one.obs)]
    if not kept:
        raise TrimtabError("no rollouts in the held-out tenth of the episodes; raise --episodes or --decisions in another --out")
    return [RolloutBatch(*map(torch.from_numpy, one)) for one in kept]


def _memory(plan: Plan, data: Sequence[Priced], cost: str) -> RolloutMemory:
    taught: list[Rollouts] = [one.rollouts(cost, one.episode < plan.harvest.held_out) for one in data]
    largest = max(one.obs.shape[1] for one in taught)
    memory = RolloutMemory(sum(len(one.obs) for one in taught), largest, len(FEATURES))
    for one in taught:
        if len(one.obs):
            memory.add(one)
    if not len(memory):
        raise TrimtabError("no rollouts in the episodes to learn from; raise --episodes or --decisions in another --out")
    return memory


def fit(online: QNetwork, memory: RolloutMemory, config: DQNConfig, updates: int, seed: int) -> QNetwork:
    """The average of the weights, as `dqn.learner.Learner` keeps it, after so many gradient steps of `online`."""
    average, weights = copy.deepcopy(online).requires_grad_(False), list(online.parameters())
    optimizer, rng = torch.optim.Adam(weights, lr=config.learning_rate, fused=True), np.random.default_rng(seed)
    for number in range(updates):
        batch = memory.sample(rng, config.batch, torch.device("cpu"))
        optimizer.zero_grad()
        _loss(online, batch).backward()
        nn.utils.clip_grad_norm_(weights, config.max_grad_norm)
        optimizer.param_groups[0]["lr"] = step_size(config, number)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), weights, max(config.average, 1.0 / (number + 2)))
    return average


def _loss(network: QNetwork, batch: RolloutBatch) -> Tensor:
    if isinstance(network, QuantileNetwork):
        return quantile_loss(network.values(batch.obs, batch.mask), batch, network.anchor)
    return advantage_loss(network(batch.obs, batch.mask), batch, network.anchor)


def loss_of(network: QNetwork, batches: Sequence[RolloutBatch]) -> float:
    """The advantage loss of the values that the network decides by, over all tried choices: one yardstick for all of one cost."""
    with torch.inference_mode():
        losses = [float(advantage_loss(network(one.obs, one.mask), one, network.anchor)) for one in batches]
    return float(np.average(losses, weights=[int(one.tried.sum()) for one in batches]))


def _played(plan: Plan, policy: Policy) -> list[Row]:
    """One row a fleet, greedily, scenario by scenario."""
    found: list[Row] = []
    for scenario in plan.scenarios:
        world = Routing().open(Task(scenario, "twin"))
        rows: list[Mapping[str, Any]] = [row for rows in evaluate(world, [policy], plan.fleets, plan.seed) for row in rows]
        world.close()
        kept = (*METRICS, "decision_us")
        found += [{"scenario": scenario, "fleet": row["episode"], **{name: row[name] for name in kept}} for row in rows]
    return found

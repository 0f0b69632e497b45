"""Who decides in a gateway: built in one place from what the command asked for."""

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from trimtab.core.scenario import Scenario
from trimtab.errors import CheckpointError
from trimtab.gateway.candidates import Canary, Shadow, TrialDecider
from trimtab.gateway.guard import Decider, Guard, GuardedDecider, PlainDecider
from trimtab.gateway.learning import CONTROL_SHARE, Learning, LearningDecider
from trimtab.gateway.models import Journal, ModelFile, ModelFiles, Role
from trimtab.gateway.router import Router
from trimtab.policies import catalogue
from trimtab.policies.base import Policy
from trimtab.problems.routing.problem import Routing

if TYPE_CHECKING:
    from trimtab.policies.exploring import Exploration

FALLBACK: Final = "sed-online"  # decides where a model cannot be trusted
Clock = Callable[[], float]


@dataclass(frozen=True)
class Wanted:
    """Who is to decide: a classical `policy` or the file of a `model`, and models on trial."""

    policy: str | None = None
    model: Path | None = None
    shadow: Path | None = None
    canary: Path | None = None
    canary_share: float = 0.05  # above 0, at most 0.5
    reload: bool = False  # files are watched, and need not be there yet
    seed: int = 0
    exploration: "Exploration | None" = None  # of the model; then models are never on trial
    control_share: float = CONTROL_SHARE  # of a model that explores: at most 0.5; 0: nobody watches over it


@dataclass(frozen=True)
class Deciding:
    """Who decides, and what is behind it."""

    decider: Decider
    shadow: Shadow | None
    canary: Canary | None
    files: ModelFiles
    learning: Learning | None = None


def just(decider: Decider) -> Deciding:
    """A decider with no model file behind it."""
    return Deciding(decider, None, None, ModelFiles((), _unwanted, Journal(time.monotonic), polls=False))


def build_deciding(wanted: Wanted, scenario: Scenario, clock: Clock = time.monotonic) -> Deciding:
    """Load what is named. Raises CheckpointError for a file that cannot be used, except with `reload`: that file has yet to come.

    Without `reload` a model is taken as it is, even with weights that are no numbers: somebody named it, and the guard stands behind it.
    """
    builder = _Builder(wanted, scenario, clock)
    decider, shadow, canary, learning = builder.decider(), builder.shadow(), builder.canary(), builder.learning()
    if shadow is not None or canary is not None:
        decider = TrialDecider(decider, PlainDecider(catalogue.build(FALLBACK), wanted.seed), shadow, canary)
    if learning is not None:
        decider = LearningDecider(decider, PlainDecider(catalogue.build(FALLBACK), wanted.seed), learning)
    files = ModelFiles(builder.files, builder.checked, builder.journal, polls=wanted.reload)
    return Deciding(decider, shadow, canary, files, learning)


class _Builder:
    def __init__(self, wanted: Wanted, scenario: Scenario, clock: Clock) -> None:
        self.wanted, self.scenario, self.clock = wanted, scenario, clock
        self.journal = Journal(clock)
        self.files: list[ModelFile] = []

    def decider(self) -> Decider:
        wanted, fallback = self.wanted, catalogue.build(FALLBACK)
        if wanted.policy is not None:
            return PlainDecider(catalogue.build(wanted.policy), wanted.seed)
        if wanted.model is None:
            raise CheckpointError("nobody decides: name a policy or a model")
        file, model = self._opened("primary", wanted.model)
        decider = GuardedDecider(model, fallback, self.clock, seed=wanted.seed, name=catalogue.LEARNED)
        file.put = decider.guard.replace
        return decider

    def shadow(self) -> Shadow | None:
        if self.wanted.shadow is None:
            return None
        file, model = self._opened("shadow", self.wanted.shadow)
        shadow = Shadow(self._guard(model), self.scenario.fleet_service_s(), self.clock)
        file.put = shadow.guard.replace
        return shadow

    def canary(self) -> Canary | None:
        if self.wanted.canary is None:
            return None
        file, model = self._opened("canary", self.wanted.canary)
        canary = Canary(self._guard(model), self.wanted.canary_share, np.random.default_rng(self.wanted.seed), self.clock)
        canary.on_stop = lambda why: self.journal.note(f"canary stopped: {why}")
        file.put = canary.replace
        return canary

    def learning(self) -> Learning | None:
        wanted, scenario = self.wanted, self.scenario
        if wanted.exploration is None or wanted.control_share == 0.0:
            return None
        generator = np.random.default_rng(wanted.seed)
        unit_s = scenario.fleet_service_s()
        learning = Learning(wanted.control_share, len(scenario.classes), unit_s, generator, self.clock, heuristic=FALLBACK)
        learning.on_event = self.journal.note
        learning.on_stop = self._report
        learning.on_passed = wanted.exploration.passed
        return learning

    def _report(self, what: str) -> None:
        self.journal.note(what)
        with contextlib.suppress(OSError, ValueError):  # requests are served whether or not anybody reads it
            sys.stderr.write(f"note: {what}\n")
            sys.stderr.flush()

    def checked(self, path: Path) -> Policy:
        """What a file holds, once it has shown that it can decide; under exploration where that is wanted. Raises CheckpointError."""
        exploration, scenario = self.wanted.exploration, self.scenario
        if exploration is None:
            return checked(load_model(path, scenario), path, scenario)
        from trimtab.policies.exploring import load_exploring  # by name: torch takes a second to import

        model = load_exploring(path, Routing.id, len(scenario.servers), exploration, catalogue.LEARNED)
        checked(model.greedy, path, scenario)  # not the model itself: every question to it moves its schedules on
        return model

    def _guard(self, model: Policy | None) -> Guard:
        return Guard(model, self.clock, seed=self.wanted.seed)

    def _opened(self, role: Role, path: Path) -> tuple[ModelFile, Policy | None]:
        file = ModelFile(role, path, self.clock, self.journal)
        self.files.append(file)
        reload = self.wanted.reload
        model = file.first(self.checked if reload else lambda path: load_model(path, self.scenario), may_be_missing=reload)
        if model is None:
            explores = self.wanted.exploration is not None
            rehearsed(_blank(self.scenario, explores=explores), self.scenario)  # nothing may be compiled or imported once traffic flows
        return file, model


def load_model(path: Path, scenario: Scenario) -> Policy:
    """The policy of a checkpoint for this fleet. Raises CheckpointError."""
    return Routing().load_policy(path, len(scenario.servers))


def checked(model: Policy, path: Path, scenario: Scenario) -> Policy:
    """The same model, once it has shown on an idle fleet that it can decide. Raises CheckpointError."""
    if not getattr(model, "is_finite", True):
        raise CheckpointError(f"{path}: has weights that are not finite; write a checkpoint from before the training diverged")
    if (reason := rehearsed(model, scenario)) is not None:
        raise CheckpointError(f"{path}: decides badly on an idle fleet ({reason}); write a checkpoint of another training")
    return model


def rehearsed(model: Policy, scenario: Scenario) -> str | None:
    """What a guard says of the model's decision about each class, on books that are thrown away; None: nothing."""
    router, everybody = Router(scenario, PlainDecider(catalogue.build(FALLBACK)), 1), np.ones(len(scenario.servers), dtype=np.bool_)
    guard = Guard(model, lambda: 0.0)
    reasons = [guard.ask(router.view(kind, 0.0, everybody))[1] for kind in range(len(scenario.classes))]
    return next((reason for reason in reasons if reason is not None), None)


def _blank(scenario: Scenario, *, explores: bool) -> Policy:
    """A network without weights, as large as the default one; under an exploration of its own where the one to come will be."""
    # By name: torch takes a second to import, which a classical policy does not need.
    from trimtab.core.observation import FEATURES
    from trimtab.dqn.config import DQNConfig
    from trimtab.dqn.network import build_network
    from trimtab.policies.exploring import Exploration, ExploringPolicy
    from trimtab.policies.learned import LearnedPolicy

    network, config = build_network(DQNConfig(), len(FEATURES), len(scenario.servers)), DQNConfig()
    return ExploringPolicy("blank", network, config, Exploration(0)) if explores else LearnedPolicy("blank", network)


def _unwanted(path: Path) -> Policy:
    raise CheckpointError(f"{path}: no model was asked for")

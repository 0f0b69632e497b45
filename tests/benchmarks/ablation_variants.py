"""The learners that ablation.py compares: the defaults, and one change each."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from trimtab.core.observation import EXPECTED_COST, F32, FEATURES
from trimtab.policies.base import RoutingView
from trimtab.problems.routing.problem import Routing

DEFAULTS: Final[Mapping[str, str]] = {"td": "residual (defaults)", "rollouts": "rollouts (defaults)"}  # by way of learning
HEURISTIC: Final = "sed-online"
LOG_DELAY: Final = FEATURES.index("log_delay")  # what `sed-online` expects, on the scale of EXPECTED_COST
FROM_NOTHING: Final[Mapping[str, Any]] = {"anchor": -1}


class WithoutMoods(Routing):
    """Routing seen without `core.moods`: its columns are 0, and the anchor is the delay that `sed-online` expects."""

    def observe(self, view: RoutingView) -> F32:
        rows = super().observe(view)
        rows[..., EXPECTED_COST] = rows[..., LOG_DELAY]
        rows[..., LOG_DELAY + 1 :] = 0.0
        return rows


@dataclass(frozen=True)
class Variant:
    """One learner: what differs from the defaults of the problem."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)  # learner settings
    heuristic: str | None = None
    moods: bool = True
    learning: str = "td"

    @property
    def learner(self) -> dict[str, Any]:
        """Learner settings."""
        taught = self.problem.rollout_defaults if self.learning == "rollouts" else {}
        return {**self.problem.learner_defaults, **taught, **self.changes}

    @property
    def problem(self) -> Routing:
        return Routing() if self.moods else WithoutMoods()

    @property
    def described(self) -> str:
        """The changes as a user of train_dqn.py would write them; `-` for none."""
        words = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in self.changes.items()]
        hints = [] if self.heuristic is None else [f"--heuristic {self.heuristic}"]
        hints += [] if self.learning == "td" else [f"--learning {self.learning}"]
        return " ".join([*hints, *words, *([] if self.moods else ["moods zeroed"])]) or "-"


def defaults_of(variants: Iterable[Variant]) -> str:
    """The name of what each of `variants` changes one thing of."""
    return DEFAULTS["rollouts" if any(one.learning == "rollouts" for one in variants) else "td"]


def _change(name: str, **changes: Any) -> Variant:
    return Variant(name, changes)


def _tried(name: str, **changes: Any) -> Variant:
    return Variant(name, changes, learning="rollouts")


# Cloning alone: the heuristic does not choose (heuristic_weight=0), and the margin is that of Hester et al. 2018.
ACCELERATION: Final = (
    Variant("none", FROM_NOTHING),
    Variant("xi H", FROM_NOTHING, HEURISTIC),
    Variant("cloning", {**FROM_NOTHING, "cloning": 1.0, "heuristic_margin": 0.8, "heuristic_weight": 0.0}, HEURISTIC),
    Variant(DEFAULTS["td"]),
)
ABLATION: Final = (
    Variant(DEFAULTS["td"]),
    _change("no Double", double=False),
    _change("no dueling", dueling=False),
    _change("n-step 1", n_step=1),
    _change("n-step 5", n_step=5),
    _change("no averaged weights", average=0.0),
    _change("hidden 32", hidden=32),
    _change("hidden 128", hidden=128),
    _change("full trust", trust=1.0),
    _change("wide bound", bound_factor=99.0, bound_slack=99.0),
    _change("Huber loss", loss="huber"),
    _change("discount .9", discount=0.9),
    _change("discount .98", discount=0.98),
    _change("constant step size", learning_rate_updates=0),
    _change("hard target", target="hard"),
    _change("tau .05", tau=0.05),
    _change("batch 256", batch=256),
    _change("twice the steps", decisions_per_update=64),
    _change("half the steps", decisions_per_update=256),
    _change("rewards cut at 20", reward_clip=20.0),
    Variant("no mood features", moods=False),
    _change("anchor of sed-online", anchor=LOG_DELAY),
    _change("flat network", network="mlp"),
)
ROLLOUTS: Final = (
    Variant("from rewards"),
    _tried(DEFAULTS["rollouts"]),
    _tried("horizon 24", rollout_horizon=24),
    _tried("horizon 48", rollout_horizon=48),
    _tried("latency itself", rollout_exponent=1.0),
    _tried("latency squared", rollout_exponent=2.0),
    _tried("rollouts, full trust", trust=1.0, lead=0.0),
    _tried("rollouts, wide bound", bound_factor=3.0, bound_slack=2.0),
    _tried("hidden 64", hidden=64),
    _tried("twice the rollouts", rollout_every=50),
    _tried("half the rollouts", rollout_every=200),
    _tried("a quarter of the steps", rollouts_per_update=256, learning_rate_updates=150),
)
# A name is one learner in all suites, since they may share an --out.
SUITES: Final[Mapping[str, tuple[Variant, ...]]] = {"acceleration": ACCELERATION, "ablation": ABLATION, "rollouts": ROLLOUTS}

"""What tune.py searches: one table of learner settings, and how a point of it is written down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ablation_variants import DEFAULTS, Variant

from trimtab.dqn.config import DQNConfig

if TYPE_CHECKING:
    from optuna import Trial

DIGITS: Final = 3  # significant ones of a real setting: what is trained is what is printed, and can be typed


@dataclass(frozen=True)
class Real:
    """A number between two bounds; `log`: drawn on a logarithmic scale."""

    key: str
    low: float
    high: float
    log: bool = False

    def suggest(self, trial: "Trial") -> float:
        return rounded(trial.suggest_float(self.key, self.low, self.high, log=self.log))

    @property
    def described(self) -> str:
        return f"{self.low:g} to {self.high:g}" + (", logarithmic" if self.log else "")


@dataclass(frozen=True)
class Whole:
    """A whole number between two bounds."""

    key: str
    low: int
    high: int

    def suggest(self, trial: "Trial") -> int:
        return int(trial.suggest_int(self.key, self.low, self.high))

    @property
    def described(self) -> str:
        return f"{self.low} to {self.high}, whole"


@dataclass(frozen=True)
class Choice:
    """One of several values."""

    key: str
    options: tuple[int | str, ...]

    def suggest(self, trial: "Trial") -> int | str:
        chosen: int | str = trial.suggest_categorical(self.key, self.options)
        return chosen

    @property
    def described(self) -> str:
        return ", ".join(map(str, self.options))


Setting = Real | Whole | Choice

# By way of learning. The defaults of routing lie inside (a test holds this), so that they can be the first trial.
REWARDS: Final[tuple[Setting, ...]] = (
    Real("learning_rate", 1e-4, 3e-3, log=True),
    Real("discount", 0.8, 0.99),
    Whole("n_step", 1, 10),
    Choice("batch", (128, 256, 512, 1024)),
    Choice("decisions_per_update", (32, 64, 128, 256)),
    Real("tau", 1e-3, 0.1, log=True),
    Real("average", 1e-4, 0.02, log=True),
    Real("trust", 0.1, 1.0),
    Real("bound_factor", 1.0, 4.0),
    Real("epsilon_start", 0.02, 1.0, log=True),
    Choice("hidden", (32, 48, 64, 96, 128)),
    Choice("loss", ("mse", "huber")),
)
ROLLOUTS: Final[tuple[Setting, ...]] = (
    Real("learning_rate", 2e-4, 5e-3, log=True),
    Choice("learning_rate_updates", (150, 300, 600, 1200)),
    Choice("batch", (256, 512, 1024, 2048)),
    Choice("rollout_every", (50, 100, 200)),
    Choice("rollouts_per_update", (32, 64, 128, 256)),
    Whole("rollout_horizon", 24, 192),
    Real("rollout_exponent", 1.0, 2.0),
    Real("average", 1e-3, 0.05, log=True),
    Real("trust", 0.2, 1.0),
    Real("lead", 0.0, 0.2),
    Real("bound_factor", 1.0, 4.0),
    Choice("hidden", (16, 32, 64)),
    Choice("loss", ("mse", "huber")),
)
SPACES: Final[Mapping[str, tuple[Setting, ...]]] = {"rollouts": ROLLOUTS, "td": REWARDS}


def rounded(value: float) -> float:
    """`value` with three significant digits."""
    return float(f"{value:.{DIGITS}g}")


def base(learning: str) -> dict[str, Any]:
    """Every learner setting of routing as train_dqn.py --learning `learning` has it without --set."""
    return DQNConfig.from_dict(Variant(DEFAULTS[learning], learning=learning).learner).to_dict()


def defaults(space: Sequence[Setting], learning: str) -> dict[str, Any]:
    """The default of each searched setting."""
    known = base(learning)
    return {one.key: known[one.key] for one in space}


def suggested(trial: "Trial", space: Sequence[Setting]) -> dict[str, Any]:
    """A value for each searched setting."""
    return {one.key: one.suggest(trial) for one in space}


def changed(values: Mapping[str, Any], learning: str) -> dict[str, Any]:
    """Those of `values` that are not the default."""
    known = base(learning)
    return {key: value for key, value in values.items() if value != known[key]}


def set_words(changes: Mapping[str, Any]) -> str:
    """Options of train_dqn.py for what `changed` left; `-` for nothing."""
    return " ".join(f"--set {key}={value}" for key, value in changes.items()) or "-"

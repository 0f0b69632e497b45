"""The learner's settings: one frozen record, the only place of their defaults.

Sources: Mnih et al. 2015 (DQN), van Hasselt et al. 2016 (Double), Wang et al. 2016 (dueling), Sutton and Barto 2018 chapter 7 (n-step),
Lillicrap et al. 2016 (soft target), Bianchi et al. 2004 (heuristic acceleration), Silver et al. 2018 (residual), Polyak and Juditsky 1992
(averaged weights), Hester et al. 2018 (cloning), Schmitt et al. 2018 (held to another network).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import inf, isfinite
from typing import Any, Final, Literal, Self

from trimtab.errors import UsageError

# What differs where decisions come at the pace of people's requests, a hundred or two a second, and not a hundred thousand: steps are
# earned by few decisions, begin at once, and are small, so that they cost a tenth of a core; chance and heuristic fade within minutes.
# Chance begins low and ends higher than elsewhere: people wait for the answers, and live servers change. Much of it is not needed at the
# start, when the heuristic and the network's anchor, the expected delay, choose; more would cost people more than the gateway allows.
LIVE: Final[Mapping[str, Any]] = {
    "batch": 256,
    "decisions_per_update": 8,
    "learn_start": 500,
    "replay_capacity": 50_000,
    "epsilon_start": 0.05,
    "epsilon_end": 0.03,
    "epsilon_decisions": 10_000,
    # A network that has seen minutes of traffic is noisier than one of a million decisions: it needs better reasons to leave the estimate.
    "lead": 0.1,
    "heuristic_decisions": 10_000,
}

# What differs from that where a trained model is tuned: it has less to find out, and knows better than the heuristic from the start. What
# rewards teach first is how much everything costs here, in a minute in which the choices would get worse; and a machine that halts for a
# second teaches that its requests were chosen badly. So choices are held to those begun with, and errors are linear. Of the weights tried,
# 1 is too little and 3 to 30 do alike (docs/results.md). Not held, steps ten times larger made it worse than the heuristic in two minutes.
TUNED: Final[Mapping[str, Any]] = {
    "epsilon_start": 0.01,
    "epsilon_end": 0.01,
    "heuristic_weight": 0.0,
    "learning_rate": 5e-5,
    "loss": "huber",
    "kept": 10.0,
}

NetworkKind = Literal["set", "mlp"]
TargetKind = Literal["soft", "hard"]
LossKind = Literal["mse", "huber"]


@dataclass(frozen=True, slots=True)
class DQNConfig:
    """Settings of one learner. Raises UsageError, naming key, value and what is allowed, when made with an impossible value."""

    network: NetworkKind = "set"  # set: shared encoder, any number of servers; mlp: flattened observation, fixed fleet
    hidden: int = 64  # units in every hidden layer
    double: bool = True  # the online network chooses the bootstrap action, the target network values it
    dueling: bool = True  # Q = value of the fleet + advantage of the server
    n_step: int = 3  # rewards summed before bootstrapping, in decisions of one stream
    discount: float = 0.95  # gamma, per decision
    learning_rate: float = 5e-4  # step size of Adam
    learning_rate_updates: int = 0  # updates after which it is a half, after twice as many a third, and so on; 0: it stays
    batch: int = 1024  # replay rows in a gradient step
    decisions_per_update: int = 256  # decisions that earn one gradient step
    learn_start: int = 4096  # decisions before the first gradient step
    replay_capacity: int = 200_000  # rows kept; a closing observation takes a row too
    target: TargetKind = "soft"  # soft: the target network follows by tau; hard: it is copied every target_period
    tau: float = 0.01  # share of the online weights that enter the target network at each update (soft)
    target_period: int = 200  # updates between copies (hard)
    loss: LossKind = "mse"  # of the TD error; huber is linear beyond 1 reward unit, with an anchor beyond 1 scale of the state
    max_grad_norm: float = 10.0  # L2 norm of the whole gradient above which it is scaled down
    epsilon_start: float = 1.0  # share of random decisions at the first decision
    epsilon_end: float = 0.02  # share of random decisions after epsilon_decisions
    epsilon_decisions: int = 100_000  # decisions over which epsilon falls linearly
    heuristic_weight: float = 1.0  # xi in argmax(Q + xi H); at 1 and above the heuristic's action always wins the greedy choice
    heuristic_margin: float = 0.1  # eta, Q units by which H lifts the heuristic's action above the best
    heuristic_decisions: int = 200_000  # decisions over which xi and cloning fall linearly to 0; 0: they stay as they are
    cloning: float = 0.0  # weight of the loss (large margin, eta) that pulls towards the heuristic's action; needs one; 0: none
    kept: float = 0.0  # weight of the loss that holds differences between choices to those of the model begun with; 0: none
    reward_clip: float | None = None  # rewards are cut to [-clip, clip]; None: never
    anchor: int = -1  # index of the feature log(1 + expected cost) that is learned on top of (dqn.anchor); -1: from nothing
    trust: float = 0.2  # with an anchor: share of what the network adds to it that counts in a greedy choice among few
    lead: float = 0.08  # with an anchor: a greedy choice leaves the least expected cost only for a gain of this x (1 + that cost)
    bound_factor: float = 1.5  # with an anchor: choices of expected cost up to factor x the least + slack are open to a greedy choice
    bound_slack: float = 0.5  # in units of the reward
    rollout_every: int = 100  # decisions between the moments at which choices are tried out, on average
    rollout_horizon: int = 96  # requests over which what a choice leads to is counted
    rollout_exponent: float = 1.0  # a decision that costs x counts x to this power in rollouts: above 1 the tail of latency weighs more
    rollouts_per_update: int = 64  # rollouts that earn one gradient step
    rollout_capacity: int = 100_000  # rollouts kept
    average: float = 0.0  # share of the online weights that enter the averaged network at each update, which decides greedily; 0: none

    def __post_init__(self) -> None:
        for check in (_check_choices, _check_flags, _check_counts, _check_reals):
            check(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain values by field name, fit for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of `to_dict`; missing keys take their defaults. Raises UsageError on an unknown key or a bad value."""
        known = {field.name for field in fields(cls)}
        for key in values:
            if key not in known:
                raise UsageError(f"unknown learner setting {key!r}; allowed: {', '.join(sorted(known))}")
        return cls(**values)


_CHOICES = {"network": ("set", "mlp"), "target": ("soft", "hard"), "loss": ("mse", "huber")}
_FLAGS = ("double", "dueling")
_COUNTS = {  # key: least allowed
    "hidden": 1,
    "n_step": 1,
    "batch": 1,
    "decisions_per_update": 1,
    "learn_start": 0,
    "replay_capacity": 2,
    "target_period": 1,
    "epsilon_decisions": 0,
    "anchor": -1,
    "rollout_every": 1,
    "rollout_horizon": 1,
    "rollouts_per_update": 1,
    "rollout_capacity": 2,
    "learning_rate_updates": 0,
    "heuristic_decisions": 0,
}
_REALS = {  # key: above (excluded), up to (included)
    "learning_rate": (0.0, 1.0),
    "tau": (0.0, 1.0),
    "max_grad_norm": (0.0, inf),
    "rollout_exponent": (0.0, inf),
    "reward_clip": (0.0, inf),
}
_SHARES = {  # key: from, to (both included)
    "trust": (0.0, 1.0),
    "lead": (0.0, inf),
    "bound_factor": (1.0, inf),
    "bound_slack": (0.0, inf),
    "average": (0.0, 1.0),
    "discount": (0.0, 1.0),
    "epsilon_start": (0.0, 1.0),
    "epsilon_end": (0.0, 1.0),
    "heuristic_weight": (0.0, inf),
    "heuristic_margin": (0.0, inf),
    "cloning": (0.0, inf),
    "kept": (0.0, inf),
}


def _require(holds: bool, key: str, value: object, allowed: str) -> None:
    if not holds:
        raise UsageError(f"learner setting {key} is {value!r}; allowed: {allowed}")


def _check_choices(config: DQNConfig) -> None:
    for key, allowed in _CHOICES.items():
        value = getattr(config, key)
        _require(value in allowed, key, value, ", ".join(allowed))


def _check_flags(config: DQNConfig) -> None:
    for key in _FLAGS:
        value = getattr(config, key)
        _require(isinstance(value, bool), key, value, "true, false")


def _check_counts(config: DQNConfig) -> None:
    for key, least in _COUNTS.items():
        value = getattr(config, key)
        _require(
            isinstance(value, int) and not isinstance(value, bool) and value >= least, key, value, f"a whole number of at least {least}"
        )


def _check_reals(config: DQNConfig) -> None:
    for key, (above, most) in _REALS.items():
        value = getattr(config, key)
        if key != "reward_clip" or value is not None:
            _require(_is_real(value) and above < value <= most, key, value, _range_text("above", above, most))
    for key, (least, most) in _SHARES.items():
        value = getattr(config, key)
        _require(_is_real(value) and least <= value <= most, key, value, _range_text("from", least, most))


def _is_real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _range_text(first: str, low: float, high: float) -> str:
    return f"a number {first} {low:g}" + ("" if high == inf else f" to {high:g}")

"""Who decides: a classical policy alone, or a learned one with a classical one ready to step in.

Nothing here interrupts a policy that never returns: it runs on the caller's thread. A policy that may hang belongs in another process.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from trimtab.core.compiled import compiled
from trimtab.core.observation import CEILING, F32, FEATURES, Mask
from trimtab.core.request_log import I64
from trimtab.policies.base import Policy, RoutingView

Reason = Literal["error", "invalid", "slow", "resting", "far", "missing"]
REASONS: Final[tuple[Reason, ...]] = (
    "error",  # the primary raised
    "invalid",  # it named no server, one that is out, or has Q-values that are no numbers
    "slow",  # it was later than the deadline; its decision was used all the same
    "resting",  # it was not asked, after several slow decisions in a row
    "far",  # it saw what training never showed it
    "missing",  # there is no model yet
)
_DOUBTS: Final[tuple[Reason | None, ...]] = (None, "far", "invalid")
DECIDING: Final = "deciding"
RESTING: Final = "resting"
MISSING: Final = "missing"
DEADLINE_S: Final = 0.002
TRIP_AFTER: Final = 3
REST_S: Final = 10.0

# Requests in flight for each slot of an open server beyond which a view counts as far from training. The observation cuts every ratio at
# CEILING mean service times: with more than CEILING requests a slot, work ahead, wait and delay all stand there, and a network cannot tell
# a long queue from one four times as long, where `sed-online`, which counts, can. Policies that are any good keep queues far shorter, so
# episodes gather next to no experience beyond it.
MOST_IN_FLIGHT_PER_SLOT: Final = CEILING
_IN_FLIGHT: Final = FEATURES.index("in_flight")
_SLOTS: Final = FEATURES.index("slots")


class Decider(Protocol):
    """Decides one request at a time, and says how that went."""

    @property
    def primary(self) -> str:
        """Name of the policy that decides when all is well."""

    @property
    def fallback(self) -> str | None:
        """Name of the one that steps in; None where nobody can."""

    @property
    def names(self) -> tuple[str, ...]:
        """Everybody whose name `decide` may give; the primary's first."""

    @property
    def reasons(self) -> Mapping[str, int]:
        """How often each of REASONS was met; empty without a fallback."""

    @property
    def state(self) -> str:
        """DECIDING, RESTING or MISSING, of the primary."""

    def decide(self, view: RoutingView) -> tuple[int, str]:
        """The server for the view's one request, and the name of the policy that chose it."""

    def rehearse(self, view: RoutingView) -> None:
        """Do once whatever a decision may need, so that nothing is compiled while a request waits; count nothing."""


class Wrapping:
    """What a decider around another one, `inner`, says of itself: how that one does."""

    inner: Decider

    @property
    def reasons(self) -> Mapping[str, int]:
        return self.inner.reasons

    @property
    def state(self) -> str:
        return self.inner.state


@runtime_checkable
class ShowsValues(Protocol):
    """A policy that shows what it saw and thought when it last chose; `policies.learned.LearnedPolicy` does."""

    seen: F32  # [B, S, F]
    q: F32  # [B, S]


class PlainDecider:
    """A policy that needs no guard: it computes in microseconds and cannot go wrong."""

    fallback = None
    state = DECIDING

    def __init__(self, policy: Policy, seed: int = 0) -> None:
        self.primary = policy.name
        self.names = (policy.name,)
        self.reasons: Mapping[str, int] = {}
        self._policy = policy
        self._seed = seed
        policy.reset(_seeds(seed))

    def decide(self, view: RoutingView) -> tuple[int, str]:
        return int(self._policy.select(view)[0]), self.primary

    def rehearse(self, view: RoutingView) -> None:
        self._policy.select(view)
        self._policy.reset(_seeds(self._seed))


class Guard:
    """One policy, asked with suspicion: whatever it does, `ask` returns a server to be used, or why there is none.

    `clock` gives monotonic seconds. A decision later than `deadline_s` is used, but after `trip_after` late ones in a row the policy
    rests for `rest_s`. After a rest one late decision is enough to rest again, and one in time clears the count.
    """

    def __init__(
        self,
        policy: Policy | None,
        clock: Callable[[], float],
        deadline_s: float = DEADLINE_S,
        trip_after: int = TRIP_AFTER,
        rest_s: float = REST_S,
        *,
        seed: int = 0,
    ) -> None:
        """`policy` None: there is none yet, and `replace` will bring it."""
        self.reasons: dict[str, int] = dict.fromkeys(REASONS, 0)
        self._clock, self._deadline_s, self._trip_after, self._rest_s = clock, deadline_s, trip_after, rest_s
        self._seed = seed
        self.replace(policy)

    @property
    def state(self) -> str:
        if self._policy is None:
            return MISSING
        return RESTING if self._clock() < self._rests_until_s else DECIDING

    @property
    def q(self) -> F32 | None:
        """The Q-values behind the last choice; None for a policy that shows none.  # [S]"""
        return None if self._shows is None else self._shows.q[0]

    def replace(self, policy: Policy | None) -> None:
        """Ask this policy from now on. What was held against the one before stays counted, but this one starts rested."""
        self._policy = policy
        self._shows = policy if isinstance(policy, ShowsValues) else None
        self._late_in_a_row = 0
        self._rests_until_s = -np.inf
        self._reset()

    def ask(self, view: RoutingView) -> tuple[int, Reason | None]:
        """The policy's server, and None; or -1 and why it is not to be used."""
        server, reason = self._judged(view)
        if reason is not None:
            self.reasons[reason] += 1
        return server, reason

    def rehearse(self, view: RoutingView) -> None:
        """Ask once, count nothing, leave no trace. Raises what the policy raises."""
        if self._policy is not None:
            self._policy.select(view)
            self._doubt(view.available[0])
            self._reset()

    def _reset(self) -> None:
        if self._policy is not None:
            self._policy.reset(_seeds(self._seed))

    def _judged(self, view: RoutingView) -> tuple[int, Reason | None]:
        if self._policy is None:
            return -1, "missing"
        began_s = self._clock()
        if began_s < self._rests_until_s:
            return -1, "resting"
        server, reason = self._chosen(self._policy, view)
        ended_s = self._clock()
        late = ended_s - began_s > self._deadline_s
        self._count_late(late, ended_s)
        self.reasons["slow"] += late and reason is None
        return server, reason

    def _count_late(self, late: bool, now_s: float) -> None:
        self._late_in_a_row = self._late_in_a_row + 1 if late else 0
        if self._late_in_a_row >= self._trip_after:
            self._rests_until_s = now_s + self._rest_s

    def _doubt(self, open_servers: Mask) -> Reason | None:
        """What speaks against the choice just made. After the fact, because the policy has to compute what it sees anyway."""
        if self._shows is None:
            return None
        return _DOUBTS[_doubt(self._shows.seen[0], self._shows.q[0], open_servers)]

    def _chosen(self, policy: Policy, view: RoutingView) -> tuple[int, Reason | None]:
        try:
            chosen = policy.select(view)
            open_servers = view.available[0]
            if (doubt := self._doubt(open_servers)) is not None:
                return -1, doubt
            server = _one_index(chosen)
        except Exception:  # noqa: BLE001 -- whatever a policy raises, the request must be routed; it is counted and shown
            return -1, "error"
        if not 0 <= server < open_servers.size or not open_servers[server]:
            return -1, "invalid"
        return server, None


class GuardedDecider:
    """Asks `primary` under a `Guard`, and `fallback` for every decision in which the primary cannot be trusted; see REASONS.

    `primary` None: there is no model yet; `name` is what decisions are called by that one will make.
    """

    def __init__(
        self,
        primary: Policy | None,
        fallback: Policy,
        clock: Callable[[], float],
        deadline_s: float = DEADLINE_S,
        trip_after: int = TRIP_AFTER,
        rest_s: float = REST_S,
        *,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        self.guard = Guard(primary, clock, deadline_s, trip_after, rest_s, seed=seed)
        self.primary = name or (MISSING if primary is None else primary.name)
        self.fallback = fallback.name
        self.names = (self.primary, self.fallback)
        self.reasons = self.guard.reasons
        self._fallback = PlainDecider(fallback, seed)

    @property
    def state(self) -> str:
        return self.guard.state

    def decide(self, view: RoutingView) -> tuple[int, str]:
        server, reason = self.guard.ask(view)
        return (server, self.primary) if reason is None else self._fallback.decide(view)

    def rehearse(self, view: RoutingView) -> None:
        self.guard.rehearse(view)
        self._fallback.rehearse(view)


def far(observation: F32, open_servers: Mask) -> bool:
    """Are these rows [S, F] outside what training showed: numbers that are none, or a server with too many requests in flight?

    Only rows of open servers [S] count: one that is out may hold a heap of stuck requests, and no network looks at it.
    """
    return bool(_far(observation, open_servers))


@compiled
def _far(rows: F32, open_servers: Mask) -> bool:
    for s in range(rows.shape[0]):
        if not open_servers[s]:
            continue
        for f in range(rows.shape[1]):
            if not np.isfinite(rows[s, f]):
                return True
        if np.rint(np.expm1(rows[s, _IN_FLIGHT])) > MOST_IN_FLIGHT_PER_SLOT * np.rint(np.exp(rows[s, _SLOTS])):
            return True
    return False


@compiled
def _doubt(rows: F32, q: F32, open_servers: Mask) -> int:
    """Place in _DOUBTS. One call, because each costs tens of microseconds where the caches are cold."""
    if _far(rows, open_servers):
        return 1
    broken = 0
    for s in range(q.shape[0]):
        broken += open_servers[s] and not np.isfinite(q[s])
    return 2 if broken > 0 else 0


def _one_index(chosen: npt.NDArray[np.generic]) -> int:
    """The one whole number in what a policy returned; -1, which is no server, where it is anything else."""
    array = np.asarray(chosen)
    return int(array.item()) if array.size == 1 and array.dtype.kind in "iu" else -1


def _seeds(seed: int) -> I64:
    return np.array([seed], dtype=np.int64)

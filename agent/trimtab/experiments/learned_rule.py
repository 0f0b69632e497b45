"""The rule that a network has learned, as a picture: two servers alike but for expected wait and own service time, which one?

The states are real ones: a simulated fleet serves, the balancer's ledger listens, and the network sees what the ledger knows. Server B
stays the same: a wait of one and an own service of one, in units of B's own service. Server A serves this class slower or faster than B,
and has more or fewer requests of another class in flight. Both serve that other class alike, and all averages of the whole fleet (rate of
arrivals, share of the class) are the same in every state. Every service takes exactly as long as its server's own speed says, so that
nothing hints at a slow spell.
"""

from typing import Final

import numpy as np

from trimtab.core.ledger import ARRIVAL_GAIN, PLAIN_SAMPLES, Ledger, empty_ledger, record_dispatch, record_outcomes
from trimtab.core.observation import observation
from trimtab.core.request_log import I32, I64
from trimtab.core.scenario import RequestClass, Scenario, Server, Traffic
from trimtab.core.view import View
from trimtab.dqn.network import QNetwork
from trimtab.experiments.csv_log import Cell
from trimtab.fleets.base import Episodes, Oracle
from trimtab.fleets.simulated import SimulatedFleet
from trimtab.policies import load
from trimtab.problems.base import F64

Row = dict[str, Cell]
RULE: Final = "explain_rule.csv"
RULE_COLUMNS: Final = ("model", "wait", "own_service", "advantage", "chosen", "sed_online", "sed_moods")
SLOTS: Final = 4
UNIT_S: Final = 0.020  # own service of B
OTHER: Final = 0.5  # service of the other class, in units of the same
WAITS: Final = tuple(0.25 * n for n in range(13))  # of A: 0 to 3
OWN: Final = tuple(0.25 + 0.125 * n for n in range(23))  # of A: 0.25 to 3
WAIT_B: Final = 1.0
GAP: Final = 0.3  # mean time between arrivals as the ledger sees it in the end; a third of the fleet's capacity
PAUSE: Final = 3.5  # before the last requests, so that everything else has been answered: longer than any service
_TAUGHT: Final = 4 * PLAIN_SAMPLES  # requests that teach the service times: two servers, two classes


def rule_rows(network: QNetwork, model: str, servers: int = 2) -> list[Row]:
    """Rows of `RULE`: the network's decision and A's advantage in each state, beside those of the two heuristics.

    `advantage` is in what the network decides by, mean service times of the fleet; those of the heuristics are in B's own service. More
    than two `servers`, for a network made for so many, means that the others have left.
    """
    view, cells = _states(servers)
    available = np.ascontiguousarray(view.available)
    values, _, chosen = network.decide(observation(view), available)
    online, moods = load.expected_delay(view) / UNIT_S, load.mood_delay(view) / UNIT_S
    return [
        {
            "model": model,
            "wait": wait,
            "own_service": own,
            "advantage": float(values[b, 0] - values[b, 1]),
            "chosen": "AB"[chosen[b]],
            "sed_online": float(online[b, 1] - online[b, 0]),
            "sed_moods": float(moods[b, 1] - moods[b, 0]),
        }
        for b, (wait, own) in enumerate(cells)
    ]


def _states(servers: int) -> tuple[View[Oracle], list[tuple[float, float]]]:
    """The moment of the decision in a fleet for every pair of wait and own service of A, and those pairs."""
    cells = [(wait, own) for wait in WAITS for own in OWN]
    stories = {wait: _story(_in_flight(wait), _in_flight(WAIT_B)) for wait in WAITS}
    arrival, kind, work, where = (np.array(column) for column in zip(*(stories[wait] for wait, _ in cells), strict=True))
    fleet = SimulatedFleet([_fleet(own, servers) for _, own in cells])
    fleet.reset(Episodes(arrival, kind, work, np.zeros(len(cells), dtype=np.uint64)))
    slots = np.full((len(cells), servers), SLOTS, dtype=np.int64)
    ledger = _listen(fleet, empty_ledger(len(cells), servers, 2, arrival.shape[1], slots), where)
    available = np.zeros(slots.shape, dtype=np.bool_)
    available[:, :2] = True
    rates = np.array([one.service_rate_rps() for one in fleet.scenarios])
    return View(fleet.now_s(), np.zeros(len(cells), dtype=np.int32), available, slots, rates, ledger), cells


def _listen(fleet: SimulatedFleet, ledger: Ledger, where: I64) -> Ledger:
    """Send every request to its server [B, N]; the ledger keeps the books, as in every driver."""
    for n in range(where.shape[1]):
        now_s, server = np.ascontiguousarray(fleet.log.scheduled_s[:, n]), np.ascontiguousarray(where[:, n])
        record_outcomes(ledger, fleet.log, fleet.wait_until(now_s))
        fleet.dispatch(n, server)
        record_dispatch(ledger, fleet.log, n, server, now_s)
    return ledger


def _fleet(own: float, servers: int) -> Scenario:
    classes = (RequestClass("this", 0.5, UNIT_S), RequestClass("other", 0.5, UNIT_S * OTHER))
    alike = [Server(f"server-{s + 1}", SLOTS, {"this": 1.0, "other": 1.0}) for s in range(1, servers)]
    return Scenario("rule", classes, (Server("server-1", SLOTS, {"this": 1.0 / own, "other": 1.0}), *alike), Traffic(load=0.5))


def _in_flight(wait: float) -> int:
    """Requests of the other class that make this wait: OTHER x (n + 1 - SLOTS) / SLOTS. Without wait one slot is free."""
    return round(wait / OTHER * SLOTS) + SLOTS - 1


def _story(at_a: int, at_b: int) -> tuple[F64, I32, F64, I64]:
    """Arrivals, classes, work and servers of one fleet: pairs of equal requests, one for each server, a pause, and those in flight."""
    burst = at_a + at_b
    most = _in_flight(max(WAITS)) + at_b
    before = _TAUGHT + most - burst  # as many requests in all, whatever the wait
    number = np.arange(before + burst)
    kind = np.where(number < _TAUGHT, number // 2 % 2, 1)
    where = np.concatenate([number[:before] % 2, np.repeat((0, 1), (at_a, at_b))])
    return _arrivals(before, burst), kind.astype(np.int32), np.where(kind == 1, UNIT_S * OTHER, UNIT_S), where


def _arrivals(before: int, burst: int) -> F64:
    """Times of arrival [before + burst] in s, spaced such that the ledger's average gap ends at `GAP`."""
    paired = np.resize((1.0, 0.0), before)
    shape, pause = np.concatenate([paired, np.zeros(burst)]), np.zeros(before + burst)
    pause[before] = PAUSE
    kept = ARRIVAL_GAIN * (1.0 - ARRIVAL_GAIN) ** np.arange(before + burst)[::-1]  # weight of each gap in the moving average
    kept[0] /= ARRIVAL_GAIN  # which starts at the first one
    space = (GAP - float(kept @ pause)) / float(kept @ shape)
    return np.asarray(np.cumsum(space * shape + pause) * UNIT_S)

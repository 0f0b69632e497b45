"""Load estimates: how loaded is each server, for this request? Less is better. Pure functions of a view.  # [B, S]"""

import numpy as np

from trimtab.core.compiled import compiled
from trimtab.core.ledger import PEAK_DECAY_S, mood_columns, service_estimate_s
from trimtab.core.moods import COLUMNS
from trimtab.core.request_log import F64, I32, I64
from trimtab.errors import UsageError
from trimtab.fleets.base import Oracle
from trimtab.policies.base import RoutingView

_DELAY = COLUMNS.index("delay_s")
UNPROVEN_S = 1e6  # a server with requests in flight and no latency yet: after all the others, fewest in flight first


def nothing(view: RoutingView) -> F64:
    """No estimate at all, for rules that do not look."""
    return np.zeros(view.slots.shape)


def outstanding(view: RoutingView) -> F64:
    """Requests in flight."""
    return view.in_flight.astype(np.float64)


def peak_ewma(view: RoutingView) -> F64:
    """Peak-sensitive average latency x (in flight + 1), decayed to now (Finagle; a failure is a 2 s sample in the ledger)."""
    ledger, load = view.ledger, np.empty(view.slots.shape)
    _peak_ewma(ledger.latency_peak_s, ledger.latency_stamp_s, ledger.outstanding, view.now_s, load)
    return load


def expected_delay(view: RoutingView) -> F64:
    """`sed-online`: expected wait + own service, from online per-server-and-class service times."""
    return delay_given(view, service_estimate_s(view.ledger))


def mood_delay(view: RoutingView) -> F64:
    """`sed-moods`: expected delay with contention, slow spells and failures told apart from the servers' own speed (`core.moods`)."""
    service_s = service_estimate_s(view.ledger)
    return np.ascontiguousarray(mood_columns(view.ledger, service_s, view.request_class, view.now_s)[:, :, _DELAY])


def true_mean_delay(view: RoutingView) -> F64:
    """`oracle-sed`: the same with the true mean service times."""
    return delay_given(view, truth(view).mean_service_s)


def true_mood_delay(view: RoutingView) -> F64:
    """`oracle-moods`: true means x each server's momentary slowness; a server that is down comes last."""
    known = truth(view)
    delay = delay_given(view, known.mean_service_s * known.slowness[:, :, None])
    return np.where(known.down, delay + UNPROVEN_S, delay)


def true_delay(view: RoutingView) -> F64:
    """`oracle-greedy`: the response time that this very request would have, with every size known."""
    return truth(view).delay_s


def truth(view: RoutingView) -> Oracle:
    """The oracle of a view, or a clear refusal where nobody can know."""
    if view.oracle is None:
        raise UsageError("an oracle policy was asked where nobody knows the truth; oracles run in the twin or beside a live fleet's model")
    return view.oracle()


def delay_given(view: RoutingView, service_s: F64) -> F64:
    """Expected wait + own service with these mean service times [B, S, K]."""
    load = np.empty(view.slots.shape)
    _expected_delay(view.ledger.in_flight, view.ledger.outstanding, service_s, view.request_class, view.slots, load)
    return load


@compiled
def _peak_ewma(peak_s: F64, stamp_s: F64, outstanding: I64, now_s: F64, load: F64) -> None:
    for b in range(load.shape[0]):
        for s in range(load.shape[1]):
            latency = peak_s[b, s] * np.exp((stamp_s[b, s] - now_s[b]) / PEAK_DECAY_S)
            if peak_s[b, s] == 0.0 and outstanding[b, s] > 0:
                load[b, s] = UNPROVEN_S + outstanding[b, s]
            else:
                load[b, s] = latency * (outstanding[b, s] + 1)


@compiled
def _expected_delay(in_flight: I64, outstanding: I64, service_s: F64, request_class: I32, slots: I64, load: F64) -> None:
    for b in range(load.shape[0]):
        k = request_class[b]
        for s in range(load.shape[1]):
            total, c = outstanding[b, s], slots[b, s]
            wait = 0.0
            if total >= c:
                work = 0.0
                for j in range(service_s.shape[2]):
                    work += in_flight[b, s, j] * service_s[b, s, j]
                wait = work / total * (total + 1 - c) / c
            load[b, s] = wait + service_s[b, s, k]

"""What policies read that listen to their servers, and C3's ranking function."""

import numpy as np

from trimtab.core.compiled import compiled
from trimtab.core.reports import Probes, Reports
from trimtab.core.request_log import F64, I64
from trimtab.errors import UsageError
from trimtab.policies.base import RoutingView

NOBODYS_S = 1.0  # response and service time of everybody while nobody has answered


def heard(view: RoutingView) -> Reports:
    """The reports of a view, or a clear refusal where none are kept."""
    if view.reports is None:
        raise UsageError("a policy asked for load reports where nobody keeps them; use it in evaluate_dqn.py")
    return view.reports()


def probing(view: RoutingView) -> Probes:
    """How to probe from a view, or a clear refusal where that cannot be done."""
    if view.probes is None:
        raise UsageError("a policy that probes its servers was asked where nobody can probe; use it in evaluate_dqn.py")
    return view.probes


def c3(view: RoutingView) -> F64:
    """C3's ranking (Suresh, Canini, Schmid, Feldmann, NSDI 2015): R - 1/mu + q^3 / mu with q = 1 + outstanding x clients + queue.

    R and 1/mu are moving averages of the response time and of the service *time* (a widely used implementation took the rate for
    the time for four years), queue is one of the reported queue. There is one client. Servers that have not answered yet are
    taken to be like the mean of those that have: at C3's zero they would get every request until their first answer.
    C3's other half, limiting the rate to each server, keeps many clients from moving in step; a single client counts what is in
    flight itself, and so it is left out.
    """
    reports, load = heard(view), np.empty(view.slots.shape)
    _c3(view.in_flight, reports.queued_mean, reports.response_mean_s, reports.service_mean_s, NOBODYS_S, load)
    return load


@compiled
def _mean_known(values: F64, b: int, default: float) -> float:
    """Mean of the positive ones."""
    total, known = 0.0, 0
    for s in range(values.shape[1]):
        if values[b, s] > 0.0:
            total += values[b, s]
            known += 1
    return total / known if known > 0 else default


@compiled
def _c3(outstanding: I64, queued: F64, response_s: F64, service_s: F64, default_s: float, load: F64) -> None:
    for b in range(load.shape[0]):
        others_s = _mean_known(service_s, b, default_s)
        others_response_s = _mean_known(response_s, b, others_s)
        for s in range(load.shape[1]):
            service = service_s[b, s] if service_s[b, s] > 0.0 else others_s
            response = response_s[b, s] if response_s[b, s] > 0.0 else others_response_s
            q = 1.0 + outstanding[b, s] + queued[b, s]
            load[b, s] = response - service + q * q * q * service

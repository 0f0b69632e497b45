"""The only list of routing policies. A new one is one function (or file) and one line here."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import numpy as np

from trimtab.core.request_log import F64
from trimtab.errors import UsageError
from trimtab.fleets import proxies
from trimtab.policies import load, pick, reported
from trimtab.policies.base import Policy, RoutingView
from trimtab.policies.class_split import ClassSplit, learned_means_s, true_means_s
from trimtab.policies.classical import ClassicalPolicy, LoadEstimate, PickRule, TurnPolicy
from trimtab.policies.client_wrr import ClientSideWrr
from trimtab.policies.envoy import EnvoyWeighted
from trimtab.policies.local_queue import LocalShortestQueue
from trimtab.policies.prequal import Prequal
from trimtab.policies.rivals import Rival
from trimtab.policies.thompson import ThompsonPolicy

Kind = Literal["class-blind", "class-aware", "oracle", "proxy"]
# What somebody else must tell a balancer; its own count of requests in flight and its own clock it has for nothing.
Need = Literal[
    "declared rates", "declared slots", "class labels", "service times", "load reports", "probes", "a trained model", "the truth"
]


@dataclass(frozen=True, slots=True)
class About:
    """What somebody needs to know who meets the name for the first time."""

    title: str  # the full name
    needs: tuple[Need, ...] = ()
    learns: bool = False  # from the answers it gets, while it runs
    practice: str = ""  # where else it is found


@dataclass(frozen=True, slots=True)
class Entry:
    """One policy: what it may know, what it does, how it is made."""

    name: str
    kind: Kind
    summary: str
    build: Callable[[], Policy]
    about: About
    probes: bool = False  # asks servers beside sending them requests, so it runs only where somebody carries that out


def _pair(name: str, kind: Kind, summary: str, estimate: LoadEstimate, rule: PickRule, about: About) -> Entry:
    return Entry(name, kind, summary, lambda: ClassicalPolicy(name, estimate, rule), about)


_DELAY: Final[tuple[Need, ...]] = ("class labels", "service times", "declared slots")
_TRUTH: Final[tuple[Need, ...]] = ("the truth",)


def _equal(view: RoutingView) -> F64:
    return np.ones(view.slots.shape)


def _declared(view: RoutingView) -> F64:
    return view.service_rate_rps


CATALOGUE: Final[tuple[Entry, ...]] = (
    _pair(
        "random", "class-blind", "any server, uniformly", load.nothing, pick.any_of_all,
        About("random choice", practice="Envoy RANDOM"),
    ),
    Entry(
        "round-robin", "class-blind", "each server in turn", lambda: TurnPolicy("round-robin", _equal),
        About("round robin", practice="the default of NGINX and HAProxy"),
    ),
    Entry(
        "weighted-round-robin", "class-blind", "turns in proportion to the declared service rates",
        lambda: TurnPolicy("weighted-round-robin", _declared),
        About("weighted round robin", ("declared rates",), practice="NGINX, HAProxy and Envoy with weights"),
    ),
    _pair(
        "least-outstanding", "class-blind", "fewest requests in flight", load.outstanding, pick.least,
        About("least outstanding requests", practice="HAProxy leastconn, NGINX least_conn"),
    ),
    _pair(
        "p2c", "class-blind", "the less busy of two at random", load.outstanding, pick.less_of_two,
        About("power of two choices", practice="NGINX random two least_conn, HAProxy random(2)"),
    ),
    _pair(
        "envoy-least-request", "class-blind", "Envoy, equal weights: the less busy of two drawn with replacement", load.outstanding,
        pick.less_of_two_drawn, About("Envoy's least request", practice="Envoy LEAST_REQUEST, Istio's default"),
    ),
    Entry(
        "envoy-weighted-least-request", "class-blind",
        "Envoy, weights the declared service rates: turns in proportion to weight / (in flight + 1)",
        lambda: EnvoyWeighted("envoy-weighted-least-request", _declared),
        About("Envoy's weighted least request", ("declared rates",), practice="Envoy LEAST_REQUEST with unequal weights"),
    ),
    Entry(
        "lsq", "class-blind", "shortest of a local view; one server a request is asked anew", lambda: LocalShortestQueue("lsq"),
        About("local shortest queue", ("probes",), practice="research: Vargaftik, Keslassy and Orda 2020"),
    ),
    _pair(
        "peak-ewma", "class-blind", "least peak latency x (in flight + 1), all scanned", load.peak_ewma, pick.least,
        About("peak-sensitive moving average of latency, all servers scanned", learns=True, practice="Finagle; brpc can scan all"),
    ),
    _pair(
        "peak-ewma-p2c", "class-blind", "least peak latency x (in flight + 1), of two at random", load.peak_ewma, pick.less_of_two,
        About("peak-sensitive moving average of latency, two servers compared", learns=True, practice="Finagle, Linkerd, tower"),
    ),
    _pair(
        "c3", "class-blind", "C3: least R - 1/mu + q^3 / mu, from reported queues and average times", reported.c3, pick.least,
        About("C3 replica ranking", ("load reports", "service times"), True, "NSDI 2015; Elasticsearch adaptive replica selection"),
    ),
    Entry(
        "client-side-wrr", "class-blind",
        "gRPC A58: turns by rate / (reported utilisation + error share); plain turns in the first ten seconds",
        lambda: ClientSideWrr("client-side-wrr"),
        About("client-side weighted round robin", ("load reports",), True, "gRPC weighted_round_robin, Envoy"),
    ),
    Entry(
        "prequal", "class-blind", "Prequal: three probes a request; cold by latency, hot by requests in flight",
        lambda: Prequal("prequal"), About("Prequal, probing to reduce queueing", ("probes",), True, "Google, NSDI 2024"),
        probes=True,
    ),
    _pair(
        "sed-online", "class-aware", "shortest expected delay from learned service times per class", load.expected_delay, pick.least,
        About("shortest expected delay, learned online", _DELAY, True, "this project, its yardstick; Linux IPVS has it with fixed weights"),
    ),
    _pair(
        "sed-moods", "class-aware",
        "shortest expected delay with contention, slow spells and failures told apart from a server's own speed",
        load.mood_delay, pick.least, About("shortest expected delay that recognises moods", _DELAY, True, "this project"),
    ),
    Entry(
        "class-split", "class-aware",
        "each class has its servers, by a linear programme over learned service times, whatever the queues do",
        lambda: ClassSplit("class-split", learned_means_s),
        About("static split of the classes", _DELAY, True, "research on static planning; pools of servers by endpoint"),
    ),
    Entry(
        "thompson", "class-aware", "sed-online with the own service time drawn from a posterior per server and class, forgetting",
        lambda: ThompsonPolicy("thompson"),
        About("Thompson sampling of service times", _DELAY, True, "research on bandits; this project, on top of sed-online"),
    ),
    _pair(
        "oracle-sed", "oracle", "shortest expected delay with the true mean service times", load.true_mean_delay, pick.least,
        About("sed-online that knows the true means", _TRUTH),
    ),
    Entry(
        "oracle-class-split", "oracle", "class-split with the true mean service times",
        lambda: ClassSplit("oracle-class-split", true_means_s), About("class-split that knows the true means", _TRUTH),
    ),
    _pair(
        "oracle-moods", "oracle", "shortest expected delay with true means x each server's momentary slowness; sizes unknown",
        load.true_mood_delay, pick.least, About("sed-online that knows the true means and moods", _TRUTH),
    ),
    _pair(
        "oracle-greedy", "oracle", "knows every request's size and every server's remaining work: least completion time",
        load.true_delay, pick.least, About("least completion time with everything known", _TRUTH),
    ),
)  # fmt: skip
NAMES: Final[tuple[str, ...]] = tuple(entry.name for entry in CATALOGUE)
# Not among the others: they decide before live servers only, and neither the twin nor the gateway can ask them.
PROXIES: Final[tuple[Entry, ...]] = tuple(
    Entry(one.name, "proxy", one.summary, partial(Rival, one.name), About(f"{one.program}, {one.rule.rstrip(';')}"))
    for one in proxies.PROXIES
)
PROXY_NAMES: Final[tuple[str, ...]] = tuple(entry.name for entry in PROXIES)
LEARNED: Final = "dqn"  # stands for the model of the command in a list of policies
LEARNED_SUMMARY: Final = "a network, trained beforehand and then fixed, on top of what sed-moods learns while it runs; the model of --model"
LEARNED_ABOUT: Final = About("deep Q-network, the learned policy", (*_DELAY, "a trained model"), True, "this project")


def entry(name: str) -> Entry:
    """The entry of that name, or a `UsageError` that suggests one."""
    for one in CATALOGUE:
        if one.name == name:
            return one
    close = difflib.get_close_matches(name, [*NAMES, LEARNED], 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise UsageError(f"unknown policy {name!r}: {hint}allowed: {', '.join([*NAMES, LEARNED])}; list them with --policies list")


def build(name: str) -> Policy:
    """A fresh policy of that name."""
    return entry(name).build()


def of_kind(*kinds: Kind) -> tuple[str, ...]:
    """Names of all policies of these kinds, in catalogue order."""
    return tuple(one.name for one in CATALOGUE if one.kind in kinds)

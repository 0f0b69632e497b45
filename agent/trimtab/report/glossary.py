"""What the names and words of a report mean: policies and scenarios that occur in it, from their own one-line summaries, and terms."""

from collections.abc import Iterable
from typing import Final

from trimtab.policies import catalogue
from trimtab.report.scoreboard import FAILURE_MS, Naming
from trimtab.report.tables import fact_table

TERMS: Final = {
    "class": "the kind of a request, such as its endpoint; known before the request is sent",
    "class-blind, class-aware": "whether a policy treats all requests alike, or tells their classes apart",
    "affinity": "some servers are fast for some classes and slow for others; it does not mean that a session sticks to a server",
    "mood": "a server is slow for a while: under its own load (contention), or for a spell of time",
    "fleet": "the servers behind one balancer",
    "the default fleet": "the four unequal servers of servers/fleet.toml, with three classes of requests: what docker compose starts. A "
    "balancer that does not tell the classes apart can use about half of its capacity",
    "slot": "a worker of a server: it serves one request at a time; the others wait in the server's queue, first in, first out",
    "service time": "how long a request holds its slot, without the wait before",
    "load": "requests a second as a share of capacity: of what the servers complete together if each gets the same mix of classes. A "
    "policy that sends each class where it is served fast may bear more than 1",
    "setting": "servers x slots of each, classes and load of a scenario, below its name; of random fleets the ranges that they are drawn "
    "from. The best policy depends on them, so scenarios of a kind may have different answers",
    "family": "random fleets drawn by one rule, another in every episode; family:affinity:16 has 16 servers",
    "episode": "one run of a scenario from empty servers on: a warm-up, then the requests that are counted",
    "cost": f"mean latency of an episode with a failed request counted as {FAILURE_MS:,.0f} ms; a lower one is better",
    "p99": "the latency that one request in a hundred exceeds",
    "deployable": "all policies but the oracles; the learned policy is one, it needs a trained model",
    "classical": "deployable and needs no trained model; class-blind and class-aware ones. Some learn while they run",
    "declared rates, declared slots": "what the balancer's configuration says of a server: requests a second of the mix of classes that it "
    "completes, and its number of slots",
    "class labels": "the class of each request, known to the balancer: by path, header or regular expression",
    "service times (as a need)": "servers report them with their answers (Server-Timing; the gateway estimates them where they do not)",
    "load report": "what a server says of itself with an answer: requests inside it and its utilisation (endpoint-load-metrics)",
    "probe": "a small request of the balancer's own that asks a server for its requests in flight and its recent latency",
    "a trained model": "a network that was trained beforehand; policies without one may still learn while they run",
    "drain": "a server that leaves gets no new requests and finishes those that it has",
    "oracle": "knows what only a simulator knows, so it is a yardstick and no choice. oracle-moods knows each server's true mean service "
    "times and how slow it is right now, not the sizes of single requests; oracle-greedy knows those too, and when each server will be "
    "done with what it has. Both send each request where it would be done first: they plan no further, and so they are no optimum and "
    "may lose to a rule, most of all past capacity and where servers fail requests, which they do not foresee",
    "headroom": "what lies between the best classical policy and the oracles: what a better policy could still win",
    "gap closed": "the part of that way that the learned policy goes; negative where it is behind the classical policy",
    "better, worse, not shown": "what the episodes allow to be said of a difference; not shown is no proof that there is none",
    "Holm's correction": "of many comparisons some differ by chance, so each must be clearer the more there are; where the interval "
    "excludes equality and the verdict is not shown all the same, this is the reason",
    "studentised bootstrap": "how intervals of differences are found: episodes are drawn again many times, and each result is measured "
    "in its own standard error, which a few unusual episodes widen",
    "interquartile mean": "the mean of the middle half, which a few very slow episodes do not move",
    "geometric mean": "of ratios: twice as slow on one scenario and twice as quick on another is 1",
}  # fmt: skip

# Results do not say which model made them.
COMMITTED: Final = (
    "the committed one, Models/reference.pth, was trained in the twin on random fleets of four servers (family:mixed), see docs/models.md"
)


def glossary(policies: Iterable[str], scenarios: Iterable[str], naming: Naming) -> str:
    """Three tables of two columns; names that nobody has described are left out."""
    known = descriptions()
    tables = [
        ("Policies", [(name, known[name]) for name in policies if name in known]),
        ("Scenarios", [(name, told) for name in scenarios if (told := _scenario(name, naming))]),
        ("Words", list(TERMS.items())),
    ]
    return "\n".join(fact_table(title, facts) for title, facts in tables if facts)


def _scenario(name: str, naming: Naming) -> str:
    """What it is about, and what it holds."""
    return " ".join(part for part in (naming.summary(name), f"[{naming.setting(name)}]" if naming.setting(name) else "") if part)


def descriptions() -> dict[str, str]:
    """One line about each policy of the catalogue, by name."""
    found = {one.name: _described(str(one.kind), one.summary, one.about) for one in (*catalogue.CATALOGUE, *catalogue.PROXIES)}
    learned = _described("learned", catalogue.LEARNED_SUMMARY, catalogue.LEARNED_ABOUT)
    return {catalogue.LEARNED: f"{learned}; {COMMITTED}"} | found


def needs(policy: str) -> str:
    """What must be known or reported beside the balancer's own counts; `nothing`, or empty for a policy of no catalogue."""
    known = {one.name: one.about for one in (*catalogue.CATALOGUE, *catalogue.PROXIES)} | {catalogue.LEARNED: catalogue.LEARNED_ABOUT}
    if policy not in known:
        return ""
    return ", ".join(known[policy].needs) or "nothing"


def _described(kind: str, summary: str, about: catalogue.About) -> str:
    learns = "learns while it runs" if about.learns else "does not learn while it runs"
    parts = [f"{about.title} ({kind}): {summary}", f"needs {', '.join(about.needs) or 'nothing'}", learns]
    return "; ".join([*parts, *([f"known from {about.practice}"] if about.practice else [])])

"""The servers behind the gateway: the given ones, those that the scenario names, the Compose fleet, or processes of its own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from trimtab.core.scenario import Scenario
from trimtab.errors import UsageError
from trimtab.fleets.client import check_url
from trimtab.fleets.local import LocalServers
from trimtab.problems.routing.problem import COMPOSE_NOTE, compose_fleet


@dataclass(frozen=True)
class Servers:
    """Where requests go, and what to tell people about it."""

    urls: tuple[str, ...]  # [S] in the scenario's order
    note: str


@contextmanager
def found_servers(scenario: Scenario, given: Sequence[str]) -> Iterator[Servers]:
    """The servers while the block runs; processes started for it end with it. Raises UsageError and FleetError.

    Servers that are named need not answer yet, nor be Trimtab's: health checks find out.
    """
    named = _named(scenario, given)
    if named is not None:
        yield Servers(named, f"{len(named)} servers: {', '.join(named)}")
    elif (published := compose_fleet(scenario)) is not None:
        yield Servers(published, f"the {COMPOSE_NOTE}")
    else:
        with LocalServers(scenario) as local:
            yield Servers(local.urls, f"{len(local.urls)} local server processes")


def _named(scenario: Scenario, given: Sequence[str]) -> tuple[str, ...] | None:
    """Addresses from the command line or from every server of the scenario, else None."""
    if not given:
        urls = tuple(one.url for one in scenario.servers if one.url is not None)
        return urls if len(urls) == len(scenario.servers) else None
    if len(given) != len(scenario.servers):
        raise UsageError(
            f"--servers names {len(given)}, and scenario {scenario.id} has {len(scenario.servers)} servers "
            f"({', '.join(scenario.server_ids[:8])}); give one address for each, or another --scenario"
        )
    return tuple(_plain(check_url(url)) for url in given)


def _plain(url: str) -> str:
    """The address, or a UsageError where it wants TLS."""
    if url.startswith("https:"):
        raise UsageError(f"server URL {url!r}: the gateway speaks plain HTTP only; give an http:// address, or put a proxy between them")
    return url

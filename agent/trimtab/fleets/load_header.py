"""The load report in an answer's `endpoint-load-metrics` header, and the answer to a probe. Text in, numbers out."""

import json
from typing import Final, NamedTuple

from trimtab.core.reports import SILENT

HEADER: Final = "endpoint-load-metrics"
LARGEST: Final = 1e9  # no server's number is larger, and none of the arrays' types is smaller
_IN_FLIGHT: Final = "named_metrics.in_flight"


class Load(NamedTuple):
    """What a server says of itself; `in_flight` is SILENT where it says nothing that can be used."""

    in_flight: int
    cpu_utilization: float
    memory_utilization: float


class Probed(NamedTuple):
    """What a server answers to a probe."""

    in_flight: int
    latency_s: float


NOTHING: Final = Load(SILENT, 0.0, 0.0)


def parse_load(text: str) -> Load:
    """The report in ORCA's text form, such as `TEXT cpu_utilization=0.3,mem_utilization=0.1,named_metrics.in_flight=2`.

    A report without requests in flight or CPU utilisation, or with a number that is none, counts as none.
    """
    words = text.split(None, 1)
    if len(words) != 2 or words[0] != "TEXT":
        return NOTHING
    pairs = dict(part.strip().split("=", 1) for part in words[1].split(",") if "=" in part)
    cpu, memory = _number(pairs.get("cpu_utilization")), _number(pairs.get("mem_utilization", "0"))
    inside = _number(pairs.get(_IN_FLIGHT))
    if cpu is None or memory is None or inside is None:
        return NOTHING
    return Load(int(inside), cpu, memory)


def parse_probe(body: bytes) -> Probed | None:
    """The answer to `GET /probe`, None for anything else."""
    try:
        document = json.loads(body)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    inside, latency_ms = _number(document.get("in_flight")), _number(document.get("latency_ms"))
    return None if inside is None or latency_ms is None else Probed(int(inside), latency_ms / 1e3)


def _number(value: object) -> float | None:
    """A number from 0 to LARGEST."""
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever else it is, float() says so
    except (TypeError, ValueError):
        return None
    return number if 0.0 <= number <= LARGEST else None

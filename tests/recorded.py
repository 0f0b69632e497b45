"""Decision logs made by hand, for tests: the tiny fleet's records, written in any order and cut anywhere."""

import numpy as np

from tiny_runs import write_scenario
from trimtab.core.observation import FEATURES
from trimtab.core.request_log import SERVED
from trimtab.experiments.decision_log import MARK, Segment, header_of, write_deciders, write_header
from trimtab.problems.routing.scenario_files import load_scenario

FEWEST = 40


def header(folder):
    """The header of the tiny scenario, which has servers server-1 and server-2 and classes a and b."""
    return header_of(load_scenario(str(write_scenario(folder))), FEATURES)


def record(log, number, *, oldest=None, session=1, server=0, status=SERVED, latency_s=0.004, wall_s=None, seen=None):
    """One attempt; by default it was alone: when it ended, the next one had not been sent."""
    row = np.zeros((), dtype=log.record)
    row["id"], row["oldest"], row["session"] = number, number + 1 if oldest is None else oldest, session
    row["server"], row["status"], row["latency_s"], row["service_s"] = server, status, latency_s, latency_s / 2
    row["wall_s"], row["mask"], row["mark"] = 1e9 + 0.01 * number if wall_s is None else wall_s, True, MARK
    row["seen"] = 0.1 * (number % 7) if seen is None else seen
    return row


def write(folder, log, *segments, torn=b"", first=1):
    """Segments of records, with `torn` behind the last one. Appends to a log that is there."""
    folder.mkdir(exist_ok=True)
    write_header(folder, log)
    write_deciders(folder, ["sed-online"])
    before = 0
    for number, records in enumerate(segments, start=first):
        content = b"".join(one.tobytes() for one in records)
        Segment.at(folder, number, before).path.write_bytes(content + (torn if number == first + len(segments) - 1 else b""))
        before += len(records)
    return folder


def lopsided(log, count, seed=0):
    """Decisions at random, of which those for server-2 always take eight times as long. What was seen tells nothing but who is who."""
    rng = np.random.default_rng(seed)
    servers = rng.integers(0, 2, count)
    seen = np.zeros((2, len(log.features)), dtype=np.float32)
    seen[1, 5] = 1.0  # own_service: something to tell them apart by
    return [
        record(log, number, server=server, latency_s=(0.002, 0.016)[server] * rng.uniform(0.9, 1.1), seen=seen)
        for number, server in enumerate(servers)
    ]

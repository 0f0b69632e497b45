"""A server's profile as data: what fleet.toml or TRIMTAB_PROFILE says about one server and the request classes it serves.

Keys are those of the scenario files (`work_ms`, `queue_limit`, ...); records hold seconds.
"""

import json
import math
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DISTRIBUTIONS = ("lognormal", "exponential", "pareto", "fixed")
WORK_KINDS = ("sleep", "cpu")
SERVER_KEYS = ("id", "slots", "speed", "queue_limit", "contention", "cpu", "memory", "work", "url")
CLASS_KEYS = ("name", "share", "work_ms", "distribution", "spread", "cpu", "memory", "match")  # the gateway reads `match`, servers do not
MAX_THREADS_FOR_QUEUE = 256  # beyond it, waiting requests wait in gunicorn's own queue; a thread each would cost memory for nothing
SPARE_THREADS = 8  # answer /health, /state, /metrics and 503 while all others wait


class ProfileError(ValueError):
    """A profile that is missing, malformed or impossible; the message is one line."""


@dataclass(frozen=True, slots=True)
class ClassProfile:
    """One endpoint family. `work_s`: mean service time at speed 1; `spread`: coefficient of variation; costs in capacity units.

    `share`: its weight in the mix of requests, for `capacity_per_s` only. Where no class states one, all weigh the same.
    """

    name: str
    work_s: float
    distribution: str = "lognormal"
    spread: float = 1.0
    cpu: float = 10.0
    memory: float = 10.0
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Profile:
    """One server: service time = work / speed[class] x (1 + contention x (busy slots - 1))."""

    id: str
    slots: int
    speed: Mapping[str, float]
    classes: tuple[ClassProfile, ...]
    queue_limit: int = 64
    contention: float = 0.0
    cpu: float = 1000.0
    memory: float = 1000.0
    work: str = "sleep"

    @property
    def threads(self) -> int:
        """Threads gunicorn needs so that the gate, not the thread pool, decides who waits."""
        return self.slots + min(self.queue_limit, MAX_THREADS_FOR_QUEUE) + SPARE_THREADS

    @property
    def capacity_per_s(self) -> float:
        """Requests a second that keep every slot busy when this server gets its part of each class: no contention, no fault."""
        total = sum(one.share for one in self.classes)
        return self.slots * total / sum(one.share * one.work_s / self.speed[one.name] for one in self.classes)


def _require(ok: bool, key: str, value: Any, allowed: str) -> None:
    if not ok:
        raise ProfileError(f"{key} = {value!r} is not possible; allowed: {allowed}")


def _known(table: Mapping[str, Any], allowed: Sequence[str], where: str) -> None:
    unknown = sorted(set(table) - set(allowed))
    if unknown:
        raise ProfileError(f"unknown key {unknown[0]!r} in {where}; allowed: {', '.join(allowed)}")


def _number(table: Mapping[str, Any], key: str, default: float | None, *, least: float = 0.0, above: bool = False) -> float:
    value = table.get(key, default)
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    _require(fits and (value > least if above else value >= least), key, value, f"a number {'>' if above else '>='} {least:g}")
    return float(value)


def _whole(table: Mapping[str, Any], key: str, default: int | None, least: int) -> int:
    value = table.get(key, default)
    _require(isinstance(value, int) and not isinstance(value, bool) and value >= least, key, value, f"a whole number >= {least}")
    return int(value)


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    _require(isinstance(value, str) and bool(value) and "/" not in value, key, value, "a non-empty text without '/'")
    return str(value)


def _choice(table: Mapping[str, Any], key: str, allowed: Sequence[str]) -> str:
    value = table.get(key, allowed[0])
    _require(value in allowed, key, value, ", ".join(allowed))
    return str(value)


def class_profile(table: Mapping[str, Any]) -> ClassProfile:
    """One `[[classes]]` table as a record. Raises ProfileError."""
    _known(table, CLASS_KEYS, "[[classes]]")
    return ClassProfile(
        name=_text(table, "name"),
        work_s=_number(table, "work_ms", None, above=True) / 1000,
        distribution=_choice(table, "distribution", DISTRIBUTIONS),
        spread=_number(table, "spread", 1.0),
        cpu=_number(table, "cpu", 10.0),
        memory=_number(table, "memory", 10.0),
        share=_number(table, "share", 1.0),
    )


def profile_from_tables(server: Mapping[str, Any], classes: Sequence[Mapping[str, Any]]) -> Profile:
    """One `[[servers]]` table and all `[[classes]]` tables as a Profile. Raises ProfileError."""
    _known(server, SERVER_KEYS, "the server's table")
    records = tuple(class_profile(one) for one in classes)
    _require(bool(records), "classes", classes, "at least one class")
    _check_shares(classes)
    return Profile(
        id=_text(server, "id"),
        slots=_whole(server, "slots", None, 1),
        speed=_speeds(server, records),
        classes=records,
        queue_limit=_whole(server, "queue_limit", 64, 0),
        contention=_number(server, "contention", 0.0),
        cpu=_number(server, "cpu", 1000.0, above=True),
        memory=_number(server, "memory", 1000.0, above=True),
        work=_choice(server, "work", WORK_KINDS),
    )


def _check_shares(classes: Sequence[Mapping[str, Any]]) -> None:
    shares = [one.get("share") for one in classes]
    if any(share is not None for share in shares):  # a default beside stated shares would be a guess
        _require(None not in shares and sum(shares) > 0, "share of the classes", shares, "for all classes or none, some above 0")


def _speeds(server: Mapping[str, Any], classes: Sequence[ClassProfile]) -> Mapping[str, float]:
    table = server.get("speed")
    if not isinstance(table, Mapping):
        raise ProfileError(f"speed = {table!r} is not possible; allowed: one number per class")
    return {one.name: _number(table, one.name, None, above=True) for one in classes}


def profile_from_json(text: str) -> Profile:
    """TRIMTAB_PROFILE: `{"server": {...}, "classes": [...]}`. Raises ProfileError."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ProfileError(f"TRIMTAB_PROFILE is not JSON: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("server"), dict):
        raise ProfileError('TRIMTAB_PROFILE must look like {"server": {...}, "classes": [...]}')
    _known(document, ("server", "classes"), "TRIMTAB_PROFILE")
    return profile_from_tables(document["server"], _tables(document, "classes"))


def profile_from_fleet(path: Path, server_id: str) -> Profile:
    """The server `server_id` of a fleet.toml. Raises ProfileError."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(f"cannot read TRIMTAB_FLEET {path}: {error}") from error
    servers = {str(one.get("id")): one for one in _tables(document, "servers")}
    if server_id not in servers:
        raise ProfileError(f"SERVER_ID {server_id!r} is not in {path}; found: {', '.join(map(str, servers)) or 'no server'}")
    return profile_from_tables(servers[server_id], _tables(document, "classes"))


def _tables(document: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    tables = document.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise ProfileError(f"{key} must be a list of tables")
    return tables


def profile_from_environment(environment: Mapping[str, str]) -> Profile:
    """TRIMTAB_PROFILE, or TRIMTAB_FLEET with SERVER_ID. Raises ProfileError."""
    if text := environment.get("TRIMTAB_PROFILE"):
        return profile_from_json(text)
    if not environment.get("TRIMTAB_FLEET") or not environment.get("SERVER_ID"):
        raise ProfileError("no profile; set TRIMTAB_PROFILE (JSON), or TRIMTAB_FLEET (path of fleet.toml) and SERVER_ID")
    return profile_from_fleet(Path(environment["TRIMTAB_FLEET"]), environment["SERVER_ID"])


def profile_or_exit(environment: Mapping[str, str]) -> Profile:
    """The environment's profile; otherwise one line on stderr and exit code 2."""
    try:
        return profile_from_environment(environment)
    except ProfileError as error:
        sys.stderr.write(f"server profile: {error}\n")
        raise SystemExit(2) from error

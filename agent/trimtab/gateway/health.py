"""Which servers may be chosen: passive ejection, active checks, panic, slow start. Time is an argument; nothing here asks a clock.

Figures and rules are those of two proxies that have been run for years: Envoy (outlier detection, panic threshold, slow start;
envoyproxy.io/docs) and HAProxy (`check inter 2s fall 3 rise 2`; configuration manual, section 5.2). Where a rule differs from
theirs, its docstring says how and why.
"""

import math
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from trimtab.core.observation import Mask
from trimtab.core.request_log import F64, I64
from trimtab.errors import UsageError

EVENTS_KEPT: Final = 200
_IN, _EJECTED, _DOWN = "ok", "ejected", "down"
_PATH: Final = re.compile(r"/[!-~]*")
_SHARES: Final = ("max_ejected_share", "panic_below", "slow_start_floor")


@dataclass(frozen=True)
class HealthConfig:
    """Envoy's and HAProxy's defaults, but for the share that may be ejected.

    Envoy ejects at most 10 % of a cluster, which was made for hundreds of hosts; of four servers that is one. Here it is half,
    the largest share that cannot by itself cause panic.
    """

    failures: int = 5  # in a row, then the server is ejected (Envoy consecutive_5xx)
    base_ejection_s: float = 30.0  # times the number of ejections (Envoy base_ejection_time)
    max_ejection_s: float = 300.0  # Envoy max_ejection_time
    decay_s: float = 10.0  # without ejection, takes one off that number (Envoy interval)
    max_ejected_share: float = 0.5  # of the servers, yet always one (Envoy max_ejection_percent, always_eject_one_host)
    fall: int = 3  # failed checks in a row (HAProxy)
    rise: int = 2  # good checks in a row (HAProxy)
    check_interval_s: float = 2.0  # HAProxy inter
    fast_interval_s: float = 0.2  # while checks disagree with the state (HAProxy fastinter): a dead server is out 2.4 s later at most
    check_timeout_s: float = 1.0
    check_path: str = "/health"
    panic_below: float = 0.5  # share of servers in (Envoy healthy_panic_threshold)
    slow_start_s: float = 10.0
    slow_start_floor: float = 0.1  # Envoy min_weight_percent

    def __post_init__(self) -> None:
        if not _PATH.fullmatch(self.check_path):
            raise UsageError(f"health setting check_path = {self.check_path!r}: give a path that begins with / and holds no space")
        for name, value in vars(self).items():
            if name == "check_path":
                continue
            if not 0 < value < math.inf:
                raise UsageError(f"health setting {name} = {value}: give a number above 0")
            if name in _SHARES and value > 1:
                raise UsageError(f"health setting {name} = {value}: it is a share; give a number above 0, up to 1")
        if self.max_ejection_s < self.base_ejection_s:
            raise UsageError(f"health setting max_ejection_s = {self.max_ejection_s}: give {self.base_ejection_s}, its base, or more")


class Event(NamedTuple):
    """What happened to a server, for people to read."""

    now_s: float
    server: int
    what: str


@dataclass
class _Record:
    state: str = _IN
    failures: int = 0  # answers in a row
    bad_probes: int = 0
    good_probes: int = 0
    times: int = 0  # ejected; as of the moment it left, decay is counted from its return
    until_s: float = math.inf
    since_s: float = -math.inf  # when it last came back


@dataclass
class HealthBook:
    """State of S servers, told by answers and by checks. One thread owns it; `now_s` is monotonic and does not go back.

    Every server is in one state: in, ejected (by answers) or down (by checks). Being down replaces being ejected: an ejection of a
    server that is gone anyway would spend the allowance that others may need. All servers are in at the start, at full weight.
    """

    servers: int
    config: HealthConfig = field(default_factory=HealthConfig)
    on_return: Callable[[int], None] = lambda _server: None  # told of each server that comes back

    def __post_init__(self) -> None:
        if self.servers < 1:
            raise UsageError(f"a gateway for {self.servers} servers: give at least one")
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)  # oldest first
        self.ejections: I64 = np.zeros(self.servers, dtype=np.int64)  # [S] ever
        self._records = [_Record() for _ in range(self.servers)]
        self.everybody: Mask = np.ones(self.servers, dtype=np.bool_)
        self.everybody.setflags(write=False)
        self._in: Mask = np.ones(self.servers, dtype=np.bool_)
        self._all_in = True
        self._since_s: F64 = np.full(self.servers, -math.inf)
        self._due_s = math.inf  # when the next ejection ends
        self._warm_s = -math.inf  # when the last slow start ends

    def answered(self, server: int, ok: bool, now_s: float) -> None:
        """A request ended: `ok` is False for 5xx, refused or broken connections and time-outs, True for any other answer.

        Envoy, consecutive 5xx: five failures in a row eject the server at once; any success begins the count anew. Answers of
        servers that are out change nothing, for they were sent before, or in panic. Where the allowance is spent the count goes on,
        so that the next failure ejects once there is room (Envoy counts five again). What says nothing about the server, such as
        a client that left, is not to be reported here.
        """
        self._advance(now_s)
        record = self._records[server]
        if ok or record.state != _IN:
            record.failures = 0
            return
        record.failures += 1
        if record.failures >= self.config.failures:
            self._try_to_eject(server, now_s)

    def overloaded(self, server: int, now_s: float) -> None:
        """A request was answered 503 with `Retry-After`: the server's own word that it is full, not broken (RFC 9110, 15.6.4).

        Envoy (consecutive 5xx) and HAProxy (observe layer7) count it as any 5xx. Envoy ejects a tenth of a large cluster at most; here an
        ejection moves a quarter or half of the traffic to servers that are nearly full themselves, and they would be next. So it counts for
        nothing, neither way, while the checks say that the server is well; once one has failed, it is a failure like any other.
        """
        if self._records[server].bad_probes:
            self.answered(server, False, now_s)

    def probed(self, server: int, ok: bool, now_s: float) -> None:
        """An active check ended.

        HAProxy: `fall` failures in a row take a server out, `rise` successes in a row bring it back. Envoy
        (successful_active_health_check_uneject_host): good checks end a passive ejection too, so that a quick restart need not
        wait. Envoy takes the first good one, and warns that a check which passes while requests fail brings a server back too
        early. Here it takes `rise` for each time the server was ejected, counted from the ejection: 2, 4, 6, and so on.
        """
        self._advance(now_s)
        record = self._records[server]
        record.good_probes = record.good_probes + 1 if ok else 0
        record.bad_probes = 0 if ok else record.bad_probes + 1
        if record.bad_probes >= self.config.fall and record.state != _DOWN:
            self._leave(server, _DOWN, now_s)
            self.events.append(Event(now_s, server, f"down: {self.config.fall} checks failed"))
        needed = self.config.rise * (record.times if record.state == _EJECTED else 1)
        if record.state != _IN and record.good_probes >= needed:
            self._return(server, now_s, f"back: {needed} checks passed")

    def next_check_s(self, server: int) -> float:
        """Seconds until the next check.

        HAProxy, fastinter: sooner while a server is on its way down or back. Checks of an ejected server keep their pace: what ends its
        ejection is how long it behaves, not how often it is asked.
        """
        record = self._records[server]
        moving = record.bad_probes if record.state != _DOWN else record.good_probes
        return self.config.fast_interval_s if moving else self.config.check_interval_s

    def is_calm(self, now_s: float) -> bool:
        """All servers are in, at full weight: `mask` and `thinned` would be `everybody`. Nearly always, and much quicker than those two."""
        return self._all_in and now_s >= self._warm_s

    def up(self, now_s: float) -> Mask:
        """Servers that are neither ejected nor down, whether panic ignores that or not.  # [S]"""
        self._advance(now_s)
        return self._in.copy()

    def panic(self, now_s: float) -> bool:
        """Less than `panic_below` of the servers are in.

        Envoy, panic threshold: the few that are left would be overrun, so health is ignored and the load spread over all. Exactly
        at the threshold there is no panic.
        """
        self._advance(now_s)
        return self._in_panic()

    def mask(self, now_s: float) -> Mask:
        """Servers that may be chosen; never empty, for nobody in means panic.  # [S]"""
        up = self.up(now_s)
        return np.ones(self.servers, dtype=np.bool_) if self._in_panic() else up

    def ramp(self, now_s: float) -> F64:
        """Weight in (0, 1]: below 1 during the slow start of a server that came back.  # [S]

        Envoy, slow start with aggression 1: max(10 %, elapsed / window). There it begins when checks bring a host back, here after
        an ejection too, since that is the same cold server. Servers that are out have 1: it says nothing of them.
        """
        self._advance(now_s)
        if now_s >= self._warm_s:
            return np.ones(self.servers)
        weight = np.clip((now_s - self._since_s) / self.config.slow_start_s, self.config.slow_start_floor, 1.0)
        return np.where(self._in, weight, 1.0)

    def thinned(self, now_s: float, draw: F64) -> Mask:
        """The mask, in which a ramping server is present where its draw from [0, 1) is below its weight.  # [S]

        So a policy that knows no weights honours slow start: over many decisions a server of weight w is a candidate in w of them.
        Not in panic, where a server that just came back is the best there is; and where nobody would be left, nobody is thinned.
        """
        mask = self.mask(now_s)
        if now_s >= self._warm_s or self._in_panic():
            return mask
        kept = mask & (draw < self.ramp(now_s))
        return kept if kept.any() else mask

    def status(self, now_s: float) -> list[str]:
        """ok, ejected, down or ramping, of each server."""
        cold = self.ramp(now_s) < 1.0
        return ["ramping" if slow else record.state for record, slow in zip(self._records, cold.tolist(), strict=True)]

    def _in_panic(self) -> bool:
        return int(np.count_nonzero(self._in)) / self.servers < self.config.panic_below

    def _try_to_eject(self, server: int, now_s: float) -> None:
        """Envoy: eject while ejected servers, this one included, stay within the share, and one in any case."""
        record = self._records[server]
        ejected = sum(one.state == _EJECTED for one in self._records)
        if ejected == 0 or (ejected + 1) / self.servers <= self.config.max_ejected_share:
            self._eject(server, now_s)
        elif record.failures == self.config.failures:  # said once, not for each further failure
            self.events.append(Event(now_s, server, f"failing, kept: {ejected} of {self.servers} are ejected already"))

    def _eject(self, server: int, now_s: float) -> None:
        """Envoy: for the base time times the ejections so far, this one included, up to the longest."""
        config, record = self.config, self._records[server]
        self._leave(server, _EJECTED, now_s)
        record.times = min(record.times + 1, math.ceil(config.max_ejection_s / config.base_ejection_s))
        length_s = min(config.base_ejection_s * record.times, config.max_ejection_s)
        record.until_s = now_s + length_s
        record.good_probes = 0
        self._due_s = min(self._due_s, record.until_s)
        self.ejections[server] += 1
        self.events.append(Event(now_s, server, f"ejected for {length_s:g} s: {config.failures} failures in a row"))

    def _leave(self, server: int, state: str, now_s: float) -> None:
        """Envoy: every interval without an ejection has taken one off the multiplier."""
        record = self._records[server]
        if record.state == _IN and record.times:
            record.times = max(0, record.times - int((now_s - record.since_s) / self.config.decay_s))
        record.state, record.until_s = state, math.inf
        self._in[server] = self._all_in = False

    def _return(self, server: int, at_s: float, what: str) -> None:
        record = self._records[server]
        record.state, record.failures, record.until_s, record.since_s = _IN, 0, math.inf, at_s
        self._in[server], self._since_s[server] = True, at_s
        self._all_in = bool(self._in.all())
        self._warm_s = max(self._warm_s, at_s + self.config.slow_start_s)
        self.events.append(Event(at_s, server, what))
        self.on_return(server)

    def _advance(self, now_s: float) -> None:
        """End the ejections that are over, at the time they ended: nobody may have asked since."""
        if now_s < self._due_s:
            return
        over = sorted((one.until_s, server) for server, one in enumerate(self._records) if one.until_s <= now_s)
        for until_s, server in over:
            self._return(server, until_s, "back: ejection over")
        self._due_s = min(one.until_s for one in self._records)

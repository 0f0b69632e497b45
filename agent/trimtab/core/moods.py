"""What a balancer can infer about servers beyond averages: how fast they are when they are well, and whether they are well now.

A plain average of service times mixes three things: the server's own speed for a class, how many of its slots were busy, and slow
spells. Here they are kept apart. A request that leaves a slot hands it to the next in line (servers serve first in, first out), so the
start of every service, and how many others were in service then, follow from what was sent and what came back. From those:

- `calm_s`, the mean service time alone in the server, to which slow samples hardly contribute;
- contention, the slope of service time over the number of other busy slots, by least squares through one;
- the probability that the server is in a slow spell: a two-state hidden Markov model (Rabiner 1989, section III A, the forward
  recursion) over the logarithm of actual / expected service, and over services that should have ended by now and have not.

The constants are priors, held against the family `grey` of random fleets; what a network makes of the result it learns itself.
"""

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from trimtab.core.compiled import compiled
from trimtab.core.request_log import F64, FAILED, I64, SERVED, RequestLog

I8 = npt.NDArray[np.int8]
I32 = npt.NDArray[np.int32]

SLOW_FACTOR: Final = 4.0  # of the slow state; spells six times as slow are recognised no worse, and a wrong alarm costs less
SLOW_PRIOR: Final = 0.02  # share of time in the slow state, as long as nothing is known: a false alarm can overload a fleet near its limit
PRIOR_GAIN: Final = 0.005  # each fleet's own share is learned from some hundreds of answers: most fleets have no slow spells at all
PRIOR_BOUNDS: Final = (0.005, 0.3)
FORGETTING: Final = 0.02  # rate at which a state is left, per mean service time of the server: spells last for tens of services
LIKELIHOOD_FLOOR: Final = 0.08  # one sample never decides: services have longer tails than the log-normal that they are compared with
SURVIVAL_FLOOR: Final = 0.003
LEAST_GAIN: Final = 0.02  # of `calm_s`: about the last fifty samples
LEAST_WELL: Final = 0.03  # share of a sample that counts as one of a server that is well, whatever it looks like
CONTENTION_PRIOR: Final = 0.1
CONTENTION_WEIGHT: Final = 20.0  # samples that the prior is worth
CONTENTION_KEPT: Final = 0.995
MOST_CONTENTION: Final = 1.5
FAST_GAIN: Final = 0.35  # of the recent log ratios
SLOW_GAIN: Final = 0.08
RECOVERED: Final = 1.6  # standard deviations: recent ratios so low say that `calm_s` is of a slow spell, and it is corrected at once
RECOVERY_GAIN: Final = 0.2
# Then the server's other classes were learned in the same slow spell, and are corrected as much: those with so few samples, and none among
# the last answers. Else a server that is slow when it is first met keeps the bad name of its rare classes: nobody sends it any.
RECOVERED_WEIGHT: Final = 10.0
RECOVERED_ANSWERS: Final = 2
# A server that joins, or was never picked for a rare class, would not be tried in thousands of requests: the average over the others, which
# stands in for it, is seldom the least. Among many that are known already the next one is seldom the best, and trying costs as much.
UNTRIED_FACTOR: Final = 0.8
UNTRIED_AMONG: Final = 8
SPREAD_START: Final = 0.5  # variance of log service time at equal expectation, between a log-normal of spread 0.5 and exponential sizes
SPREAD_SAMPLES: Final = 5.0  # that the start is worth
SPREAD_GAIN: Final = 0.01
SPREAD_BOUNDS: Final = (0.04, 1.6)  # nearly fixed sizes, and exponential ones
FAILURE_GAIN: Final = 0.3
FAILURE_FORGETTING: Final = 0.003  # per mean service time: a server that failed is tried again after some hundreds of services
FAILURE_S: Final = 2.0  # what a failure counts as, here and in the averages of the ledger
PACE_GAIN: Final = 0.05
PACE_S: Final = 0.05  # mean service time of a server that has served nothing yet
_LOG_SLOW: Final = math.log(SLOW_FACTOR)
_WAITING, _SERVING, _GONE = 0, 1, 2

# Columns of `read_moods`.
COLUMNS: Final = (
    "own_s",  # expected service of this request here if the server is well, other busy slots considered
    "wait_s",  # expected wait if the server is well
    "left_s",  # the same, less half of what the requests in service have had already
    "slowness",  # expected factor on both, 1 to SLOW_FACTOR
    "delay_s",  # (wait + own) x slowness + failing x FAILURE_S
    "slow_share",  # probability of a slow spell
    "last_ratio",  # log(actual / expected) of the last answer
    "recent_ratio",  # the same over about the last three
    "long_ratio",  # and over about the last twelve
    "overdue",  # log(time in service / expected), the largest of the requests in service; -3 without one
    "mean_overdue",  # sum of the same over the requests in service, divided by the slots
    "elapsed_s",  # time that requests in service have had, none counted beyond 0.8 of its expectation
    "contention",  # slope of service time per other busy slot
    "spread",  # variance of log service time of this class
    "uncertainty",  # 1 / sqrt(samples) of this server and class
    "failing",  # share of recent answers that failed, forgotten with time
)
_OWN, _WAIT, _LEFT, _SLOWNESS, _DELAY, _SLOW, _LAST, _RECENT = range(8)
_LONG, _OVERDUE, _MEAN, _ELAPSED, _SLOPE, _SPREAD, _UNSURE, _FAILING = range(8, 16)


class Moods(NamedTuple):
    """State of B fleets of S servers and K classes; N requests at most are known at a time."""

    slots: I64  # [B, S] declared
    calm_s: F64  # [B, S, K] 0 before the first sample
    weight: F64  # [B, S, K] samples behind it, at most 1 / LEAST_GAIN
    unheard: I64  # [B, S, K] answers of the server since the last of this class
    pace_s: F64  # [B, S] mean service time of recent requests of all classes, slow spells divided out: else they would be remembered longer
    ratios: F64  # [B, S, 3] log(actual / expected): last, recent, long
    slow: F64  # [B, S] probability of a slow spell at `stamp_s`
    failing: F64  # [B, S] share of failures at `stamp_s`
    stamp_s: F64  # [B, S] last outcome
    square: F64  # [B, S] sum of squared numbers of other busy slots
    excess: F64  # [B, S] sum of those numbers x (actual / calm - 1)
    spread: F64  # [B, K]
    heard: F64  # [B, K] samples behind `spread`
    prior: F64  # [B] share of slow spells in this fleet
    phase: I8  # [B, N]
    started_s: F64  # [B, N] of a request in service
    others: I32  # [B, N] other slots busy at that moment
    kind: I32  # [B, N] class
    line: I32  # [B, S] first request that waits for a slot, -1 none


PER_REQUEST: Final = frozenset({"phase", "started_s", "others", "kind"})


def empty_moods(slots: I64, classes: int, requests: int) -> Moods:
    """Nothing heard yet of fleets with these slots [B, S]."""
    batch, pair = len(slots), slots.shape
    triple, ring = (*pair, classes), (batch, requests)
    return Moods(
        slots=np.ascontiguousarray(slots, dtype=np.int64),
        calm_s=np.zeros(triple),
        weight=np.zeros(triple),
        unheard=np.zeros(triple, dtype=np.int64),
        pace_s=np.zeros(pair),
        ratios=np.zeros((*pair, 3)),
        slow=np.full(pair, SLOW_PRIOR),
        failing=np.zeros(pair),
        stamp_s=np.zeros(pair),
        square=np.zeros(pair),
        excess=np.zeros(pair),
        spread=np.full((batch, classes), SPREAD_START),
        heard=np.full((batch, classes), SPREAD_SAMPLES),
        prior=np.full(batch, SLOW_PRIOR),
        phase=np.full(ring, _GONE, dtype=np.int8, order="F"),
        started_s=np.zeros(ring, order="F"),
        others=np.zeros(ring, dtype=np.int32, order="F"),
        kind=np.zeros(ring, dtype=np.int32, order="F"),
        line=np.full(pair, -1, dtype=np.int32),
    )


@compiled
def note_dispatch(moods: Moods, request_class: I32, request: int, server: I64, now_s: F64, outstanding: I64) -> None:
    """Request number `request` of each fleet was sent to `server` [B]; `outstanding` [B, S] counts it already."""
    for b in range(server.shape[0]):
        s = server[b]
        moods.kind[b, request] = request_class[b, request]
        others = outstanding[b, s] - 1
        if others < moods.slots[b, s]:
            moods.phase[b, request], moods.started_s[b, request], moods.others[b, request] = _SERVING, now_s[b], others
        else:
            moods.phase[b, request] = _WAITING
            if moods.line[b, s] < 0:
                moods.line[b, s] = request


@compiled
def _leave(moods: Moods, newer: I32, b: int, s: int, request: int, now: float) -> None:
    """Take a request out of its slot or its place in line; a free slot goes to the first that waits."""
    was = moods.phase[b, request]
    moods.phase[b, request] = _GONE
    head = moods.line[b, s]
    while head >= 0 and moods.phase[b, head] == _GONE:
        head = newer[b, head]
    if was == _SERVING and head >= 0:
        moods.phase[b, head], moods.started_s[b, head], moods.others[b, head] = _SERVING, now, moods.slots[b, s] - 1
        head = newer[b, head]
        while head >= 0 and moods.phase[b, head] == _GONE:
            head = newer[b, head]
    moods.line[b, s] = head


@compiled
def _slope(moods: Moods, b: int, s: int) -> float:
    """Least squares of service / calm - 1 over the number of other busy slots, through zero, with a prior."""
    fitted = (moods.excess[b, s] + CONTENTION_WEIGHT * CONTENTION_PRIOR) / (moods.square[b, s] + CONTENTION_WEIGHT)
    return float(min(max(fitted, 0.0), MOST_CONTENTION))


@compiled
def _services(moods: Moods, b: int, s: int, now: float, unknown_s: float) -> float:
    """How many services ago the last answer was; `unknown_s` is the pace of a server that has served nothing, 0: no time passes."""
    pace_s = moods.pace_s[b, s] if moods.pace_s[b, s] > 0.0 else unknown_s
    return float(max(now - moods.stamp_s[b, s], 0.0) / pace_s) if pace_s > 0.0 else 0.0


@compiled
def _forgotten(value: float, towards: float, rate: float, services: float) -> float:
    return float(towards + (value - towards) * math.exp(-rate * services))


@compiled
def _after_ratio(slow: float, log_ratio: float, variance: float) -> float:
    """Probability of the slow state after an answer: both states are log-normal with unit mean times their factor."""
    calm_z = log_ratio + 0.5 * variance
    slow_z = calm_z - _LOG_SLOW
    calm_like = math.exp(-0.5 * calm_z * calm_z / variance) + LIKELIHOOD_FLOOR
    slow_like = math.exp(-0.5 * slow_z * slow_z / variance) + LIKELIHOOD_FLOOR
    return slow * slow_like / (slow * slow_like + (1.0 - slow) * calm_like)


@compiled
def _after_survival(slow: float, log_ratio: float, variance: float) -> float:
    """The same while the answer is out: all that is known is that the service is longer than this."""
    scale = 1.0 / math.sqrt(2.0 * variance)
    calm_like = 0.5 * math.erfc((log_ratio + 0.5 * variance) * scale) + SURVIVAL_FLOOR
    slow_like = 0.5 * math.erfc((log_ratio - _LOG_SLOW + 0.5 * variance) * scale) + SURVIVAL_FLOOR
    return slow * slow_like / (slow * slow_like + (1.0 - slow) * calm_like)


@compiled
def _correct_others(moods: Moods, b: int, s: int, k: int, factor: float) -> None:
    """What class `k` turned out to be wrong by, its server's little known classes are wrong by."""
    for j in range(moods.calm_s.shape[2]):
        if j != k and moods.unheard[b, s, j] >= RECOVERED_ANSWERS and moods.weight[b, s, j] < RECOVERED_WEIGHT:
            moods.calm_s[b, s, j] *= factor


@compiled
def _learn_ratio(moods: Moods, b: int, s: int, k: int, sample_s: float, others: float) -> None:
    """One more service of a class that was served here before, beside `others`."""
    calm = moods.calm_s[b, s, k]
    factor = 1.0 + _slope(moods, b, s) * others
    log_ratio = min(max(math.log(sample_s / (calm * factor)), -4.0), 4.0)
    variance = moods.spread[b, k]
    moods.slow[b, s] = _after_ratio(moods.slow[b, s], log_ratio, variance + 0.5 / moods.weight[b, s, k])
    moods.ratios[b, s, 0] = log_ratio
    moods.ratios[b, s, 1] += FAST_GAIN * (log_ratio - moods.ratios[b, s, 1])
    moods.ratios[b, s, 2] += SLOW_GAIN * (log_ratio - moods.ratios[b, s, 2])
    well = max(1.0 - moods.slow[b, s], LEAST_WELL)
    moods.weight[b, s, k] = min(moods.weight[b, s, k] + well, 1.0 / LEAST_GAIN)
    gain = well / moods.weight[b, s, k]
    recovered = moods.ratios[b, s, 1] + 0.5 * variance < -RECOVERED * math.sqrt(variance)
    if recovered:
        gain = max(gain, RECOVERY_GAIN)
    moods.calm_s[b, s, k] = calm + gain * (sample_s / factor - calm)
    if recovered:
        _correct_others(moods, b, s, k, moods.calm_s[b, s, k] / calm)
    calm_off = log_ratio + 0.5 * variance
    off = min(calm_off**2, (calm_off - _LOG_SLOW) ** 2) - variance  # from the nearer state
    moods.heard[b, k] += 1.0
    variance += max(SPREAD_GAIN, 1.0 / moods.heard[b, k]) * off
    moods.spread[b, k] = min(max(variance, SPREAD_BOUNDS[0]), SPREAD_BOUNDS[1])
    moods.prior[b] = min(max(moods.prior[b] + PRIOR_GAIN * (moods.slow[b, s] - moods.prior[b]), PRIOR_BOUNDS[0]), PRIOR_BOUNDS[1])
    moods.square[b, s] = CONTENTION_KEPT * moods.square[b, s] + well * others * others
    moods.excess[b, s] = CONTENTION_KEPT * moods.excess[b, s] + well * others * (sample_s / calm - 1.0)


@compiled
def _learn(moods: Moods, b: int, s: int, k: int, sample_s: float, others: float) -> None:
    for j in range(moods.calm_s.shape[2]):
        moods.unheard[b, s, j] += 1
    moods.unheard[b, s, k] = 0
    if moods.calm_s[b, s, k] > 0.0:
        _learn_ratio(moods, b, s, k, sample_s, others)
    else:
        likely = math.exp(moods.slow[b, s] * _LOG_SLOW) * (1.0 + _slope(moods, b, s) * others)
        moods.calm_s[b, s, k], moods.weight[b, s, k] = sample_s / likely, 1.0
    pace, well_s = moods.pace_s[b, s], sample_s / math.exp(moods.slow[b, s] * _LOG_SLOW)
    moods.pace_s[b, s] = well_s if pace == 0.0 else pace + PACE_GAIN * (well_s - pace)


@compiled
def note_outcomes(moods: Moods, log: RequestLog, newer: I32, start: I64, stop: I64) -> None:
    """Requests have completed, oldest first in each fleet. Call before the ledger forgets who stands behind whom in `newer`."""
    for b in range(start.shape[0]):
        for place in range(start[b], stop[b]):
            request = log.order[b, place]
            s, status, now = log.server[b, request], log.status[b, request], log.completed_s[b, request]
            others = float(moods.others[b, request])
            _leave(moods, newer, b, s, request, now)
            if status != SERVED and status != FAILED:
                continue
            services = _services(moods, b, s, now, 0.0)
            moods.slow[b, s] = _forgotten(moods.slow[b, s], moods.prior[b], FORGETTING, services)
            failing = _forgotten(moods.failing[b, s], 0.0, FAILURE_FORGETTING, _services(moods, b, s, now, PACE_S))
            moods.failing[b, s] = failing + FAILURE_GAIN * ((1.0 if status == FAILED else 0.0) - failing)
            moods.stamp_s[b, s] = now
            if status == SERVED and log.service_s[b, request] > 0.0:
                _learn(moods, b, s, log.request_class[b, request], log.service_s[b, request], others)


@compiled
def _calm(moods: Moods, service: F64, b: int, s: int, k: int) -> float:
    return float(moods.calm_s[b, s, k] if moods.calm_s[b, s, k] > 0.0 else service[b, s, k])


@compiled
def _in_service(moods: Moods, oldest: I32, newer: I32, service: F64, b: int, s: int, now: float, row: F64) -> None:
    """What the requests in service tell: `slow_share` in, and out again with overdue, mean_overdue and elapsed_s."""
    request, seen, slope = oldest[b, s], 0, row[_SLOPE]
    row[_OVERDUE], row[_MEAN], row[_ELAPSED] = -3.0, 0.0, 0.0
    while request >= 0 and seen < moods.slots[b, s]:
        if moods.phase[b, request] == _SERVING:
            k = moods.kind[b, request]
            expected = _calm(moods, service, b, s, k) * (1.0 + slope * moods.others[b, request])
            since = max(now - moods.started_s[b, request], 1e-9)
            late = min(max(math.log(since / expected), -3.0), 3.0)
            if late > -1.0:  # before that, survival says nothing
                # Beyond the slow state's own expectation neither state explains it, and the comparison would come out even again.
                row[_SLOW] = _after_survival(row[_SLOW], min(late, _LOG_SLOW), moods.spread[b, k])
            row[_OVERDUE] = max(row[_OVERDUE], late)
            row[_MEAN] += late / moods.slots[b, s]
            row[_ELAPSED] += min(since, 0.8 * expected)
            seen += 1
        request = newer[b, request]


@compiled
def _hope(moods: Moods, b: int, k: int) -> float:
    """Most that a request of a class is expected to take at a server that never served it: such a server may be the best, as long as few
    others have served it. Once for all servers, else the work would grow with the square of their number."""
    least, known = np.inf, 0
    for s in range(moods.calm_s.shape[1]):
        if moods.calm_s[b, s, k] > 0.0:
            known += 1
            least = min(least, UNTRIED_FACTOR * moods.calm_s[b, s, k])
    return least if known < UNTRIED_AMONG else np.inf


@compiled
def _expectations(moods: Moods, in_flight: I64, service: F64, b: int, s: int, k: int, hope: float, row: F64) -> None:
    """own_s, wait_s and left_s."""
    total, work, slots = 0, 0.0, moods.slots[b, s]
    for j in range(service.shape[2]):
        total += in_flight[b, s, j]
        work += in_flight[b, s, j] * _calm(moods, service, b, s, j)
    work *= 1.0 + row[_SLOPE] * (slots - 1)
    own = moods.calm_s[b, s, k] if moods.calm_s[b, s, k] > 0.0 else min(service[b, s, k], hope)
    row[_OWN] = own * (1.0 + row[_SLOPE] * min(total, slots - 1))
    row[_WAIT], row[_LEFT] = 0.0, 0.0
    if total >= slots:
        row[_WAIT] = work / total * (total + 1 - slots) / slots
        row[_LEFT] = max(row[_WAIT] - 0.5 * row[_ELAPSED] / slots, 0.1 * work / total / slots)


@compiled
def _read(moods: Moods, in_flight: I64, oldest: I32, newer: I32, service: F64, request_class: I32, now_s: F64, rows: F64) -> None:
    for b in range(rows.shape[0]):
        k, now = request_class[b], now_s[b]
        hope = _hope(moods, b, k)
        for s in range(rows.shape[1]):
            row = rows[b, s]
            services = _services(moods, b, s, now, 0.0)
            row[_SLOW] = _forgotten(moods.slow[b, s], moods.prior[b], FORGETTING, services)
            row[_FAILING] = _forgotten(moods.failing[b, s], 0.0, FAILURE_FORGETTING, _services(moods, b, s, now, PACE_S))
            row[_SLOPE] = _slope(moods, b, s)
            _in_service(moods, oldest, newer, service, b, s, now, row)
            _expectations(moods, in_flight, service, b, s, k, hope, row)
            row[_SLOWNESS] = math.exp(row[_SLOW] * _LOG_SLOW)
            row[_DELAY] = (row[_OWN] + row[_WAIT]) * row[_SLOWNESS] + row[_FAILING] * FAILURE_S
            for one in range(3):
                row[_LAST + one] = moods.ratios[b, s, one]
            row[_SPREAD] = moods.spread[b, k]
            row[_UNSURE] = 1.0 / math.sqrt(max(moods.weight[b, s, k], 0.25))


def read_moods(moods: Moods, in_flight: I64, oldest: I32, newer: I32, service_s: F64, request_class: I32, now_s: F64) -> F64:
    """The moment of a decision, [B, S, len(COLUMNS)]; where a pair has no sample, `service_s` [B, S, K] or what is hoped of it stands in.

    `in_flight` [B, S, K], `oldest` [B, S] and `newer` [B, N] are the ledger's.
    """
    rows = np.empty((*moods.slots.shape, len(COLUMNS)))
    _read(moods, in_flight, oldest, newer, service_s, request_class, now_s, rows)
    return rows

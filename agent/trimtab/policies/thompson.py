"""Thompson sampling of service times: the learned rival that has no network."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from trimtab.core.compiled import compiled
from trimtab.core.ledger import PLAIN_SAMPLES, SERVICE_GAIN, service_estimate_s
from trimtab.core.request_log import F64, I32, I64
from trimtab.policies import pick
from trimtab.policies.base import RoutingView
from trimtab.policies.pick import U64

# Tuned in the twin on seeds 77 and 78, over 11 and 13 scenarios and families: geometric mean of the mean latency over `sed-online`'s.
KEPT: Final = 0.99  # of what earlier samples weigh, with each new one: 0.95 was 4 % worse, 1 loses its servers' moods in the tail
SPREAD: Final = 0.35  # of the posterior, in standard deviations of work as variable as an exponential; 1 was 10 % worse than 0.5
PRIOR_SAMPLES: Final = 1.0  # what the ledger's guess for a pair without samples weighs


class _Posterior(NamedTuple):
    """What each server and class has shown, older samples weighing less, and up to where the ledger has been read."""

    total_s: F64  # [B, S, K] weighted sum of service times
    weight: F64  # [B, S, K] sum of the weights
    read_s: F64  # [B, S, K] the ledger's mean at the last look
    read: I64  # [B, S, K] the ledger's samples at the last look


def _nothing_seen(shape: tuple[int, ...]) -> _Posterior:
    return _Posterior(np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=np.int64))


@dataclass
class ThompsonPolicy:
    """A bandit for each server and class inside the waiting formula of `sed-online`.

    The mean service time of a pair has a Gaussian posterior on the log scale, whose variance falls with the samples seen and which
    forgets (discounted Thompson sampling: Thompson 1933; Raj and Kalyani 2017, "Taming Non-stationary Bandits"). A decision draws the
    own service time of the request on each server and adds the expected wait at the posterior means; the least is taken. A reward of
    minus the response time alone would be unstable: what a server is worth falls with every request sent to it.

    The wait is not drawn: errors of a long queue's estimate outgrow the difference between servers (at 240 requests/s of
    `affinity-240` sending to the wrong class's server made the fleet collapse). Service times are recovered from the ledger's
    average, so several that completed between two looks count as that many of their mean.
    """

    name: str
    _seeds: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64), repr=False)
    _draws: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64), repr=False)
    _seen: _Posterior = field(default_factory=lambda: _nothing_seen((0, 0, 0)), repr=False)

    def reset(self, seeds: I64) -> None:
        self._seeds = seeds.astype(np.uint64)
        self._draws = np.zeros(seeds.size, dtype=np.uint64)
        self._seen = _nothing_seen((seeds.size, 0, 0))

    def select(self, view: RoutingView) -> I64:
        ledger, loads = view.ledger, np.empty(view.slots.shape)
        if self._seen.weight.shape != ledger.samples.shape:
            self._seen = _nothing_seen(ledger.samples.shape)
        _absorb(ledger.service_s, ledger.samples, self._seen, PLAIN_SAMPLES, SERVICE_GAIN, KEPT)
        noise = np.empty(view.slots.shape)
        pick.normals(self._seeds, self._draws, noise)
        prior = service_estimate_s(ledger)
        in_flight, outstanding = ledger.in_flight, ledger.outstanding
        _drawn_delay(in_flight, outstanding, prior, self._seen, noise, view.request_class, view.slots, SPREAD, PRIOR_SAMPLES, loads)
        chosen = np.empty(view.now_s.size, dtype=np.int64)
        pick.least(loads, view.available, self._seeds, self._draws, chosen)
        return chosen


@compiled
def _absorb(service_s: F64, samples: I64, seen: _Posterior, plain: int, gain: float, kept: float) -> None:
    """Undo the ledger's average since the last look: its gain at each sample is known, so the mean of the new ones is."""
    for b in range(samples.shape[0]):
        for s in range(samples.shape[1]):
            for k in range(samples.shape[2]):
                count = samples[b, s, k] - seen.read[b, s, k]
                if count <= 0:
                    continue
                read, now = seen.read[b, s, k], samples[b, s, k]
                # Share of the earlier mean in the present one: n / (n + 1) at each plain sample, a constant after those.
                old = min(read, plain) / min(now, plain) * (1.0 - gain) ** (max(now, plain) - max(read, plain))
                mean_s = (service_s[b, s, k] - old * seen.read_s[b, s, k]) / (1.0 - old)
                left = kept**count
                new = (1.0 - left) / (1.0 - kept)  # what that many samples weigh that were forgotten one by one
                seen.total_s[b, s, k] = seen.total_s[b, s, k] * left + mean_s * new
                seen.weight[b, s, k] = seen.weight[b, s, k] * left + new
                seen.read_s[b, s, k] = service_s[b, s, k]
                seen.read[b, s, k] = samples[b, s, k]


@compiled
def _drawn_delay(
    in_flight: I64,
    outstanding: I64,
    prior_s: F64,
    seen: _Posterior,
    noise: F64,
    request_class: I32,
    slots: I64,
    spread: float,
    prior_samples: float,
    loads: F64,
) -> None:
    """Expected wait, as `sed-online` has it, plus one draw of the own service time."""
    for b in range(loads.shape[0]):
        for s in range(loads.shape[1]):
            total, c, work_s, own_s = outstanding[b, s], slots[b, s], 0.0, 0.0
            for k in range(in_flight.shape[2]):
                weight = seen.weight[b, s, k] + prior_samples
                mean_s = (seen.total_s[b, s, k] + prior_samples * prior_s[b, s, k]) / weight
                work_s += in_flight[b, s, k] * mean_s
                if k == request_class[b]:
                    own_s = mean_s * np.exp(spread * noise[b, s] / np.sqrt(weight))
            wait_s = work_s / total * (total + 1 - c) / c if total >= c else 0.0
            loads[b, s] = wait_s + own_s

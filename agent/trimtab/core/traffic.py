"""Arrivals, classes and work of one episode: a pure function of scenario, seed and episode number.

Every policy meets the same requests (common random numbers), so that differences between policies are not luck.
Arrivals are a Poisson process of intensity lambda(t), drawn exactly by time-rescaling: the n-th arrival is the moment when the
cumulative intensity reaches the n-th point of a unit Poisson process (Cinlar, Introduction to Stochastic Processes, 1975, section 4.7).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trimtab.core.scenario import F64, RequestClass, Scenario, Traffic
from trimtab.errors import ScenarioError

I32 = npt.NDArray[np.int32]

# Dwells are drawn this many at a time; another size would change every mmpp episode of every seed.
_DWELLS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Episode:
    """Requests in order of arrival, the warm-up first. A batch of episodes has a leading axis B."""

    arrival_s: F64  # [N] or [B, N], increasing from 0, the start of the warm-up
    request_class: I32  # [N] or [B, N], index into scenario.classes
    work_s: F64  # [N] or [B, N], service time at speed 1


def draw_episode(scenario: Scenario, seed: int, episode: int, trace_rps: F64 | None = None) -> Episode:
    """Requests of episode `episode` under `seed`, N = warmup + requests.

    `trace_rps` holds the rates of a trace, one per `interval_s`  # [T]; it is needed for trace traffic and ignored otherwise.
    Raises ScenarioError where a trace is slower than the rate asked for.
    """
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, episode])))
    count = scenario.warmup + scenario.requests
    # Classes and work are drawn before anything that depends on the kind of traffic, so that scenarios which
    # differ in traffic only still share them.
    unit_arrival = np.cumsum(rng.standard_exponential(count))  # [N]
    request_class = _draw_classes(scenario.shares(), count, rng)
    work_s = _draw_work(scenario.classes, request_class, rng)
    arrival_s = _ARRIVALS[scenario.traffic.kind](scenario.traffic, scenario.rate_rps(), unit_arrival, rng, trace_rps)
    return Episode(arrival_s=arrival_s, request_class=request_class, work_s=work_s)


def draw_batch(
    scenarios: Sequence[Scenario], seed: int, episodes: Sequence[int], traces_rps: Sequence[F64 | None] | None = None
) -> Episode:
    """Episode `episodes[b]` of `scenarios[b]` for each b, stacked.  # [B, N]

    Raises ValueError where the sequences or the numbers of requests differ in length.
    """
    traces = [None] * len(scenarios) if traces_rps is None else traces_rps
    drawn = [draw_episode(one, seed, number, trace) for one, number, trace in zip(scenarios, episodes, traces, strict=True)]
    return Episode(
        arrival_s=np.stack([one.arrival_s for one in drawn]),
        request_class=np.stack([one.request_class for one in drawn]),
        work_s=np.stack([one.work_s for one in drawn]),
    )


def intensity_rps(traffic: Traffic, base_rps: float, t_s: npt.ArrayLike, trace_rps: F64 | None = None) -> F64:
    """Expected arrivals a second at the times `t_s` (any shape); `base_rps` is `Scenario.rate_rps()`.

    The intensity of an mmpp is itself random: its long-run mean, `base_rps`, is returned.
    """
    return _INTENSITIES[traffic.kind](traffic, base_rps, np.asarray(t_s, dtype=np.float64), trace_rps)


# Classes and work


def _draw_classes(shares: F64, count: int, rng: np.random.Generator) -> I32:
    edges = np.cumsum(shares)[:-1]
    return np.searchsorted(edges, rng.random(count), side="right").astype(np.int32)


def _draw_work(classes: Sequence[RequestClass], request_class: I32, rng: np.random.Generator) -> F64:
    work_s = np.empty(request_class.size)
    for index, one in enumerate(classes):
        of_class = np.flatnonzero(request_class == index)
        work_s[of_class] = one.work_s * _UNIT_WORK[one.distribution](one.spread, of_class.size, rng)
    return work_s


def _lognormal(cv: float, count: int, rng: np.random.Generator) -> F64:
    sigma = np.sqrt(np.log1p(cv * cv))
    return np.asarray(np.exp(sigma * rng.standard_normal(count) - 0.5 * sigma * sigma))


def _exponential(_cv: float, count: int, rng: np.random.Generator) -> F64:
    return rng.standard_exponential(count)


def pareto_shape(cv: float) -> float:
    """Shape alpha of a Pareto (type I) law with coefficient of variation `cv` > 0: solves 1 / (alpha (alpha - 2)) = cv^2."""
    return float(1 + np.sqrt(1 + 1 / (cv * cv)))


def _pareto(cv: float, count: int, rng: np.random.Generator) -> F64:
    shape = pareto_shape(cv)
    least = (shape - 1) / shape
    return least * np.exp(rng.standard_exponential(count) / shape)


def _fixed(_cv: float, count: int, _rng: np.random.Generator) -> F64:
    return np.ones(count)


_UNIT_WORK: dict[str, Callable[[float, int, np.random.Generator], F64]] = {
    "lognormal": _lognormal,
    "exponential": _exponential,
    "pareto": _pareto,
    "fixed": _fixed,
}


# Intensities, and the inverses of their integrals. An inverse takes the points of a unit Poisson process and returns seconds.


def _constant_rps(_traffic: Traffic, base_rps: float, t_s: F64, _trace: F64 | None) -> F64:
    return np.full(t_s.shape, base_rps)


def _poisson_arrivals(_traffic: Traffic, base_rps: float, unit: F64, _rng: np.random.Generator, _trace: F64 | None) -> F64:
    return unit / base_rps


def _sinusoid_rps(traffic: Traffic, base_rps: float, t_s: F64, _trace: F64 | None) -> F64:
    return np.asarray(base_rps * (1 + traffic.amplitude * np.sin(2 * np.pi * t_s / traffic.period_s)))


def _sinusoid_arrivals(traffic: Traffic, base_rps: float, unit: F64, _rng: np.random.Generator, _trace: F64 | None) -> F64:
    """One period brings base x period arrivals; inside it the phase solves theta + a (1 - cos theta) = mass, Kepler's equation."""
    a = traffic.amplitude
    periods, rest = np.divmod(unit / base_rps, traffic.period_s)
    mass = 2 * np.pi * rest / traffic.period_s
    theta = solve_increasing(
        lambda x: x + a * (1 - np.cos(x)), lambda x: 1 + a * np.sin(x), target=mass, low=np.maximum(mass - 2 * a, 0.0), high=mass
    )
    return np.asarray((periods + theta / (2 * np.pi)) * traffic.period_s)


def _flash_rps(traffic: Traffic, base_rps: float, t_s: F64, _trace: F64 | None) -> F64:
    since_peak_s = t_s - (traffic.start_s + traffic.rise_s)
    # The floor keeps a rise of 0 s from dividing by zero; such a rise is a jump at start_s.
    rising = np.clip((t_s - traffic.start_s) / max(traffic.rise_s, 1e-12), 0.0, 1.0)
    falling = np.exp(-np.maximum(since_peak_s, 0.0) / traffic.decay_s)
    return np.asarray(base_rps * (1 + (traffic.factor - 1) * np.where(since_peak_s < 0, rising, falling)))


def _flash_arrivals(traffic: Traffic, base_rps: float, unit: F64, _rng: np.random.Generator, _trace: F64 | None) -> F64:
    """Three pieces: constant, linear rise (a quadratic to invert), exponential fall (solved by Newton steps)."""
    extra = traffic.factor - 1
    mass_s = unit / base_rps  # seconds of base traffic
    rise_mass_s = traffic.rise_s * (1 + extra / 2)
    into_rise_s = np.clip(mass_s - traffic.start_s, 0.0, rise_mass_s)
    into_fall_s = np.maximum(mass_s - traffic.start_s - rise_mass_s, 0.0)
    risen_s = 2 * into_rise_s / (1 + np.sqrt(1 + 2 * extra * into_rise_s / max(traffic.rise_s, 1e-12)))
    return np.asarray(np.minimum(mass_s, traffic.start_s) + risen_s + _fall_s(into_fall_s / traffic.decay_s, extra) * traffic.decay_s)


def _fall_s(mass: F64, extra: float) -> F64:
    """Solves x + extra (1 - exp(-x)) = mass."""
    low = np.maximum(mass - extra, mass / (1 + extra))
    return solve_increasing(lambda x: x - extra * np.expm1(-x), lambda x: 1 + extra * np.exp(-x), target=mass, low=low, high=mass)


def _ramp_rps(traffic: Traffic, base_rps: float, t_s: F64, _trace: F64 | None) -> F64:
    step = np.clip(np.floor_divide(t_s, traffic.step_s).astype(np.int64), 0, len(traffic.steps) - 1)
    return np.asarray(base_rps * np.array(traffic.steps)[step])


def _ramp_arrivals(traffic: Traffic, base_rps: float, unit: F64, _rng: np.random.Generator, _trace: F64 | None) -> F64:
    rates = base_rps * np.array(traffic.steps)
    mass, at_s = _knots(rates, np.full(rates.size, traffic.step_s))
    after_last_s = np.maximum(unit - mass[-1], 0.0) / rates[-1]
    return np.asarray(np.interp(unit, mass, at_s) + after_last_s)


def _trace_rates(traffic: Traffic, base_rps: float, trace_rps: F64 | None) -> F64:
    """The trace thinned to a mean of `base_rps`.  # [T]

    Keeping each request of a Poisson process with probability p gives a Poisson process of p times the intensity
    (Kingman, Poisson Processes, 1993, section 5.1), so for p <= 1 scaling the rates is thinning; stretching time would distort bursts.
    """
    if trace_rps is None:
        raise ValueError("trace traffic needs the rates of its trace: pass trace_rps")
    mean_rps = float(trace_rps.mean())
    if mean_rps < base_rps * (1 - 1e-9):
        raise ScenarioError(
            f"traffic asks for {base_rps:.6g} requests/s of trace {traffic.file!r}; allowed: at most its mean, {mean_rps:.6g}, "
            "because thinning only removes requests; lower rate_rps or load, or name a busier trace"
        )
    return trace_rps * (base_rps / mean_rps)


def _trace_rps(traffic: Traffic, base_rps: float, t_s: F64, trace: F64 | None) -> F64:
    rates = _trace_rates(traffic, base_rps, trace)
    return rates[np.floor_divide(t_s, traffic.interval_s).astype(np.int64) % rates.size]


def _trace_arrivals(traffic: Traffic, base_rps: float, unit: F64, _rng: np.random.Generator, trace: F64 | None) -> F64:
    rates = _trace_rates(traffic, base_rps, trace)
    mass, at_s = _knots(rates, np.full(rates.size, traffic.interval_s))
    rounds, rest = np.divmod(unit, mass[-1])
    return np.asarray(rounds * at_s[-1] + np.interp(rest, mass, at_s))


def _mmpp_arrivals(traffic: Traffic, base_rps: float, unit: F64, rng: np.random.Generator, _trace: F64 | None) -> F64:
    """Markov-modulated: exponential dwells, next state uniform among the others, so all states last equally long on average."""
    relative = np.array(traffic.rates_rps or traffic.loads)
    state_rps = relative * (base_rps / relative.mean())
    rates, dwells = np.empty(0), np.empty(0)
    state = int(rng.integers(state_rps.size))
    while float(rates @ dwells) < unit[-1]:
        states = _state_path(state, state_rps.size, rng)
        state = int(states[-1])
        rates = np.append(rates, state_rps[states[:-1]])
        dwells = np.append(dwells, rng.exponential(traffic.dwell_s, _DWELLS_AT_ONCE))
    mass, at_s = _knots(rates, dwells)
    return np.interp(unit, mass, at_s)


def _state_path(start: int, states: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """States visited from `start` on, the next chunk's first one last.  # [_DWELLS_AT_ONCE + 1]"""
    moves = rng.integers(1, states, _DWELLS_AT_ONCE) if states > 1 else np.zeros(_DWELLS_AT_ONCE, dtype=np.int64)
    return np.asarray(np.append(start, start + np.cumsum(moves)) % states, dtype=np.int64)


def _knots(rates: F64, durations_s: F64) -> tuple[F64, F64]:
    """Cumulative intensity and time at the borders of a piecewise-constant intensity.  # [P + 1], [P + 1]"""
    mass = np.append(0.0, np.cumsum(rates * durations_s))
    return mass, np.append(0.0, np.cumsum(durations_s))


def solve_increasing(value: Callable[[F64], F64], slope: Callable[[F64], F64], *, target: F64, low: F64, high: F64) -> F64:
    """x in [low, high] with value(x) = target, for an increasing function: Newton steps, bisection where they leave the bracket.

    All arrays have one shape. The bracket makes it safe where the slope vanishes (a sinusoid of amplitude 1).
    """
    x = 0.5 * (low + high)
    for _ in range(80):
        error = value(x) - target
        low, high = np.where(error <= 0, x, low), np.where(error > 0, x, high)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            newton = x - error / slope(x)
        inside = (newton >= low) & (newton <= high)
        following = np.where(inside, newton, 0.5 * (low + high))
        step, x = float(np.max(np.abs(following - x), initial=0.0)), following
        if step <= 1e-11 * (1 + float(np.max(np.abs(x), initial=0.0))):
            break
    return x


_Inverse = Callable[[Traffic, float, F64, np.random.Generator, F64 | None], F64]
_ARRIVALS: dict[str, _Inverse] = {
    "poisson": _poisson_arrivals,
    "mmpp": _mmpp_arrivals,
    "sinusoid": _sinusoid_arrivals,
    "flash": _flash_arrivals,
    "ramp": _ramp_arrivals,
    "trace": _trace_arrivals,
}

_INTENSITIES: dict[str, Callable[[Traffic, float, F64, F64 | None], F64]] = {
    "poisson": _constant_rps,
    "mmpp": _constant_rps,
    "sinusoid": _sinusoid_rps,
    "flash": _flash_rps,
    "ramp": _ramp_rps,
    "trace": _trace_rps,
}

"""What architectures.py found: one table, everybody against sed-online, and every fit against the defaults."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from ablation_report import NOTHING, SHOWN, student
from architectures_fit import DEFAULTS, REFERENCES, Plan, Variant
from architectures_harvest import EXPONENTS, TAIL

from trimtab.experiments.statistics import F64, Interval
from trimtab.report.columns import signed_percent
from trimtab.report.tables import Grid

Frames = Mapping[str, pd.DataFrame]
FEWEST = 2  # fleets of an interval
KEY = ["variant", "seed"]


def comparison(plan: Plan, variants: Sequence[Variant], seeds: Sequence[str], frames: Frames) -> Grid:
    """A row for each variant with a finished fit, then the policies that are not fitted."""
    results = frames["results"].drop_duplicates(KEY, keep="last")
    logs = _logs(frames["fleets"].merge(results[KEY], on=KEY), [*seeds, ""])
    fitted = [one for one in variants if _of(results, one.name, seeds).size]
    body = [_variant_row(plan, one, _of(results, one.name, seeds), logs) for one in fitted]
    body += [(name, *(NOTHING,) * 7, *_compared(plan, logs, name)) for name in REFERENCES if ("mean_latency_ms", name) in logs.columns]
    title = f"rollouts of {plan.harvest.episodes} episodes of {plan.harvest.scenario}, {plan.fleets} held-out fleets of each scenario"
    return Grid(title, _head(plan), tuple(body), _notes(frames["fleets"]))


def _head(plan: Plan) -> tuple[str, ...]:
    spent = ("cost learned", "fits", "updates", "parameters", "fit, CPU s", "held-out loss", "before fitting")
    columns = [f"{scenario}: {title} vs {REFERENCES[0]}" for scenario in plan.scenarios for _, title in SHOWN]
    return ("variant", *spent, *columns, *(f"all: {title} vs {DEFAULTS.name}" for _, title in SHOWN))


def _notes(fleets: pd.DataFrame) -> tuple[str, ...]:
    worst = fleets.groupby("variant")["error_rate"].mean().max() if len(fleets) else 0.0
    return (
        "Geometric means over held-out fleets of each fleet's ratio, as differences in percent, with Student's 95 % interval of the "
        "logarithms; negative is faster. Everybody plays the same arrivals greedily; of a fleet's fits with several seeds the geometric "
        "mean is taken first, so intervals speak of other fleets for these fits, not of the luck of a fit. They are not corrected for the "
        f"number of rows. At most {worst:.2%} of a policy's requests failed; latencies are of those that did not.",
        "Held-out loss: of the rollouts of the last tenth of the episodes, in the units of the cost that is learned "
        f"({', '.join(EXPONENTS)} of the response time, or the {TAIL} of a copy's requests): only rows of one cost can be compared. Before "
        "fitting it is that of the estimate that all begin with. Means over seeds. Parameters: without the value stream, which rollouts do "
        "not teach. CPU seconds of one thread.",
    )


def _logs(fleets: pd.DataFrame, seeds: Sequence[str]) -> pd.DataFrame:
    """Logarithms: a row for each scenario and fleet, a column for each metric and variant. An interrupted fit's are dropped."""
    kept = fleets[fleets["seed"].isin(list(seeds))].drop_duplicates([*KEY, "scenario", "fleet"], keep="last")
    metrics = [name for name, _ in SHOWN]
    kept = kept.assign(**{name: np.log(kept[name].astype(np.float64)) for name in metrics})
    return kept.pivot_table(index=["scenario", "fleet"], columns="variant", values=metrics, aggfunc="mean")


def _of(results: pd.DataFrame, name: str, seeds: Sequence[str]) -> pd.DataFrame:
    return results[(results["variant"] == name) & results["seed"].isin(list(seeds))]


def _variant_row(plan: Plan, one: Variant, fits: pd.DataFrame, logs: pd.DataFrame) -> tuple[str, ...]:
    mean = fits.mean(numeric_only=True)
    counts = (str(len(fits)), f"{mean['updates']:,.0f}", f"{mean['parameters']:,.0f}", f"{mean['fit_cpu_s']:.1f}")
    losses = (f"{mean['held_out_loss']:.4f}", f"{mean['loss_before']:.4f}")
    return (one.name, one.cost, *counts, *losses, *_compared(plan, logs, one.name))


def _compared(plan: Plan, logs: pd.DataFrame, name: str) -> list[str]:
    cells = [_percent(logs, name, REFERENCES[0], metric, scenario) for scenario in plan.scenarios for metric, _ in SHOWN]
    return cells + [_percent(logs, name, DEFAULTS.name, metric) for metric, _ in SHOWN]


def _percent(logs: pd.DataFrame, name: str, reference: str, metric: str, scenario: str | None = None) -> str:
    """The difference on the fleets of one scenario, or of all."""
    if name == reference:
        return "reference"
    if any((metric, one) not in logs.columns for one in (name, reference)):
        return NOTHING
    found = logs[metric, name] - logs[metric, reference]
    if scenario is not None:
        found = found[found.index.get_level_values("scenario") == scenario]
    return _interval(found.to_numpy(dtype=np.float64))


def _interval(differences: F64) -> str:
    """As tune.py has it. Fleets with too few requests for a p99 are left out."""
    known = differences[np.isfinite(differences)]
    if known.size < FEWEST:
        return NOTHING
    found = student(known.tolist())
    return signed_percent(Interval(*(float(np.expm1(part)) * 100 for part in (found.estimate, found.low, found.high))))

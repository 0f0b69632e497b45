"""What tune.py found: the best trials beside the defaults, and which settings mattered."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import optuna
from ablation_report import student
from optuna.trial import FrozenTrial, TrialState
from tune_space import defaults, set_words
from tune_study import DIVERGED, Trials
from tune_training import REFERENCE

from trimtab.experiments.statistics import Interval
from trimtab.report.columns import signed_percent
from trimtab.report.tables import Grid, as_markdown

BEST: Final = 10
NOTHING: Final = "-"
DEFAULTS: Final = "defaults"
HEAD: Final = (
    "trial",
    f"score vs {REFERENCE}",
    "score vs defaults",
    f"mean latency vs {REFERENCE}",
    f"p99 vs {REFERENCE}",
    "training, s",
    "decisions",
    "gradient steps",
    "changes",
)

FEWEST: Final = 10  # complete trials: with fewer the best tenth is everybody's best one, and importances are refused or noise


def report(trials: Trials) -> str:
    """Markdown: the best trials with intervals, importances, and the command that trains with the best settings."""
    ranked = best(trials)
    if not ranked:
        return f"{_counts(trials)} None went to the end yet, so there is nothing to rank."
    parts = [as_markdown(_ranking(trials, ranked)), as_markdown(_importances(trials)), _command(trials, ranked[0])]
    return "\n\n".join(parts)


def best(trials: Trials) -> list[FrozenTrial]:
    """Complete trials, the lowest score first."""
    return sorted((one for one in trials.finished if one.state == TrialState.COMPLETE), key=lambda one: one.value or 0.0)


def _ranking(trials: Trials, ranked: Sequence[FrozenTrial]) -> Grid:
    default = next((one for one in ranked if not trials.changes(one)), None)
    shown = list(ranked[:BEST])
    if default is not None and default not in shown:
        shown.append(default)
    search = trials.search
    title = f"{search.scenario}: the best {min(BEST, len(ranked))} of {len(trials.finished)} trials, {search.seconds:g} s of training each"
    return Grid(title, HEAD, tuple(_row(trials, one, default) for one in shown), _notes(trials))


def _row(trials: Trials, one: FrozenTrial, default: FrozenTrial | None) -> tuple[str, ...]:
    own, classical = trials.result(one), trials.reference
    name = f"{one.number} ({DEFAULTS})" if one is default else str(one.number)
    against = NOTHING if default is None or one is default else _percent(trials.logs(one) - trials.logs(default))
    parts = [_percent(np.log(mine / theirs)) for mine, theirs in ((own.mean_ms, classical.mean_ms), (own.p99_ms, classical.p99_ms))]
    spent = [f"{one.user_attrs[key]:,.0f}" for key in ("training_s", "decisions", "gradient_steps")]
    return (name, _percent(trials.logs(one)), against, *parts, *spent, set_words(trials.changes(one)))


def _percent(logs: Any) -> str:
    """A geometric mean over fleets, as a difference in percent with Student's interval of the logarithms."""
    found = student(logs)
    return signed_percent(Interval(*(float(np.expm1(part)) * 100 for part in (found.estimate, found.low, found.high))))


def _notes(trials: Trials) -> tuple[str, ...]:
    search = trials.search
    return (
        f"{_counts(trials)} Differences are of geometric means over {search.fleets} held-out fleets (seed {search.evaluation_seed}) on the "
        f"same arrivals, played greedily; negative is faster. Score: mean latency and p99 weighted 1 to {search.p99_weight:g}. Brackets: "
        "Student's 95 % interval over fleets, paired.",
        f"Each trial is one training (seed {search.training_seed}, {search.seconds:g} s by the {search.clock} clock), and the best were "
        "chosen on these fleets: the intervals hold neither the luck of a training nor that of the choice. --confirm trains the best and "
        "the defaults again, with other seeds and on other fleets.",
    )


def _counts(trials: Trials) -> str:
    states = [one.state for one in trials.finished]
    diverged = sum(DIVERGED in one.user_attrs for one in trials.finished)
    pruned = states.count(TrialState.PRUNED)
    return f"{len(states)} trials: {states.count(TrialState.COMPLETE)} went to the end, {pruned} were pruned, {diverged} diverged."


def _importances(trials: Trials) -> Grid:
    found = _shares(trials)
    usual = defaults(trials.space, trials.search.learning)
    described = {one.key: one.described for one in trials.space}
    rows = [(key, f"{share * 100:.0f} %", str(usual[key]), described[key]) for key, share in found.items()]
    rows += [(key, NOTHING, str(usual[key]), text) for key, text in described.items() if key not in found]
    note = (
        "PED-ANOVA (Watanabe et al. 2023): how far the best tenth of the complete trials differs from all of them in each setting, as a "
        "share of the sum. With few trials these are noise."
    )
    return Grid("importance of the settings", ("setting", "importance", "default", "searched"), tuple(rows), (note,))


def _shares(trials: Trials) -> dict[str, float]:
    complete = [one for one in trials.finished if one.state == TrialState.COMPLETE]
    if len(complete) < FEWEST:
        return {}
    return dict(optuna.importance.get_param_importances(trials.study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()))


def _command(trials: Trials, first: FrozenTrial) -> str:
    search, words = trials.search, set_words(trials.changes(first))
    options = "" if words == NOTHING else f" {words}"
    line = f"python agent/train_dqn.py --backend twin --learning {search.learning} --scenario {search.scenario}{options}"
    return f"Train with the settings of trial {first.number}:\n\n    {line}"

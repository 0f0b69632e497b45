"""The study of tune.py: an Optuna study in an SQLite file, which goes on where it was stopped."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from tune_space import Setting, base, changed, defaults, suggested
from tune_training import Latencies, Look, Search, looks, reference

from trimtab.dqn.errors import LearningError
from trimtab.errors import ResultsError
from trimtab.experiments.log_lock import hold
from trimtab.experiments.runs import provenance

FILE: Final = "study.sqlite3"
NAME: Final = "tune"
RANDOM_TRIALS: Final = 10  # drawn blindly before the sampler models anything
NEVER_PRUNED: Final = 5  # first trials, the defaults among them, which go to the end: a median of fewer says little
ENDED: Final = (TrialState.COMPLETE, TrialState.PRUNED)
DIVERGED: Final = "diverged"
VALUES, REFERENCE, RESULT = "values", "reference", "result"


class Trials:
    """What is searched, and what was found so far."""

    def __init__(self, study: optuna.Study, search: Search, space: Sequence[Setting]) -> None:
        self.study, self.search, self.space = study, search, tuple(space)
        self._stored = study.user_attrs

    @property
    def reference(self) -> Latencies:
        """sed-online on the held-out fleets, measured once a study."""
        if REFERENCE not in self._stored:
            self.study.set_user_attr(REFERENCE, _plain(reference(self.search)))
            self._stored = self.study.user_attrs
        return _latencies(self._stored[REFERENCE])

    @property
    def finished(self) -> list[FrozenTrial]:
        """Trials that count: gone to the end, pruned or diverged; one that was interrupted is done again."""
        return [one for one in self.study.get_trials(deepcopy=False) if one.state in ENDED or DIVERGED in one.user_attrs]

    def result(self, trial: FrozenTrial) -> Latencies:
        """What a complete trial reached."""
        return _latencies(trial.user_attrs[RESULT])

    def changes(self, trial: FrozenTrial) -> dict[str, Any]:
        """The settings of a trial that are not the default."""
        return changed(trial.user_attrs[VALUES], self.search.learning)

    def logs(self, trial: FrozenTrial) -> Any:
        """`Latencies.logs` of a complete trial.  # [N]"""
        return self.result(trial).logs(self.reference, self.search.p99_weight)

    def go_on(self, total: int, report: Callable[[str], None]) -> None:
        """Trials one after the other until `total` are finished."""
        while (done := len(self.finished)) < total:
            self.study.sampler = _sampler(self.search.training_seed, done)
            trial = self.study.ask()
            report(f"{done + 1}/{total}  trial {trial.number}  {self._one(trial)}")

    def _one(self, trial: optuna.Trial) -> str:
        values = suggested(trial, self.space)
        trial.set_user_attr(VALUES, values)
        try:
            score = self._trained(trial, values)
        except LearningError as error:
            trial.set_user_attr(DIVERGED, str(error))
            self.study.tell(trial, state=TrialState.FAIL)
            return f"diverged: {error}"
        if score is None:
            self.study.tell(trial, state=TrialState.PRUNED)
            return "pruned"
        self.study.tell(trial, score)
        return f"score {score:.4f}"

    def _trained(self, trial: optuna.Trial, values: dict[str, Any]) -> float | None:
        """The score; None where the pruner ended it."""
        for look in looks(self.search, values):
            score = float(np.exp(look.latencies.logs(self.reference, self.search.p99_weight).mean()))
            trial.report(score, look.number)
            if look.number < self.search.looks and trial.should_prune():
                return None
        _keep(trial, look)
        return score


def _keep(trial: optuna.Trial, look: Look) -> None:
    trial.set_user_attr(RESULT, _plain(look.latencies))
    for key in ("training_s", "decisions", "gradient_steps"):
        trial.set_user_attr(key, getattr(look, key))


def _sampler(seed: int, done: int) -> optuna.samplers.BaseSampler:
    """Chance of its own for each trial: one seed for all would draw the same first trials again after every stop."""
    own = int(np.random.SeedSequence([seed, done]).generate_state(1)[0])
    return optuna.samplers.TPESampler(n_startup_trials=RANDOM_TRIALS, multivariate=True, seed=own)


@contextmanager
def opened(folder: Path, search: Search, space: Sequence[Setting]) -> Iterator[Trials]:
    """The study in `folder`, begun with the defaults as its first trial where there is none.

    Raises ResultsError where another process works on it, where it is no study, or where it was measured in another way.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = hold(folder)
    except OSError as error:
        raise ResultsError(f"cannot use {folder}: {error.strerror}; name another --out") from error
    with lock:
        storage = _storage(folder / FILE)
        try:
            yield _trials(storage, folder, search, space)
        finally:
            storage.remove_session()
            storage.engine.dispose()


def _storage(path: Path) -> optuna.storages.RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 30}})
    except (SQLAlchemyError, sqlite3.Error, RuntimeError) as error:
        raise ResultsError(f"{path} is not a study that this Optuna reads ({_line(error)}); name another --out") from error


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _trials(storage: optuna.storages.RDBStorage, folder: Path, search: Search, space: Sequence[Setting]) -> Trials:
    pruner = optuna.pruners.MedianPruner(NEVER_PRUNED, n_warmup_steps=0)
    study = optuna.create_study(storage=storage, study_name=NAME, pruner=pruner, load_if_exists=True)
    wanted = json.loads(json.dumps({**asdict(search), "space": [asdict(one) for one in space], "defaults": base(search.learning)}))
    if "plan" not in study.user_attrs:
        study.set_user_attr("provenance", provenance())
        study.enqueue_trial(defaults(space, search.learning))
        study.set_user_attr("plan", wanted)  # last: a study without it is begun anew, and then has two trials of the defaults at worst
    _require_same(study.user_attrs["plan"], wanted, folder)
    _again(study)
    return Trials(study, search, space)


def _require_same(found: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    for key, value in wanted.items():
        if found.get(key) != value:
            raise ResultsError(f"{folder} was measured with {key} = {found.get(key)}, not {value}; name another --out")


def _again(study: optuna.Study) -> None:
    """Queue what was interrupted once more: nobody else has the lock, so a running trial is one whose process has ended."""
    for one in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        wanted = {**one.system_attrs.get("fixed_params", {}), **one.params}  # of a queued trial, and what was drawn already
        if wanted:
            study.enqueue_trial(wanted)
        study.tell(one.number, state=TrialState.FAIL)


def _plain(latencies: Latencies) -> dict[str, list[float]]:
    return {key: value.tolist() for key, value in asdict(latencies).items()}


def _latencies(plain: dict[str, list[float]]) -> Latencies:
    return Latencies(**{key: np.array(value) for key, value in plain.items()})

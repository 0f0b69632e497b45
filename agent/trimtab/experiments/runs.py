"""The files of a training run: where they lie, who may write them, what state a run is in."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trimtab
from trimtab.errors import ResultsError
from trimtab.experiments.csv_log import write_text
from trimtab.paths import REPOSITORY


@dataclass(frozen=True, slots=True)
class RunFolder:
    """An output folder such as `Models/`."""

    root: Path

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def resume_state(self) -> Path:
        return self.checkpoints / "resume.pth"

    @property
    def final(self) -> Path:
        return self.checkpoints / "dqn_final.pth"

    @property
    def live(self) -> Path:
        """The model that a gateway is given while it is being trained."""
        return self.checkpoints / "live.pth"

    @property
    def decisions(self) -> Path:
        """The gateway's decision log."""
        return self.root / "decisions"

    @property
    def gateway_log(self) -> Path:
        """What the gateway prints."""
        return self.root / "logs" / "gateway.log"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics" / "training_metrics.csv"

    @property
    def evaluation(self) -> Path:
        return self.root / "metrics" / "evaluation.csv"

    @property
    def config(self) -> Path:
        return self.root / "config.json"

    @property
    def calibrated(self) -> Path:
        return self.root / "calibrated.toml"

    @property
    def errors(self) -> Path:
        return self.root / "logs" / "training_errors.log"

    def checkpoint(self, episode: int) -> Path:
        return self.checkpoints / f"dqn_episode_{episode:04d}.pth"

    def is_taken(self) -> bool:
        """Does a run lie here?"""
        return any(path.exists() for path in (self.resume_state, self.final, self.metrics))

    def require_free(self, *, overwrite: bool) -> None:
        """Raises `ResultsError` where a run lies here and may not be replaced."""
        if self.is_taken() and not overwrite:
            remedies = "continue it with --resume, replace it with --overwrite, or choose another folder with --out"
            raise ResultsError(f"{self.root} holds another run; {remedies}")

    def claim(self, *, overwrite: bool) -> None:
        """Make the folder ready for a new run. Raises `ResultsError` where one lies and may not be replaced."""
        self.require_free(overwrite=overwrite)
        try:
            for folder in (self.checkpoints, self.metrics.parent, self.errors.parent):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResultsError(f"cannot use {self.root}: {error.strerror}; choose another folder with --out") from error
        for stale in (self.resume_state, self.final, self.live, self.metrics, self.calibrated, *self.checkpoints.glob("dqn_episode_*.pth")):
            stale.unlink(missing_ok=True)  # a mixture of two runs would pass for one

    def write_config(self, settings: Mapping[str, Any]) -> None:
        """Record the resolved configuration and what it ran on."""
        write_text(self.config, json.dumps({**settings, **provenance()}, indent=2) + "\n")


def provenance() -> dict[str, Any]:
    """Versions, commit and threads: what one needs to run it again."""
    # Imported here: torch takes seconds, and whoever only asks where files lie should not wait for it.
    import numba
    import numpy as np
    import torch

    versions = {"trimtab": trimtab.__version__, "python": platform.python_version(), "torch": torch.__version__}
    versions |= {"numpy": np.__version__, "numba": numba.__version__}
    return {"versions": versions, "commit": commit(), "cores": os.cpu_count(), **hardware()}


def hardware() -> dict[str, Any]:
    """What bit-for-bit equality depends on: another processor or number of threads rounds sums in another order."""
    import torch

    return {"threads": torch.get_num_threads(), "processor": processor()}


def processor() -> str:
    """The processor's model where the system tells it (Linux: /proc/cpuinfo), else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the code, with `+` where files were changed since; None outside a checkout."""
    command = ["git", "-C", str(REPOSITORY), "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 - fixed words
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None

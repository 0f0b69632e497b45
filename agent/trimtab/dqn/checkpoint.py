"""Files of the learner: model checkpoints (small) and resume states (everything), replaced atomically and loaded without running code."""

import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import QNetwork, build_network
from trimtab.errors import CheckpointError, ResultsError, UsageError

CHECKPOINT_FORMAT = 1
STATE_FORMAT = 2

# What torch.load raises on a zip file of another kind, or an altered one.
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, TypeError, IndexError, AttributeError)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained policy, and what one must know to use or to go on training it."""

    problem: str  # id of the problem that it solves
    observation: tuple[str, ...]  # names of the F features, in order
    servers: int  # S that it was trained on; binding for the mlp network only
    config: DQNConfig
    episode: int  # episodes trained
    network: Mapping[str, Tensor]  # weights of the online network
    optimizer: Mapping[str, Any]  # Adam's state


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path`, atomically. Raises ResultsError where the disk refuses; the file before stays."""
    _replace(
        path,
        {
            "kind": "checkpoint",
            "format": CHECKPOINT_FORMAT,
            "problem": checkpoint.problem,
            "observation": list(checkpoint.observation),
            "servers": checkpoint.servers,
            "config": checkpoint.config.to_dict(),
            "episode": checkpoint.episode,
            "network": dict(checkpoint.network),
            "optimizer": dict(checkpoint.optimizer),
        },
    )


def load_checkpoint(path: Path, *, problem: str | None = None, observation: tuple[str, ...] | None = None) -> Checkpoint:
    """Read a checkpoint, and check it against the `problem` and the `observation` that it is wanted for, where given.

    Raises CheckpointError in one line: no such file, not a checkpoint, cut short, of another format, problem or observation.
    """
    fields = _read(path, "checkpoint", CHECKPOINT_FORMAT)
    try:
        checkpoint = Checkpoint(
            problem=fields["problem"],
            observation=tuple(fields["observation"]),
            servers=fields["servers"],
            config=DQNConfig.from_dict(fields["config"]),
            episode=fields["episode"],
            network=fields["network"],
            optimizer=fields["optimizer"],
        )
    except (KeyError, TypeError, UsageError) as error:
        raise CheckpointError(f"{path}: incomplete or altered checkpoint ({_one_line(error)}); train again or take another file") from error
    _check_purpose(path, checkpoint, problem, observation)
    return checkpoint


def load_network(checkpoint: Checkpoint, servers: int, device: str | torch.device = "cpu") -> QNetwork:
    """The checkpoint's network with its weights, for fleets of `servers`, ready to evaluate.

    Raises CheckpointError where an mlp was trained on another number of servers, or the weights do not fit the configuration.
    """
    if checkpoint.config.network == "mlp" and servers != checkpoint.servers:
        found = f"an mlp model for {checkpoint.servers} servers; the fleet has {servers}"
        raise CheckpointError(f"{found}; use a fleet of {checkpoint.servers} or train with network = set")
    try:
        network = build_network(checkpoint.config, len(checkpoint.observation), checkpoint.servers)
        network.load_state_dict(dict(checkpoint.network))
    except (RuntimeError, UsageError) as error:
        raise CheckpointError(f"weights do not fit the checkpoint's own configuration ({_one_line(error)}); take another file") from error
    return network.to(device).requires_grad_(False)


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a resume state (nested dicts, lists, tensors, plain values), atomically. Raises ResultsError where the disk refuses."""
    _replace(path, {"kind": "resume", "format": STATE_FORMAT, "state": dict(state)})


def load_state(path: Path) -> dict[str, Any]:
    """Read what `save_state` wrote. Raises CheckpointError in one line, as `load_checkpoint` does."""
    fields = _read(path, "resume", STATE_FORMAT)
    state = fields.get("state")
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: resume file without a state; start again with --overwrite or another --out")
    return state


def _replace(path: Path, content: dict[str, Any]) -> None:
    """Write beside `path`, force it to disk, then rename: a reader or a crash sees the old file or the new one, never half of one.

    The temporary name is fixed, so what a killed run left behind is written over by the next one.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a short write as RuntimeError
        _remove(temporary)
        raise ResultsError(
            f"cannot write {path} ({_one_line(error)}); free space or choose another --out, any file there before is intact"
        ) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # the folder itself is gone or read-only: the write error that led here says more


def _read(path: Path, kind: str, version: int) -> dict[str, Any]:
    content = _load(path)
    if not isinstance(content, dict) or content.get("kind") not in ("checkpoint", "resume"):
        raise CheckpointError(f"{path}: not a file of this program; expected a {kind} file written by train_dqn.py")
    if content["kind"] != kind:
        raise CheckpointError(f"{path}: a {content['kind']} file; expected a {kind} file")
    if content.get("format") != version:
        raise CheckpointError(f"{path}: {kind} format {content.get('format')!r}; this version reads {version}, train again with it")
    return content


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            # Torch would take anything else for a pickle of old, with warnings of its own; a zip file cut short has lost its directory.
            if not zipfile.is_zipfile(file):
                raise CheckpointError(f"{path}: not a checkpoint, or cut short; train again or take another file")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file; train first with train_dqn.py or name another with --model") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({_one_line(error)})") from error
    except _UNREADABLE as error:
        raise CheckpointError(f"{path}: not a checkpoint, or altered ({type(error).__name__}); train again or take another file") from error


def _check_purpose(path: Path, checkpoint: Checkpoint, problem: str | None, observation: tuple[str, ...] | None) -> None:
    if problem is not None and checkpoint.problem != problem:
        raise CheckpointError(f"{path}: trained for problem {checkpoint.problem!r}; wanted {problem!r}")
    if observation is not None and checkpoint.observation != observation:
        raise CheckpointError(f"{path}: {_difference(checkpoint.observation, observation)}; train again with this version")


def _difference(found: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    missing = [name for name in wanted if name not in found]
    unknown = [name for name in found if name not in wanted]
    if not missing and not unknown:
        return "same features in another order"
    parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(unknown)}"] * bool(unknown)
    return f"other observation: it {' and '.join(parts)}"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__

"""Train as the command does, saving a state after every batch, and send the training process a signal at a chosen moment.

One line of JSON in, the training's exit code out. The line holds `arguments` of train_dqn.py, `stderr`, the file for what it says,
`processes`, whether rollouts are played in processes of their own, and `moment`: signal, function, "before" or "after", number of the
call (from 1). A function is MODULE:QUALIFIED.NAME. Each training is a
fork of this process, so that torch is imported and kernels are loaded once.
"""

import importlib
import json
import os
import signal
import sys
from functools import reduce

import torch

import trimtab.experiments.session  # noqa: F401 - before the forks
from tiny_runs import AtOnce, shorten
from trimtab.cli.train import main
from trimtab.experiments import rollouts
from trimtab.problems.routing.scenario_files import load_scenario
from trimtab.problems.routing.world import rehearse


def raise_at(name, function, place, call):
    """Replace `function` by one that raises signal `name` at its call number `call`."""
    module, _, qualified = function.partition(":")
    *owners, last = qualified.split(".")
    owner = reduce(getattr, owners, importlib.import_module(module))
    original, calls = getattr(owner, last), []

    def hooked(*arguments, **options):
        calls.append(1)
        now = len(calls) == call
        if now and place == "before":
            os.kill(os.getpid(), signal.Signals[name])
        result = original(*arguments, **options)
        if now and place == "after":
            os.kill(os.getpid(), signal.Signals[name])
        return result

    setattr(owner, last, hooked)


def train(task):
    """Exit code of a training in a process of its own; minus the number of the signal that ended it."""
    child = os.fork()
    if child == 0:
        stderr = os.open(task["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(stderr, stream)
        if not task["processes"]:
            rollouts.Workers = AtOnce
        raise_at(*task["moment"])
        os._exit(main(task["arguments"]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    shorten(setattr, save_every_s=-1.0)
    rehearse(load_scenario("uniform"))
    for line in sys.stdin:
        sys.stdout.write(f"{train(json.loads(line))}\n")
        sys.stdout.flush()

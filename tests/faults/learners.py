"""The learner is another process, which writes the model that the gateway reloads: what if it dies, hangs, or leaves rubbish behind?"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from agents import REFERENCE
from client import Client, failed, p99_ms, told
from results import Result
from stage import gateway, until

from trimtab.dqn.checkpoint import load_checkpoint, save_checkpoint

WARM_S, SECONDS, ROUNDS = 4, 16, 2
WRITER = Path(__file__).with_name("writer.py")
FIRST_S = 30.0  # until the writer has imported what it needs


async def agent_killed(fleet, args):
    """SIGKILL in the middle of its work: the last weights stay."""
    return await _beside_fallback("agent killed", fleet, args, lambda _path, writer: writer.send_signal(signal.SIGKILL))


async def agent_hung(fleet, args):
    """SIGSTOP, perhaps while it writes."""
    return await _beside_fallback("agent hung", fleet, args, lambda _path, writer: writer.send_signal(signal.SIGSTOP))


async def model_file(fleet, args):
    """Rubbish in the model's place, then weights of NaN, then no file at all."""

    def spoil(path, writer):
        writer.kill()
        writer.wait()
        yield lambda: path.write_bytes(os.urandom(100_000))
        yield lambda: _of_nan(path)
        yield path.unlink

    return await _beside_fallback("model file spoilt", fleet, args, spoil)


def _of_nan(path):
    sick = load_checkpoint(REFERENCE)
    for weights in sick.network.values():
        weights.fill_(float("nan"))
    save_checkpoint(path, sick)


async def _beside_fallback(name, fleet, args, trouble):
    """Rounds with the model and with sed-online alone, in turns, so that a slow moment of the machine hits both."""
    answers, alone, deciders = [], [], {}
    for turn in range(ROUNDS):
        found, state = await _round(fleet, args.seed + turn, trouble)
        answers += found
        deciders = {key: deciders.get(key, 0) + many for key, many in state["decider"]["reasons"].items()}
        async with gateway(fleet.urls, seed=args.seed + turn) as balancer:
            alone += await _drive(fleet, balancer, args.seed + turn)
    lost, ratio = failed(answers), p99_ms(answers) / p99_ms(alone)
    fallback = ", ".join(f"{key} {many}" for key, many in deciders.items() if many) or "none"
    figure = f"p99 {p99_ms(answers):.0f} ms, x{ratio:.2f} of sed-online; fallbacks: {fallback}{told(answers)}"
    numbers = {"p99, ms": p99_ms(answers), "of sed-online": ratio, "failed": lost}
    return Result(name, len(answers), lost, figure, "0 failed, p99 <= 1.1x", lost == 0 and ratio <= 1.1, numbers)


async def _round(fleet, seed, trouble):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pth"
        shutil.copyfile(REFERENCE, path)
        before = path.stat().st_ino  # the writer puts another file in its place
        with _writer(path) as writer:
            await until(lambda: path.stat().st_ino != before, FIRST_S, "nothing was written")
            async with gateway(fleet.urls, "--model", str(path), "--reload", seed=seed) as balancer:
                load = asyncio.create_task(_drive(fleet, balancer, seed))
                await asyncio.sleep(WARM_S + SECONDS / 4)
                for one in trouble(path, writer) or ():
                    await asyncio.to_thread(one)
                    await asyncio.sleep(SECONDS / 5)
                return await load, balancer.state()


@contextlib.contextmanager
def _writer(path):
    with subprocess.Popen([sys.executable, str(WRITER), str(REFERENCE), str(path)]) as process:
        try:
            yield process
        finally:
            process.kill()  # of a stopped process too


async def _drive(fleet, balancer, seed):
    return await Client(balancer.port, f"learner-{seed}").drive(fleet.rate_rps, int(fleet.rate_rps * (WARM_S + SECONDS)), seed)

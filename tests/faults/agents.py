"""Models that cannot be trusted: one whose weights are not numbers, one that thinks for too long."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from client import Client, failed, p99_ms, told
from results import Result
from stage import REPOSITORY, gateway

from trimtab.core.observation import FEATURES
from trimtab.dqn.agent import DQNAgent
from trimtab.dqn.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from trimtab.dqn.config import DQNConfig

WARM_S, SECONDS, ROUNDS = 3, 9, 2
REFERENCE = REPOSITORY / "Models" / "reference.pth"
WIDE = 4096  # hidden units: a forward pass takes far longer than the deadline of 2 ms


async def nan(fleet, args):
    """All weights are NaN: sed-online must decide everything, and no worse than it does alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nan.pth"
        sick = load_checkpoint(REFERENCE)
        for weights in sick.network.values():
            weights.fill_(float("nan"))
        save_checkpoint(path, sick)
        return await _beside_fallback("model of NaN", fleet, args, path, "invalid")


async def slow_model(fleet, args):
    """A network that takes longer than the deadline: it is put to rest after three decisions, again every 10 s."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slow.pth"
        save_checkpoint(path, _wide(len(fleet.ids)))
        return await _beside_fallback("model too slow", fleet, args, path, "resting")


def _wide(servers):
    config = DQNConfig(network="mlp", hidden=WIDE, replay_capacity=64)
    agent = DQNAgent(config, len(FEATURES), servers, seed=0)
    weights = {name: one.clone() for name, one in agent.policy_network.state_dict().items()}
    return Checkpoint("routing", FEATURES, servers, config, 1, weights, agent.optimizer_state)


async def _beside_fallback(name, fleet, args, model, reason):
    """Rounds with the model and with sed-online alone, in turns, so that a slow moment of the machine hits both."""
    torch.set_num_threads(1)
    answers, alone, reasons = [], [], {}
    for turn in range(ROUNDS):
        guarded, state = await _round(fleet, args.seed + turn, "--model", str(model))
        answers += guarded
        reasons = {key: reasons.get(key, 0) + many for key, many in state["decider"]["reasons"].items()}
        alone += (await _round(fleet, args.seed + turn, "--policy", "sed-online"))[0]
    share = reasons[reason] / len(answers)
    ratio = p99_ms(answers) / p99_ms(alone)
    lost = failed(answers)
    counted = ", ".join(f"{key} {many}" for key, many in reasons.items() if many)
    figure = f"fallback for {share:.1%} ({counted}); p99 {p99_ms(answers):.0f} ms, x{ratio:.2f}{told(answers)}"
    kept = lost == 0 and share >= 0.95 and bool(np.isfinite(ratio)) and ratio <= 1.1
    return Result(name, len(answers), lost, figure, "0 failed, p99 <= 1.1x", kept)


async def _round(fleet, seed, *decider):
    async with gateway(fleet.urls, *decider, seed=seed) as balancer:
        client = Client(balancer.port, f"agent-{seed}")
        answers = await client.drive(fleet.rate_rps, int(fleet.rate_rps * (WARM_S + SECONDS)), seed)
        return answers, balancer.state()

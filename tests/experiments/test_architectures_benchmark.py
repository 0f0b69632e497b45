"""The comparison of networks and costs: its networks are what they are said to be, costs are those of the package, it runs to its table."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny_runs import SCENARIO, write_scenario
from trimtab.core.observation import EXPECTED_COST, FEATURES
from trimtab.dqn.rollouts import RolloutBatch
from trimtab.policies.catalogue import build
from trimtab.problems.base import Task
from trimtab.problems.routing.problem import Routing

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # its modules find each other there

import architectures
import architectures_harvest
from architectures_fit import DEFAULTS, VARIANTS, Plan, learner_of, network_of
from architectures_harvest import COSTS, EXPONENTS, Harvest, PricedEnv, prices
from architectures_networks import QUANTILES, quantile_loss

SERVERS, STATES = 5, 7
NEW = ("attention", "no context", "quantiles by mean", "quantiles by CVaR")  # networks that the package does not have
TINY = ("--episodes", "4", "--decisions", "40", "--updates", "3", "--batch", "32", "--seeds", "0,1", "--fleets", "2")


@pytest.fixture
def here(monkeypatch):
    """Work is done in this process; what is returned lists the names of the functions and how many pieces each was given."""
    asked = []

    def in_this_process(work, units, jobs):
        asked.append((work.__name__, len(units)))
        return enumerate(map(work, units))

    monkeypatch.setattr(architectures, "in_processes", in_this_process)
    return asked


def network_called(name, *, taught=True):
    plan = Plan(Harvest("family:mixed", "none", 2, 1, 1, 1, 0), Path(), 600, 32, (), 1, 0)
    variant = next(one for one in VARIANTS if one.network == name)
    network = network_of(variant, learner_of(plan, variant), SERVERS, 3)
    if taught:
        torch.nn.init.normal_(network.advantage.weight, generator=torch.Generator().manual_seed(4))
    return network


def states():
    """obs [B, S, F] and mask [B, S], none without an open server."""
    rng = np.random.default_rng(5)
    mask = rng.random((STATES, SERVERS)) < 0.6
    mask[:, 0] = True
    return torch.from_numpy(rng.random((STATES, SERVERS, len(FEATURES)), dtype=np.float32)), torch.from_numpy(mask)


# The networks


@pytest.mark.parametrize("name", NEW)
def test_servers_in_another_order_have_the_same_values(name):
    network, (obs, mask) = network_called(name), states()
    order = torch.randperm(SERVERS, generator=torch.Generator().manual_seed(6))
    values = network(obs, mask)
    torch.testing.assert_close(network(obs[:, order], mask[:, order]), values[:, order])
    assert values.std(dim=1).min() > 0.0, "servers differ"


@pytest.mark.parametrize("name", NEW)
def test_what_an_absent_server_looks_like_changes_nothing(name):
    network, (obs, mask) = network_called(name), states()
    other = torch.where(mask.unsqueeze(-1), obs, 9.0)
    torch.testing.assert_close(network(other, mask)[mask], network(obs, mask)[mask])


@pytest.mark.parametrize("name", NEW)
def test_no_open_server_is_no_nan(name):
    obs, mask = states()
    assert network_called(name)(obs, torch.zeros_like(mask)).isfinite().all()


@pytest.mark.parametrize("name", [*NEW, "set", "flat"])
def test_everybody_begins_at_the_anchor(name):
    obs, mask = states()
    torch.testing.assert_close(network_called(name, taught=False)(obs, mask), -torch.expm1(obs[..., EXPECTED_COST]))


def test_only_networks_with_a_context_see_the_others():
    obs, mask = states()
    changed = obs.clone()
    changed[:, 0, 0] += 5.0  # open everywhere, and no part of the anchor
    seen = {name: not torch.equal(network_called(name)(changed, mask)[:, 1:], network_called(name)(obs, mask)[:, 1:]) for name in NEW}
    assert seen == {"attention": True, "no context": False, "quantiles by mean": True, "quantiles by CVaR": True}


def test_cvar_is_the_mean_of_the_worst_quarter_of_the_quantiles():
    obs, mask = states()
    careful, usual = network_called("quantiles by CVaR"), network_called("quantiles by mean")
    sorted_values = careful.values(obs, mask).sort(dim=-1).values
    torch.testing.assert_close(careful(obs, mask), sorted_values[..., : QUANTILES // 4].mean(dim=-1))
    torch.testing.assert_close(usual(obs, mask), usual.values(obs, mask).mean(dim=-1))


def test_the_quantile_loss_is_least_at_the_quantiles():
    cost = torch.from_numpy(np.random.default_rng(7).normal(0, 3, (4000, 1)).astype(np.float32))
    cost = torch.cat((cost, -cost), dim=1)  # the mean over both choices is 0
    both = torch.ones_like(cost, dtype=torch.bool)
    batch = RolloutBatch(torch.zeros(len(cost), 2, 1), both, both, cost)
    theta = torch.zeros(2, QUANTILES, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        quantile_loss(theta.expand(len(cost), 2, QUANTILES), batch, 0).backward()
        optimizer.step()
    shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
    np.testing.assert_allclose(theta[0].detach(), np.quantile(-cost[:, 0].numpy(), shares), atol=0.6)
    assert theta.detach().diff(dim=1).min() > 0.3


# Costs


def test_costs_are_those_of_the_package_and_of_the_same_copies():
    env = Routing().open(Task("family:mixed", "twin")).training_env(60, 3)
    view, priced, policy = env.reset(0, [0, 1, 2]), PricedEnv(env), build("sed-online")
    policy.reset(np.arange(3))
    for _ in range(50):
        view = env.step(policy.select(view))
    tried = view.available & (np.arange(4) < np.array([[2], [0], [4]]))
    priced.costs_of_choices(tried, policy, 32)
    costs, some = priced.priced[0]
    assert some.tolist() == [0, 2]
    for place, exponent in enumerate(EXPONENTS.values()):
        wanted = env.costs_of_choices(tried, policy, 32, exponent)[some]
        np.testing.assert_allclose(costs[place][tried[some]], wanted[tried[some]], rtol=1e-5)


def test_the_tail_is_the_sum_of_the_worst_tenth():
    paid = np.random.default_rng(0).permutation(96 * 2).astype(float).reshape(2, 96)
    found = dict(zip(COSTS, prices(paid), strict=True))["worst tenth"]
    np.testing.assert_allclose(found, [sum(sorted(row)[-10:]) for row in paid])


# The program


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_tiny_comparison_runs_to_its_table_and_goes_on(tmp_path, here, monkeypatch, capsys):
    monkeypatch.setattr(architectures_harvest, "BATCH", 2)
    out, names = tmp_path / "out", ",".join((DEFAULTS.name, "attention", "quantiles by CVaR", "worst tenth"))
    held_out = write_scenario(tmp_path, SCENARIO.replace("requests = 60", "requests = 400"))  # enough for a p99
    command = [*TINY, "--horizon", "8", "--evaluate", str(held_out), "--variants", names, "--out", str(out)]
    assert architectures.main(command) == 0
    assert here == [("gather", 2), ("work", 11)], "two parts; three references, four variants with two seeds"
    lines = (out / "architectures.md").read_text().splitlines()
    table = {line.split(" | ")[0][2:]: line.split(" | ") for line in lines if line.startswith("| ")}
    assert set(table) == {"variant", "---", *names.split(","), "sed-online", "sed-moods", "harvesting model"}
    assert [table["attention"][place] for place in (1, 2, 3)] == ["exponent 1.4", "2", "3"]
    assert table["sed-online"][8] == table[DEFAULTS.name][10] == "reference"
    assert table["sed-moods"][8].count("%") == 1
    results, fleets = rows_of(out / "results.csv"), rows_of(out / "fleets.csv")
    assert len(results) == 11
    assert len(fleets) == 11 * 2
    fitted = [row for row in results if row["held_out_loss"]]
    assert len({row["held_out_loss"] for row in fitted}) == len(fitted) == 8
    assert len({row["loss_before"] for row in fitted}) == 2, "one for each cost"
    (out / "rollouts_00002.npz").unlink()
    (out / "results.csv").write_text("\n".join((out / "results.csv").read_text().splitlines()[:-1]) + "\n")
    assert architectures.main(command) == 0
    assert here[2:] == [("gather", 1), ("work", 1)], "what is missing, and nothing else"
    again = rows_of(out / "results.csv")
    assert [row["held_out_loss"] for row in again] == [row["held_out_loss"] for row in results]
    (out / "rollouts_00000.npz").write_bytes((out / "rollouts_00000.npz").read_bytes()[:2000])
    architectures_harvest.load.cache_clear()
    assert architectures.main(command) == 1
    assert "rollouts_00000.npz is missing or damaged" in capsys.readouterr().err
    assert architectures.main([*command, "--updates", "4"]) == 1
    assert "updates = 3, not 4; name another --out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--variants", "lstm"), "'lstm' is none of these: set 32"),
        (("--horizon", "5000"), "allowed: at most 1080"),
        (("--episodes", "1"), "allowed: 2 or more"),
        (("--model", "nothing.pth"), "nothing.pth"),
        (("--scenario", "family:nothing"), "no family is called 'nothing'"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing_behind(options, words, tmp_path, here, capsys):
    assert architectures.main([*options, "--out", str(tmp_path / "out")]) != 0
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert here == []
    assert not (tmp_path / "out").exists()


def test_the_flat_network_is_left_out_where_fleets_differ_in_size(tmp_path, here, capsys):
    names = f"{DEFAULTS.name},flat"
    given = ["--horizon", "8", "--evaluate", "family:speeds:3", "--variants", names, "--seeds", "0", "--out", str(tmp_path / "out")]
    assert architectures.main([*TINY, *given]) == 0
    assert "no flat network: fleets have 3, 4 servers" in capsys.readouterr().out
    assert here == [("gather", 1), ("work", 4)]

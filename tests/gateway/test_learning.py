"""A model that learns under supervision: who decides what, when it is stopped, how it comes back, and that others notice nothing."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from gateway.test_guard import Clock, LastOpen, view_of
from gateway.test_snapshot import is_described
from trimtab.cli import app, train
from trimtab.cli.beside import GatewayProcess
from trimtab.core.observation import FEATURES
from trimtab.core.request_log import FAILED, SERVED, UNMEASURED
from trimtab.dqn.checkpoint import Checkpoint, save_checkpoint
from trimtab.dqn.config import DQNConfig
from trimtab.dqn.network import build_network
from trimtab.experiments.runs import RunFolder
from trimtab.experiments.session import Settings
from trimtab.gateway.candidates import TrialDecider
from trimtab.gateway.deciders import Wanted, build_deciding
from trimtab.gateway.guard import GuardedDecider, PlainDecider
from trimtab.gateway.health import HealthBook
from trimtab.gateway.learning import CONTROL_GROUP, REST_S, STAGE_S, STEADY_S, STOPS_ALLOWED, Learning, LearningDecider, Observers
from trimtab.gateway.router import Router, Ticket
from trimtab.gateway.scores import Scores
from trimtab.gateway.sentinel import CONTROL, LEARNED
from trimtab.gateway.snapshot import Watched, state_document
from trimtab.gateway.telemetry import GatewayCounts
from trimtab.gateway.trials import trial_gauges
from trimtab.gateway.window import Window
from trimtab.policies import catalogue
from trimtab.policies.exploring import Exploration
from trimtab.problems.routing.scenario_files import load_scenario
from trimtab.problems.routing.world import fixed_twin

UNIT_S = 0.02
RATE_RPS = 100.0


class Supervised:
    """A `Learning` fed at RATE_RPS: requests of both groups take what they are told, with a spread of a tenth."""

    def __init__(self, control_share=0.1, seed=0):
        self.clock, self.said, self.stops = Clock(), [], []
        generator = np.random.default_rng(seed)
        self.learning = Learning(control_share, 2, UNIT_S, generator, self.clock, heuristic="sed-online")
        self.learning.on_event, self.learning.on_stop = self.said.append, self.stops.append
        self._spread = np.random.default_rng([seed, 1])

    def run(self, seconds, learned_s=0.1, control_s=0.1, status=SERVED):
        """How many requests each group had; the model's fail where `status` says so."""
        drawn = Counter()
        for _ in range(int(seconds * RATE_RPS)):
            group = self.learning.draw()
            drawn[group] += 1
            took_s = (learned_s if group == LEARNED else control_s) * self._spread.uniform(0.9, 1.1)
            name = {LEARNED: "dqn", CONTROL: CONTROL_GROUP, None: "sed-online"}[group]
            ticket = Ticket(0, 0, drawn.total() % 2, self.clock.now_s, name, 1)
            self.clock.now_s += 1 / RATE_RPS
            self.learning.ended(ticket, status if group == LEARNED else SERVED, took_s, 0.0, 0.0)
        return drawn


# By hand


def test_the_control_group_is_drawn_by_the_generator():
    one = Supervised(control_share=0.2, seed=3)
    wanted = np.random.default_rng(3).random(1000) >= 0.8
    assert [one.learning.draw() == CONTROL for _ in range(1000)] == wanted.tolist()
    assert (one.learning.state, one.learning.share) == ("learning", 0.8)


def test_a_model_that_is_as_good_goes_on():
    one = Supervised()
    drawn = one.run(120)
    assert 0.08 < drawn[CONTROL] / drawn.total() < 0.12
    assert (drawn[None], one.learning.state, one.said, one.stops, one.learning.behind) == (0, "learning", [], [], 0)


def test_one_that_is_behind_is_stopped_at_once_and_the_heuristic_decides_for_a_minute():
    one = Supervised()
    one.run(30)
    one.run(15, learned_s=0.15)
    assert (one.learning.state, one.learning.share, one.learning.behind, len(one.stops)) == ("resting", 0.0, 1, 1)
    assert one.stops[0].startswith("learning rests for 60 s: learned 1")
    assert "ms of sed-online over 3" in one.stops[0]
    stopped_s = one.clock.now_s - 15
    drawn = one.run(REST_S - 16)
    assert set(drawn) == {None}
    one.run(20)
    assert one.learning.state == "returning"
    assert one.clock.now_s > stopped_s + REST_S


def test_it_comes_back_with_a_growing_share():
    one = Supervised()
    one.run(12, learned_s=0.2)
    while one.learning.state == "resting":
        one.run(1)
    assert one.said == ["learning: the newest model decides 10% of requests"]
    first = one.run(STAGE_S - 2)
    one.run(4)
    second = one.run(STAGE_S - 4)
    assert 0.05 < first[LEARNED] / first.total() < 0.15
    assert 0.40 < second[LEARNED] / second.total() < 0.60
    one.run(5)
    assert one.said[1:] == ["learning: the newest model decides 50% of requests", "learning: the newest model decides 90% of requests"]
    assert (one.learning.state, one.learning.stops_in_a_row) == ("learning", 1)
    one.run(STEADY_S + 5)
    assert (one.learning.stops_in_a_row, one.learning.behind) == (0, 1)


def test_a_share_grows_on_evidence_not_on_time():
    one = Supervised()
    one.run(12, learned_s=0.2)
    one.clock.now_s += REST_S
    one.run(3)
    one.clock.now_s += 10 * STAGE_S  # nobody asks anything: the windows are empty, and ten seconds of traffic cannot fill them
    one.run(1)
    assert one.learning.share == 0.1


def test_the_third_stop_in_a_row_is_the_last():
    one = Supervised()
    for _ in range(STOPS_ALLOWED):
        one.run(REST_S + 40, learned_s=0.2)
    assert (one.learning.state, one.learning.stops_in_a_row, one.learning.behind) == ("stopped", 3, 3)
    assert one.stops[-1].startswith("learning from this traffic has stopped for good, it fell behind 3 times in a row: learned 2")
    assert set(one.run(10 * REST_S)) == {None}
    assert len(one.stops) == 3


def test_failures_count_as_in_training():
    one = Supervised()
    one.run(5, learned_s=0.001, status=FAILED)
    assert one.learning.state == "resting"
    assert "learned 800.0 ms" in one.stops[0], "40 mean service times, however quickly it failed"


def test_clients_that_leave_say_nothing():
    one = Supervised()
    one.run(30, learned_s=9.0, status=UNMEASURED)
    assert (one.learning.state, one.learning.read()) == ("learning", None)


def test_what_was_sent_before_a_stage_is_not_held_against_it():
    one = Supervised()
    old = Ticket(0, 0, 0, one.clock.now_s, "dqn", 1)
    one.run(12, learned_s=0.2)
    one.run(REST_S + 1)
    before = one.learning.read()
    one.learning.ended(old, SERVED, 99.0, 0.0, 0.0)
    assert one.learning.read() == before


def deciders(clock=None):
    clock = clock or Clock()
    learning = Learning(0.5, 2, UNIT_S, np.random.default_rng(0), clock, heuristic="fallback")
    guarded = GuardedDecider(catalogue.build("round-robin"), LastOpen(), clock, seed=7, name="dqn")
    return LearningDecider(guarded, PlainDecider(LastOpen(), 7), learning), learning


def test_each_group_is_decided_by_its_own():
    decider, learning = deciders()
    passed = []
    learning.on_passed = lambda: passed.append(1)
    made = Counter(decider.decide(view_of()) for _ in range(600))
    assert {by for _, by in made} == {"dqn", CONTROL_GROUP}
    assert {server for server, by in made if by == "dqn"} == {0, 1, 3}
    assert {server for server, by in made if by == CONTROL_GROUP} == {3}
    assert len(passed) == sum(count for (_, by), count in made.items() if by == CONTROL_GROUP)
    assert decider.names == ("dqn", "fallback", CONTROL_GROUP)
    assert (decider.primary, decider.fallback, decider.state) == ("dqn", "fallback", "deciding")


# In the gateway

FLEET = load_scenario("compose-default")


class Worst:
    """Sends each request to the open server with most requests in flight."""

    name = "worst"

    def reset(self, seeds):
        pass

    def select(self, view):
        return np.argmax(np.where(view.available, view.ledger.outstanding, -1), axis=1)


def played(policy, requests, seed=5):
    """A router with a model under supervision, on an episode of the twin; what it said with the time, and who decided when."""
    world, clock, said, made = replace(FLEET, requests=requests), Clock(), [], []
    clock.now_s = 0.0  # as the twin's
    learning = Learning(0.1, len(world.classes), world.fleet_service_s(), np.random.default_rng(seed), clock, heuristic="sed-online")
    learning.on_event = learning.on_stop = lambda what: said.append((clock.now_s, what))
    guarded = GuardedDecider(policy, catalogue.build("sed-online"), lambda: 0.0, name="dqn")
    router = Router(world, LearningDecider(guarded, PlainDecider(catalogue.build("sed-online")), learning), observer=Observers((learning,)))
    env, tickets, told = fixed_twin(world).evaluation_env(1), [], 0
    view = env.reset(0, [seed])
    while view is not None:
        log = env.fleet.log
        for request in log.order[0, told : log.completed[0]]:
            clock.now_s = float(log.completed_s[0, request])
            router.finish(tickets[request], int(log.status[0, request]), clock.now_s, float(log.service_s[0, request]))
        told, clock.now_s = int(log.completed[0]), float(view.now_s[0])
        tickets.append(router.route(int(view.request_class[0]), clock.now_s, view.available[0]))
        made.append((clock.now_s, tickets[-1].decided_by))
        view = env.step(np.array([tickets[-1].server]))
    return learning, said, made


def test_a_bad_policy_is_stopped_within_seconds_and_the_heuristic_decides():
    learning, said, made = played(Worst(), 3000)
    stopped_s, what = said[0]
    assert stopped_s < 30.0
    assert "learning rests for 60 s: learned" in what
    assert {by for now_s, by in made if now_s <= stopped_s} == {"dqn", CONTROL_GROUP}
    assert {by for now_s, by in made if now_s > stopped_s} == {"sed-online"}
    assert (learning.state, len(said)) == ("resting", 1)


def test_the_heuristic_itself_is_not_behind_the_heuristic():
    learning, said, made = played(catalogue.build("sed-online"), 6000)
    assert (learning.state, said, learning.behind) == ("learning", [], 0)
    assert learning.read().is_enough
    assert Counter(by for _, by in made)[CONTROL_GROUP] / 6000 == pytest.approx(0.1, abs=0.02)


def code_of(main, words):
    """The exit code of a command that was refused, by itself or by its parser."""
    try:
        return main(words)
    except SystemExit as ended:
        return ended.code


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--policy", "p2c", "--control-share", "0.1"], "give --explore"),
        (["--model", "a.pth", "--record", "b", "--explore", "--control-share", "0.6"], "allowed: 0 to 0.5"),
        (["--model", "a.pth", "--record", "b", "--explore", "--control-share", "many"], "allowed: 0 to 0.5"),
    ],
)
def test_a_control_share_that_makes_no_sense_is_refused(capsys, words, said):
    assert code_of(app.main, words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--control-share", "0.1"], "means nothing without --traffic gateway"),
        (["--traffic", "gateway", "--control-share", "0.6"], "allowed: 0 to 0.5"),
    ],
)
def test_the_learners_command_refuses_it_too(capsys, words, said):
    assert code_of(train.main, words) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("share", "wanted"), [(None, []), (0.0, ["--control-share", "0.0"]), (0.25, ["--control-share", "0.25"])])
def test_the_gateway_beside_a_learner_is_told_the_share(tmp_path, share, wanted):
    command = GatewayProcess(RunFolder(tmp_path), Settings(), 8080, share)._command()
    place = command.index("--port")
    assert [word for word in command[:place] if word == "--control-share"] == wanted[:1]
    assert command[place - len(wanted) : place] == wanted
    assert app.build_parser().parse_args(command[2:]).control_share == share


@pytest.fixture
def model(tmp_path):
    config, path = DQNConfig(hidden=8), tmp_path / "live.pth"
    network = build_network(config, len(FEATURES), len(FLEET.servers), torch.Generator().manual_seed(0))
    plain = {"problem": "routing", "observation": FEATURES, "servers": len(FLEET.servers), "config": config, "episode": 0}
    save_checkpoint(path, Checkpoint(network=network.state_dict(), optimizer={}, **plain))
    return path


def exploring(model, clock, **more):
    return build_deciding(Wanted(model=model, reload=True, exploration=Exploration(0), **more), FLEET, clock)


def test_only_a_model_that_explores_is_supervised_and_only_if_wanted(model):
    clock = Clock()
    assert isinstance(exploring(model, clock).decider, LearningDecider)
    alone = exploring(model, clock, control_share=0.0)
    assert (type(alone.decider), alone.learning) == (GuardedDecider, None)
    plain = build_deciding(Wanted(model=model), FLEET, clock)
    assert (type(plain.decider), plain.learning) == (GuardedDecider, None)
    classical = build_deciding(Wanted(policy="p2c", canary=model), FLEET, clock)
    assert (type(classical.decider), classical.learning) == (TrialDecider, None)


def test_the_schedules_go_on_with_every_decision_of_the_log(model):
    exploration, view = Exploration(0), view_of((True,) * 4)
    deciding = build_deciding(Wanted(model=model, reload=True, exploration=exploration, control_share=0.5), FLEET, Clock())
    exploration.resume(0)
    by = Counter(deciding.decider.decide(view)[1] for _ in range(100))
    assert by[CONTROL_GROUP] > 20
    assert exploration.decisions == 100


def test_trying_out_is_rehearsed_before_there_is_a_model(tmp_path, monkeypatch):
    asked, choose = [], Exploration.choose
    monkeypatch.setattr(Exploration, "choose", lambda self, *more: asked.append(self) or choose(self, *more))
    exploration = Exploration(0)
    build_deciding(Wanted(model=tmp_path / "later.pth", reload=True, exploration=exploration), FLEET, Clock())
    assert asked, "what it compiles is compiled now"
    assert exploration not in asked
    assert exploration.decisions == 0


def test_a_stop_is_said_in_the_document_the_events_the_metrics_and_a_line(model, capsys):
    clock = Clock()
    deciding = exploring(model, clock)
    for number in range(3000):
        if deciding.learning.state == "resting":
            break
        learned = number % 10
        ticket = Ticket(0, 0, 0, clock.now_s, "dqn" if learned else CONTROL_GROUP, 1)
        clock.now_s += 0.01
        deciding.learning.ended(ticket, SERVED, 0.054 if learned else 0.041, 0.0, 0.0)
    decider = deciding.decider
    watched = Watched(
        scenario=FLEET,
        urls=("http://one",) * 4,
        router=Router(FLEET, decider),
        health=HealthBook(4),
        window=Window(4, 3, clock.now_s),
        counts=GatewayCounts(FLEET.server_ids, FLEET.class_names, decider.names),
        scores=Scores(decider.names, 0.02, clock.now_s),
        deciding=deciding,
        started_s=clock.now_s,
    )
    document = state_document(watched, clock.now_s, draining=False)
    assert is_described(document)
    said = "learning rests for 60 s: learned 54.0 ms against 41.0 ms of sed-online over 5 s, 450 and 50 requests"
    assert said in [one["what"] for one in document["events"]]
    assert capsys.readouterr().err == f"note: {said}\n"
    assert (document["learning"]["state"], document["learning"]["share"], document["learning"]["behind"]) == ("resting", 0.0, 1)
    assert document["learning"]["groups"]["requests"] == {"learned": 450, "control": 50}
    assert {one["name"]: one["role"] for one in document["deciders"]} == {
        "dqn": "primary",
        "sed-online": "fallback",
        CONTROL_GROUP: "control",
    }
    now = trial_gauges(deciding, clock.now_s).learning
    assert (now.behind, now.share, now.stopped, now.means_s) == (1, 0.0, False, pytest.approx({"learned": 0.054, "control": 0.041}))

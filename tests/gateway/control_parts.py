"""A state source and a served control app for tests of the API and of the page: no gateway behind them."""

import copy
import threading
from contextlib import contextmanager

from prometheus_client import CollectorRegistry
from werkzeug.serving import WSGIRequestHandler, make_server

from trimtab.gateway.control import create_control

CLASSES = ("light", "medium", "heavy")


def server(number, rates, **changes):
    plain = {
        "id": f"server-{number}",
        "url": f"http://127.0.0.1:{8080 + number}",
        "status": "ok",
        "in_flight": number,
        "slots": 4,
        "share": 0.0,
        "rate_rps": sum(rates),
        "latency_ms": 12.0 * number,
        "ramp": 1.0,
        "by_class": dict(zip(CLASSES, rates, strict=True)),
    }
    return plain | changes


def decider(name, role, **changes):
    plain = {
        "name": name,
        "role": role,
        "rate_rps": 80.0,
        "reward": -1.2,
        "failed_share": 0.002,
        "latency_ms": {"mean": 21.0, "p50": 8.4, "p95": None},
        "served": 9_000,
        "failed": 5,
        "unmeasured": 1,
    }
    return plain | changes


def model(role, file, **changes):
    return {"role": role, "file": file, "age_s": 92.0, "loads": 3, "refusals": 0, "refused": None} | changes


def on_trial():
    """What the document says more where a shadow and a canary are tried."""
    reasons = {"error": 0, "invalid": 0, "slow": 1, "resting": 0, "far": 2, "missing": 0}
    return {
        "deciders": [
            decider("dqn", "primary", reward=-1.4),
            decider("sed-online", "fallback", latency_ms=None, reward=None),
            decider("canary", "canary", rate_rps=4.0, failed_share=0.0, latency_ms={"mean": 17.0, "p50": 7.7, "p95": None}),
        ],
        "models": [
            model("primary", "dqn_final.pth"),
            model("shadow", "candidate.pth", refusals=2, refused="candidate.pth: not a checkpoint, or cut short"),
            model("canary", "candidate.pth", age_s=None, loads=0),
        ],
        "shadow": {
            "state": "deciding",
            "agreement": 0.873,
            "gain_ms": {"q": 2.3, "delay": -0.4},
            "decisions": {"agree": 8_700, "differ": 1_300, "none": 3},
            "reasons": reasons,
        },
        "canary": {"state": "deciding", "share": 0.05, "reasons": reasons},
    }


def learns():
    """What the document says more where a model learns, beside its control group."""
    groups = {
        "window_s": 30.0,
        "latency_ms": {"learned": 54.1, "control": 51.0, "error": 2.2},
        "requests": {"learned": 1240, "control": 131},
    }
    return {
        "deciders": [decider("dqn", "primary"), decider("sed-online", "fallback"), decider("control", "control", rate_rps=9.0)],
        "learning": {"state": "learning", "share": 0.9, "behind": 1, "stops_in_a_row": 1, "groups": groups},
    }


def document(servers=None, **changes):
    """A gateway with four busy servers, which a model routes to."""
    servers = servers or [server(1, (30.0, 8.0, 2.0)), server(2, (20.0, 9.0, 1.0)), server(3, (6.0, 2.0, 4.0)), server(4, (1.0, 0.5, 7.0))]
    total = sum(one["rate_rps"] for one in servers)
    for one in servers:
        one["share"] = one["rate_rps"] / total if total else 0.0
    plain = {
        "policy": "dqn",
        "decider": {
            "primary": "dqn",
            "fallback": "sed-online",
            "reasons": {"error": 0, "invalid": 0, "slow": 3, "resting": 12, "far": 1, "missing": 0},
            "state": "deciding",
            "decisions": {"dqn": 9_987, "sed-online": 13},
        },
        "uptime_s": 4321.0,
        "draining": False,
        "panic": False,
        "counts": {"sent": 10_000, "served": 9_980, "failed": 7, "unmeasured": 3, "in_flight": 10, "retries": 7},
        "rate_rps": total,
        "latency_ms": {"p50": 8.4, "p95": 61.0, "p99": 122.0},
        "servers": servers,
        "classes": [{"name": name, "rate_rps": sum(one["by_class"][name] for one in servers)} for name in CLASSES],
        "reward": -1.4,
        "deciders": [decider("dqn", "primary", reward=-1.4), decider("sed-online", "fallback", latency_ms=None, reward=None)],
        "models": [model("primary", "dqn_final.pth")],
        "shadow": None,
        "canary": None,
        "learning": None,
        "events": [{"age_s": 64.0, "server": "server-3", "what": "back: ejection over"}],
    }
    return plain | changes


class FakeState:
    """Says whatever `document` holds, or raises what `error` holds."""

    def __init__(self, said=None):
        self.document = said or document()
        self.error = None
        self.asked = 0

    def snapshot(self):
        self.asked += 1
        if self.error is not None:
            raise self.error
        return copy.deepcopy(self.document)


def control(state=None):
    return create_control(state or FakeState(), CollectorRegistry())


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_):
        pass


@contextmanager
def served(app, port=0):
    """The address of the app on a loopback port of its own, while the block runs."""
    listener = make_server("127.0.0.1", port, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}"
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join(timeout=10)

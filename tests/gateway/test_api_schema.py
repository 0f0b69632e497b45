"""The control API against its own description, by schemathesis: status codes, types, content, refused methods, on the WSGI app."""

import copy
import json
from importlib import resources

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from jsonschema_rs import validator_for
from schemathesis.checks import not_a_server_error

from gateway.control_parts import FakeState, control, document, learns, server
from trimtab.gateway.control import StateUnavailableError

DESCRIPTION = json.loads((resources.files("trimtab.gateway") / "openapi.json").read_text())


def unavailable():
    state = FakeState()
    state.error = StateUnavailableError("too busy")
    return state


def idle():
    servers = [server(1, (0.0, 0.0, 0.0), latency_ms=None, status="down")]
    decider = {"primary": "p2c", "fallback": None, "reasons": {}, "state": "deciding", "decisions": {"p2c": 0}}
    return FakeState(document(servers, latency_ms=None, decider=decider, events=[], draining=True))


schema = schemathesis.openapi.from_wsgi("/api/openapi.json", control())
GATEWAYS = {
    "busy": control(),
    "idle": control(idle()),
    "silent": control(unavailable()),
    "learning": control(FakeState(document(**learns()))),
}


@pytest.mark.parametrize("gateway", GATEWAYS)
@schema.parametrize()
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_answers_are_as_described(case, gateway):
    # 503 is described, and any other 5xx is not: conformance of status codes says all that this check would.
    case.call_and_validate(app=GATEWAYS[gateway], excluded_checks=[not_a_server_error])


def state_validator():
    """Of the document alone, its references resolved inside the description."""
    root = copy.deepcopy(DESCRIPTION["components"]["schemas"]["State"])
    return validator_for(root | {"components": DESCRIPTION["components"]})


@pytest.mark.parametrize("key", ["policy", "counts", "servers", "latency_ms"])
def test_a_missing_key_would_be_noticed(key):
    whole = document()
    assert state_validator().is_valid(whole)
    del whole[key]
    assert not state_validator().is_valid(whole)

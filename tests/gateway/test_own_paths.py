"""Which paths the gateway keeps for itself: those that its app answers, each by itself."""

import pytest

from gateway.control_parts import FakeState, control
from trimtab.gateway.control import own_paths


@pytest.fixture
def app():
    return control(FakeState())


def test_every_path_that_is_kept_is_answered(app):
    client = app.test_client()
    for path in own_paths(app):
        assert client.get(path).status_code in {200, 405}, path


def test_every_rule_of_the_app_is_kept_or_stands_for_the_pages_files(app):
    """A rule with a variable is none of its paths: whoever adds one must say which paths it means."""
    assert {rule.rule for rule in app.url_map.iter_rules() if rule.arguments} == {"/ui/<path:name>"}


def test_the_contracts_paths_are_kept(app):
    assert own_paths(app) >= {"/healthz", "/readyz", "/metrics", "/api/state", "/ui", "/ui/", "/ui/app.js"}


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/orders", "/ui/orders", "/ui/vendor", "/healthz/", "/metrics/x"])
def test_what_only_begins_like_them_is_not(app, path):
    assert path not in own_paths(app)

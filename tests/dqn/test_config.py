"""Settings: defaults hold, impossible values are refused by name."""

import json

import pytest

from trimtab.dqn.config import DQNConfig
from trimtab.dqn.schedule import linear, updates_scheduled
from trimtab.errors import UsageError


def test_settings_survive_json():
    config = DQNConfig(network="mlp", hidden=32, reward_clip=5.0)
    assert DQNConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_missing_settings_take_their_defaults():
    assert DQNConfig.from_dict({"hidden": 32}) == DQNConfig(hidden=32)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("network", "transformer", "set, mlp"),
        ("target", "", "soft, hard"),
        ("loss", "mae", "mse, huber"),
        ("double", 1, "true, false"),
        ("hidden", 0, "at least 1"),
        ("n_step", 2.5, "whole number"),
        ("batch", True, "whole number"),
        ("learn_start", -1, "at least 0"),
        ("discount", 1.5, "from 0 to 1"),
        ("discount", float("nan"), "from 0 to 1"),
        ("learning_rate", 0.0, "above 0 to 1"),
        ("learning_rate", "0.1", "above 0 to 1"),
        ("max_grad_norm", float("inf"), "above 0"),
        ("heuristic_weight", -0.1, "from 0"),
        ("reward_clip", 0.0, "above 0"),
        ("anchor", -2, "at least -1"),
        ("learning_rate_updates", -1, "at least 0"),
        ("trust", 1.5, "from 0 to 1"),
        ("kept", -1.0, "from 0"),
        ("bound_factor", 0.9, "from 1"),
        ("bound_slack", -0.1, "from 0"),
        ("average", -0.1, "from 0 to 1"),
    ],
)
def test_an_impossible_value_is_refused_with_key_value_and_allowed(key, value, allowed):
    with pytest.raises(UsageError) as caught:
        DQNConfig.from_dict({key: value})
    message = str(caught.value)
    assert key in message
    assert repr(value) in message
    assert allowed in message
    assert "\n" not in message


def test_an_unknown_setting_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"'gamma'.*discount"):
        DQNConfig.from_dict({"gamma": 0.9})


def test_linear_schedule_starts_falls_and_stays():
    assert [linear(1.0, 0.0, 4, done) for done in (0, 1, 4, 99)] == [1.0, 0.75, 0.0, 0.0]
    assert linear(1.0, 0.5, 0, 0) == 0.5


def test_updates_are_earned_after_the_start_only():
    assert [updates_scheduled(d, 100, 10) for d in (0, 100, 109, 110, 200)] == [0, 0, 0, 1, 10]

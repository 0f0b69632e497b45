import numpy as np
import pytest

from builders import random_view
from trimtab.errors import UsageError
from trimtab.policies import catalogue
from trimtab.policies.load import truth


def test_names_are_unique_and_built_under_their_name():
    assert len(set(catalogue.NAMES)) == len(catalogue.NAMES)
    assert catalogue.LEARNED not in catalogue.NAMES
    for name in catalogue.NAMES:
        assert catalogue.build(name).name == name
        assert catalogue.build(name) is not catalogue.build(name)
        assert catalogue.entry(name).summary


def test_kinds_partition_the_catalogue_in_its_order():
    kinds = ("class-blind", "class-aware", "oracle")
    assert sorted(sum((catalogue.of_kind(kind) for kind in kinds), ())) == sorted(catalogue.NAMES)
    assert catalogue.of_kind(*kinds) == catalogue.NAMES


def test_only_oracles_ask_for_the_truth():
    """The kind is a promise to the reader of a results table."""
    for name in catalogue.NAMES:
        view = random_view(np.random.default_rng(0), 6, 3, 2)
        known, asked = view.oracle(), []
        object.__setattr__(view, "oracle", lambda asked=asked, known=known: asked.append(1) or known)
        policy = catalogue.build(name)
        policy.reset(np.arange(6))
        policy.select(view)
        assert bool(asked) == (catalogue.entry(name).kind == "oracle"), name


def test_a_misspelt_policy_is_an_error_that_suggests_one():
    with pytest.raises(UsageError, match=r"unknown policy 'sed-onlin': did you mean 'sed-online'\? allowed: .*dqn"):
        catalogue.build("sed-onlin")
    with pytest.raises(UsageError, match="unknown policy 'zzz': allowed:"):
        catalogue.entry("zzz")


def test_an_oracle_policy_is_refused_where_nobody_knows_the_truth():
    view = random_view(np.random.default_rng(0), 1, 2, 1)
    object.__setattr__(view, "oracle", None)
    with pytest.raises(UsageError, match="oracle policy"):
        truth(view)


def test_proxies_stand_apart_and_decide_nothing_here():
    assert not set(catalogue.PROXY_NAMES) & {*catalogue.NAMES, catalogue.LEARNED}
    view = random_view(np.random.default_rng(0), 1, 2, 1)
    for one in catalogue.PROXIES:
        policy = one.build()
        assert (policy.name, one.kind) == (one.name, "proxy")
        policy.reset(np.arange(1))
        with pytest.raises(UsageError, match=f"{one.name} is a real proxy .* use evaluate_dqn.py --backend http"):
            policy.select(view)

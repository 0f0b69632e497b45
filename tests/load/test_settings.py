"""Options: what is read from them, what is refused in one line; and who imports Locust."""

import argparse
import ast

import pytest
from locust_runs import ROOT
from product import TrimtabError
from settings import DEFAULT_TARGET, add_options, read_settings, read_shape, user_rate_rps

PURE = ("product", "settings", "schedule", "tally", "load_report")


def options(*given):
    parser = argparse.ArgumentParser()
    add_options(parser)
    parser.add_argument("--host")
    parser.add_argument("--run-time", type=int)
    return parser.parse_args(given)


def test_defaults():
    read = read_settings(options())
    assert (read.scenario.id, read.loop, read.seed, read.duration_s) == ("compose-default", "open", 0, None)
    assert read.targets == (DEFAULT_TARGET,)


def test_rate_and_load_replace_the_scenarios():
    assert read_settings(options("--rate", "50")).scenario.rate_rps() == 50.0
    read = read_settings(options("--load", "0.5"))
    assert read.scenario.rate_rps() == pytest.approx(0.5 * read.scenario.capacity_rps())
    assert read_settings(options("--scenario", "mmpp", "--rate", "50")).scenario.rate_rps() == 50.0


def test_targets_before_host_before_default():
    assert read_settings(options("--host", "http://a:1/")).targets == ("http://a:1",)
    assert read_settings(options("--host", "http://a:1", "--targets", "http://b:2, http://c")).targets == ("http://b:2", "http://c")


def test_rate_of_a_user():
    assert user_rate_rps(options("--user-rate", "2.5"), read_settings(options())) == 2.5
    given = options("--think-time", "0.977")
    assert user_rate_rps(given, read_settings(given)) == pytest.approx(1.0)  # mean work of the default classes: 23 ms


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--rate", "abc"], "--rate is 'abc'; allowed: a number, above 0"),
        (["--rate", "0"], "--rate is '0'"),
        (["--rate", "inf"], "--rate is 'inf'"),
        (["--rate", "1", "--load", "1"], "allowed: one of the two"),
        (["--seed", "-1"], "allowed: a whole number, 0 or more"),
        (["--episode", "1.5"], "--episode is '1.5'"),
        (["--loop", "half"], "allowed: open or closed"),
        (["--think", "hard"], "allowed: constant or exponential"),
        (["--think-time", "-1"], "allowed: a number, 0 or more"),
        (["--max-in-flight", "0"], "1 or more"),
        (["--http-timeout", "0"], "above 0"),
        (["--targets", "localhost:8081"], "allowed: http://HOST:PORT"),
        (["--host", "https://a"], "'https://a'"),
        (["--scenario", "compose-defalt"], "did you mean compose-default?"),
        (["--scenario", "no/such.toml"], "cannot read no/such.toml"),
        (["--scenario", "trace", "--rate", "1e9"], "allowed: at most its mean"),
    ],
)
def test_bad_options_are_one_line(given, said):
    with pytest.raises(TrimtabError) as caught:
        read_settings(options(*given))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_shapes_are_for_closed_loops():
    assert read_shape(options("--loop", "closed", "--shape", "traffic")) == "traffic"
    with pytest.raises(TrimtabError, match="--loop closed"):
        read_shape(options("--shape", "traffic"))


@pytest.mark.parametrize("name", PURE)
def test_what_tests_import_does_not_import_locust(name):
    tree = ast.parse((ROOT / "load" / f"{name}.py").read_text(encoding="utf-8"))
    found = {one.name for node in ast.walk(tree) if isinstance(node, ast.Import) for one in node.names}
    found |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {one.split(".")[0] for one in found} & {"locust", "gevent", "geventhttpclient"}


def test_only_one_file_touches_the_import_path():
    assert [path.name for path in (ROOT / "load").glob("*.py") if "sys.path" in path.read_text(encoding="utf-8")] == ["product.py"]

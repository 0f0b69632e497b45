"""`evaluate_dqn.py --aa` as a user runs it."""

import pytest

from tiny_runs import write_scenario
from trimtab.cli.evaluate import main


def test_a_policy_against_itself(tmp_path, capsys):
    words = ["--scenario", str(write_scenario(tmp_path)), "--csv", str(tmp_path / "e.csv"), "--aa", "p2c"]
    assert main([*words, "--comparisons", "12", "--episodes", "5"]) == 0
    captured = capsys.readouterr()
    assert "of 12 comparisons of p2c with itself named a winner (5 episodes a side); allowed 3" in captured.out
    assert not (tmp_path / "e.csv").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--aa", "p2c", "--backend", "http"], "allowed: twin"),
        (["--aa", "p2c,random"], "allowed is one policy"),
        (["--aa", "p3c"], "unknown policy 'p3c'"),
    ],
)
def test_what_cannot_be_compared_is_refused(words, message, capsys):
    assert main(words) == 2
    assert message in capsys.readouterr().err

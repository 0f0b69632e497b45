"""What the reports accept, and how what they refuse is named."""

import numpy as np
import pandas as pd
import pytest

from trimtab.errors import ResultsError
from trimtab.report.csv_files import read_evaluation, read_results, read_training, results_in


def _refused(call, *arguments):
    with pytest.raises(ResultsError) as caught:
        call(*arguments)
    message = str(caught.value)
    assert "\n" not in message, "an error is one line"
    return message


def test_reads_what_it_is_given_and_sorts_by_episode(tmp_path, training):
    training.sample(frac=1, random_state=1).to_csv(tmp_path / "training_metrics.csv", index=False)
    frame = read_training(tmp_path / "training_metrics.csv")
    assert frame["episode"].tolist() == list(range(1, len(training) + 1))
    assert frame["phase"].iloc[0] == "1"
    np.testing.assert_allclose(frame["mean_latency_ms"], training["mean_latency_ms"])


def test_blank_cells_are_not_measured_rather_than_zero(tmp_path, evaluation):
    evaluation.to_csv(tmp_path / "evaluation.csv", index=False)
    frame = read_evaluation(tmp_path / "evaluation.csv")
    assert frame["p999_latency_ms"].isna().all()


def test_missing_file_names_itself_and_its_writer(tmp_path):
    message = _refused(read_training, tmp_path / "training_metrics.csv")
    assert "training_metrics.csv does not exist" in message
    assert "python agent/train_dqn.py" in message


@pytest.mark.parametrize("text", ["", "scenario,backend,policy,episode,seed,total_reward,decision_us\n"])
def test_file_without_rows_is_refused(tmp_path, text):
    (tmp_path / "evaluation.csv").write_text(text)
    message = _refused(read_evaluation, tmp_path / "evaluation.csv")
    assert "evaluation.csv" in message
    assert "python agent/evaluate_dqn.py" in message


def test_missing_columns_are_named_with_the_expected_and_the_writer(tmp_path, evaluation):
    evaluation.drop(columns=["seed", "decision_us"]).to_csv(tmp_path / "evaluation.csv", index=False)
    message = _refused(read_evaluation, tmp_path / "evaluation.csv")
    assert "lacks seed, decision_us" in message
    assert "expected at least scenario, backend, policy, episode, seed, total_reward, decision_us" in message
    assert "python agent/evaluate_dqn.py" in message


def test_text_in_a_number_column_is_named_by_line(tmp_path, evaluation):
    evaluation["p99_latency_ms"] = evaluation["p99_latency_ms"].astype(object)
    evaluation.loc[3, "p99_latency_ms"] = "fast"
    evaluation.to_csv(tmp_path / "evaluation.csv", index=False)
    assert "evaluation.csv line 5, p99_latency_ms: 'fast' is not a number" in _refused(read_evaluation, tmp_path / "evaluation.csv")


def test_rows_without_a_policy_are_refused(tmp_path, evaluation):
    evaluation.loc[3, "policy"] = np.nan
    evaluation.to_csv(tmp_path / "evaluation.csv", index=False)
    assert "rows without policy" in _refused(read_evaluation, tmp_path / "evaluation.csv")


def test_binary_and_ragged_files_are_refused_in_one_line(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00\x01")
    (tmp_path / "b.csv").write_text("scenario,policy\n1,2\n1,2,3,4\n")
    assert "a.csv" in _refused(read_results, [tmp_path / "a.csv"])
    assert "b.csv cannot be read as CSV" in _refused(read_results, [tmp_path / "b.csv"])


def test_kind_is_recognised_from_the_columns_not_the_name(tmp_path, training, evaluation):
    training.to_csv(tmp_path / "one.csv", index=False)
    evaluation.to_csv(tmp_path / "two.csv", index=False)
    results = read_results([tmp_path / "two.csv", tmp_path / "one.csv"])
    assert len(results.training) == len(training)
    assert len(results.evaluation) == len(evaluation)
    assert results.rows == {tmp_path / "one.csv": len(training), tmp_path / "two.csv": len(evaluation)}


def test_a_file_of_neither_kind_is_told_both_contracts(tmp_path):
    (tmp_path / "cats.csv").write_text("name,age\nTom,3\n")
    message = _refused(read_results, [tmp_path / "cats.csv"])
    assert "found name, age" in message
    assert "train_dqn.py" in message
    assert "evaluate_dqn.py" in message


def test_two_training_runs_are_refused(tmp_path, training):
    for name in ("a.csv", "b.csv"):
        training.to_csv(tmp_path / name, index=False)
    assert "found 2 training files" in _refused(read_results, [tmp_path / "a.csv", tmp_path / "b.csv"])


def test_an_episode_that_stands_in_two_files_is_refused_and_the_same_file_twice_is_not(tmp_path, evaluation):
    for name in ("a.csv", "b.csv"):
        evaluation.to_csv(tmp_path / name, index=False)
    message = _refused(read_results, [tmp_path / "a.csv", tmp_path / "b.csv"])
    assert "policy oracle-greedy, episode 0, seed 0 stands twice" in message
    assert len(read_results([tmp_path / "a.csv", tmp_path / "a.csv"]).evaluation) == len(evaluation)


def test_files_of_two_backends_are_joined(tmp_path, both_worlds):
    for backend, part in both_worlds.groupby("backend"):
        part.to_csv(tmp_path / f"{backend}.csv", index=False)
    joined = read_results([tmp_path / "twin.csv", tmp_path / "http.csv"]).evaluation
    assert joined["backend"].value_counts().to_dict() == both_worlds["backend"].value_counts().to_dict()


def test_a_metrics_folder_yields_training_then_every_evaluation_file_and_no_other(metrics_folder):
    assert (metrics_folder / "notes.csv").exists()
    assert [path.name for path in results_in(metrics_folder)] == ["training_metrics.csv", "evaluation.csv", "evaluation_live.csv"]


def test_an_empty_metrics_folder_names_both_commands(tmp_path):
    message = _refused(results_in, tmp_path)
    assert "train_dqn.py" in message
    assert "--csv" in message


def test_a_problem_without_latency_columns_is_accepted(tmp_path):
    frame = pd.DataFrame(
        {"scenario": "m", "backend": "twin", "policy": "dqn", "episode": [0, 1], "seed": 0, "total_reward": -1.0, "decision_us": 3}
    )
    frame.to_csv(tmp_path / "evaluation.csv", index=False)
    assert len(read_evaluation(tmp_path / "evaluation.csv")) == 2

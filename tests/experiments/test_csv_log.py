"""Rows reach the disk, a cut keeps the first ones, and a disk that refuses costs nothing that was there."""

import errno
from pathlib import Path

import pytest

from trimtab.errors import ResultsError
from trimtab.experiments.csv_log import CsvLog, cell_text, write_text


def log_of(tmp_path, rows=0):
    log = CsvLog(tmp_path / "metrics" / "rows.csv", ("episode", "loss"))
    log.create()
    log.append([{"episode": n, "loss": n / 3} for n in range(1, rows + 1)])
    return log


def test_rows_stand_under_the_header_in_the_order_of_the_columns(tmp_path):
    log = log_of(tmp_path)
    log.append([{"loss": 0.5, "episode": 1}])
    log.append([{"episode": 2, "loss": 0.25}, {"episode": 3, "loss": 0.125}])
    assert log.path.read_text() == "episode,loss\n1,0.5\n2,0.25\n3,0.125\n"


def test_what_was_not_measured_is_blank(tmp_path):
    log = log_of(tmp_path)
    log.append([{"episode": 1, "loss": float("nan")}, {"episode": 2, "loss": None}, {"episode": 3}, {"episode": 4, "loss": float("inf")}])
    assert log.path.read_text().splitlines()[1:] == ["1,", "2,", "3,", "4,"]


@pytest.mark.parametrize(("value", "text"), [(1 / 3, "0.3333333"), (3, "3"), ("a", "a"), (1e-9, "1e-09"), (0.0, "0"), (float("nan"), "")])
def test_a_cell_has_seven_significant_digits(value, text):
    assert cell_text(value) == text


def test_a_cell_with_a_comma_is_quoted(tmp_path):
    log = log_of(tmp_path)
    log.append([{"episode": "a,b", "loss": 1.0}])
    assert log.path.read_text().splitlines()[1] == '"a,b",1'


def test_cut_keeps_the_first_rows(tmp_path):
    log = log_of(tmp_path, rows=5)
    log.cut(3)
    assert [line.split(",")[0] for line in log.path.read_text().splitlines()] == ["episode", "1", "2", "3"]
    log.append([{"episode": 4}])
    assert log.path.read_text().splitlines()[-1] == "4,"


def test_cut_to_all_rows_changes_nothing(tmp_path):
    log = log_of(tmp_path, rows=2)
    before = log.path.read_text()
    log.cut(2)
    assert log.path.read_text() == before


def test_cut_drops_half_a_row_at_the_end(tmp_path):
    log = log_of(tmp_path, rows=2)
    with log.path.open("a") as file:
        file.write("3,0.1")  # a process killed while it wrote
    log.cut(2)
    assert log.path.read_text().splitlines() == ["episode,loss", "1,0.3333333", "2,0.6666667"]


def test_cut_to_nothing_makes_the_file_of_a_run_that_had_none_yet(tmp_path):
    log = CsvLog(tmp_path / "rows.csv", ("episode", "loss"))
    log.cut(0)
    assert log.path.read_text() == "episode,loss\n"


def test_cut_says_when_rows_are_missing(tmp_path):
    log = log_of(tmp_path, rows=2)
    with pytest.raises(ResultsError, match=r"has 2 rows, the state 3.*--overwrite"):
        log.cut(3)
    log.path.unlink()
    with pytest.raises(ResultsError, match="--overwrite"):
        log.cut(1)


def test_create_replaces_at_once_or_not_at_all(tmp_path, monkeypatch):
    log = log_of(tmp_path, rows=2)
    before = log.path.read_text()

    def refuse(_self, _target):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        with pytest.raises(ResultsError, match="No space left on device"):
            log.create()
    assert log.path.read_text() == before
    assert [path.name for path in log.path.parent.iterdir()] == ["rows.csv"], "nothing half-written stays"
    log.create()
    assert log.path.read_text() == "episode,loss\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_append_to_a_full_disk_says_so(tmp_path):
    (tmp_path / "rows.csv").symlink_to("/dev/full")
    with pytest.raises(ResultsError, match=r"No space left on device.*earlier rows are kept.*--resume"):
        CsvLog(tmp_path / "rows.csv", ("episode",)).append([{"episode": 1}])


def test_a_place_that_cannot_be_a_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="cannot write") as caught:
        write_text(tmp_path / "file" / "rows.csv", "text")
    assert "\n" not in str(caught.value)

"""The real program in its own processes: against a real server, and against one that takes notes of what it was asked."""

import signal

import numpy as np
import pytest
from locust_runs import RUN_TIMEOUT_S, SCENARIO, report_of, requests_by_row, run, settings, start
from schedule import draw_schedule, user_work

from trimtab.fleets.local import free_ports

NAMES = SCENARIO.class_names
SEED = ("--seed", 3)  # that of `settings`


def scheduled():
    return draw_schedule(settings())


def asked_of(drawn):
    """(class, X-Work, X-Request-Id) of every request of a schedule."""
    return sorted((NAMES[one.request_class], f"{max(one.work, 1e-6):.6f}", f"3-0-{one.number}") for one in drawn.part(0, 1))


def counts_of(drawn):
    by_class = np.bincount(drawn.request_class, minlength=len(NAMES)).tolist()
    return {("all", "served"): drawn.due_s.size} | {(name, "served"): count for name, count in zip(NAMES, by_class, strict=True)}


def test_open_loop_against_a_real_server(scenario_path, server_url, tmp_path):
    done = run("--scenario", scenario_path, "-H", server_url, *SEED, "-t", "1s", "--report", tmp_path / "r.json")
    report, drawn = report_of(tmp_path / "r.json"), draw_schedule(settings(duration_s=1.0))
    assert done.returncode == 0, done.stderr
    assert requests_by_row(report) == counts_of(drawn)
    assert (report["offered_requests"], report["sent_requests"], report["duration_s"]) == (drawn.due_s.size, drawn.due_s.size, 1.0)
    assert report["targets"] == [server_url]
    everything = report["rows"][0]
    assert 0 < everything["uncorrected_seconds"]["p50"] <= everything["corrected_seconds"]["p50"]
    assert report["schedule_lag_seconds"]["max"] > 0
    assert "from scheduled send, ms (corrected)" in done.stdout


def test_the_same_requests_from_one_process_and_from_two_workers(scenario_path, recorder, tmp_path):
    common = ("--scenario", scenario_path, "-H", recorder.url, *SEED, "--report")
    alone = run(*common, tmp_path / "one.json")
    seen, recorder.seen = sorted(recorder.seen), []
    port = free_ports(1)[0]
    workers = [start("--worker", "--master-host", "127.0.0.1", "--master-port", port) for _ in range(2)]
    try:
        master = run(
            "--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port, "--expect-workers", 2, *common, tmp_path / "two.json"
        )
        ended = [one.communicate(timeout=RUN_TIMEOUT_S) for one in workers]
    finally:
        for one in workers:
            one.kill()
    assert (alone.returncode, master.returncode, [one.returncode for one in workers]) == (0, 0, [0, 0]), (master.stderr, ended)
    assert seen == sorted(recorder.seen) == asked_of(scheduled())
    reports = [report_of(tmp_path / name) for name in ("one.json", "two.json")]
    assert requests_by_row(reports[0]) == requests_by_row(reports[1]) == counts_of(scheduled())
    assert [one["workers_reported"] for one in reports] == [1, 2]
    assert reports[0]["offered_requests"] == reports[1]["offered_requests"] == reports[1]["sent_requests"]


def test_failures_by_kind_with_their_latency_and_without_retries(scenario_path, recorder, tmp_path):
    recorder.behaviour.update(light="hang up", medium=503, heavy="hang")  # and a time-out that no halt of the machine reaches
    done = run("--scenario", scenario_path, "-H", recorder.url, *SEED, "--http-timeout", 3, "--report", tmp_path / "r.json")
    assert done.returncode == 1, done.stderr  # Locust's own code for failed requests
    assert sorted(recorder.seen) == asked_of(scheduled())  # each once: what the server did not answer is not asked again
    report = report_of(tmp_path / "r.json")
    light, medium, heavy = np.bincount(scheduled().request_class).tolist()
    failed = {row["outcome"]: row["requests"] for row in report["rows"] if row["outcome"] != "served"}
    assert failed == {"connection_closed": light, "http_503": medium, "timeout": heavy}
    slowest = next(row for row in report["rows"] if row["outcome"] == "timeout")
    assert slowest["uncorrected_seconds"]["max"] >= 3
    assert report["rows"][0]["requests"] == 0
    assert report["rows"][0]["corrected_seconds"] is None


def test_a_full_pool_makes_requests_late_and_loses_none(scenario_path, recorder, tmp_path):
    recorder.behaviour["heavy"] = "hang"  # 0.2 s each, one at a time: far slower than the schedule
    limits = ("--max-in-flight", 1, "--http-timeout", 0.2)
    done = run("--scenario", scenario_path, "-H", recorder.url, *SEED, *limits, "--report", tmp_path / "r.json")
    report = report_of(tmp_path / "r.json")
    assert sorted(recorder.seen) == asked_of(scheduled())
    assert report["sent_requests"] == report["offered_requests"] == scheduled().due_s.size
    assert report["achieved_ratio"] < 0.99
    assert "WARNING: achieved" in done.stdout
    assert report["schedule_lag_seconds"]["p50"] > 0.2
    served = report["rows"][0]
    assert served["corrected_seconds"]["p50"] > 0.2 > served["uncorrected_seconds"]["p50"]


def test_closed_loop(scenario_path, recorder, tmp_path):
    users = ("--loop", "closed", "-u", 10, "-r", 100, "--think-time", 0.01, "--think", "exponential")
    done = run("--scenario", scenario_path, "-H", recorder.url, *SEED, *users, "-t", "2s", "--report", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    report = report_of(tmp_path / "r.json")
    assert report["offered_rps"] is report["achieved_ratio"] is report["rows"][0]["corrected_seconds"] is None
    assert report["sent_requests"] == report["rows"][0]["requests"] == len(recorder.seen) > 0
    assert {one[2].rsplit("-", 1)[0] for one in recorder.seen} == {f"3-0-{n}" for n in range(6)} | {f"3-1-{n}" for n in range(3)} | {
        "3-2-0"
    }
    works = [work for _, work, name in recorder.seen if name.startswith("3-0-2-")]  # one user's, in order
    assert works == [f"{work:.6f}" for work, _ in zip(user_work(SCENARIO, 0, 3, 2), works, strict=False)]


def test_users_follow_the_traffic(scenario_path, recorder, tmp_path):
    shape = ("--loop", "closed", "--shape", "traffic", "--rate", 8, "--user-rate", 2, "--think-time", 0.01)
    done = run("--scenario", scenario_path, "-H", recorder.url, *SEED, *shape, "-t", "1s", "--report", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    assert len({one[2].rsplit("-", 1)[0] for one in recorder.seen}) == 4  # 8 requests/s by users of 2 requests/s


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_still_reports(scenario_path, recorder, tmp_path, number):
    path = tmp_path / "r.json"
    with start(
        "--headless", "--only-summary", "--scenario", scenario_path, "-H", recorder.url, *SEED, "-t", "60s", "--report", path
    ) as locust:
        while not recorder.seen and locust.poll() is None:
            recorder.release.wait(0.02)
        locust.send_signal(number)
        _, errors = locust.communicate(timeout=RUN_TIMEOUT_S)
    assert locust.returncode == 0, errors
    report = report_of(path)
    assert 0 < report["duration_s"] < 60
    assert report["sent_requests"] == report["rows"][0]["requests"] == len(recorder.seen)
    due = draw_schedule(settings(duration_s=60.0)).due_before(report["duration_s"])
    assert report["sent_requests"] <= report["offered_requests"] == due, "what was due by then was offered, and no more"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rate", "abc"], "error: --rate is 'abc'; allowed: a number, above 0; correct it"),
        (["--loop", "closed", "--shape", "traffic", "--scenario", "mmpp"], "use --loop open for it"),
        (["--rte", "3"], "unrecognized arguments: --rte"),
    ],
)
def test_bad_options_end_the_program_in_one_line(options, said):
    done = run("-t", "1s", *options)
    errors = [line for line in done.stderr.splitlines() if "/INFO/" not in line]
    assert done.returncode == 2
    assert said in errors[0]
    assert len([line for line in errors if not line.startswith("Did you mean")]) == 1


def test_an_existing_report_is_refused_before_anything_is_sent(scenario_path, recorder, tmp_path):
    path = tmp_path / "r.json"
    path.write_text("precious")
    done = run("--scenario", scenario_path, "-H", recorder.url, "--report", path)
    assert done.returncode == 2
    assert "--report-overwrite" in done.stderr
    assert path.read_text() == "precious"
    assert recorder.seen == []


def test_help_has_the_options_and_examples():
    done = run("--traffic-help")
    assert done.returncode == 0
    for part in ("--scenario ID|PATH", "--max-in-flight N", "trimtab examples:", "--worker --master-host localhost"):
        assert part in done.stdout

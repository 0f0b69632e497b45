"""What a log is told of the time that is left."""

from trimtab.cli.progress import Bar


def told(capsys, parts, costs=(), done=0, paces_s=()):
    """Seconds said to be left after each part, where part n takes paces_s[n]."""
    now_s, worked = [0.0], 0.0
    bar = Bar("work", parts, done=done, clock=lambda: now_s[0], work=sum(costs) if costs else None)
    left = []
    for number, pace_s in enumerate(paces_s, done + 1):
        now_s[0] += pace_s
        worked += costs[number - 1] if costs else 0.0
        bar.update(number, "text", worked if costs else None)
        line = capsys.readouterr().err
        left.append(float(line.split("about ")[1].split(" s left")[0]) if line else None)
    return left


def test_equal_parts_go_on_at_the_pace_since_the_last_line(capsys):
    assert told(capsys, 4, paces_s=(10.0, 20.0, 30.0, 40.0)) == [30.0, 40.0, 30.0, 0.0]


def test_a_run_that_goes_on_counts_what_was_there(capsys):
    assert told(capsys, 10, done=7, paces_s=(10.0, 10.0, 10.0)) == [20.0, 10.0, 0.0]


def test_what_takes_longest_and_goes_first_does_not_stretch_the_rest(capsys):
    assert told(capsys, 4, costs=(60.0, 20.0, 10.0, 10.0), paces_s=(60.0, 20.0, 10.0, 10.0)) == [40.0, 20.0, 10.0, 0.0]


def test_lines_are_some_seconds_apart_and_the_last_one_is_always_said(capsys):
    assert told(capsys, 4, paces_s=(4.0, 4.0, 4.0, 1.0)) == [12.0, None, None, 0.0]


def test_more_done_than_wanted_is_nothing_left(capsys):
    assert told(capsys, 3, done=5, paces_s=(10.0,)) == [0.0]


def test_an_endless_run_takes_no_room(capsys):
    assert told(capsys, 10**12, paces_s=(10.0,))[0] > 1e12

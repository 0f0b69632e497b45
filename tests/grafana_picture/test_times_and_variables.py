import pytest
from picture_errors import PictureError
from picture_prometheus import Prometheus
from picture_time import duration_s, instant_s, step_s, written
from picture_variables import Span, built_in, filled, resolved

SPAN = Span(from_s=1000.0, to_s=1900.0, step_s=3.0, rate_interval_s=10.0)
NOBODY = Prometheus("http://127.0.0.1:1")  # a test that asks it fails


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("1h30m", 5400), ("250ms", 0.25), ("2d", 172800)])
def test_durations(text, seconds):
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "m", "15", "0s", "5 m", "-5m"])
def test_no_duration(text):
    with pytest.raises(PictureError, match="is not a duration"):
        duration_s(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("now", 5000), ("-15m", 4100), ("now-1h", 1400), ("1234.5", 1234.5), ("1970-01-01T00:01:00", 60), ("1970-01-01T02:00:00+01:00", 3600)],
)
def test_instants(text, seconds):
    assert instant_s(text, now_s=5000.0) == pytest.approx(seconds)


def test_a_step_gives_about_300_points_and_is_never_finer_than_the_scrapes():
    assert step_s(0, 900) == 3
    assert step_s(0, 60) == 2
    assert step_s(0, 60, at_least_s=5) == 5
    with pytest.raises(PictureError, match="range is empty"):
        step_s(10, 10)


def test_the_rate_interval_grows_with_the_step():
    assert built_in(SPAN)["__rate_interval"] == "10s"
    assert built_in(Span(0, 9000, 30.0, 10.0))["__rate_interval"] == "32s"
    assert built_in(SPAN)["__range"] == "900s"
    assert written(0.25) == "250ms"


def test_every_way_to_write_a_variable_is_filled_in():
    values = {"server": "a|b", "__interval": "3s"}
    assert filled('x{s=~"$server",t=~"${server:regex}",u="[[server]]"}[$__interval]', values) == 'x{s=~"a|b",t=~"a|b",u="a|b"}[3s]'
    with pytest.raises(PictureError, match=r"uses \$clas"):
        filled("$clas", values)


def variable(**model):
    return resolved({"templating": {"list": [{"name": "v", "type": "custom", "query": "a, b.c"} | model]}}, {}, NOBODY, SPAN)[0]


def test_all_takes_the_dashboards_own_expression_or_every_option_escaped():
    assert variable(includeAll=True, allValue=".*", current={"value": ["$__all"]}).query_text == ".*"
    assert variable(includeAll=True, current={"value": "$__all"}).query_text == r"(a|b\\.c)"
    assert variable(includeAll=True).shown == "All"


def test_without_a_choice_the_first_option_holds():
    assert variable().query_text == "a"
    assert variable(current={"value": "b.c"}).query_text == "b.c"
    assert variable(multi=True, current={"value": ["b.c"]}).query_text == r"b\\.c"


def test_a_given_value_is_used_as_it_is_and_an_unknown_name_refused():
    dashboard = {"templating": {"list": [{"name": "server", "type": "query", "query": "label_values(up, server)"}]}}
    assert resolved(dashboard, {"server": "s.*"}, NOBODY, SPAN)[0].query_text == "s.*"
    with pytest.raises(PictureError, match="no variable 'sever': it has server"):
        resolved(dashboard, {"sever": "x"}, NOBODY, SPAN)

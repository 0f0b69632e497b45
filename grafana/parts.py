"""What the dashboards are made of: panels with the settings that all of them share, rows, variables, annotations.

Panel types are only those that need no plugin: timeseries, stat, bargauge, table.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BarGaugeDisplayMode,
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE: Final = DataSourceRef(type_val="prometheus", uid="prometheus")  # as in provisioning/datasources/prometheus.yml
HEIGHT: Final = 7  # of a panel, in grid units of 30 pixels
SLO: Final = ("testbed:response_seconds:slo", "SLO")
# One band for each alert, however many servers it fires for: bands lie over one another.
FIRING_BY_NAME: Final = 'max by (alertname, severity) (ALERTS{alertstate="firing",severity!="info"})'
_DASHED: Final = {"fill": "dash", "dash": [8, 6]}

Steps = Sequence[tuple[float | None, str]]  # thresholds: from which value on, which colour; the first value is None


class Builder(Protocol):
    """A panel that is not built yet."""

    def build(self) -> Any: ...


class Row(NamedTuple):
    """A titled line across the dashboard, and the panels below it, left to right, top to bottom."""

    title: str
    panels: Sequence[Builder]


def curves(
    title: str, about: str, unit: str, *targets: tuple[str, str], width: int = 8, stacked: bool = False, top: float | None = None,
    limits: Steps = (), slo: bool = False, height: int = HEIGHT,
) -> Builder:  # fmt: skip
    """A line for each series of each (query, legend); `limits` and `slo` are drawn dashed, `top` is the axis's least maximum."""
    panel = _common(timeseries.Panel(), title, about, unit, (*targets, SLO) if slo else targets, width, height=height)
    panel = panel.line_width(1).fill_opacity(25 if stacked else 6).show_points(VisibilityMode.AUTO).span_nulls(span_nulls=10_000)
    panel = panel.legend(_legend()).tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    panel = panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC)).axis_soft_min(0)
    if slo:
        panel = panel.override_by_name("SLO", _fixed("red"))
    if any(legend.startswith("reference") for _, legend in targets):
        panel = panel.override_by_regexp("^reference .*", [DynamicConfigValue("custom.lineStyle", _DASHED)])
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if top is not None:
        panel = panel.axis_soft_max(top)
    if limits:
        panel = panel.thresholds(_thresholds(limits)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        )
    return panel


def number(
    title: str, about: str, unit: str, *targets: tuple[str, str], width: int = 4, limits: Steps = ((None, "text"),), name: bool = False,
    texts: Mapping[str, tuple[str, str]] | None = None, spark: bool = False,
) -> Builder:  # fmt: skip
    """The latest value in large digits; `name`: the legend beside it; `texts`: value -> (text, colour); `spark`: its course below."""
    panel = _common(stat.Panel(), title, about, unit, targets, width).thresholds(_thresholds(limits)).reduce_options(_latest())
    panel = panel.graph_mode(BigValueGraphMode.AREA if spark else BigValueGraphMode.NONE)
    panel = panel.text_mode(BigValueTextMode.VALUE_AND_NAME if name else BigValueTextMode.VALUE)
    if texts:
        mapped = {value: ValueMappingResult(text=text, color=color) for value, (text, color) in texts.items()}
        panel = panel.mappings([ValueMap(mapped)]).color_mode(BigValueColorMode.BACKGROUND)
    return panel


def words(title: str, about: str, *targets: tuple[str, str], width: int = 4, height: int = HEIGHT) -> Builder:
    """The legend in large letters, whatever the value."""
    panel = _common(stat.Panel(), title, about, "short", targets, width, instant=True, height=height).reduce_options(_latest())
    return panel.text_mode(BigValueTextMode.NAME).graph_mode(BigValueGraphMode.NONE).thresholds(_thresholds([(None, "text")]))


def bars(
    title: str, about: str, unit: str, *targets: tuple[str, str], width: int = 8, limits: Steps = ((None, "blue"),), height: int = HEIGHT,
) -> Builder:  # fmt: skip
    """A horizontal bar for the latest value of each series."""
    panel = _common(bargauge.Panel(), title, about, unit, targets, width, instant=True, height=height)
    panel = panel.min(0).thresholds(_thresholds(limits)).reduce_options(_latest()).orientation(VizOrientation.HORIZONTAL)
    return panel.display_mode(BarGaugeDisplayMode.BASIC)


def rows_of(title: str, about: str, unit: str, query: str, width: int = 8, height: int = HEIGHT) -> Builder:
    """A table: one line for each series, one column for each label."""
    panel = _common(table.Panel(), title, about, unit, [(query, "")], width, instant=True, layout=PromQueryFormat.TABLE, height=height)
    panel = panel.min_width(60)
    return panel.override_by_name("Time", [DynamicConfigValue("custom.hidden", value=True)])


def _common(
    panel: Any, title: str, about: str, unit: str, targets: Sequence[tuple[str, str]], width: int, *, instant: bool = False,
    layout: PromQueryFormat = PromQueryFormat.TIME_SERIES, height: int = HEIGHT,
) -> Any:  # fmt: skip
    panel = panel.title(title).description(about).unit(unit).datasource(SOURCE).span(width).height(height)
    for letter, (expr, legend) in zip("ABCDEFGH", targets, strict=False):
        query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(letter).format(layout).datasource(SOURCE)
        panel = panel.with_target(query.instant() if instant else query.range())
    return panel


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    return legend.show_legend(show_legend=True).calcs([])


def _latest() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False).fields("")


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    config = dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE)
    return config.steps([Threshold(value=value, color=color) for value, color in steps])


def _fixed(color: str) -> list[DynamicConfigValue]:
    drawn = {"color": {"mode": "fixed", "fixedColor": color}, "custom.lineStyle": _DASHED, "custom.fillOpacity": 0}
    return [DynamicConfigValue(name, value) for name, value in drawn.items()]


def chooser(label: str, metric: str) -> dashboard.QueryVariable:
    """A variable over the values of a label: several at once, and all of them at first."""
    everything = VariableOption(selected=True, text=["All"], value=["$__all"])
    variable = (
        dashboard.QueryVariable(label).label(label).datasource(SOURCE).query({"query": f"label_values({metric}, {label})", "refId": label})
    )
    variable = variable.multi(multi=True).include_all(include_all=True).all_value(".*").current(everything)
    # Read anew with every change of the time range: a training run brings its servers only when it starts.
    return variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)


def annotation(name: str, color: str, expr: str, title: str, tags: str = "") -> dict[str, Any]:
    """Marks on all curves where `expr` has a value; `title` and `tags` speak of its labels. The SDK's own builder knows neither."""
    return {
        "name": name, "datasource": SOURCE.to_json(), "enable": True, "iconColor": color,
        "expr": expr, "step": "5s", "titleFormat": title, "tagKeys": tags, "textFormat": "",
    }  # fmt: skip


def page(uid: str, title: str, about: str, rows: Sequence[Row], variables: Sequence[Any], annotations: Sequence[Mapping[str, Any]]) -> str:
    """The dashboard as the JSON that Grafana reads; panels are numbered in order and flow over 24 columns."""
    board = dashboard.Dashboard(title).uid(uid).description(about).tags(["trimtab"]).timezone("browser").readonly()
    board = board.time("now-15m", "now").refresh("5s").tooltip(DashboardCursorSync.CROSSHAIR).variables(list(variables))
    for row in rows:
        board = board.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            board = board.with_panel(panel)
    document = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    for position, panel in enumerate(document["panels"]):
        panel["id"] = position + 1
    document["annotations"] = {"list": list(annotations)}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"

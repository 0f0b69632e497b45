// The last five minutes as this page saw them, and two charts of them.

import { classColour, classShape, css, milliseconds, rate, reward } from "./format.js";

const KEPT_S = 300;
const DASHES = [[], [6, 3], [2, 3], [8, 3, 2, 3]];
const BORDERS = ["solid", "dashed", "dotted", "double"]; // the same in the legend

export class History {
  rows = [];

  add(atS, state) {
    const byClass = state.classes.map((one) => one.rate_rps);
    const servers = state.servers.map((one) => ({ rate: one.rate_rps, latency: one.latency_ms }));
    const rewards = Object.fromEntries(state.deciders.map((one) => [one.name, one.reward]));
    this.#keep({ atS, rate: state.rate_rps, latency: state.latency_ms, byClass, servers, rewards });
  }

  gap(atS) {
    this.#keep({ atS, rate: null, latency: null, byClass: [], servers: [], rewards: {} });
  }

  column(pick) {
    return this.rows.map((row) => pick(row) ?? null);
  }

  #keep(row) {
    this.rows.push(row);
    while (this.rows.length && this.rows[0].atS < row.atS - KEPT_S) this.rows.shift();
  }
}

export function drawCharts(ratePlace, rewardPlace, latencyPlace, history) {
  let charts = null;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  return (state) => {
    const key = JSON.stringify([state.classes.map((one) => one.name), state.deciders.map((one) => one.name), dark.matches]);
    if (charts?.key !== key) {
      charts?.all.forEach((one) => one.destroy());
      charts = { key, all: [rateChart(ratePlace, history, state.classes), rewardChart(rewardPlace, history, state.deciders), latencyChart(latencyPlace, history)] };
    }
    charts.all.forEach((one) => one.update());
  };
}

function rateChart(place, history, classes) {
  const total = { label: "all", stroke: css("--ink"), width: 2, pick: (row) => row.rate, show: rate };
  const each = classes.map((one, k) => ({
    label: `${classShape(k)} ${one.name}`,
    stroke: classColour(k),
    width: 2,
    dash: DASHES[(k + 1) % DASHES.length],
    pick: (row) => row.byClass[k],
    show: rate,
  }));
  return chart(place, history, [total, ...each]);
}

function rewardChart(place, history, deciders) {
  const series = deciders.map((one, d) => ({
    label: one.name,
    stroke: css(`--latency-${d % 3}`),
    width: 2,
    dash: DASHES[d % DASHES.length],
    pick: (row) => row.rewards[one.name],
    show: reward,
  }));
  return chart(place, history, series, (_, min) => [Math.min(-1, (min ?? 0) * 1.1), 0]);
}

function latencyChart(place, history) {
  const lines = [["p50", "--latency-0", DASHES[0]], ["p95", "--latency-1", DASHES[1]], ["p99", "--latency-2", DASHES[2]]];
  const series = lines.map(([name, colour, dash]) => ({ label: name, stroke: css(colour), width: 2, dash, pick: (row) => row.latency?.[name], show: milliseconds }));
  return chart(place, history, series);
}

function chart(place, history, lines, range = (_, min, max) => [0, Math.max(1, (max ?? 0) * 1.1)]) {
  const axis = { stroke: css("--quiet"), grid: { stroke: css("--line"), width: 1 }, ticks: { stroke: css("--line"), width: 1 }, font: "12px system-ui" };
  const size = () => ({ width: Math.max(200, place.clientWidth), height: 190 });
  const options = {
    ...size(),
    scales: { x: { time: true, range: (_, min, max) => [Math.min(min, max - 30), max] }, y: { range } },
    axes: [{ ...axis, values: "{HH}:{mm}:{ss}", space: 70 }, { ...axis, size: 48 }],
    cursor: { y: false, drag: { x: false, y: false } },
    legend: { markers: { width: 3, fill: "transparent", dash: (_, i) => BORDERS[(i - 1) % BORDERS.length] } },
    series: [
      { label: "time", value: "{HH}:{mm}:{ss}" },
      ...lines.map(({ label, stroke, width, dash, show }) => ({ label, stroke, width, dash, points: { show: false }, value: (_, v) => (v === null ? "-" : show(v)) })),
    ],
  };
  const data = () => [history.rows.map((row) => row.atS), ...lines.map((line) => history.column(line.pick))];
  const plot = new uPlot(options, data(), place);
  const watcher = new ResizeObserver(() => plot.setSize(size()));
  watcher.observe(place);
  return {
    update: () => {
      plot.setData(data());
      if (plot.cursor.idx === null || plot.cursor.idx === undefined) plot.setLegend({ idx: history.rows.length - 1 });
    },
    destroy: () => {
      watcher.disconnect();
      plot.destroy();
    },
  };
}

// A small line without axes for a server's card; `top` is shared, so that servers can be compared.
export function sparkline(place, colour, label) {
  const options = {
    width: 120,
    height: 34,
    class: "spark",
    legend: { show: false },
    cursor: { show: false },
    axes: [{ show: false }, { show: false }],
    padding: [2, 0, 2, 0],
    scales: { x: { time: false }, y: { range: (u) => [0, Math.max(1, u.top ?? 1)] } },
    series: [{}, { label, stroke: () => css(colour), fill: () => css("--spark"), width: 1.5, points: { show: false } }],
  };
  const plot = new uPlot(options, [[], []], place);
  return (times, values, top) => {
    plot.top = top;
    if (plot.width !== place.clientWidth && place.clientWidth > 0) plot.setSize({ width: place.clientWidth, height: 34 });
    plot.setData([times, values]);
  };
}

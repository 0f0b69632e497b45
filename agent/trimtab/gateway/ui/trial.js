// How decisions turned out by who made them, the model files behind them, and what the candidates on trial think.

import { count, duration, make, milliseconds, percent, rate, reward } from "./format.js";

export function showTrial(place, state) {
  place.replaceChildren(deciders(state), ...(state.models.length ? [models(state)] : []), ...candidates(state));
}

function table(name, heads, rows) {
  const head = make("tr", {}, ...heads.map((one) => make("th", { scope: "col" }, one)));
  return make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": name }, make("table", { class: "reasons", id: name }, make("thead", {}, head), make("tbody", {}, ...rows)));
}

const cells = (first, ...rest) => [make("th", { scope: "row" }, ...first), ...rest.map((one) => make("td", {}, one))];

function deciders(state) {
  const heads = ["decider", "requests/s", "reward", "mean, ms", "failed", "p50", "p95", "all failed"];
  const rows = state.deciders.map((one) => {
    const { latency_ms: latency, failed_share: failed } = one;
    const total = one.served + one.failed;
    const name = [make("strong", {}, one.name), make("small", {}, one.role === one.name ? "" : ` ${one.role}`)];
    const ever = total ? `${count(one.failed)} of ${count(total)}` : "-";
    const [mean, p50, p95] = [latency?.mean, latency?.p50, latency?.p95].map(milliseconds);
    return make("tr", one.rate_rps ? {} : { class: "none" }, ...cells(name, rate(one.rate_rps), reward(one.reward), mean, failed === null ? "-" : percent(failed), p50, p95, ever));
  });
  return table("deciders", heads, rows);
}

function models(state) {
  const rows = state.models.flatMap((one) => {
    const name = [make("strong", {}, one.file), make("small", {}, ` ${one.role}`)];
    const age = one.age_s === null ? "not yet" : `${duration(one.age_s)} ago`;
    const row = make("tr", {}, ...cells(name, age, count(Math.max(0, one.loads - 1)), count(one.refusals)));
    const refused = () => make("tr", {}, make("td", { class: "refused", colspan: "4" }, `! newest file refused: ${one.refused}`));
    return one.refused ? [row, refused()] : [row];
  });
  return table("models", ["model", "loaded", "reloads", "refused"], rows);
}

function candidates(state) {
  const { shadow, canary, learning } = state;
  const lines = [];
  if (shadow !== null) lines.push(make("p", { id: "shadow" }, make("strong", {}, "shadow"), ` ${shadow.state}: ${opinion(shadow)}. ${held(shadow.reasons)}`));
  if (canary !== null) lines.push(make("p", { id: "canary", class: canary.state === "stopped" ? "refused" : "" }, make("strong", {}, "canary"), ` ${said(canary)}. ${held(canary.reasons)}`));
  if (learning !== null) lines.push(make("p", { id: "learning", class: learning.share ? "" : "refused" }, make("strong", {}, "learning"), ` ${progress(learning)}.`));
  return lines;
}

function opinion(shadow) {
  if (shadow.agreement === null) return "no decision in the last ten seconds";
  const { q, delay } = shadow.gain_ms;
  return `agrees with ${percent(shadow.agreement)}; would save ${gain(q)} a request by its own values, ${gain(delay)} by sed-online's expected delays`;
}

function gain(value) {
  return value === null ? "-" : `${value < 0 ? "\u2212" : ""}${milliseconds(Math.abs(value))} ms`;
}

function said(canary) {
  if (canary.state === "stopped") return `! stopped, it failed too often; it would decide ${percent(canary.share)} of requests`;
  return `${canary.state}: decides ${percent(canary.share)} of requests`;
}

function progress({ state, share, groups, behind }) {
  const stops = behind ? `; behind ${count(behind)} times so far` : "";
  if (!share) return `! ${state}: it was slower than its control group, and sed-online decides${stops}`;
  const versus = groups && `${milliseconds(groups.latency_ms.learned)} ms against ${milliseconds(groups.latency_ms.control)} ms of its control group in ${duration(groups.window_s)}`;
  return `${state}: the model decides ${percent(share)} of requests${versus ? `; ${versus}` : ""}${stops}`;
}

function held(reasons) {
  const met = Object.entries(reasons).filter(([, times]) => times);
  return met.length ? `Held against it: ${met.map(([reason, times]) => `${reason} ${count(times)}`).join(", ")}.` : "";
}

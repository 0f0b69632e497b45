// Asks the gateway for its state twice a second and shows it. Nothing is loaded from anywhere but this gateway.

import { History, drawCharts } from "./charts.js";
import { Diary } from "./diary.js";
import { Flow } from "./flow.js";
import { count, duration, make, milliseconds, percent, rate, reward } from "./format.js";
import { showDecider, showEvents } from "./panels.js";
import { ServerCards } from "./servers.js";
import { showTrial } from "./trial.js";

const POLL_MS = 500;
const PATIENCE_MS = 2000;

const byId = (id) => document.getElementById(id);
const history = new History();
const diary = new Diary();
const flow = new Flow(byId("flow"), byId("flow-note"));
const cards = new ServerCards(byId("servers"));
const redraw = drawCharts(byId("rate-chart"), byId("reward-chart"), byId("latency-chart"), history);
let lostAt = null;

async function ask() {
  const response = await fetch("/api/state", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!response.ok) throw new Error(`it answered ${response.status}`);
  return response.json();
}

function show(state) {
  const nowMs = Date.now();
  if (lostAt !== null) diary.note(nowMs, "", `the gateway answers again after ${duration((nowMs - lostAt) / 1000)}`);
  lostAt = null;
  history.add(nowMs / 1000, state);
  diary.watch(nowMs, state);
  byId("policy").textContent = state.policy;
  byId("uptime").textContent = duration(state.uptime_s);
  showCondition(state);
  showFigures(state);
  flow.show(state);
  cards.show(state, history);
  showDecider(byId("decider"), state);
  showTrial(byId("trial"), state);
  showEvents(byId("events"), diary.events(nowMs, state), nowMs);
  redraw(state);
  byId("main").classList.remove("stale");
  byId("alarm").hidden = true;
}

function showCondition(state) {
  const out = state.servers.filter((one) => one.status === "down" || one.status === "ejected");
  let [kind, text] = ["ok", "\u2713 routing"];
  if (out.length) [kind, text] = ["warn", `! ${out.length} of ${state.servers.length} servers out: ${out.slice(0, 4).map((one) => one.id).join(", ")}`];
  if (state.panic) [kind, text] = ["bad", "! panic: too few healthy servers, all are offered"];
  if (state.draining) [kind, text] = ["warn", "! draining: no new connections"];
  if (!state.panic && !state.draining && out.length === state.servers.length) [kind, text] = ["bad", "\u2715 no server"];
  setBadge(kind, text);
}

function setBadge(kind, text) {
  const badge = byId("condition");
  if (badge.textContent !== text) badge.textContent = text; // a screen reader speaks changes only
  badge.className = `badge ${kind}`;
}

function showFigures(state) {
  const { counts, latency_ms: latency } = state;
  const ended = counts.served + counts.failed;
  const figures = [
    ["requests/s", rate(state.rate_rps), ""],
    ["p50", milliseconds(latency?.p50), "ms"],
    ["p95", milliseconds(latency?.p95), "ms"],
    ["p99", milliseconds(latency?.p99), "ms"],
    ["reward", reward(state.reward), ""],
    ["in flight", count(counts.in_flight), ""],
    ["served", count(counts.served), ""],
    ["failed tries", count(counts.failed), ended ? percent(counts.failed / ended) : ""], // a retry may have served the request
    ["client left", count(counts.unmeasured), ""],
    ["retries", count(counts.retries), ""],
  ];
  byId("figures").replaceChildren(
    ...figures.map(([name, value, unit]) => make("div", {}, make("dt", {}, name), make("dd", {}, value, make("small", {}, unit && value !== "-" ? ` ${unit}` : "")))),
  );
}

function lost(error) {
  const nowMs = Date.now();
  if (lostAt === null) {
    lostAt = nowMs;
    diary.note(nowMs, "", "the gateway does not answer");
    showEvents(byId("events"), diary.events(nowMs, null), nowMs);
  }
  history.gap(nowMs / 1000);
  flow.stop();
  setBadge("bad", "\u2715 no answer");
  const reason = error.name === "TimeoutError" ? "no answer within 2 s" : error.message;
  const since = new Date(lostAt).toLocaleTimeString("en-GB");
  const below = history.rows.some((row) => row.rate !== null) ? "What is shown below is the last that was known." : "Nothing is known yet.";
  byId("alarm").textContent = `The gateway does not answer since ${since} (${duration((nowMs - lostAt) / 1000)}; ${reason}). ${below}`;
  byId("alarm").hidden = false;
  byId("main").classList.add("stale");
}

async function poll() {
  const startedMs = performance.now();
  let state = null;
  try {
    state = await ask();
  } catch (error) {
    lost(error);
  }
  if (state !== null) show(state); // outside the try: a mistake of this page must not look like a silent gateway
  setTimeout(poll, Math.max(50, POLL_MS - (performance.now() - startedMs)));
}

poll();

// Who decides, and what happened.

import { REASONS } from "./diary.js";
import { count, duration, make, percent } from "./format.js";

export function showDecider(place, state) {
  const { primary, fallback, reasons, decisions, state: now } = state.decider;
  const sentence = fallback === null ? [make("strong", {}, primary), " decides alone"] : [make("strong", {}, primary), ", with ", make("strong", {}, fallback), " in reserve"];
  const rows = Object.entries(reasons).map(([reason, times]) => reasonRow(reason, times, state.counts.sent));
  place.replaceChildren(make("p", {}, ...sentence), make("p", {}, "state: ", make("strong", { id: "decider-state" }, now)), decided(decisions));
  if (fallback !== null) {
    const head = make("tr", {}, make("th", { scope: "col" }, "reason"), make("th", { scope: "col" }, "decisions"), make("th", { scope: "col" }, "share"));
    place.append(make("table", { class: "reasons" }, make("thead", {}, head), make("tbody", {}, ...rows)));
  }
}

function decided(decisions) {
  const total = Object.values(decisions).reduce((sum, one) => sum + one, 0);
  const parts = Object.entries(decisions).map(([name, times]) => `${name} ${count(times)}${total ? ` (${percent(times / total)})` : ""}`);
  return make("p", { id: "decisions" }, `decisions: ${parts.join(", ")}`);
}

function reasonRow(reason, times, sent) {
  const name = make("td", { title: REASONS[reason] ?? reason }, make("strong", {}, reason), make("small", {}, ` ${REASONS[reason] ?? ""}`));
  const row = make("tr", times ? {} : { class: "none" }, name, make("td", {}, count(times)), make("td", {}, sent ? percent(times / sent) : "-"));
  return row;
}

export function showEvents(place, events, nowMs) {
  if (!events.length) {
    place.replaceChildren(make("li", { class: "quiet" }, "nothing yet"));
    return;
  }
  place.replaceChildren(...events.map((one) => eventLine(one, nowMs)));
}

function eventLine(one, nowMs) {
  const times = one.times > 1 ? ` (${count(one.times)} times)` : "";
  const age = make("time", { title: new Date(one.atMs).toLocaleString("en-GB") }, `${duration(Math.max(0, nowMs - one.atMs) / 1000)} ago`);
  return make("li", {}, age, make("span", {}, one.server ? make("strong", {}, `${one.server} `) : "", `${one.what}${times}`));
}

// One card for each server: health, load, share, rate and latency, with their last minutes.

import { sparkline } from "./charts.js";
import { classShape, make, milliseconds, percent, rate, statusOf } from "./format.js";

const WITH_LINES = 16; // more servers than these get cards without lines: the browser has other work

export class ServerCards {
  #place;
  #key = "";
  #cards = [];

  constructor(place) {
    this.#place = place;
  }

  show(state, history) {
    const key = JSON.stringify(state.servers.map((one) => one.id));
    if (key !== this.#key) {
      this.#key = key;
      this.#cards = state.servers.map((one) => new Card(one, state.servers.length <= WITH_LINES));
      this.#place.replaceChildren(...this.#cards.map((one) => one.element));
    }
    this.#cards.forEach((card, s) => card.show(state.servers[s], state.classes));
    if (state.servers.length <= WITH_LINES) this.#drawLines(history);
  }

  #drawLines(history) {
    const times = history.rows.map((row) => row.atS);
    for (const [name, line] of [["rate", "rateLine"], ["latency", "latencyLine"]]) {
      const columns = this.#cards.map((_, s) => history.column((row) => row.servers[s]?.[name]));
      const top = Math.max(1, ...columns.flat().filter((value) => value !== null));
      columns.forEach((values, s) => this.#cards[s][line](times, values, top));
    }
  }
}

class Card {
  constructor(server, withLines) {
    this.badge = make("span", { class: "badge" });
    this.busy = make("i");
    this.share = make("i");
    this.busyText = make("span");
    this.shareText = make("span");
    this.rate = make("strong");
    this.latency = make("strong");
    this.mix = make("p", { class: "quiet mix" });
    const ratePlace = make("div", { class: "spark-place" });
    const latencyPlace = make("div", { class: "spark-place" });
    this.element = make(
      "article",
      { class: "card", "data-server": server.id },
      make("header", {}, make("h3", {}, server.id), this.badge),
      make("p", { class: "quiet url" }, server.url),
      bar("in flight of slots", this.busy, this.busyText),
      bar("share of traffic", this.share, this.shareText),
      make("div", { class: "pair" }, make("div", {}, this.rate, " /s", ratePlace), make("div", {}, this.latency, " ms", latencyPlace)),
      this.mix,
    );
    this.rateLine = withLines ? sparkline(ratePlace, "--ink", "requests/s") : null;
    this.latencyLine = withLines ? sparkline(latencyPlace, "--latency-1", "ms") : null;
  }

  show(server, classes) {
    const { sign, word } = statusOf(server);
    const ramp = server.status === "ramping" ? ` ${percent(server.ramp)}` : "";
    this.badge.textContent = `${sign} ${word}${ramp}`;
    this.badge.className = `badge ${server.status}`;
    this.element.classList.toggle("out", server.status === "down" || server.status === "ejected");
    this.busy.style.width = `${Math.min(100, (100 * server.in_flight) / server.slots)}%`;
    this.busy.classList.toggle("over", server.in_flight > server.slots);
    this.busyText.textContent = `${server.in_flight} of ${server.slots}`;
    this.share.style.width = `${100 * server.share}%`;
    this.shareText.textContent = percent(server.share);
    this.rate.textContent = rate(server.rate_rps);
    this.latency.textContent = milliseconds(server.latency_ms);
    this.mix.textContent = classes.map((one, k) => `${classShape(k)} ${one.name} ${rate(server.by_class[one.name] ?? 0)}`).join("   ");
  }
}

function bar(name, fill, text) {
  return make("div", { class: "bar" }, make("span", {}, name), make("span", { class: "track" }, fill), text);
}

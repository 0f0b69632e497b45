// The picture: requests flow from their classes through the policy to the servers. Widths are shares, marks move by rates.

import { classColour, classShape, css, make, offered, percent, rate, statusOf } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const MARKS_PER_S = 60; // at most; beyond that a mark stands for several requests, and the note says so
const TRAVEL_S = 1.8;
const COMPACT = 12; // from this many servers on, one line of text each

function svg(tag, attributes, text) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

// A ribbon from one upright edge to another: `a` and `b` are the middles of its ends, which may differ in width.
function ribbon(a, b, startWide, endWide) {
  const middle = (a.x + b.x) / 2;
  const [h, e] = [Math.max(1, startWide) / 2, Math.max(1, endWide) / 2];
  const there = `M${a.x} ${a.y - h}C${middle} ${a.y - h} ${middle} ${b.y - e} ${b.x} ${b.y - e}`;
  return `${there}L${b.x} ${b.y + e}C${middle} ${b.y + e} ${middle} ${a.y + h} ${a.x} ${a.y + h}Z`;
}

// A point of that curve: x is symmetric in t, y goes by the smooth step of a cubic with flat ends.
function along(a, b, t) {
  const u = 1 - t;
  const middle = (a.x + b.x) / 2;
  return { x: u * u * u * a.x + 3 * u * t * middle + t * t * t * b.x, y: a.y + (b.y - a.y) * t * t * (3 - 2 * t) };
}

// Where everything stands. Pure: from the state and the width of the place to coordinates.
export function layout(state, width) {
  const narrow = width < 560;
  const { classes, servers } = state;
  const compact = servers.length > COMPACT;
  const step = compact ? 18 : narrow ? 64 : Math.max(64, Math.min(100, 420 / servers.length));
  const height = Math.max(220, servers.length * step, classes.length * 56) + 16;
  const left = narrow ? 84 : 116;
  const right = width - (narrow ? 132 : 210);
  const gate = left + (right - left) * 0.42;
  const total = Math.max(1e-9, state.rate_rps);
  const band = Math.min(height * 0.6, 260) / total;
  const at = (index, count) => 8 + ((index + 0.5) * (height - 16)) / count;
  const routes = [];
  let gateY = height / 2 - (band * state.rate_rps) / 2;
  const arriving = servers.map((one, s) => at(s, servers.length) - Math.min(compact ? 7 : 26, (band * one.rate_rps) / 2));
  const fits = servers.map((one) => Math.min(1, (compact ? 14 : 52) / Math.max(1e-9, band * one.rate_rps)));
  classes.forEach((kind, k) => {
    let startY = at(k, classes.length) - (band * kind.rate_rps) / 2;
    servers.forEach((server, s) => {
      const flow = server.by_class[kind.name] ?? 0;
      const wide = band * flow;
      const [from, middle, end] = [startY + wide / 2, gateY + wide / 2, arriving[s] + (wide * fits[s]) / 2];
      startY += wide;
      gateY += wide;
      arriving[s] += wide * fits[s];
      const live = offered(server) || state.panic;
      if (flow > 0) routes.push({ k, s, rate: flow, live, wide, endWide: wide * fits[s], from: { x: left, y: from }, gateIn: { x: gate, y: middle }, gateOut: { x: gate + 10, y: middle }, to: { x: right, y: end } });
    });
  });
  return { width, height, left, right, gate, at, narrow, compact, routes, band };
}

export class Flow {
  #place;
  #note;
  #svg = svg("svg", { role: "img" });
  #canvas = make("canvas", { "aria-hidden": "true" });
  #layout = null;
  #state = null;
  #marks = [];
  #due = new Map();
  #lastMs = 0;
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(place, note) {
    this.#place = place;
    this.#note = note;
    place.append(this.#svg, this.#canvas);
    new ResizeObserver(() => this.#state && this.#draw()).observe(place);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#state && this.#draw());
    requestAnimationFrame((ms) => this.#frame(ms));
  }

  show(state) {
    this.#state = state;
    this.#draw();
  }

  stop() {
    this.#layout = null;
    this.#marks = [];
  }

  #draw() {
    const state = this.#state;
    const plan = layout(state, Math.max(300, this.#place.clientWidth));
    this.#layout = plan;
    this.#svg.setAttribute("viewBox", `0 0 ${plan.width} ${plan.height}`);
    this.#svg.style.height = `${plan.height}px`;
    this.#svg.setAttribute("aria-label", describe(state));
    const parts = [...bands(plan), ...classNodes(state, plan), ...gateNode(state, plan), ...state.servers.flatMap((one, s) => serverNode(one, s, state, plan))];
    this.#svg.replaceChildren(...parts);
    this.#note.textContent = noteText(state, this.#still.matches);
    this.#fitCanvas(plan);
  }

  #fitCanvas(plan) {
    const scale = devicePixelRatio || 1;
    const [width, height] = [Math.round(plan.width * scale), Math.round(plan.height * scale)];
    if (this.#canvas.width !== width || this.#canvas.height !== height) [this.#canvas.width, this.#canvas.height] = [width, height];
    this.#canvas.style.height = `${plan.height}px`;
  }

  #frame(ms) {
    const passed = Math.min(0.1, (ms - this.#lastMs) / 1000); // after a pause of the tab nothing jumps
    this.#lastMs = ms;
    const pen = this.#canvas.getContext("2d");
    const scale = devicePixelRatio || 1;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    if (this.#layout && !this.#still.matches) {
      this.#emit(passed);
      this.#move(passed, pen);
    }
    requestAnimationFrame((next) => this.#frame(next));
  }

  #emit(passed) {
    const thin = Math.min(1, MARKS_PER_S / Math.max(1e-9, this.#state.rate_rps));
    for (const route of this.#layout.routes) {
      if (!route.live) continue;
      const key = route.k * 100000 + route.s;
      let due = (this.#due.get(key) ?? Math.random()) + route.rate * thin * passed;
      for (; due >= 1; due -= 1) this.#marks.push({ k: route.k, s: route.s, t: 0, shift: Math.random() - 0.5 });
      this.#due.set(key, due);
    }
  }

  #move(passed, pen) {
    const routes = new Map(this.#layout.routes.map((one) => [one.k * 100000 + one.s, one]));
    const colours = this.#state.classes.map((_, k) => classColour(k));
    pen.lineWidth = 1;
    pen.strokeStyle = css("--panel");
    for (const mark of this.#marks) {
      mark.t += passed / TRAVEL_S;
      const route = routes.get(mark.k * 100000 + mark.s);
      if (!route || !route.live) mark.t = 2;
      else drawMark(pen, position(route, mark), mark.k, colours[mark.k]);
    }
    this.#marks = this.#marks.filter((one) => one.t < 1);
  }
}

function position(route, mark) {
  const point = mark.t < 0.42 ? along(route.from, route.gateIn, mark.t / 0.42) : along(route.gateOut, route.to, (mark.t - 0.42) / 0.58);
  const wide = mark.t < 0.42 ? route.wide : route.wide + ((route.endWide - route.wide) * (mark.t - 0.42)) / 0.58;
  point.y += mark.shift * Math.max(0, wide - 8);
  return point;
}

// A disc, square, triangle or diamond: the class can be told without its colour.
function drawMark(pen, { x, y }, k, colour) {
  const r = 4;
  pen.fillStyle = colour;
  pen.beginPath();
  const shape = k % 4;
  if (shape === 0) pen.arc(x, y, r, 0, 2 * Math.PI);
  else if (shape === 1) pen.rect(x - r + 0.5, y - r + 0.5, 2 * r - 1, 2 * r - 1);
  else if (shape === 2) polygon(pen, [[x, y - r - 0.5], [x + r + 0.5, y + r - 0.5], [x - r - 0.5, y + r - 0.5]]);
  else polygon(pen, [[x, y - r - 1], [x + r + 1, y], [x, y + r + 1], [x - r - 1, y]]);
  pen.fill();
  pen.stroke();
}

function polygon(pen, points) {
  points.forEach(([x, y], index) => (index ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.closePath();
}

function bands(plan) {
  return plan.routes.flatMap(({ k, live, wide, endWide, from, gateIn, gateOut, to }) => {
    const look = { fill: classColour(k), "fill-opacity": live ? 0.3 : 0.1 };
    return [svg("path", { d: ribbon(from, gateIn, wide, wide), ...look }), svg("path", { d: ribbon(gateOut, to, wide, endWide), ...look })];
  });
}

function classNodes(state, plan) {
  return state.classes.flatMap((one, k) => {
    const y = plan.at(k, state.classes.length);
    const half = Math.max(6, (plan.band * one.rate_rps) / 2);
    const x = plan.left - 8;
    return [
      svg("rect", { x, y: y - half, width: 8, height: 2 * half, fill: classColour(k), rx: 2 }),
      svg("text", { x: x - 6, y: y - 3, "text-anchor": "end", class: "name" }, `${classShape(k)} ${short(one.name, plan.narrow ? 7 : 12)}`),
      svg("text", { x: x - 6, y: y + 13, "text-anchor": "end", class: "small" }, `${rate(one.rate_rps)} /s`),
    ];
  });
}

function gateNode(state, plan) {
  const half = Math.max(14, (plan.band * state.rate_rps) / 2);
  const y = plan.height / 2;
  return [
    svg("rect", { x: plan.gate, y: y - half, width: 10, height: 2 * half, class: "gate", rx: 3 }),
    svg("text", { x: plan.gate + 5, y: y - half - 8, "text-anchor": "middle", class: "name" }, short(state.policy, plan.narrow ? 12 : 24)),
  ];
}

function serverNode(server, s, state, plan) {
  const y = plan.at(s, state.servers.length);
  const half = plan.compact ? 8 : 28;
  const { sign, word } = statusOf(server);
  const x = plan.right + 14;
  const box = svg("rect", { x: plan.right, y: y - half, width: 6, height: 2 * half, class: `server ${server.status}`, rx: 2 });
  if (plan.compact) return [box, svg("text", { x, y: y + 4, class: "small" }, `${sign} ${short(server.id, 14)} ${percent(server.share)}`)];
  const ramp = server.status === "ramping" && !plan.narrow ? ` ${percent(server.ramp)}` : "";
  return [
    box,
    svg("text", { x, y: y - 12, class: "name" }, short(server.id, plan.narrow ? 14 : 24)),
    svg("text", { x, y: y + 5, class: `state ${server.status}` }, `${sign} ${word}${ramp}`),
    svg("text", { x, y: y + 21, class: "small" }, plan.narrow ? `${percent(server.share)}, ${server.in_flight}/${server.slots}` : `${percent(server.share)} of traffic, ${server.in_flight}/${server.slots} slots`),
  ];
}

function short(text, length) {
  return text.length <= length ? text : `${text.slice(0, length - 1)}\u2026`;
}

function describe(state) {
  const servers = state.servers.map((one) => `${one.id} ${statusOf(one).word}, ${percent(one.share)}`).join("; ");
  return `${rate(state.rate_rps)} requests a second, routed by ${state.policy}: ${servers}`;
}

function noteText(state, still) {
  if (state.rate_rps < 0.05) return "No requests in the last ten seconds. Send some to this address, such as /job/light of the default fleet.";
  const each = Math.max(1, Math.round(state.rate_rps / MARKS_PER_S));
  const marks = each === 1 ? "Each moving mark is a request, drawn from rates" : `Each moving mark stands for about ${each} requests, drawn from rates`;
  return `Widths are shares of the traffic of the last ten seconds. ${still ? "Moving marks are off, as this device asks." : `${marks}.`}`;
}

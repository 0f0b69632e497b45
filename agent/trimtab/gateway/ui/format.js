// Numbers and small pieces of the page that every part needs.

export function rate(value) {
  return value < 9.95 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}

export function milliseconds(value) {
  if (value === null || value === undefined) return "-";
  return value < 9.95 ? value.toFixed(1) : Math.round(value).toLocaleString("en");
}

// In mean service times of the fleet, as in training; 0 would be an answer that takes no time.
export function reward(value) {
  return value === null || value === undefined ? "-" : (value === 0 ? 0 : value).toFixed(2).replace("-", "\u2212");
}

export function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 0.05) return "<0.1 %";
  const fine = (value > 0 && value < 9.95) || (value > 99 && value < 100); // "100 %" means all
  return `${fine ? Math.min(value, 99.9).toFixed(1) : Math.round(value)} %`;
}

export function count(value) {
  return value.toLocaleString("en");
}

export function duration(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

// Text is always set as text: what servers and classes are called never becomes markup.
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Colour never stands alone: each status has a sign and a word, each class a shape.
export const STATUS = {
  ok: { sign: "\u2713", word: "ok" },
  ramping: { sign: "\u2197", word: "slow start" },
  ejected: { sign: "!", word: "ejected" },
  down: { sign: "\u2715", word: "down" },
};

export function statusOf(server) {
  return STATUS[server.status] ?? { sign: "?", word: server.status };
}

export function offered(server) {
  return server.status === "ok" || server.status === "ramping";
}

const CLASS_COLOURS = 6;
export const SHAPES = ["\u25cf", "\u25a0", "\u25b2", "\u25c6"];

export function classColour(index) {
  return css(`--class-${index % CLASS_COLOURS}`);
}

export function classShape(index) {
  return SHAPES[index % SHAPES.length];
}

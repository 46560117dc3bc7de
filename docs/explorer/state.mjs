// What the page shows, as one plain object, and its form in the address.

import { NORMS, normalizesFeatures, size, termsOf } from "./core.mjs";

/** The six numbers of the board, which the pages and `python -m numpy_norms trace` have, too. */
export const BOARD = {
  x: [[1, 2, 6], [4, -1, 0]],
  gamma: [1, 2, -1],
  beta: [0.5, 0, 1],
  dy: [[1, 0, 0], [0.5, -1, 2]],
  running_mean: [2, -1],
  running_var: [4, 2],
};

/** The shape in which the board lies for a norm: rows, columns, or rows of one sample. */
export function boardShape(norm) {
  if (normalizesFeatures(norm)) return [2, 3];
  return norm.startsWith("batch_norm") ? [3, 2] : [1, 2, 3];
}

export const DEFAULTS = Object.freeze({
  norm: "group_norm",
  shape: [2, 6, 2, 2],
  axes: [3],
  num_groups: 3,
  eps: 1e-5,
  x: "random",
  seed: 1,
  shift: 0,
  scale: 1,
  gamma: "random",
  beta: "random",
  dy: "one",
  off: [],
  cell: 5,
  hot: 5,
  theme: "auto",
});

/** Shapes in which a norm makes sense: tokens of features, or images of channels. */
export const TOKENS = { shape: [2, 3, 8], axes: [2] };
export const IMAGES = { shape: [2, 6, 2, 2], axes: [1, 2, 3] };

/** What an address that names only the norm means. */
export const usual = (norm) => ({ ...DEFAULTS, norm, ...(normalizesFeatures(norm) ? TOKENS : {}) });

/** What the page shows first: the board, under the norm that the pages begin with. */
export const FIRST = Object.freeze({ ...onBoard({ ...DEFAULTS, norm: "layer_norm" }), dy: "random", cell: 0, hot: 0 });

/** The state with the board as its input, in the shape that suits its norm. */
export function onBoard(state) {
  const shape = boardShape(state.norm);
  return { ...state, x: "board", shape, axes: [shape.length - 1], num_groups: 1 };
}

export const CHOICES = {
  norm: NORMS,
  eps: [0.1, 1e-3, 1e-5, 1e-8],
  x: ["board", "random", "ramp", "outlier", "constant"],
  shift: [0, 5],
  scale: [1, 3],
  gamma: ["random", "none"],
  beta: ["random", "none"],
  dy: ["random", "one", "ones"],
  theme: ["auto", "light", "dark"],
};

/** The largest sizes, by the number of axes: what still fits on the page. */
export const LIMITS = { 2: [8, 8], 3: [4, 8, 8], 4: [4, 8, 4, 4] };
export const TERMS = termsOf("group_norm");

export const divisors = (n) => Array.from({ length: n }, (_, i) => i + 1).filter((d) => n % d === 0);

/** The nearest state that makes sense: sizes within limits, groups that divide the channels, cells that exist. */
export function repair(state) {
  const limits = LIMITS[state.shape.length] ?? LIMITS[4];
  const asked = LIMITS[state.shape.length] ? state.shape : DEFAULTS.shape;
  const shape = asked.map((n, axis) => Math.min(Math.max(Math.trunc(n) || 1, 1), limits[axis]));
  const axes = [...new Set(state.axes)].filter((a) => Number.isInteger(a) && a >= 0 && a < shape.length).sort();
  const num_groups = divisors(shape[1]).includes(state.num_groups) ? state.num_groups : divisors(shape[1]).at(-2) ?? 1;
  const cellOf = (i) => (Number.isInteger(i) && i >= 0 && i < size(shape) ? i : 0);
  const board = state.x === "board" && text(shape) === text(boardShape(state.norm));
  const off = TERMS.filter((term) => state.off.includes(term));
  const seed = Number.isInteger(state.seed) && state.seed > 0 ? state.seed : DEFAULTS.seed;
  return {
    ...state, shape, num_groups, off, seed,
    x: state.x === "board" && !board ? "random" : state.x,
    axes: axes.length ? axes : [shape.length - 1],
    cell: cellOf(state.cell), hot: cellOf(state.hot),
  };
}

const text = (value) => (Array.isArray(value) ? value.join(".") : String(value));

const matters = {
  axes: ({ norm }) => normalizesFeatures(norm),
  num_groups: ({ norm }) => norm === "group_norm",
  hot: ({ dy }) => dy === "one",
};

/** The state as the part of an address behind "#"; what has its default value or no effect is left out. */
export function toHash(state) {
  const plain = usual(state.norm);
  return Object.keys(DEFAULTS)
    .filter((key) => key === "norm" || text(state[key]) !== text(plain[key]))
    .filter((key) => !matters[key] || matters[key](state))
    .map((key) => `${key}=${text(state[key])}`)
    .join("&");
}

function read(key, value) {
  const usual = DEFAULTS[key];
  let result = value;
  if (Array.isArray(usual)) result = value.split(".").filter(Boolean);
  if (Array.isArray(usual) && key !== "off") result = result.map(Number);
  if (typeof usual === "number") result = Number(value);
  return CHOICES[key] && !CHOICES[key].includes(result) ? usual : result;
}

/** The state that an address asks for; what it does not say, or says wrongly, has its usual value. */
export function fromHash(hash) {
  const asked = new URLSearchParams(hash.replace(/^#/, ""));
  const known = Object.keys(DEFAULTS).filter((key) => asked.has(key));
  if (known.every((key) => key === "theme")) return { ...FIRST, theme: read("theme", asked.get("theme") ?? "auto") };
  const said = Object.fromEntries(known.map((key) => [key, read(key, asked.get(key))]));
  return repair({ ...usual(said.norm ?? DEFAULTS.norm), ...said });
}

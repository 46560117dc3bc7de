// The numbers behind a state: its arrays, everything computed from them, and the Python program that does the same.

import { backward, finiteDifferences, forward, indexOf, isInference, normalizesFeatures, parameterShape, size } from "./core.mjs";
import { BOARD, TERMS } from "./state.mjs";

// Marsaglia's xorshift: the same numbers in every browser, a stream of its own for every array.
function stream(seed, name) {
  let s = [...name].reduce((h, letter) => Math.imul(h ^ letter.charCodeAt(0), 16777619), 2166136261 ^ seed) | 1;
  const uniform = () => {
    s ^= s << 13;
    s ^= s >>> 17;
    s ^= s << 5;
    return (s >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 8; i++) uniform();
  return uniform;
}

const rounded = (value) => Math.round(value * 10) / 10 + 0; // + 0 turns -0 into 0
const fill = (count, make) => Array.from({ length: count }, (_, i) => rounded(make(i)));

/** Numbers of the board as they lie for a norm: batch norm has a column where the others have a row. */
function ofBoard(rows, { shape }) {
  return shape[0] === 3 ? rows[0].flatMap((value, k) => [value, rows[1][k]]) : rows.flat();
}

function inputs(state) {
  const { x, shape, seed } = state;
  if (x === "board") return ofBoard(BOARD.x, state);
  const uniform = stream(seed, "x");
  const bell = () => uniform() + uniform() + uniform() + uniform() - 2;
  const count = size(shape);
  const inner = size(shape.slice(2));
  const random = fill(count, () => 1 + 2.4 * bell());
  if (x === "ramp") return fill(count, (i) => -1 + (4 * i) / count);
  if (x === "outlier") return random.with(Math.min(5, count - 1), 12);
  if (x === "constant") return random.map((value, i) => (Math.floor(i / inner) % shape[1] === 1 ? 2 : value));
  return random;
}

function outputGradient(state) {
  const { dy, shape, hot, seed } = state;
  const uniform = stream(seed, "dy");
  if (dy === "ones") return new Array(size(shape)).fill(1);
  if (dy === "one") return new Array(size(shape)).fill(0).with(hot, 1);
  if (state.x === "board") return ofBoard(BOARD.dy, state);
  return fill(size(shape), () => 4 * uniform() - 2);
}

/** The arrays of this state. A parameter that is absent counts as ones (gamma) or zeros (beta). */
export function example(state) {
  const uniform = (name) => stream(state.seed, name);
  const [u, v, w, z] = ["gamma", "beta", "running_mean", "running_var"].map(uniform);
  const count = size(parameterShape(state));
  const sign = () => (u() < 0.3 ? -1 : 1);
  const channels = state.shape[1];
  const drawn = (name, length, make) => (state.x === "board" ? BOARD[name].slice(0, length) : fill(length, make));
  return {
    x: inputs(state).map((value) => rounded(value * state.scale + state.shift)),
    gamma: state.gamma === "none" ? new Array(count).fill(1) : drawn("gamma", count, () => sign() * (0.5 + 1.5 * u())),
    beta: state.beta === "none" || state.norm === "rms_norm" ? new Array(count).fill(0) : drawn("beta", count, () => 2 * v() - 1),
    dy: outputGradient(state),
    running_mean: drawn("running_mean", channels, () => 0.5 + w()),
    running_var: drawn("running_var", channels, () => 1 + 3 * z()),
  };
}

/** All that the page shows of a state. */
export function compute(state) {
  const data = example(state);
  const spec = { ...state, ...data };
  const after = forward(spec, data.x, data.gamma, data.beta);
  const kept = TERMS.filter((term) => !state.off.includes(term));
  const back = backward(spec, after, data.gamma, data.dy, kept);
  const difference = finiteDifferences(spec, data.x, data.gamma, data.beta, data.dy);
  return { ...data, ...after, ...back, difference };
}

const pythonTuple = (numbers) => (numbers.length === 1 ? `${numbers[0]}` : `(${numbers.join(", ")})`);
const float = (value) => (Number.isInteger(value) ? value.toFixed(1) : String(value));
const wrap = (code) => code.replace(/(.{1,84})(?: |$)/g, "$1\n").trimEnd().replaceAll("\n", "\n    ");

function array(name, values, shape) {
  const flat = `${name} = np.array([${values.map(float).join(", ")}])`;
  return wrap(shape.length > 1 ? `${flat}.reshape(${shape.join(", ")})` : flat);
}

function outputGradientCode({ dy, shape, hot }, values) {
  if (dy === "random") return array("dy", values, shape);
  if (dy === "ones") return `dy = np.ones(${pythonTuple(shape)})`;
  return `dy = np.zeros(${pythonTuple(shape)})\ndy[${indexOf(hot, shape).join(", ")}] = 1`;
}

const small = (number) => (number < 1e-3 ? number.toExponential().replace(/-(\d)$/, "-0$1") : String(number));

/** The Python program that computes the page's y and gradients with numpy_norms. */
export function pythonCall(state, data) {
  const { norm, shape } = state;
  const inference = isInference(norm);
  const parameters = parameterShape(state);
  const given = ["gamma", "beta"].filter((name) => name === "gamma" || norm !== "rms_norm");
  const present = given.map((name) => (state[name] === "none" ? "None" : name));
  while (present.at(-1) === "None") present.pop();
  const leading = { group_norm: [state.num_groups], batch_norm_inference: ["running_mean", "running_var"] }[norm] ?? [];
  const axis = normalizesFeatures(norm) ? [`axis=${pythonTuple(state.axes)}`] : [];
  const passed = ["x", ...leading, ...present, ...axis, `eps=${small(state.eps)}`].join(", ");
  const running = inference ? ["drunning_mean", "drunning_var"] : [];
  const gradients = ["dx", ...running, ...given.map((name) => `d${name}`)].join(", ");
  return [
    "import numpy as np",
    `from numpy_norms import ${norm}_backward, ${norm}_forward`,
    "",
    array("x", data.x, shape),
    ...present.filter((name) => name !== "None").map((name) => array(name, data[name], parameters)),
    ...(inference ? [array("running_mean", data.running_mean, [1]), array("running_var", data.running_var, [1])] : []),
    outputGradientCode(state, data.dy),
    "",
    `y, cache = ${norm}_forward(${passed})`,
    `${gradients} = ${norm}_backward(dy, cache)`,
    "",
  ].join("\n");
}

// Results as HTML text. Nothing here knows the document.

import { indexOf, isInference, largestDifference, normalizesFeatures, parameterShape, size, sums, termsOf } from "./core.mjs";
import { compute } from "./example.mjs";

const MINUS = "\u2212";
const signed = (text) => text.replaceAll("-", MINUS);

/** A number in the width of a cell; a bare 0 is exactly zero. */
export function short(value) {
  if (value === 0) return "0";
  const magnitude = Math.abs(value);
  if (!Number.isFinite(value)) return signed(String(value)).replace("Infinity", "∞");
  if (magnitude < 0.005 || magnitude >= 1e4) return signed(value.toExponential(0));
  return signed(value.toFixed(magnitude < 9.995 ? 2 : magnitude < 99.95 ? 1 : 0));
}

/** A number in four digits. */
export function long(value) {
  if (value === 0) return "0";
  const magnitude = Math.abs(value);
  return signed(magnitude >= 1e-3 && magnitude < 1e5 ? String(Number(value.toPrecision(4))) : value.toExponential(1));
}

/** A, B, ... Z, AA, AB, ... */
export function letter(set) {
  return (set >= 26 ? letter(Math.floor(set / 26) - 1) : "") + String.fromCharCode(65 + (set % 26));
}

export function axisNames({ norm, shape }) {
  const names = normalizesFeatures(norm) ? { 2: ["B", "D"], 3: ["B", "T", "D"] } : { 2: ["N", "C"], 3: ["N", "C", "L"] };
  return names[shape.length] ?? ["N", "C", "H", "W"];
}

/** How a tensor lies on the page: cards of rows of cells, in the order of the elements. */
export function layout(shape) {
  const [cards, rows, ...rest] = shape.length === 2 ? [1, ...shape] : shape;
  return { cards, rows, columns: size(rest) };
}

const place = (i, shape) => `[${indexOf(i, shape).join(", ")}]`;

/** What stands over the columns: one name per column, or in images one per line of pixels. */
function columnHeads(state) {
  const names = axisNames(state).map((name) => name.toLowerCase());
  const { shape } = state;
  const [axis, span] = shape.length === 4 ? [2, shape[3]] : [shape.length - 1, 1];
  const heads = Array.from({ length: shape[axis] }, (_, k) => `<th scope="col" colspan="${span}">${names[axis]}${k}</th>`);
  return `<tr><th class="corner"><span class="unseen">row</span></th>${heads.join("")}</tr>`;
}

/** Tables of cells; `cell(i)` gives an element's attributes and text. */
function cards(state, label, cell) {
  const names = axisNames(state).map((name) => name.toLowerCase());
  const { cards: count, rows, columns } = layout(state.shape);
  const rowName = names[state.shape.length === 2 ? 0 : 1];
  const line = state.shape.length === 4 ? state.shape[3] : columns;
  const row = (first, r) => {
    const cells = Array.from({ length: columns }, (_, k) => {
      const { attributes, text, classes } = cell(first + k);
      const edge = k > 0 && k % line === 0 ? " edge" : "";
      return `<td role="gridcell" tabindex="-1" data-i="${first + k}" class="${classes}${edge}" ${attributes}><span>${text}</span></td>`;
    });
    return `<tr><th scope="row">${rowName}${r}</th>${cells.join("")}</tr>`;
  };
  return Array.from({ length: count }, (_, card) => {
    const title = count > 1 || state.shape.length > 2 ? `<caption>${names[0]}${card}</caption>` : "";
    const body = Array.from({ length: rows }, (_, r) => row((card * rows + r) * columns, r)).join("");
    return `<table role="grid" aria-label="${label}${title && `, ${names[0]} ${card}`}">${title}<thead>${columnHeads(state)}</thead><tbody>${body}</tbody></table>`;
  }).join("");
}

const hue = (set) => `--hue: var(--set-${set % 8})`;

function valueStyle(value, largest) {
  const amount = largest > 0 ? Math.sqrt(Math.min(Math.abs(value) / largest, 1)) : 0;
  const sign = value > 0 ? "positive" : value < 0 ? "negative" : "zero";
  return { classes: sign, amount: Number.isFinite(amount) ? amount.toFixed(3) : 1 };
}

export function tensor(state, result, name, largest) {
  return cards(state, name, (i) => {
    const value = result[name][i];
    const { classes, amount } = valueStyle(value, largest);
    const label = `${name}${place(i, state.shape)} = ${short(value)}, set ${letter(result.sets[i])}`;
    return { classes, text: short(value), attributes: `style="--amount: ${amount}; ${hue(result.sets[i])}" aria-label="${label}" data-value="${value}"` };
  });
}

export function setMap(state, { sets }) {
  return cards(state, "sets", (i) => ({
    classes: "",
    text: letter(sets[i]),
    attributes: `style="${hue(sets[i])}" aria-label="${place(i, state.shape)}: set ${letter(sets[i])}"`,
  }));
}

const NAMES = {
  batch_norm: "Batch norm", batch_norm_inference: "Batch norm, inference", layer_norm: "Layer norm",
  instance_norm: "Instance norm", group_norm: "Group norm", rms_norm: "RMS norm",
};

function sharedAxes(state) {
  const names = axisNames(state);
  const inner = names.slice(2);
  const shared = {
    batch_norm: ["N", ...inner], batch_norm_inference: [], instance_norm: inner, group_norm: ["C/G", ...inner],
  }[state.norm] ?? state.axes.map((axis) => names[axis]);
  return shared.join(", ");
}

const tuple = (shape) => `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;

/** The state in one sentence. */
export function summary(state, { sets }) {
  const count = new Set(sets).size;
  const m = sets.length / count;
  const parameters = `gamma has shape ${tuple(parameterShape(state))}`;
  if (isInference(state.norm)) {
    return `${NAMES[state.norm]}: mean and variance are stored numbers, one pair per channel. No element depends on another; ${parameters}.`;
  }
  const statistic = state.norm === "rms_norm" ? "mean square" : "mean and variance";
  const over = sharedAxes(state) ? `over ${sharedAxes(state)}` : "over one element alone";
  return `${NAMES[state.norm]}: ${statistic} ${over}. ${count} ${count === 1 ? "set" : "sets"} of m = ${m}; ${parameters}.`;
}

/** Why the mode cannot be chosen, or what the choice changes. */
export function modeNote({ norm }) {
  if (norm === "batch_norm") return "Training: batch norm takes its statistics from this batch.";
  if (isInference(norm)) return "Inference: the statistics are constants; only the direct term of dx is left.";
  return `${NAMES[norm]} takes its statistics from its own input in training and inference alike, so there is no choice of mode.`;
}

const minus = (value) => (value < 0 ? `+ ${long(-value)}` : `${MINUS} ${long(value)}`);
const bracketed = (value) => (value < 0 ? `(${long(value)})` : long(value));

function statisticLines({ norm }, { mean, variance, rstd }, set) {
  const [first, second] = isInference(norm) ? ["running_mean", "running_var"]
    : norm === "rms_norm" ? ["by definition", "E[x · x]"] : ["E[x]", "E[(x − mean)²]"];
  return [
    ["mean", first, "", long(mean[set])],
    ["var", second, "", long(variance[set])],
    ["rstd", "1 / √(var + eps)", "", long(rstd[set])],
  ];
}

function gradientLine(state, result, i) {
  const formula = { direct: "dx_hat", mean: "− E[dx_hat]", variance: "− x_hat · E[dx_hat · x_hat]" };
  const kept = termsOf(state.norm).filter((term) => !state.off.includes(term));
  const numbers = kept.map((term) => minus(-result.term[term][i])).join(" ").replace(/^\+ /, "");
  const factor = long(result.rstd[result.sets[i]]);
  return ["dx", `rstd · (${kept.map((term) => formula[term]).join(" ") || 0})`, `${factor} · (${numbers || 0})`, long(result.dx[i])];
}

/** The arithmetic of element `i`, each line as [name, formula, numbers, result]. */
export function reading(state, result, i) {
  const { sets, x, x_hat, y, dy, dx_hat, mean, rstd } = result;
  const set = sets[i];
  const [gamma, beta] = [result.gamma, result.beta].map((array) => array[result.parameters[i]]);
  const m = sets.filter((other) => other === set).length;
  const whose = isInference(state.norm) ? `channel ${letter(set)}` : `set ${letter(set)}, m = ${m}`;
  const rms = state.norm === "rms_norm";
  const centred = rms ? bracketed(x[i]) : `(${long(x[i])} ${minus(mean[set])})`;
  return [
    [`x${place(i, state.shape)}`, whose, "", long(x[i])],
    ...statisticLines(state, result, set),
    ["x_hat", rms ? "rstd · x" : "rstd · (x − mean)", `${long(rstd[set])} · ${centred}`, long(x_hat[i])],
    ["y", rms ? "gamma · x_hat" : "gamma · x_hat + beta", `${long(gamma)} · ${bracketed(x_hat[i])}${rms ? "" : ` ${minus(-beta)}`}`, long(y[i])],
    ["dx_hat", "gamma · dy", `${long(gamma)} · ${bracketed(dy[i])}`, long(dx_hat[i])],
    gradientLine(state, result, i),
  ];
}

export function readingRows(lines) {
  const row = ([name, formula, numbers, value]) =>
    `<tr><th scope="row"><code>${name}</code></th><td>${formula}</td><td>${numbers && `= ${numbers}`}</td><td><b>= ${value}</b></td></tr>`;
  const half = (some) => `<tbody>${some.map(row).join("")}</tbody>`;
  return half(lines.slice(0, 4)) + half(lines.slice(4));
}

/** gamma, beta and their gradients, entry by entry. */
export function parameterTable(state, result) {
  const shape = parameterShape(state);
  const present = ["gamma", "beta"].filter((name) => state[name] !== "none" && !(name === "beta" && state.norm === "rms_norm"));
  const names = present.flatMap((name) => [name, `d${name}`]);
  if (names.length === 0) return "<p>None: gamma counts as 1 and beta as 0.</p>";
  const heads = result.gamma.map((_, k) => `<th scope="col">${indexOf(k, shape).join(",")}</th>`);
  const rows = names.map((name) => {
    const largest = Math.max(...result[name].map(Math.abs));
    const cells = result[name].map((value, k) => {
      const { classes, amount } = valueStyle(value, largest);
      return `<td class="${classes}" data-parameter="${k}" style="--amount: ${amount}"><span>${short(value)}</span></td>`;
    });
    return `<tr><th scope="row"><code>${name}</code></th>${cells.join("")}</tr>`;
  });
  return `<table><thead><tr><td></td>${heads.join("")}</tr></thead><tbody>${rows.join("")}</tbody></table>`;
}

/** [law, measured, what it says] */
export function laws(state, result) {
  const largestSum = (values) => long(Math.max(...sums(values, result.sets).map(Math.abs)));
  const moved = state.shift !== 0 || state.scale !== 1;
  const before = moved ? compute({ ...state, shift: 0, scale: 1 }).y : result.y;
  return [
    ["Σ x_hat in a set", largestSum(result.x_hat), "Where it is 0, the variance has no path through the mean."],
    ["Σ dx in a set", largestSum(result.dx), "Where it is 0, adding a constant to the set changes no output."],
    ["Σ x_hat · dx in a set", largestSum(result.dx.map((value, i) => value * result.x_hat[i])), "Of the size of eps where stretching a set changes nothing else."],
    ["y after x × 3 or x + 5", moved ? long(largestDifference(before, result.y)) : "not asked", "How far the outputs have moved; tick × 3 or + 5 above."],
  ];
}

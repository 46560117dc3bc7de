// The form: what its controls say, and how they show a state.

import { isInference, normalizesFeatures } from "./core.mjs";
import { axisNames } from "./draw.mjs";
import { DEFAULTS, divisors, IMAGES, LIMITS, onBoard, TOKENS, usual } from "./state.mjs";

const AXES = [0, 1, 2, 3];

/** The part of the state that the form says, after its control `changed` has changed. */
export function readControls(form, state, changed) {
  const value = (name) => form.elements[name].value;
  const checked = (name) => form.elements[name].checked;
  const rank = Number(value("rank"));
  const kept = changed === "rank" ? state.shape.length : rank;
  const inference = value("family") === "batch_norm" && value("mode") === "inference";
  const read = {
    norm: inference ? "batch_norm_inference" : value("family"),
    shape: DEFAULTS.shape.slice(0, rank).map((usual, axis) => (axis < kept ? Number(value(`size${axis}`)) : usual)),
    axes: changed === "rank" ? (rank === 4 ? IMAGES.axes : [rank - 1]) : AXES.filter((axis) => checked(`axis${axis}`)),
    num_groups: Number(value("num_groups")),
    eps: Number(value("eps")),
    x: value("x"),
    scale: checked("scale") ? 3 : 1,
    shift: checked("shift") ? 5 : 0,
    gamma: checked("gamma") ? "random" : "none",
    beta: checked("beta") ? "random" : "none",
    dy: value("dy"),
    hot: changed === "dy" && value("dy") === "one" ? state.cell : state.hot,
  };
  return { ...read, ...shapeFor(read, state, changed, form) };
}

/** The shape that a choice brings with it: one in which the norm makes sense. */
function shapeFor(read, state, changed, form) {
  if (changed === "over") return form.elements.over.value === "sample" ? IMAGES : TOKENS;
  if (changed === "x" && read.x === "board") return onBoard(read);
  if (changed !== "family") return {};
  if (state.x === "board") return onBoard(read);
  const otherKind = normalizesFeatures(read.norm) !== normalizesFeatures(state.norm);
  const { shape, axes } = usual(read.norm);
  return otherKind ? { shape, axes } : {};
}

/** What became of the sizes that were asked for, where they are more than the page can show. */
export function sizesNote(asked, shown) {
  const cut = asked.findIndex((n, axis) => n !== shown[axis]);
  return cut < 0 ? "" : `${asked[cut]} does not fit: ${shown[cut]} is shown.`;
}

/** Make every control show the state, and hide those that its norm does not have. */
export function writeControls(form, state) {
  const { elements } = form;
  const family = state.norm.replace("_inference", "");
  elements.family.value = family;
  elements.mode.value = isInference(state.norm) ? "inference" : "training";
  elements.mode.forEach((radio) => (radio.disabled = family !== "batch_norm"));
  elements.eps.value = [...elements.eps.options].find((option) => Number(option.value) === state.eps).value;
  for (const name of ["x", "dy"]) elements[name].value = state[name];
  for (const name of ["gamma", "beta"]) elements[name].checked = state[name] === "random";
  elements.beta.disabled = family === "rms_norm";
  elements.scale.checked = state.scale !== 1;
  elements.shift.checked = state.shift !== 0;
  elements.dy[0].nextElementSibling.textContent = state.x === "board" ? "the board’s" : "random";
  elements.over[0].closest("fieldset").hidden = !normalizesFeatures(state.norm);
  elements.over.value = overOf(state);
  writeShape(elements, state);
  writeAxes(elements, state);
  writeGroups(elements, state);
}

function overOf({ shape, axes }) {
  const is = (kind) => shape.length === kind.shape.length && axes.join() === kind.axes.join();
  return is(TOKENS) ? "features" : is(IMAGES) ? "sample" : "";
}

function writeShape(elements, { norm, shape }) {
  for (const option of elements.rank.options) {
    const names = axisNames({ norm, shape: DEFAULTS.shape.slice(0, Number(option.value)) });
    option.textContent = `(${names.join(", ")})`;
  }
  elements.rank.value = shape.length;
  for (const axis of AXES) {
    const input = elements[`size${axis}`];
    input.value = shape[axis] ?? 1;
    input.max = LIMITS[shape.length][axis] ?? 1;
  }
  document.querySelector("#limits").textContent = `at most ${LIMITS[shape.length].join(" × ")}`;
  nameAxes(elements, "size", { norm, shape });
}

function writeAxes(elements, { norm, shape, axes }) {
  elements.axes.hidden = !normalizesFeatures(norm);
  for (const axis of AXES) elements[`axis${axis}`].checked = axes.includes(axis);
  nameAxes(elements, "axis", { norm, shape });
}

function nameAxes(elements, control, state) {
  const names = axisNames(state);
  for (const axis of AXES) {
    const label = elements[`${control}${axis}`].closest("label");
    label.hidden = axis >= names.length;
    label.querySelector("span").textContent = names[axis] ?? "";
  }
}

function writeGroups(elements, { norm, shape, num_groups }) {
  elements.groups.hidden = norm !== "group_norm";
  const options = divisors(shape[1]).map((n) => `<option${n === num_groups ? " selected" : ""}>${n}</option>`);
  elements.num_groups.innerHTML = options.join("");
}

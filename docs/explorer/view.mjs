// The document: results drawn, pointer and keys answered. The state lives in the address.

import { readControls, sizesNote, writeControls } from "./controls.mjs";
import { isInference, largestDifference, termsOf } from "./core.mjs";
import { laws, layout, long, modeNote, parameterTable, reading, readingRows, setMap, short, summary, tensor } from "./draw.mjs";
import { compute, pythonCall } from "./example.mjs";
import { fromHash, repair, TERMS, toHash } from "./state.mjs";

const $ = (selector) => document.querySelector(selector);
const $$ = (selector) => [...document.querySelectorAll(selector)];
const form = $("#controls");

let state = fromHash(location.hash);
let result;
let shown;

function keep(part) {
  state = repair({ ...state, ...part });
  history.replaceState(null, "", `#${toHash(state)}`);
}

function change(part) {
  keep(part);
  render();
}

// ---- results -> page

const largest = (names) => Math.max(...names.flatMap((name) => result[name]).map(Math.abs).filter(Number.isFinite));

function drawTensors() {
  for (const [direction, names] of [["forward", ["x", "x_hat", "y"]], ["backward", ["dx", "dx_hat", "dy"]]]) {
    const scale = largest(names);
    const [low, high] = $$(`#${direction} .scale span`);
    low.textContent = short(-scale);
    high.textContent = short(scale);
    for (const name of names) $(`[data-array=${name}] .cards`).innerHTML = tensor(state, result, name, scale);
  }
  $("#sets .cards").innerHTML = setMap(state, result);
  const statistics = state.norm === "rms_norm" ? "mean square" : "mean and variance";
  $("#sets .note").textContent = isInference(state.norm)
    ? "The letter says whose stored statistics an element uses. Nothing is shared."
    : `Same letter, same colour: same ${statistics}.`;
}

/** A bar from zero, in the middle, to `value`. */
function drawBar(row, value, scale) {
  const half = scale > 0 ? (50 * Math.min(Math.abs(value), scale)) / scale : 0;
  const bar = row.querySelector("i");
  bar.style.left = `${value < 0 ? 50 - half : 50}%`;
  bar.style.width = `${half}%`;
  bar.className = value < 0 ? "negative" : "positive";
  row.querySelector(".value").textContent = short(value);
}

function drawTerms(i) {
  const rstd = result.rstd[result.sets[i]];
  const values = { sum: result.dx[i] / rstd, difference: result.difference[i] / rstd };
  for (const term of TERMS) values[term] = result.term[term][i];
  const scale = Math.max(...Object.values(values).map(Math.abs));
  for (const row of $$("#terms tr")) {
    const name = row.dataset.term;
    drawBar(row, values[name], scale);
    const box = row.querySelector("input");
    if (!box) row.querySelector(".value").textContent = short(name === "sum" ? result.dx[i] : result.difference[i]);
    else {
      box.disabled = !termsOf(state.norm).includes(name);
      box.checked = !box.disabled && !state.off.includes(name);
      row.className = box.disabled ? "absent" : box.checked ? "" : "off";
    }
  }
}

function drawVerdict() {
  const worst = largestDifference(result.dx, result.difference);
  const tolerance = 1e-8 * Math.max(1, ...result.difference.map(Math.abs));
  const wrong = result.dx.filter((value, i) => Math.abs(value - result.difference[i]) > tolerance).length;
  const agrees = wrong === 0;
  $("#verdict").className = agrees ? "agrees" : "disagrees";
  $("#verdict").dataset.worst = worst;
  $("#verdict").textContent = agrees
    ? `✓ dx agrees with finite differences: largest difference ${long(worst)}`
    : `✗ dx is wrong in ${wrong} of ${result.dx.length} elements: largest difference ${long(worst)}`;
}

/** Show element `i` everywhere: its numbers, its set, its terms. */
function inspect(i) {
  shown = i;
  const alone = isInference(state.norm);
  for (const cell of $$("[data-i]")) {
    const j = Number(cell.dataset.i);
    cell.classList.toggle("here", j === i);
    cell.classList.toggle("member", !alone && result.sets[j] === result.sets[i]);
  }
  for (const cell of $$("[data-parameter]")) cell.classList.toggle("here", Number(cell.dataset.parameter) === result.parameters[i]);
  $("#reading table").innerHTML = readingRows(reading(state, result, i));
  drawTerms(i);
}

function drawLaws() {
  const rows = laws(state, result).map(([law, value, meaning]) =>
    `<tr><th scope="row">${law}<small>${meaning}</small></th><td>${value}</td></tr>`);
  $("#laws tbody").innerHTML = rows.join("");
}

/** Cells as large as the panel allows, one row of cards if that keeps the numbers readable. */
function fitCells() {
  const { cards, columns } = layout(state.shape);
  for (const box of $$(".panel, #sets")) {
    const width = box.clientWidth - 26; // padding
    const fit = (n) => Math.floor((width - 26 - 12 * (n - 1)) / (n * columns)) - 2;
    const together = fit(cards) >= (box.id === "sets" ? 18 : 26);
    const cell = Math.max(12, Math.min(fit(together ? cards : 1), box.id === "sets" ? 30 : 44));
    box.style.setProperty("--cell", `${cell}px`);
    box.classList.toggle("together", together);
    box.classList.toggle("tiny", cell < 25 && box.id !== "sets");
  }
}

/** Make `i` the element that is read, and each tensor's one stop for the Tab key. */
function select(i) {
  keep({ cell: i });
  for (const cell of $$("[data-i]")) cell.tabIndex = Number(cell.dataset.i) === i ? 0 : -1;
  inspect(i);
}

function render() {
  const focused = document.activeElement?.closest("[data-i]");
  const panel = focused?.closest("section");
  result = compute(state);
  writeControls(form, state);
  $("[name=theme]").value = state.theme;
  document.documentElement.dataset.theme = state.theme;
  $("#mode-note").textContent = modeNote(state);
  $("#summary").textContent = summary(state, result);
  fitCells();
  drawTensors();
  $("#parameters").innerHTML = parameterTable(state, result);
  drawVerdict();
  drawLaws();
  $("#call").textContent = pythonCall(state, result);
  select(state.cell);
  if (focused) panel.querySelector(`[data-i="${state.cell}"]`).focus();
}

// ---- pointing, clicking, keys

function choose(cell) {
  const i = Number(cell.dataset.i);
  const array = cell.closest("section").dataset.array;
  if (array === "y" || array === "dy") change({ cell: i, hot: i, dy: "one" });
  else select(i);
}

function step(i, key) {
  const { rows, columns } = layout(state.shape);
  const count = result.x.length;
  const card = Math.floor(i / (rows * columns));
  const row = Math.floor(i / columns) % rows;
  const column = i % columns;
  const at = (c, r, k) => (c * rows + r) * columns + k;
  const next = {
    ArrowRight: column + 1 < columns ? i + 1 : at(card + 1, row, 0),
    ArrowLeft: column > 0 ? i - 1 : at(card - 1, row, columns - 1),
    ArrowDown: row + 1 < rows ? i + columns : i,
    ArrowUp: row > 0 ? i - columns : i,
    Home: at(card, row, 0),
    End: at(card, row, columns - 1),
  }[key];
  return next >= 0 && next < count ? next : i;
}

function onKey(event) {
  const cell = event.target.closest("[data-i]");
  if (!cell || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "Escape") change({ dy: "random" });
  else if (event.key === "Enter" || event.key === " ") choose(cell);
  else if (/^Arrow|^Home$|^End$/.test(event.key)) {
    select(step(Number(cell.dataset.i), event.key));
    cell.closest("section").querySelector(`[data-i="${state.cell}"]`).focus();
  } else return;
  event.preventDefault();
}

async function copy(text, button) {
  button.dataset.label ??= button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Your browser forbids copying: select it by hand";
  }
  $("#spoken").textContent = button.textContent;
  setTimeout(() => (button.textContent = button.dataset.label), 2000);
}

form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("change", (event) => {
  const asked = readControls(form, state, event.target.name);
  change(asked);
  $("#sizes-note").textContent = sizesNote(asked.shape, state.shape);
});
$("#again").addEventListener("click", () => change({ seed: state.seed + 1, x: state.x === "board" ? "random" : state.x }));
$("[name=theme]").addEventListener("change", (event) => change({ theme: event.target.value }));
$("#terms").addEventListener("change", () => change({ off: termsOf(state.norm).filter((term) => !$(`#terms [name=${term}]`).checked) }));
$("#copy-link").addEventListener("click", (event) => copy(location.href, event.currentTarget));
$("#copy-call").addEventListener("click", (event) => copy($("#call").textContent, event.currentTarget));
document.addEventListener("keydown", onKey);
document.addEventListener("click", (event) => event.target.closest("[data-i]") && choose(event.target.closest("[data-i]")));
document.addEventListener("pointerover", (event) => {
  const cell = event.target.closest("[data-i]");
  const i = cell ? Number(cell.dataset.i) : state.cell;
  if (i !== shown) inspect(i);
});
addEventListener("hashchange", () => {
  state = fromHash(location.hash);
  render();
});
new ResizeObserver(fitCells).observe($(".panels"));
render();

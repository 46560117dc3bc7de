// The explorer computes what numpy_norms computes: `python docs/explorer/write_vectors.py`, then
// `node --test docs/explorer/parity.test.mjs`. GOLDEN names vectors that lie elsewhere.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import test from "node:test";

import { backward, finiteDifferences, forward, largestDifference, NORMS, setIds, sums, termsOf } from "./core.mjs";
import { compute, pythonCall } from "./example.mjs";
import { CHOICES, DEFAULTS, divisors, FIRST, fromHash, onBoard, TERMS, toHash, usual } from "./state.mjs";

const golden = process.env.GOLDEN ?? new URL("golden.json", import.meta.url);
assert.ok(existsSync(golden), "no vectors: run `python docs/explorer/write_vectors.py` first");
const cases = JSON.parse(readFileSync(golden, "utf-8"));

function run(golden, terms = TERMS) {
  const spec = { axes: golden.axis, ...golden };
  const beta = golden.beta ?? golden.gamma.map(() => 0);
  const after = forward(spec, golden.x, golden.gamma, beta);
  const back = backward(spec, after, golden.gamma, golden.dy, terms);
  const difference = () => finiteDifferences(spec, golden.x, golden.gamma, beta, golden.dy);
  return { ...after, ...back, difference };
}

const name = ({ norm, shape, axis }) => `${norm} (${shape})${axis ? ` over ${axis}` : ""}`;
const equal = (a, b) => {
  assert.equal(a.length, b.length);
  assert.ok(largestDifference(a, b) < 1e-12, `largest difference ${largestDifference(a, b)}`);
};

test("the vectors have every norm", () => {
  assert.deepEqual([...new Set(cases.map(({ norm }) => norm))].sort(), [...NORMS].sort());
});

for (const expected of cases) {
  test(`${name(expected)} is what numpy_norms computes`, () => {
    const got = run(expected);
    for (const array of ["y", "dx", "dgamma", "dbeta", "rstd"]) if (expected[array]) equal(got[array], expected[array]);
    if (expected.labels) assert.deepEqual(got.sets, expected.labels);
  });

  test(`${name(expected)}: finite differences agree with all terms, and with no fewer`, () => {
    const { difference, dx } = run(expected);
    assert.ok(largestDifference(dx, difference()) < 1e-10);
    for (const term of termsOf(expected.norm)) {
      const { dx: wrong } = run(expected, TERMS.filter((other) => other !== term));
      assert.ok(largestDifference(wrong, difference()) > 1e-2, `without the term ${term}`);
    }
  });
}

test("a term that a norm does not have changes nothing", () => {
  for (const expected of cases) equal(run(expected, TERMS).dx, run(expected, termsOf(expected.norm)).dx);
});

test("one output's gradient stays in its set", () => {
  for (const norm of NORMS) {
    const { dx, sets } = compute(fromHash(`norm=${norm}&dy=one&hot=7`));
    const alone = norm === "batch_norm_inference";
    dx.forEach((value, i) => assert.equal(value !== 0, alone ? i === 7 : sets[i] === sets[7], `${norm}, element ${i}`));
  }
});

test("a loss that is the sum of y leaves batch norm without a gradient", () => {
  const { dx } = compute(fromHash("norm=batch_norm&dy=ones"));
  assert.ok(Math.max(...dx.map(Math.abs)) < 1e-14);
});

test("group norm with one group has the statistics of layer norm over (C, H, W)", () => {
  const one = compute(fromHash("norm=group_norm&num_groups=1"));
  assert.deepEqual(one.sets, setIds(fromHash("norm=layer_norm&shape=2.6.2.2&axes=1.2.3")));
  assert.ok(sums(one.x_hat, one.sets).every((total) => Math.abs(total) < 1e-12));
});

test("a state survives its address", () => {
  for (const key of Object.keys(CHOICES)) {
    for (const value of CHOICES[key]) {
      if (value === "board") continue;
      const state = { ...usual(key === "norm" ? value : DEFAULTS.norm), [key]: value };
      assert.deepEqual(fromHash(`#${toHash(state)}`), state);
    }
  }
  for (const norm of NORMS) {
    const state = onBoard(usual(norm));
    assert.deepEqual(compute(fromHash(toHash(state))), compute(state));
  }
  assert.deepEqual(compute(fromHash(toHash(FIRST))), compute(FIRST));
  assert.deepEqual(fromHash(""), FIRST);
  const common = { shape: [2, 6, 3], off: ["mean", "variance"], seed: 7, cell: 30, hot: 35 };
  for (const own of [{ norm: "layer_norm", axes: [1, 2] }, { norm: "group_norm", axes: [2], num_groups: 2 }]) {
    const state = { ...DEFAULTS, ...common, ...own };
    assert.deepEqual(fromHash(toHash(state)), state);
  }
});

for (const wrong of ["norm=nonsense", "shape=0.-3.1e9", "shape=2", "shape=a.b.c", "axes=9", "axes=", "num_groups=4", "eps=0", "cell=1000", "hot=-1", "seed=x", "off=everything", "theme=pink", "&&=&%"]) {
  test(`an address that says ${wrong} still shows something`, () => {
    const state = fromHash(wrong);
    assert.ok(divisors(state.shape[1]).includes(state.num_groups));
    assert.ok(compute(state).dx.every(Number.isFinite));
    assert.match(pythonCall(state, compute(state)), /_backward\(dy, cache\)/);
  });
}

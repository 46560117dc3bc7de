// The arithmetic of the explorer: which elements share statistics, and equations (1)-(14) over those sets.
// Arrays are flat, in C order. A `spec` is { norm, shape, axes, num_groups, eps, running_mean, running_var }.

/** The index of element `i` along each axis. */
export function indexOf(i, shape) {
  const index = new Array(shape.length);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index[axis] = i % shape[axis];
    i = Math.floor(i / shape[axis]);
  }
  return index;
}

export const size = (shape) => shape.reduce((product, n) => product * n, 1);

const rankAlong = (index, shape, axes) => axes.reduce((rank, a) => rank * shape[a] + index[a], 0);
const otherAxes = ({ shape, axes }) => shape.map((_, a) => a).filter((a) => !axes.includes(a));

const byChannel = ([, c]) => c;
const byKeptAxes = (index, spec) => rankAlong(index, spec.shape, otherAxes(spec));

const SET_OF = {
  batch_norm: byChannel,
  batch_norm_inference: byChannel,
  instance_norm: ([n, c], { shape }) => n * shape[1] + c,
  group_norm: ([n, c], { shape, num_groups: G }) => n * G + Math.floor(c / (shape[1] / G)),
  layer_norm: byKeptAxes,
  rms_norm: byKeptAxes,
};

export const NORMS = Object.keys(SET_OF);
export const normalizesFeatures = (norm) => norm === "layer_norm" || norm === "rms_norm";
export const isInference = (norm) => norm === "batch_norm_inference";

/** The terms of dx that this norm has: RMS norm subtracts no mean, inference has constants. */
export function termsOf(norm) {
  if (isInference(norm)) return ["direct"];
  return norm === "rms_norm" ? ["direct", "variance"] : ["direct", "mean", "variance"];
}

const elements = (shape) => Array.from({ length: size(shape) }, (_, i) => indexOf(i, shape));

/** The number of the set that each element shares its statistics with. */
export function setIds(spec) {
  return elements(spec.shape).map((index) => SET_OF[spec.norm](index, spec));
}

/** The entry of gamma and beta that each element meets. */
export function parameterIds({ norm, shape, axes }) {
  const along = normalizesFeatures(norm) ? axes : [1];
  return elements(shape).map((index) => rankAlong(index, shape, along));
}

export function parameterShape({ norm, shape, axes }) {
  return normalizesFeatures(norm) ? axes.map((a) => shape[a]) : [shape[1]];
}

export function sums(values, ids) {
  const total = new Array(Math.max(...ids) + 1).fill(0);
  values.forEach((value, i) => (total[ids[i]] += value));
  return total;
}

export function averages(values, ids) {
  const count = sums(values.map(() => 1), ids);
  return sums(values, ids).map((total, set) => total / count[set]);
}

function statistics(spec, x, sets) {
  if (isInference(spec.norm)) return { mean: spec.running_mean, variance: spec.running_var };
  const average = averages(x, sets); // (1)
  const mean = spec.norm === "rms_norm" ? average.fill(0) : average;
  const variance = averages(x.map((value, i) => (value - mean[sets[i]]) ** 2), sets); // (2)
  return { mean, variance };
}

/** What every element belongs to: a set, an entry of gamma and beta. */
const membership = (spec) => ({ sets: setIds(spec), parameters: parameterIds(spec) });

/** y = gamma * x_hat + beta, with everything on the way to it. */
export function forward(spec, x, gamma, beta, { sets, parameters } = membership(spec)) {
  const { mean, variance } = statistics(spec, x, sets);
  const rstd = variance.map((v) => 1 / Math.sqrt(v + spec.eps)); // (3)
  const x_hat = x.map((value, i) => rstd[sets[i]] * (value - mean[sets[i]])); // (4)
  const y = x_hat.map((value, i) => gamma[parameters[i]] * value + beta[parameters[i]]); // (5)
  return { sets, parameters, mean, variance, rstd, x_hat, y };
}

/** The gradients of sum(dy * y). `terms` names the terms of dx that are kept. */
export function backward(spec, { sets, parameters, rstd, x_hat }, gamma, dy, terms) {
  const present = termsOf(spec.norm);
  const dbeta = sums(dy, parameters); // (6)
  const dgamma = sums(dy.map((value, i) => value * x_hat[i]), parameters); // (7)
  const dx_hat = dy.map((value, i) => gamma[parameters[i]] * value); // (8)
  const mean_dx_hat = averages(dx_hat, sets);
  const mean_dx_hat_x_hat = averages(dx_hat.map((value, i) => value * x_hat[i]), sets);
  const term = {
    direct: dx_hat,
    mean: sets.map((set) => (present.includes("mean") ? -mean_dx_hat[set] : 0)),
    variance: sets.map((set, i) => (present.includes("variance") ? -x_hat[i] * mean_dx_hat_x_hat[set] : 0)),
  };
  const kept = terms.filter((name) => present.includes(name));
  const dx = sets.map((set, i) => rstd[set] * kept.reduce((total, name) => total + term[name][i], 0)); // (12)-(14)
  return { dx_hat, dgamma, dbeta, dx, term };
}

// Fourth order in the step; a step of 2e-3 standard deviations leaves an error of about 1e-12.
const STENCIL = [[1, 8 / 12], [-1, -8 / 12], [2, -1 / 12], [-2, 1 / 12]];

/** dx again, from the forward pass alone: the slope of sum(dy * y) as each element of x moves. */
export function finiteDifferences(spec, x, gamma, beta, dy) {
  const ids = membership(spec);
  const { rstd, y } = forward(spec, x, gamma, beta, ids);
  return x.map((value, j) => {
    const step = 2e-3 / rstd[ids.sets[j]];
    const slope = STENCIL.map(([k, weight]) => {
      const moved = forward(spec, x.with(j, value + k * step), gamma, beta, ids).y;
      return weight * moved.reduce((total, after, i) => total + dy[i] * (after - y[i]), 0);
    });
    return slope.reduce((total, part) => total + part, 0) / step;
  });
}

export const largestDifference = (a, b) =>
  a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i])), 0);

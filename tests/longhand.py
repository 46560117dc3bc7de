"""Normalization by definition, one position at a time: the oracle of the small tests.

A position ``i`` is a tuple of ints. A norm is given by two functions of it: ``set_of(i)``, so
that ``k`` belongs to the set S_i where ``set_of(k) == set_of(i)`` (Wu and He 2018, section 3.1),
and ``parameter_of(i)``, the entry of gamma and beta that is applied at ``i``.
Gradients follow the chain rule forwards, from one input to all outputs, with nothing simplified.
"""

import math

import numpy as np


def rules(norm):
    """Return ``set_of``, ``parameter_of`` and whether the mean is subtracted, by name."""
    rank = len(norm.shape)
    if "axis" in norm.options:
        axes = sorted(a % rank for a in np.atleast_1d(norm.options["axis"]).tolist())
        set_of, parameter_of = along([a for a in range(rank) if a not in axes]), along(axes)
    else:
        c = norm.options["channel_axis"] % rank
        n = 1 if c == 0 else 0
        per_group = norm.shape[c] // norm.options.get("num_groups", 1)
        parameter_of = along([c])
        set_of = {
            "group_norm": lambda i: (i[n], i[c] // per_group),
            "instance_norm": along([n, c]),
        }.get(norm.name, parameter_of)
    return {"set_of": set_of, "parameter_of": parameter_of, "centered": norm.centered}


def along(axes):
    """Take the entries of a position on ``axes``."""
    return lambda i: tuple(i[a] for a in axes)


def members(i, shape, set_of):
    """List S_i, the positions that share statistics with ``i``."""
    return [k for k in np.ndindex(shape) if set_of(k) == set_of(i)]


def statistics(x, positions, eps, centered):
    """Return mean, variance and reciprocal standard deviation over ``positions``."""
    m = len(positions)
    mean = math.fsum(x[k] for k in positions) / m if centered else 0.0
    var = math.fsum((x[k] - mean) ** 2 for k in positions) / m
    return mean, var, 1 / math.sqrt(var + eps)


def standardize(x, set_of, eps, centered):
    """Return x_hat, computed for every position from its own set."""
    x_hat = np.empty(x.shape)
    for i in np.ndindex(x.shape):
        mean, _, rstd = statistics(x, members(i, x.shape, set_of), eps, centered)
        x_hat[i] = (x[i] - mean) * rstd
    return x_hat


def forward(x, set_of, parameter_of, gamma=None, beta=None, *, eps=1e-5, centered=True):
    """Return y = gamma * x_hat + beta."""
    y = standardize(x, set_of, eps, centered)
    for i in np.ndindex(x.shape):
        y[i] *= 1.0 if gamma is None else gamma[parameter_of(i)]
        y[i] += 0.0 if beta is None else beta[parameter_of(i)]
    return y


def backward(dy, x, set_of, parameter_of, gamma=None, beta=None, *, eps=1e-5, centered=True):
    """Return dx, dgamma and dbeta of sum(dy * y); None for an absent parameter."""
    dx_hat = np.array(dy, dtype=float)
    if gamma is not None:
        for i in np.ndindex(x.shape):
            dx_hat[i] *= gamma[parameter_of(i)]
    dx = np.empty(x.shape)
    for j in np.ndindex(x.shape):
        positions = members(j, x.shape, set_of)
        slopes = slopes_of_x_hat(x, j, positions, eps, centered)
        dx[j] = math.fsum(dx_hat[i] * slope for i, slope in zip(positions, slopes, strict=True))
    x_hat = standardize(x, set_of, eps, centered)
    dgamma = None if gamma is None else sum_per_parameter(dy * x_hat, parameter_of, gamma.shape)
    dbeta = None if beta is None else sum_per_parameter(dy, parameter_of, beta.shape)
    return dx, dgamma, dbeta


def slopes_of_x_hat(x, j, positions, eps, centered):
    """Differentiate x_hat at every one of ``positions`` with respect to x at ``j``."""
    m = len(positions)
    mean, _, rstd = statistics(x, positions, eps, centered)
    d_mean = 1 / m if centered else 0.0
    d_centered = [(i == j) - d_mean for i in positions]
    pairs = [(x[i] - mean, d) for i, d in zip(positions, d_centered, strict=True)]
    d_var = math.fsum(2 * c * d for c, d in pairs) / m
    d_rstd = -0.5 * rstd**3 * d_var
    return [d_rstd * c + rstd * d for c, d in pairs]


def sum_per_parameter(values, parameter_of, shape):
    """Add up ``values`` over the positions that use the same entry of a parameter."""
    terms = {p: [] for p in np.ndindex(shape)}
    for i in np.ndindex(values.shape):
        terms[parameter_of(i)].append(values[i])
    total = np.empty(shape)
    for p, values_of_p in terms.items():
        total[p] = math.fsum(values_of_p)
    return total

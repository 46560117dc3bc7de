"""Activations that are fused with a norm, by name."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from numpy_norms.verify.plain import Array

__all__ = ["ACTIVATIONS"]


def _sigmoid(a: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-a)))


def _erf(a: Array) -> Array:
    """Return the error function, with its slope along imaginary numbers as small as a step."""
    real = np.asarray(np.vectorize(math.erf, otypes=[np.float64])(a.real))
    if a.dtype.kind != "c":
        return real.astype(a.dtype)
    return np.asarray(real + 2j / math.sqrt(math.pi) * np.exp(-(a.real**2)) * a.imag)


def _where_positive(a: Array, otherwise: Array) -> Array:
    return np.where(a.real > 0, a, otherwise)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda a: _where_positive(a, 0 * a),
    "leaky_relu": lambda a: _where_positive(a, a / 100),
    "leaky_relu_of_slope_0.2": lambda a: _where_positive(a, a / 5),
    "elu": lambda a: _where_positive(a, np.exp(a) - 1),
    "gelu": lambda a: a * (1 + _erf(a / math.sqrt(2))) / 2,
    "gelu_by_tanh": lambda a: a * (1 + np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3))) / 2,
    "gelu_by_sigmoid": lambda a: a * _sigmoid(1.702 * a),
    "silu": lambda a: a * _sigmoid(a),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "softplus": lambda a: np.log1p(np.exp(a)),
    "relu_squared": lambda a: _where_positive(a, 0 * a) ** 2,
}

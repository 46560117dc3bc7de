"""What `check` runs: a norm, its arrays, a random dy; and how the library is called on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

import numpy_norms
from numpy_norms.oracle.reference import Exact, evaluate
from numpy_norms.oracle.sets import FEATURE_NORMS, SIX_NORMS, Sharing, sharing

Array = NDArray[Any]
CHANNELS_SHAPE, FEATURES_SHAPE = (20, 10, 50, 50), (20, 10, 1000)  # of the article
SMALL_SHAPE = (3, 4, 5)


class Spread(NamedTuple):
    """Of the set of each position of x: its mean, and the root mean square of what is left."""

    mean: Array
    std: Array


@dataclass(frozen=True)
class Case:
    """A norm with its array arguments in order, by name, and the gradient of its output."""

    norm: str
    arrays: dict[str, Array]
    dy: Array
    eps: float

    @property
    def num_groups(self) -> int:
        """The groups of a group norm; 1 for the others."""
        return _groups(self.norm, self.dy.shape)

    @property
    def label(self) -> str:
        """The norm and the choice of axes or groups that it was called with."""
        if self.norm == "group_norm":
            return f"group_norm, {self.num_groups} group{'s' * (self.num_groups > 1)}"
        return f"{self.norm}, axis -1" if self.norm in FEATURE_NORMS else self.norm

    def in_float64(self) -> Case:
        """Return the same numbers in float64."""
        wide = {name: array.astype(np.float64) for name, array in self.arrays.items()}
        return Case(self.norm, wide, self.dy.astype(np.float64), self.eps)

    def forward(self, arrays: Mapping[str, Array]) -> tuple[Array, Any]:
        """Run the library's forward pass on `arrays`."""
        options = {"num_groups": self.num_groups} if self.norm == "group_norm" else {}
        function = getattr(numpy_norms, f"{self.norm}_forward")
        y, cache = function(**arrays, **options, eps=self.eps)
        return y, cache

    def results(self) -> dict[str, Array]:
        """Return the library's y and gradients by name."""
        y, cache = self.forward(self.arrays)
        gradients = getattr(numpy_norms, f"{self.norm}_backward")(self.dy, cache)
        return {"y": y} | dict(zip((f"d{name}" for name in self.arrays), gradients, strict=True))

    def exact(self) -> dict[str, Exact]:
        """Return y and the gradients in 106-bit arithmetic."""
        options = {"num_groups": self.num_groups, "eps": self.eps}
        return evaluate(self.norm, self.arrays, self.dy, **options)

    def longest_sum(self, output: str) -> int:
        """Return how many elements of x the longest sum on the way to `output` has."""
        m = self.sharing.set_size
        return m if output in ("y", "dx") else max(m, self.dy.size // self.arrays["gamma"].size)

    @property
    def sharing(self) -> Sharing:
        """Which positions of x share a set and a parameter."""
        return sharing(self.norm, self.dy.shape, num_groups=self.num_groups)

    def spread(self) -> Spread:
        """Return where the sets of x lie, in float64; for inference, where its channels lie."""
        return _spread(self.norm, self.arrays["x"])


def article_case(norm: str, dtype: DTypeLike, seed: int, eps: float = 1e-5) -> Case:
    """Return the inputs of the article for `norm`."""
    shape = FEATURES_SHAPE if norm in FEATURE_NORMS else CHANNELS_SHAPE
    return case_of(norm, _random(norm, shape, seed).astype(dtype), seed, eps)


def small_case(norm: str, seed: int, eps: float = 1e-5) -> Case:
    """Return a case small enough to differentiate element by element, in float64."""
    return case_of(norm, _random(norm, SMALL_SHAPE, seed), seed, eps)


def case_of(norm: str, x: Array, seed: int, eps: float = 1e-5) -> Case:
    """Return `x` with random parameters and a random dy.

    Running statistics are near those of `x`, and beta is of the size of x_hat, so that neither term
    of y hides the other. Gamma is random: where it is 1, a misplaced gamma goes unnoticed.
    """
    rng = np.random.default_rng([seed, SIX_NORMS.index(norm)])
    sharers = sharing(norm, x.shape).parameter_rows
    size = len(sharers)
    mean, std = (array.ravel()[sharers] for array in _spread(norm, x))
    arrays: dict[str, Array] = {"x": x}
    if norm == "batch_norm_inference":
        largest = float(np.finfo(x.dtype).max) / 4
        var = np.minimum(std[:, 0], largest**0.5) ** 2 + eps
        arrays["running_mean"] = mean[:, 0] + 0.3 * std[:, 0] * rng.standard_normal(size)
        arrays["running_var"] = var * rng.uniform(0.5, 2, size)
    arrays["gamma"] = rng.standard_normal(size)
    if norm != "rms_norm":
        x_hat = std / np.hypot(std, np.sqrt(eps))
        x_hat_size = x_hat.max(axis=1)
        arrays["beta"] = np.where(x_hat_size > 0, x_hat_size, 1) * rng.standard_normal(size)
    dy = rng.standard_normal(x.shape).astype(x.dtype)
    return Case(norm, {name: a.astype(x.dtype) for name, a in arrays.items()}, dy, eps)


def corner(x: Array) -> Array:
    """Return a few elements of `x` along every axis, in float64."""
    sizes = (3, 4, 5, *(2,) * x.ndim)[: x.ndim]
    return x[tuple(map(slice, sizes))].astype(np.float64)


def why_not(norm: str, shape: tuple[int, ...]) -> str | None:
    """Say why `norm` has nothing to normalize in an x of `shape`; None where it has."""
    needed = {"instance_norm": 3}.get(norm, 1 if norm in FEATURE_NORMS else 2)
    if len(shape) < needed:
        return f"it needs {needed} axes, x has shape {shape}"
    if norm != "batch_norm_inference" and sharing(norm, shape).set_size == 1:
        return f"with x of shape {shape} every set is a single value"
    return None


def _groups(norm: str, shape: tuple[int, ...]) -> int:
    """Return the fewest groups, above one, that share the channels evenly."""
    channels = shape[1] if norm == "group_norm" else 1
    return next((g for g in range(2, channels) if channels % g == 0), 1)


def _spread(norm: str, x: Array) -> Spread:
    flat = x.astype(np.float64).ravel()
    sets = sharing(norm, x.shape, num_groups=_groups(norm, x.shape)).set_rows
    unit = np.abs(flat).max() or 1.0  # keeps squares finite
    rows = flat[sets] / unit
    centers = rows.mean(axis=-1, keepdims=True) * (norm != "rms_norm")
    mean, std = np.empty(x.size), np.empty(x.size)
    mean[sets] = centers * unit
    std[sets] = np.sqrt(np.square(rows - centers).mean(axis=-1, keepdims=True)) * unit
    return Spread(mean.reshape(x.shape), std.reshape(x.shape))


def _random(norm: str, shape: tuple[int, ...], seed: int) -> Array:
    rng = np.random.default_rng([seed, SIX_NORMS.index(norm), len(shape)])
    x: Array = 3.0 + 2.0 * rng.standard_normal(shape)
    return x

"""The norms as parameters of the tests: a pair of functions, a shape and the axes.

All sizes of a shape differ, so that no axis can be taken for another unnoticed.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from each import each

import numpy_norms
from numpy_norms.oracle.reference import evaluate
from numpy_norms.oracle.sets import sharing


@dataclass(frozen=True)
class Norm:
    """One norm on one shape, with the options that choose its axes."""

    name: str
    shape: tuple[int, ...]
    options: dict[str, Any]

    @property
    def centered(self):
        """Whether the mean is subtracted."""
        return self.name != "rms_norm"

    @property
    def parameters(self):
        """Name the array arguments after x."""
        if self.name == "batch_norm_inference":
            return "running_mean", "running_var", "gamma", "beta"
        return ("gamma", "beta") if self.centered else ("gamma",)

    @property
    def sharing(self):
        """Number the sets and the parameters."""
        return sharing(self.name, self.shape, **self.options)

    @property
    def parameter_shape(self):
        """Return the shape of gamma and beta."""
        return self.sharing.parameter_shape

    @property
    def set_size(self):
        """Count the positions that share statistics."""
        return self.sharing.set_size

    @property
    def sets(self):
        """Return the number of its set for every position of x."""
        return self.sharing.sets.reshape(self.shape)

    @property
    def entries(self):
        """Return the number of its entry of gamma for every position of x."""
        return self.sharing.parameters.reshape(self.shape)

    def rows(self, a):
        """Return ``a`` in float64 with one set per row."""
        return a.astype(np.float64).ravel()[self.sharing.set_rows]

    def forward(self, arrays, **options):
        """Call the norm's forward function; an absent parameter is left out of ``arrays``."""
        function = getattr(numpy_norms, f"{self.name}_forward")
        return function(**arrays, **{**self.options, **options})

    def backward(self, dy, cache):
        """Call the norm's backward function and name its results after the arguments."""
        gradients = getattr(numpy_norms, f"{self.name}_backward")(dy, cache)
        return dict(zip(("x", *self.parameters), gradients, strict=True))

    def both(self, arrays, dy, **options):
        """Run forward and backward; return y and the gradients by argument."""
        y, cache = self.forward(arrays, **options)
        return y, self.backward(dy, cache)

    def exact(self, arrays, dy, eps=1e-5):
        """Return y and the gradients by argument in 106-bit arithmetic, with their scales."""
        found = evaluate(self.name, arrays, dy, eps=eps, **self.options)
        return found["y"], {name: found[f"d{name}"] for name in arrays}

    def draw(self, seed=0, *, mean=3.0, std=2.0, dtype=np.float64):
        """Draw x with a nonzero mean, signed parameters, and a random dy (ones prove nothing)."""
        rng = np.random.default_rng(seed)
        arrays = {"x": mean + std * rng.standard_normal(self.shape)}
        for name in self.parameters:
            arrays[name] = rng.standard_normal(self.parameter_shape)
            if name == "running_var":
                arrays[name] = 0.5 + arrays[name] ** 2
        dy = rng.standard_normal(self.shape)
        return {name: a.astype(dtype) for name, a in arrays.items()}, dy.astype(dtype)

    def __str__(self):
        details = "-".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.name}-{'x'.join(map(str, self.shape))}-{details}".replace(" ", "")


def batch_norm(shape, channel_axis=1):
    """Share over all positions of one channel."""
    return Norm("batch_norm", shape, {"channel_axis": channel_axis})


def batch_norm_inference(shape, channel_axis=1):
    """Take the statistics of every channel as given."""
    return Norm("batch_norm_inference", shape, {"channel_axis": channel_axis})


def group_norm(shape, num_groups, channel_axis=1):
    """Share over the positions of one sample in one block of neighbouring channels."""
    return Norm("group_norm", shape, {"num_groups": num_groups, "channel_axis": channel_axis})


def instance_norm(shape, channel_axis=1):
    """Share over the positions of one sample in one channel."""
    return Norm("instance_norm", shape, {"channel_axis": channel_axis})


def layer_norm(shape, axis=-1):
    """Share over ``axis``; gamma and beta vary along the same axes."""
    return Norm("layer_norm", shape, {"axis": axis})


def rms_norm(shape, axis=-1):
    """Share as layer norm does, but with the mean taken as 0 and without beta."""
    return Norm("rms_norm", shape, {"axis": axis})


NORMS = [
    batch_norm((7, 3)),
    batch_norm((5, 3, 4)),
    batch_norm((3, 2, 4, 5)),
    batch_norm((4, 3, 5, 2), channel_axis=-1),
    batch_norm((3, 7, 2), channel_axis=0),
    layer_norm((5, 7)),
    layer_norm((2, 5, 3, 4), axis=1),
    layer_norm((5, 3, 4), axis=(1, 2)),
    layer_norm((4, 3, 5), axis=(-1, 0)),
    layer_norm((4, 7), axis=(0, 1)),
    group_norm((5, 6), 2),
    group_norm((5, 6, 4), 2),
    group_norm((2, 4, 3, 6), 3, channel_axis=-1),
    group_norm((6, 3, 5), 2, channel_axis=0),
    instance_norm((3, 4, 6)),
    instance_norm((2, 3, 4, 5)),
    instance_norm((3, 5, 4), channel_axis=-1),
    instance_norm((4, 3, 5), channel_axis=0),
    rms_norm((5, 7)),
    rms_norm((2, 5, 3, 4), axis=1),
    rms_norm((5, 3, 4), axis=(0, 2)),
]
FIVE = [
    batch_norm((5, 3, 4)),
    layer_norm((5, 3, 4), axis=(1, 2)),
    group_norm((5, 6, 4), 2),
    instance_norm((3, 4, 6)),
    rms_norm((5, 7)),
]
INFERENCE = batch_norm_inference((5, 3, 4))
SIX = [*FIVE, INFERENCE]
CENTERED = [norm for norm in NORMS if norm.centered]


def with_large_gamma(norm, exponent, dtype):
    """Draw arguments whose gamma * dy overflows, which rstd mends."""
    arrays, dy = norm.draw(3)
    largest = float(np.finfo(dtype).max)
    gamma = 10.0 ** (exponent * np.log10(largest) / 309)
    arrays["gamma"] *= gamma / np.abs(arrays["gamma"]).max()
    arrays = {name: a.astype(dtype) for name, a in arrays.items()}
    arrays["x"] *= dtype(1e5)
    if "running_var" in arrays:
        arrays["running_var"] *= dtype(1e10)
    return arrays, (dy * (largest / gamma) * 1e3).astype(dtype)


def parametrize(norms):
    """Run a test on one norm after the other."""
    return each("norm", norms)

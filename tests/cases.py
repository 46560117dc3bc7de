"""The norms as parameters of the tests: a pair of functions, a shape and the paper's sets.

All sizes of a shape differ, so that no axis can be taken for another unnoticed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from extended import Partition

import numpy_norms


@dataclass(frozen=True)
class Norm:
    """One norm on one shape."""

    name: str
    shape: tuple[int, ...]
    options: dict[str, Any]
    set_of: Callable
    parameter_of: Callable
    parameter_shape: tuple[int, ...]
    centered: bool = True
    parameters: tuple[str, ...] = field(default=("gamma", "beta"))

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

    @property
    def set_size(self):
        """Count the positions that share statistics."""
        return math.prod(self.shape) // Partition(self.shape, self.set_of).rows

    def rows(self, a):
        """Return float64 ``a`` with one set per row."""
        return Partition(self.shape, self.set_of).gather(a).hi

    def __str__(self):
        details = "-".join(f"{k}={v}" for k, v in self.options.items())
        return f"{self.name}-{'x'.join(map(str, self.shape))}-{details}".replace(" ", "")


def batch_axis(shape, channel_axis):
    """Return the first axis that does not hold channels."""
    return 1 if channel_axis % len(shape) == 0 else 0


def channels_of(shape, channel_axis):
    """Return what gamma and beta look like where they hold one entry per channel."""
    return {
        "parameter_of": lambda i: (i[channel_axis],),
        "parameter_shape": (shape[channel_axis],),
    }


def batch_norm(shape, channel_axis=1):
    """Share over all positions of one channel."""
    options = {"channel_axis": channel_axis}
    channels = channels_of(shape, channel_axis)
    return Norm("batch_norm", shape, options, set_of=lambda i: (i[channel_axis],), **channels)


def group_norm(shape, num_groups, channel_axis=1):
    """Share over the positions of one sample in one block of neighbouring channels."""
    options = {"num_groups": num_groups, "channel_axis": channel_axis}
    n, per_group = batch_axis(shape, channel_axis), shape[channel_axis] // num_groups
    channels = channels_of(shape, channel_axis)
    return Norm(
        "group_norm",
        shape,
        options,
        set_of=lambda i: (i[n], i[channel_axis] // per_group),
        **channels,
    )


def instance_norm(shape, channel_axis=1):
    """Share over the positions of one sample in one channel."""
    options = {"channel_axis": channel_axis}
    n, channels = batch_axis(shape, channel_axis), channels_of(shape, channel_axis)
    return Norm(
        "instance_norm", shape, options, set_of=lambda i: (i[n], i[channel_axis]), **channels
    )


def layer_norm(shape, axis=-1, name="layer_norm"):
    """Share over ``axis``; gamma and beta vary along the same axes."""
    axes = {a % len(shape) for a in np.atleast_1d(axis)}
    return Norm(
        name,
        shape,
        {"axis": axis},
        set_of=lambda i: tuple(i[a] for a in range(len(shape)) if a not in axes),
        parameter_of=lambda i: tuple(i[a] for a in sorted(axes)),
        parameter_shape=tuple(shape[a] for a in sorted(axes)),
    )


def rms_norm(shape, axis=-1):
    """Share as layer norm does, but with the mean taken as 0 and without beta."""
    norm = layer_norm(shape, axis, name="rms_norm")
    return Norm(**{**vars(norm), "centered": False, "parameters": ("gamma",)})


def batch_norm_inference(shape, channel_axis=1):
    """Take the statistics of every channel as given."""
    norm = batch_norm(shape, channel_axis)
    parameters = ("running_mean", "running_var", "gamma", "beta")
    return Norm(**{**vars(norm), "name": "batch_norm_inference", "parameters": parameters})


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


def parametrize(norms):
    """Run a test once per norm, under a readable name."""
    return pytest.mark.parametrize("norm", norms, ids=str)

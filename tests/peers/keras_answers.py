"""A plugin for pytest: in Keras' own tests, on its NumPy backend, this library answers.

    KERAS_BACKEND=numpy python -m pytest -p keras_answers FILES

Where an option of Keras is not brought over here (masks, renorm, several channel axes), Keras
answers itself. What each test came to, and whether it asked this library, is written to the file
that KERAS_ANSWERS names.
"""

import functools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from keras.src import backend, layers
from keras.src.ops import nn as ops

import numpy_norms as nn

asked = []


def answers(place, name):
    """Put a function in place of Keras' own, which answers where that returns None."""

    def decorate(function):
        original = getattr(place, name)

        @functools.wraps(original)  # Keras reads the names of a layer's arguments
        def answer(*arguments, **options):
            result = function(*arguments, **options)
            if result is None:
                return original(*arguments, **options)
            asked.append(name)
            return result

        setattr(place, name, answer)
        return function

    return decorate


def floating(x):
    """Return x in a type of floats, as Keras brings it there."""
    x = np.asarray(x)
    kind = x.dtype.name
    return x if "float" in kind else x.astype(backend.result_type(kind, float))


@answers(layers.BatchNormalization, "call")
def batch_norm(self, inputs, training=None, mask=None):
    """Batch norm in training; in inference `batch_norm_inference` is asked."""
    if not (training and self.trainable) or mask is not None or self.renorm:
        return None
    if not isinstance(self.axis, int):
        return None
    gamma = np.asarray(self.gamma) if self.scale else None
    beta = np.asarray(self.beta) if self.center else None
    x = floating(inputs)
    y, cache = nn.batch_norm_forward(x, gamma, beta, channel_axis=self.axis, eps=self.epsilon)
    mean, var = nn.update_running_stats(
        np.asarray(self.moving_mean), np.asarray(self.moving_variance), cache,
        momentum=1 - self.momentum, correction=0,
    )  # fmt: skip
    self.moving_mean.assign(mean)
    self.moving_variance.assign(var)
    return y.astype(self.compute_dtype)


@answers(backend.nn, "batch_normalization")
def batch_norm_inference(x, mean, variance, axis, offset=None, scale=None, epsilon=1e-3):
    """Batch norm with statistics that are given."""
    if np.ndim(mean) != 1 or not isinstance(axis, int):
        return None
    x = floating(x)
    statistics = floating(mean), floating(variance)
    return nn.batch_norm_inference_forward(
        x, *statistics, scale, offset, channel_axis=axis, eps=epsilon
    )[0]


@answers(layers.GroupNormalization, "call")
def group_norm(self, inputs):
    """Group norm; instance norm where each channel is a group."""
    gamma = np.asarray(self.gamma) if self.scale else None
    beta = np.asarray(self.beta) if self.center else None
    x = floating(inputs)
    y, _ = nn.group_norm_forward(
        x, self.groups, gamma, beta, channel_axis=self.axis, eps=self.epsilon
    )
    return y.astype(self.compute_dtype)


def affine(a, x):
    """Return a parameter as an array, None where there is none."""
    return None if a is None else np.asarray(a)


def standardized(normalize, x, parameters, axis, epsilon):
    """Normalize over axes, with parameters of the shape of these or one that broadcasts."""
    x = floating(x)
    axes = tuple(axis) if isinstance(axis, list | tuple) else (axis,)
    shape = tuple(x.shape[a] for a in sorted(a % x.ndim for a in axes))
    epsilon = backend.epsilon() if epsilon is None else epsilon
    parameters = [affine(a, x) for a in parameters]
    if all(a is None or a.shape == shape for a in parameters):
        return normalize(x, *parameters, axis=axes, eps=epsilon)[0]
    y = normalize(x, axis=axes, eps=epsilon)[0]
    for combine, a in zip((np.multiply, np.add), parameters, strict=False):
        y = y if a is None else combine(y, a).astype(y.dtype)
    return y


@answers(ops, "_layer_normalization")
def layer_norm(x, gamma=None, beta=None, axis=-1, epsilon=None, rms_scaling=False):
    """Layer norm; Keras' rms_scaling divides by a standard deviation, and is its own."""
    if rms_scaling:
        return None
    return standardized(nn.layer_norm_forward, x, (gamma, beta), axis, epsilon)


@answers(ops, "_rms_normalization")
def rms_norm(x, scale=None, axis=-1, epsilon=None):
    """RMS norm."""
    return standardized(nn.rms_norm_forward, x, (scale,), axis, epsilon)


@answers(ops, "_normalize")
def normalize(x, axis=-1, order=2, epsilon=None):
    """L_p normalization."""
    if not isinstance(order, int) or order < 1:
        return None
    epsilon = backend.epsilon() if epsilon is None else epsilon
    axes = tuple(axis) if isinstance(axis, list | tuple) else axis
    axes = tuple(range(np.ndim(x))) if axes is None else axes
    return nn.lp_normalize_forward(floating(x), p=order, axis=axes, eps=epsilon)[0]


outcomes = {}


def pytest_configure(config):
    """Keras' own marks."""
    config.addinivalue_line("markers", "requires_trainable_backend: trains")


def pytest_collection_modifyitems(items):
    """Leave out what trains: NumPy has no gradients in Keras."""
    for item in items:
        if item.get_closest_marker("requires_trainable_backend"):
            item.add_marker(pytest.mark.skip("Keras does not train on NumPy"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Note whether a test asked this library."""
    before = len(asked)
    try:
        return (yield)
    finally:
        outcomes.setdefault(item.nodeid, {})["asked"] = len(asked) > before


def pytest_runtest_logreport(report):
    """Note what a test came to."""
    if report.when == "call":
        outcomes.setdefault(report.nodeid, {})["outcome"] = report.outcome


def pytest_sessionfinish():
    """Keep the outcomes."""
    Path(os.environ["KERAS_ANSWERS"]).write_text(json.dumps(outcomes))

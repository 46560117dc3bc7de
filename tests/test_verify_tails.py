"""What is left over after whole blocks: kernels that lose it are told so, whatever their block."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from trials import trial, without_large

from numpy_norms.oracle.sets import FEATURE_NORMS, NORMS
from numpy_norms.verify import check_kernel

BLOCKS = (32, 128, 1024)


def as_sets(norm, x, num_groups):
    """Return x with a set in each row."""
    if norm == "batch_norm":
        return np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)
    if norm in FEATURE_NORMS:
        return x.reshape(-1, x.shape[-1])
    return x.reshape(len(x) * (num_groups or x.shape[1]), -1)


def statistics_over_whole_blocks(norm, block):
    """Return a forward pass whose sums stop after the last whole block, if there is one."""

    def forward(x, *rest):
        *groups, gamma, beta, eps = (*rest[:1], 0, rest[1]) if norm == "rms_norm" else rest
        sets = as_sets(norm, np.ascontiguousarray(x), *groups or (None,))
        m = sets.shape[1]
        kept = sets[:, : m // block * block or m]
        mean = 0 if norm == "rms_norm" else kept.sum(1, keepdims=True) / x.dtype.type(m)
        var = ((kept - mean) ** 2).sum(1, keepdims=True) / x.dtype.type(m)
        x_hat = (sets - mean) / np.sqrt(var + x.dtype.type(eps))
        if norm == "batch_norm":
            n, channels, *rest = x.shape
            x_hat = np.moveaxis(x_hat.reshape(channels, n, *rest), 0, 1)
        x_hat = x_hat.reshape(x.shape)
        if norm in FEATURE_NORMS:
            return gamma * x_hat + beta
        places = (-1, *[1] * (x.ndim - 2))
        return gamma.reshape(places) * x_hat + beta.reshape(places)

    return forward


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("norm", NORMS)
def test_a_tail_that_statistics_leave_out_is_seen(norm, block):
    report = without_large(norm).of(statistics_over_whole_blocks(norm, block), None)
    assert not report.passed
    (found,) = report.diagnosis
    assert (found.output, found.kind) == ("y", "block lost")


@pytest.mark.parametrize("norm", NORMS)
def test_the_same_kernel_without_a_tail_passes(norm):
    assert without_large(norm).of(statistics_over_whole_blocks(norm, 1), None).passed


@pytest.mark.parametrize("block", [32, 256, 1024, 65536])
def test_rows_that_dgamma_leaves_out_are_seen(block):
    def backward(dy, x, gamma, eps):
        rstd = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + x.dtype.type(eps))
        x_hat, g = x * rstd, gamma * dy
        dx = rstd * (g - x_hat * (g * x_hat).mean(-1, keepdims=True))
        terms = (dy * x_hat).reshape(-1, x.shape[-1])
        return dx, terms[: len(terms) // block * block or None].sum(0)

    battery = without_large if block < 1000 else partial(trial, threads=0)
    (found,) = battery("rms_norm").of(None, backward).diagnosis
    assert (found.output, found.kind) == ("dgamma", "block lost")


@pytest.mark.parametrize("norm", NORMS)
def test_heavy_ends_are_within_float16(norm):
    assert check_kernel(norm, dtype="float16", threads=0).passed

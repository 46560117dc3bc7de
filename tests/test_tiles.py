"""However an array is cut into blocks, the results are those of one block.

The sizes that decide about the cuts are made tiny, so that small arrays, which the other tests
compare with PyTorch and with the definition, are cut in every way that large ones are.
"""

import itertools

import numpy as np
import pytest
from cases import (
    NORMS,
    SIX,
    batch_norm,
    batch_norm_inference,
    group_norm,
    instance_norm,
    layer_norm,
    parametrize,
    rms_norm,
)
from measure import assert_close

from numpy_norms import blocks, plans

ALL = [
    *SIX,
    *NORMS,
    batch_norm((90, 17)),
    batch_norm((7, 4, 6, 18), channel_axis=-1),
    batch_norm_inference((90, 17)),
    layer_norm((6, 12, 4, 7), axis=1),
    layer_norm((5, 12, 40), axis=1),
    layer_norm((3, 2, 40), axis=(1, 2)),
    group_norm((3, 8, 5, 6), 4),
    group_norm((3, 5, 6, 16), 2, channel_axis=-1),
    instance_norm((3, 6, 8, 19), channel_axis=-1),
    rms_norm((2, 300)),
]


sizes = pytest.mark.parametrize(("block", "run"), [(64, 4), (512, 32), (2048, 64)], ids=str)


@pytest.fixture
def cut_small(monkeypatch):
    """Have arrays cut into blocks of so many bytes, runs of so many elements, and in proportion."""

    def set_sizes(block, run):
        values = {"BLOCK": block, "RUN": run, "COLUMNS": 2, "WIDE": 2 * run, "LANE": 64, "KEPT": 8}
        for name, value in values.items():
            monkeypatch.setattr(plans, name, value)
        monkeypatch.setattr(blocks, "SETTINGS", 1)
        plans.plan_for.cache_clear()

    yield set_sizes
    plans.plan_for.cache_clear()


@sizes
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-7)])
@pytest.mark.parametrize("present", [("gamma", "beta"), ("gamma",), ()], ids=str)
@parametrize(ALL)
def test_many_small_blocks_agree_with_one(norm, present, dtype, tolerance, block, run, cut_small):
    arrays, dy = norm.draw(dtype=dtype)
    optional = {"gamma", "beta"} - {*present}
    arrays = {name: a for name, a in arrays.items() if name not in optional}
    y, gradients = norm.both(arrays, dy)
    cut_small(block, run)
    y_of_many, gradients_of_many = norm.both(arrays, dy)
    assert_close(y_of_many, y, tolerance)
    for name, gradient in gradients.items():
        assert_close(gradients_of_many[name], gradient, tolerance)


@sizes
@pytest.mark.parametrize("itemsize", [4, 8])
@parametrize(ALL)
def test_blocks_cover_everything_once(norm, itemsize, block, run, cut_small):
    cut_small(block, run)
    arrays, _ = norm.draw()
    _, cache = norm.forward(arrays)
    plan = plans.Plan(cache.layout, itemsize)
    count = np.zeros(norm.shape, int)
    for cut in itertools.chain.from_iterable(itertools.chain.from_iterable(plan.lanes)):
        plan.view(count)[cut.slices] += 1
        assert plan.view(count)[cut.slices].shape == cut.shape
    assert (count == 1).all()

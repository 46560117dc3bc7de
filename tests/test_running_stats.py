"""Running statistics: the update rule, both estimators, and what may not happen to them."""

import ml_dtypes
import numpy as np
import pytest
from each import each
from numpy.testing import assert_allclose, assert_array_equal

from numpy_norms import batch_norm_forward, layer_norm_forward, update_running_stats

x = np.random.default_rng(4).normal(3.0, 2.0, (5, 3, 4))
_, CACHE = batch_norm_forward(x)
OLD = np.array([-0.3, 1.7, 0.2]), np.array([0.6, 1.1, 1.9])


def test_momentum_is_the_weight_of_the_new_value():
    mean, var = update_running_stats(*OLD, CACHE, momentum=0.25)
    assert_allclose(mean, 0.75 * OLD[0] + 0.25 * x.mean(axis=(0, 2)), rtol=1e-14)
    assert_allclose(var, 0.75 * OLD[1] + 0.25 * x.var(axis=(0, 2), ddof=1), rtol=1e-14)


@each("correction", [0, 1])
def test_correction_names_the_estimator_of_the_variance(correction):
    _, var = update_running_stats(*OLD, CACHE, momentum=1.0, correction=correction)
    assert_allclose(var, x.var(axis=(0, 2), ddof=correction), rtol=1e-14)


def test_hand_computed():
    _, cache = batch_norm_forward(np.array([[1.0], [3.0]]))
    mean, var = update_running_stats(np.zeros(1), np.ones(1), cache)
    assert_allclose([*mean, *var], [0.2, 1.1], rtol=1e-15)


def test_momentum_0_keeps_the_old_and_momentum_1_takes_the_new():
    kept = update_running_stats(*OLD, CACHE, momentum=0.0)
    taken = update_running_stats(*OLD, CACHE, momentum=1.0)
    again = update_running_stats(*(17 - a for a in OLD), CACHE, momentum=1.0)
    assert_array_equal(kept, OLD)
    assert_array_equal(taken, again)


@each("lost", [np.nan, np.inf])
def test_what_is_not_weighed_is_not_looked_at(lost):
    diverged = np.full_like(OLD[0], lost), np.full_like(OLD[1], lost)
    taken = update_running_stats(*diverged, CACHE, momentum=1.0)
    assert_array_equal(taken, update_running_stats(*OLD, CACHE, momentum=1.0))
    _, cache = batch_norm_forward(np.full((3, len(OLD[0])), lost))
    assert_array_equal(update_running_stats(*OLD, cache, momentum=0.0), OLD)
    assert not np.isfinite(update_running_stats(*OLD, cache, momentum=0.5)).any()


def test_equal_updates_telescope():
    running = OLD
    for _ in range(7):
        running = update_running_stats(*running, CACHE, momentum=0.3)
    new = x.mean(axis=(0, 2)), x.var(axis=(0, 2), ddof=1)
    for got, old, value in zip(running, OLD, new, strict=True):
        assert_allclose(got, 0.7**7 * old + (1 - 0.7**7) * value, rtol=1e-13)


def test_eps_does_not_reach_the_running_variance():
    _, cache = batch_norm_forward(x, eps=1e3)
    assert_array_equal(update_running_stats(*OLD, cache), update_running_stats(*OLD, CACHE))


def test_new_arrays_come_back_and_the_old_stay_as_they_were():
    before = [a.copy() for a in OLD]
    after = update_running_stats(*OLD, CACHE)
    assert_array_equal(OLD, before)
    assert not any(np.shares_memory(a, b) for a in after for b in (*OLD, CACHE.mean, CACHE.var))


def test_momentum_0_also_returns_new_arrays():
    after = update_running_stats(*OLD, CACHE, momentum=0.0)
    assert not any(np.shares_memory(a, b) for a in after for b in OLD)


@each("dtype", [np.float16, np.float32, np.float64])
def test_statistics_keep_their_type_and_are_rounded_once(dtype):
    old = [a.astype(dtype) for a in OLD]
    wide = update_running_stats(*(a.astype(np.float64) for a in old), CACHE)
    for got, expected in zip(update_running_stats(*old, CACHE), wide, strict=True):
        assert got.dtype == dtype
        assert_array_equal(got, expected.astype(dtype))


def test_an_empty_batch_changes_nothing():
    _, cache = batch_norm_forward(np.empty((0, 3, 4)))
    for correction in (0, 1):
        assert_array_equal(update_running_stats(*OLD, cache, correction=correction), OLD)


def test_one_value_per_channel_has_no_unbiased_variance():
    _, cache = batch_norm_forward(np.ones((1, 3)))
    with pytest.raises(ValueError, match="correction=0"):
        update_running_stats(*OLD, cache)
    _, var = update_running_stats(*OLD, cache, momentum=1.0, correction=0)
    assert_array_equal(var, np.zeros(3))


def test_a_batch_whose_size_is_far_from_a_power_of_two_counts_every_value(rng):
    wide = 1000 + rng.standard_normal((1009, 2, 37)).astype(np.float32)
    _, cache = batch_norm_forward(wide)
    mean, var = update_running_stats(np.zeros(2), np.ones(2), cache, momentum=1.0)
    assert_allclose(mean, wide.mean(axis=(0, 2), dtype=np.float64), rtol=1e-14)
    assert_allclose(var, wide.var(axis=(0, 2), ddof=1, dtype=np.float64), rtol=1e-12)


@each("dtype", [np.float16, ml_dtypes.bfloat16])
def test_statistics_out_of_range_and_nan_give_no_warning(dtype):
    _, cache = batch_norm_forward(1e200 * x)
    old = np.array([np.nan, 1.0, 2.0]).astype(dtype)
    mean, var = update_running_stats(old, old, cache)
    assert np.isnan([mean[0], var[0]]).all()
    assert np.isinf([mean[1:], var[1:]]).all()


def test_the_cache_of_another_norm_is_refused():
    _, cache = layer_norm_forward(x)
    with pytest.raises((TypeError, ValueError), match="batch_norm"):
        update_running_stats(*OLD, cache)


@each("at", [0, 1])
@each("shape", [(1,), (4,), (3, 1), ()])
def test_statistics_of_another_shape_are_refused(at, shape):
    old = list(OLD)
    old[at] = np.ones(shape)
    name = ("running_mean", "running_var")[at]
    with pytest.raises(ValueError, match=rf"{name}.*\({', '.join(map(str, shape))}") as caught:
        update_running_stats(*old, CACHE)
    assert "3" in str(caught.value)


@each("momentum", [np.nan, np.inf, -0.1, 1.5])
def test_momentum_outside_0_to_1_is_refused(momentum):
    with pytest.raises(ValueError, match="momentum"):
        update_running_stats(*OLD, CACHE, momentum=momentum)


@each("dtype", [np.int64, bool, object])
def test_statistics_of_integers_are_refused(dtype):
    with pytest.raises(TypeError, match="running_mean"):
        update_running_stats(OLD[0].astype(dtype), OLD[1], CACHE)

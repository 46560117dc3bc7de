"""Masks: statistics of the elements that count, with which every element is normalized."""

from itertools import product

import ml_dtypes  # noqa: F401, of bfloat16
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import FIVE, NORMS, batch_norm, group_norm, instance_norm, layer_norm, parametrize
from each import each
from hypothesis import given, settings
from hypothesis import strategies as st
from measure import assert_close
from numpy.testing import assert_array_equal
from small_tiles import small_tiles
from strategies import problems

import numpy_norms as nn

EPS, STEP = 0.7, 1e-30
LARGER = [
    batch_norm((90, 17)),
    batch_norm((4, 5, 6, 19)),
    layer_norm((5, 12, 40), axis=1),
    layer_norm((2, 300)),
    group_norm((3, 5, 6, 16), 2, channel_axis=-1),
    instance_norm((3, 6, 8, 19), channel_axis=-1),
]


def draw_mask(norm, seed, probability=0.7):
    """Draw what counts, at least one element of each set."""
    rng = np.random.default_rng(seed)
    where = rng.random(norm.shape) < probability
    where.ravel()[norm.sharing.set_rows[:, 0]] = True
    return where


def by_definition(norm, arrays, where, eps=EPS):
    """Compute y set by set, in any dtype; a set in which nothing counts has x_hat 0."""
    rows = norm.sharing.set_rows
    x, counts = arrays["x"].ravel()[rows], where.ravel()[rows]
    n = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    seen = np.where(counts, x, 0)
    mean = seen.sum(axis=1, keepdims=True) / n if norm.centered else 0
    var = (np.where(counts, x - mean, 0) ** 2).sum(axis=1, keepdims=True) / n
    x_hat = np.empty(x.size, x.dtype)
    x_hat[rows] = np.where(counts.any(axis=1, keepdims=True), (x - mean) / np.sqrt(var + eps), 0)
    gamma, beta = (
        arrays[k].ravel()[norm.entries.ravel()] if k in arrays else default
        for k, default in (("gamma", 1), ("beta", 0))
    )
    return (gamma * x_hat + beta).reshape(norm.shape)


def everything(norm, arrays, dy, where, **options):
    """Run forward, backward and jvp."""
    y, cache = norm.forward(arrays, where=where, **options)
    rng = np.random.default_rng(99)
    tangents = {f"{k}_dot": rng.standard_normal(a.shape) for k, a in arrays.items()}
    gradients = {f"d{name}": a for name, a in norm.backward(dy, cache).items()}
    return {"y": y, "y_dot": nn.jvp(cache, **tangents), **gradients}


@parametrize([*NORMS, *LARGER])
def test_y_is_that_of_the_definition(norm):
    arrays, _ = norm.draw(1)
    where = draw_mask(norm, 2)
    y, _ = norm.forward(arrays, where=where, eps=EPS)
    assert_close(y, by_definition(norm, arrays, where), 1e-13)


@parametrize(NORMS)
def test_gradients_are_the_complex_step_of_the_definition(norm):
    arrays, dy = norm.draw(3)
    where = draw_mask(norm, 4)
    _, cache = norm.forward(arrays, where=where, eps=EPS)
    rng = np.random.default_rng(5)
    for name, gradient in norm.backward(dy, cache).items():
        direction = rng.standard_normal(arrays[name].shape)
        moved = {**arrays, name: arrays[name] + 1j * STEP * direction}
        moved["x"] = moved["x"].astype(complex)
        y_dot = by_definition(norm, moved, where).imag / STEP
        terms = np.abs(dy * y_dot).sum()
        assert abs((dy * y_dot).sum() - (gradient * direction).sum()) <= 1e-13 * terms
        assert_close(nn.jvp(cache, **{f"{name}_dot": direction}), y_dot, 1e-12)


@given(problem=problems())
def test_all_true_changes_no_bit(problem):
    norm, arrays = problem.norm, problem.arrays
    for where in (True, np.ones(norm.shape, bool)):
        with_mask = everything(norm, arrays, problem.dy, where, eps=problem.eps)
        without = everything(norm, arrays, problem.dy, None, eps=problem.eps)
        for name, a in without.items():
            assert_array_equal(with_mask[name], a, name)


@parametrize([*FIVE, *LARGER])
@each("dtype", [np.float32, np.float64])
def test_all_true_changes_no_bit_in_any_working_dtype(norm, dtype):
    arrays, dy = norm.draw(6, dtype=np.float32)
    without = everything(norm, arrays, dy, None, dtype=dtype)
    for name, a in everything(norm, arrays, dy, True, dtype=dtype).items():
        assert_array_equal(a, without[name], name)


@parametrize([*FIVE, *LARGER])
@each("bad", [np.nan, np.inf, 1e300])
def test_what_does_not_count_and_has_no_dy_reaches_nothing(norm, bad):
    arrays, dy = norm.draw(7)
    where = draw_mask(norm, 8)
    dy *= where
    clean = everything(norm, arrays, dy, where)
    spoiled = everything(norm, {**arrays, "x": np.where(where, arrays["x"], bad)}, dy, where)
    for name, a in clean.items():
        seen = where if name in ("y", "y_dot") else np.ones(a.shape, bool)
        assert_array_equal(spoiled[name][seen], a[seen], name)


@parametrize([norm for norm in FIVE if norm.name != "batch_norm"])
def test_a_set_in_which_nothing_counts_gives_beta_and_no_dx(norm):
    arrays, dy = norm.draw(9)
    where = draw_mask(norm, 10)
    empty = norm.sets == norm.sets.flat[-1]
    where[empty] = False
    arrays["x"][empty] = np.nan
    found = everything(norm, arrays, dy, where)
    assert_close(found["y"], by_definition(norm, arrays, where, eps=1e-5), 1e-13)
    assert not found["dx"][empty].any()
    for a in found.values():
        assert np.isfinite(a).all()
    _, cache = norm.forward(arrays, where=where)
    assert cache.rstd.flat[-1] == 0


def test_batch_norm_names_a_channel_in_which_nothing_counts(rng):
    x = rng.standard_normal((4, 3, 5))
    with pytest.raises(ValueError, match="all of channel 2,"):
        nn.batch_norm_forward(x, where=np.array([True, True, False])[:, None])
    with pytest.raises(ValueError, match="all of channel 1, 4,"):
        nn.batch_norm_forward(x, channel_axis=(1, 2), where=np.arange(15).reshape(3, 5) != 9)


def broadcasting(shape):
    """Masks of every shape that broadcasts to this one."""
    return st.tuples(*[st.sampled_from([1, n]) for n in shape]).flatmap(
        lambda s: st.integers(0, len(s)).map(lambda k: s[k:] if set(s[:k]) <= {1} else s)
    )


@given(st.data(), st.sampled_from(NORMS), st.integers(0, 2**32 - 1))
def test_a_mask_that_broadcasts_is_the_whole_one(data, norm, seed):
    arrays, dy = norm.draw(11)
    rng = np.random.default_rng(seed)
    where = rng.random(data.draw(broadcasting(norm.shape))) < 0.8
    whole = np.broadcast_to(where, norm.shape)
    if norm.name == "batch_norm" and not whole.ravel()[norm.sharing.set_rows].any(axis=1).all():
        return
    expected = everything(norm, arrays, dy, whole.copy())
    for name, a in everything(norm, arrays, dy, where).items():
        assert_array_equal(a, expected[name], name)


@each(("norm", "size"), [*product(FIVE, ["tiny"]), *product(LARGER, ["small", "middle"])])
@each(("dtype", "work"), [(np.float64, None), (np.float32, np.float32)])
def test_many_small_tiles_agree_with_one(norm, size, dtype, work):
    arrays, dy = norm.draw(12, dtype=dtype)
    where = draw_mask(norm, 13)
    expected = everything(norm, arrays, dy, where, dtype=work)
    with small_tiles(size):
        found = everything(norm, arrays, dy, where, dtype=work)
    for name, a in found.items():
        assert_close(a, expected[name], 1e-13 if dtype == np.float64 else 5e-6)


@parametrize([*FIVE, *LARGER])
@each("mean", [0.0, 1e6])
def test_results_of_narrow_arrays_are_rounded_once(norm, mean):
    arrays, dy = norm.draw(14, mean=mean, dtype=np.float32)
    where = draw_mask(norm, 15)
    wide = {name: a.astype(np.longdouble) for name, a in arrays.items()}
    y, cache = norm.forward(arrays, where=where)
    exact = by_definition(norm, wide, where, np.longdouble(1e-5))
    assert (np.abs(y - exact) <= 0.5000001 * np.spacing(np.abs(y))).all()
    _, wide_cache = norm.forward(wide, where=where)
    expected = norm.backward(dy.astype(np.longdouble), wide_cache)
    for name, a in norm.backward(dy, cache).items():
        assert (np.abs(a - expected[name]) <= 0.5000001 * np.spacing(np.abs(a))).all()


def test_padded_sequences_are_pytorch_s_without_the_padding(rng):
    x, dy = rng.standard_normal((2, 4, 9, 5))  # (N, T, C)
    gamma, beta = rng.standard_normal((2, 5))
    where = np.arange(9) < np.array([9, 4, 1, 7])[:, None]
    dy *= where[..., None]
    y, cache = nn.batch_norm_forward(x, gamma, beta, channel_axis=-1, where=where[..., None])
    dx, dgamma, dbeta = nn.batch_norm_backward(dy, cache)
    packed, g, b = (torch.tensor(a, requires_grad=True) for a in (x[where], gamma, beta))
    running = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    expected = F.batch_norm(packed, *running, g, b, training=True)
    expected.backward(torch.tensor(dy[where]))
    assert_close(y[where], expected.detach().numpy(), 1e-13)
    assert_close(dx[where], packed.grad.numpy(), 1e-13)
    assert not dx[~where].any()
    assert_close(dgamma, g.grad.numpy(), 1e-13)
    assert_close(dbeta, b.grad.numpy(), 1e-13)
    ours = nn.update_running_stats(np.zeros(5), np.ones(5), cache)
    for a, tensor in zip(ours, running, strict=True):
        assert_close(a, tensor.numpy(), 1e-13)


def test_running_statistics_of_instance_norm_are_of_the_samples_that_count(rng):
    x = rng.standard_normal((4, 3, 6))
    where = rng.random(x.shape) < 0.7
    where[..., :2], where[2, 1] = True, False
    _, cache = nn.instance_norm_forward(x, where=where)
    mean, var = nn.update_running_stats(np.zeros(3), np.zeros(3), cache, momentum=1)
    for c in range(3):
        kept = [x[n, c][where[n, c]] for n in range(4) if where[n, c].any()]
        assert_close(mean[c], np.mean([a.mean() for a in kept]), 1e-13)
        assert_close(var[c], np.mean([a.var(ddof=1) for a in kept]), 1e-13)


@parametrize([*FIVE, *LARGER])
@each(("exponent", "eps"), [(-600, 0), (600, 0), (511, EPS)])
def test_numbers_whose_squares_leave_the_range(norm, exponent, eps):
    arrays, dy = norm.draw(16)
    where = draw_mask(norm, 17)
    scale = 2.0**exponent
    scaled = {**arrays, "x": arrays["x"] * scale}
    expected = everything(norm, arrays, dy, where, eps=eps)
    found = everything(norm, scaled, dy, where, eps=eps and eps * scale**2)
    for name, a in found.items():
        if name != "y_dot":
            assert_close(a * (scale if name == "dx" else 1), expected[name], 1e-13)


@parametrize(FIVE)
def test_an_empty_batch_has_the_statistics_that_it_has_without_a_mask(norm):
    arrays, dy = norm.draw(18)
    arrays["x"], dy = arrays["x"][:0], dy[:0]
    (y, cache), (_, plain) = (norm.forward(arrays, where=where) for where in (True, None))
    assert y.shape == dy.shape
    assert_array_equal(cache.mean, plain.mean)  # None for RMS norm
    assert_array_equal(cache.var, plain.var)
    for name, a in norm.backward(dy, cache).items():
        assert a.shape == arrays[name].shape
        assert not a.any()


def test_out_may_be_x_and_nothing_else_is_changed(rng):
    x = rng.standard_normal((4, 3, 6))
    where = rng.random(x.shape) < 0.7
    before, mask = x.copy(), where.copy()
    expected, _ = nn.layer_norm_forward(x, where=where)
    assert_array_equal(x, before)
    assert_array_equal(where, mask)
    y, _ = nn.layer_norm_forward(x, out=x, where=where)
    assert y is x
    assert_array_equal(x, expected)


@each(
    ("where", "error", "words"),
    [
        (np.ones((2, 3)), TypeError, "where has dtype float64"),
        (np.ones((3, 3), bool), ValueError, "where has shape"),
        (np.ones((1, 2, 3), bool), ValueError, "where has shape"),
        ([[1, 0, 1]] * 2, TypeError, "booleans were expected"),
    ],
)
def test_what_is_no_mask_is_refused_before_anything_is_written(where, error, words):
    x, out = np.ones((2, 3)), np.full((2, 3), 7.0)
    with pytest.raises(error, match=words):
        nn.layer_norm_forward(x, where=where, out=out)
    assert (out == 7).all()


def test_a_masked_array_is_refused_with_a_cure_that_works(rng):
    x = np.ma.masked_array(rng.standard_normal((3, 4)), rng.random((3, 4)) < 0.3)
    with pytest.raises(TypeError, match=r"pass x\.data and where=~x\.mask"):
        nn.layer_norm_forward(x)
    y, _ = nn.layer_norm_forward(x.data, where=~x.mask, eps=EPS)
    expected = (x - x.mean(1, keepdims=True)) / np.ma.sqrt(x.var(1, keepdims=True) + EPS)
    assert_close(y[~x.mask], expected.compressed(), 1e-13)


def test_the_second_derivative_under_a_mask_is_refused_in_words(rng):
    x = rng.standard_normal((3, 4))
    _, cache = nn.layer_norm_forward(x, where=x > -1)
    with pytest.raises(ValueError, match="with where="):
        nn.double_backward(x, cache, ddx=x)


WORST = [np.nan, np.inf, -np.inf, 1e30, 1e-30, 65000.0, 0.0]


@settings(max_examples=8)
@given(seed=st.integers(0, 2**32 - 1), eps=st.sampled_from([0.0, 1e-45, 1e-5]))
@parametrize(FIVE)
@each("dtype", ["float16", "bfloat16", "float32", "float64", "complex128"])
def test_no_warning_escapes_whatever_the_values(norm, dtype, seed, eps):
    rng = np.random.default_rng(seed)
    arrays, dy = norm.draw(seed)
    with np.errstate(all="ignore"):
        for a in (dy, *arrays.values()):
            a.flat[rng.integers(a.size)] = rng.choice(WORST)
        arrays = {name: a.astype(np.dtype(dtype)) for name, a in arrays.items()}
        dy = dy.astype(np.dtype(dtype))
    tangents = {f"{name}_dot": a for name, a in arrays.items()}
    for where in (None, draw_mask(norm, seed)):
        _, cache = norm.forward(arrays, eps=eps, where=where)
        assert repr(cache)
        norm.backward(dy, cache)
        nn.jvp(cache, **tangents)
    _, cache = norm.forward(arrays, eps=eps)
    nn.double_backward(dy, cache, ddx=arrays["x"], ddgamma=arrays["gamma"])

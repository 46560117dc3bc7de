"""check_gradients: right pairs pass, wrong ones do not, and coarse ones are told apart."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import numpy_norms as nn
from numpy_norms.verify import check_gradients
from numpy_norms.verify.derivatives import by_complex_step, by_differences, is_analytic

rng = np.random.default_rng(0)
x = rng.standard_normal((5, 6, 7)) + 2
per_channel, per_feature = rng.standard_normal((2, 6)), rng.standard_normal((2, 7))
PAIRS = {
    "batch_norm": (nn.batch_norm_forward, nn.batch_norm_backward, per_channel),
    "layer_norm": (nn.layer_norm_forward, nn.layer_norm_backward, per_feature),
    "group_norm": (
        lambda x, *rest: nn.group_norm_forward(x, 2, *rest),
        nn.group_norm_backward,
        per_channel,
    ),
    "instance_norm": (nn.instance_norm_forward, nn.instance_norm_backward, per_channel),
    "rms_norm": (nn.rms_norm_forward, nn.rms_norm_backward, per_feature[:1]),
}


def black_box(x, gamma, beta):
    """A layer norm through np.var, which takes complex numbers and is wrong for them."""
    rstd = (x.var(axis=-1, keepdims=True) + 0.3) ** -0.5
    return gamma * (x - x.mean(axis=-1, keepdims=True)) * rstd + beta, (x, gamma, rstd)


def black_box_backward(dy, cache):
    x, gamma, rstd = cache
    x_hat, g = (x - x.mean(axis=-1, keepdims=True)) * rstd, gamma * dy
    means = [a.mean(axis=-1, keepdims=True) for a in (g, g * x_hat)]
    dx = rstd * (g - means[0] - x_hat * means[1])
    return dx, (dy * x_hat).sum(axis=(0, 1)), dy.sum(axis=(0, 1))


def scaled(backward, which, factor):
    def wrong(dy, cache):
        found = list(backward(dy, cache))
        found[which] = found[which] * factor
        return found

    return wrong


@pytest.mark.parametrize("shift", [0.0, 1e6], ids=["near", "far"])
@pytest.mark.parametrize("norm", PAIRS)
def test_this_librarys_gradients_agree_with_a_complex_step(norm, shift):
    forward, backward, parameters = PAIRS[norm]
    report = check_gradients(forward, backward, x + shift, *parameters)
    assert report.passed, report
    assert "complex step" in report.title


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("scale", [1e-5, 1.0, 1e5])
def test_a_forward_pass_that_is_not_analytic_is_checked_by_differences(scale, seed):
    report = check_gradients(black_box, black_box_backward, x * scale, *per_feature, seed=seed)
    assert report.passed, report
    assert "differences" in report.title


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_factor_of_one_and_a_millionth_fails_by_either_method(which):
    wrong = scaled(nn.layer_norm_backward, which, 1 + 1e-6)
    assert not check_gradients(nn.layer_norm_forward, wrong, x, *per_feature).passed
    wrong = scaled(black_box_backward, which, 1 + 1e-6)
    assert not check_gradients(black_box, wrong, x, *per_feature).passed


@pytest.mark.parametrize("width", [3, 1000])
def test_a_gradient_of_zeros_fails_however_wide_the_rows(width):
    wide, parameters = rng.standard_normal((3, width)), rng.standard_normal((2, width))
    wrong = scaled(nn.layer_norm_backward, 0, 0.0)
    assert not check_gradients(nn.layer_norm_forward, wrong, wide, *parameters).passed


def test_eps_of_the_forward_pass_is_part_of_the_gradient():
    backward = nn.layer_norm_backward
    assert check_gradients(partial(nn.layer_norm_forward, eps=0.5), backward, x).passed

    def without_eps(dy, cache):
        return backward(dy, nn.layer_norm_forward(cache.x, cache.gamma, eps=0.4)[1])

    forward = partial(nn.layer_norm_forward, eps=0.5)
    assert not check_gradients(forward, without_eps, x, per_feature[0]).passed


@pytest.mark.parametrize("width", [1, 2])
def test_gradients_that_are_nearly_zero_are_judged_by_their_terms(width):
    forward = partial(nn.layer_norm_forward, eps=1e-12)
    narrow, parameters = rng.standard_normal((7, width)), rng.standard_normal((2, width))
    report = check_gradients(forward, nn.layer_norm_backward, narrow, *parameters)
    assert report.passed, report


def test_an_empty_batch_passes():
    parameters = per_feature[:, :3]
    report = check_gradients(
        nn.layer_norm_forward, nn.layer_norm_backward, np.empty((0, 3)), *parameters
    )
    assert report.passed, report


def test_an_absent_array_has_no_gradient():
    forward, backward = nn.layer_norm_forward, nn.layer_norm_backward
    assert check_gradients(forward, backward, x, None, per_feature[1]).passed
    report = check_gradients(forward, lambda *a: [0, 0, 0], x, None, per_feature[1])
    assert "is of shape (); None is expected" in str(report)


def test_too_few_gradients_and_wrong_shapes_are_told():
    def fewer(dy, cache):
        return nn.layer_norm_backward(dy, cache)[:2]

    def flat(dy, cache):
        return [gradient.ravel() for gradient in nn.layer_norm_backward(dy, cache)]

    report = check_gradients(nn.layer_norm_forward, fewer, x, *per_feature)
    assert "returned 2 gradients for 3 arrays" in str(report)
    report = check_gradients(nn.layer_norm_forward, flat, x, *per_feature)
    assert "is of shape (210,); (5, 6, 7) is expected" in str(report)


def test_a_forward_pass_in_float32_passes_with_a_remark():
    coarse = partial(nn.layer_norm_forward, dtype=np.float32)
    report = check_gradients(coarse, nn.layer_norm_backward, x, *per_feature)
    assert report.passed, report
    assert "smaller mistakes pass" in str(report)


def test_a_pass_that_rounds_to_half_precision_fails():
    def in_half(dy, cache):
        dx, *others = nn.layer_norm_backward(dy, cache)
        return [np.float16(dx).astype(float), *others]

    report = check_gradients(nn.layer_norm_forward, in_half, x, *per_feature)
    assert "broken: gradient 0 is not rounded more coarsely than float32" in str(report)


def test_a_backward_pass_that_is_not_linear_fails():
    def rounding(dy, cache):
        return [np.float32(gradient).round(2) for gradient in nn.layer_norm_backward(dy, cache)]

    report = check_gradients(nn.layer_norm_forward, rounding, x, *per_feature)
    assert any(row.law and not row.passed for row in report.rows)


def test_a_pair_that_overwrites_its_arguments_fails():
    def in_place(x):
        y = x * 2
        x += 1
        return y, None

    def in_dy(dy, _):
        dy *= 2
        return (dy,)

    for pair in ((in_place, lambda dy, _: (2 * dy,)), (lambda x: (2 * x, None), in_dy)):
        before = x.copy()
        failed = [row.output for row in check_gradients(*pair, x).rows if not row.passed]
        assert failed == ["no argument is overwritten"]
        assert np.array_equal(x, before)


@pytest.mark.parametrize("array", [np.arange(3), np.ones(3, complex), ["a"], [True]])
def test_only_real_floating_point_numbers_are_taken(array):
    with pytest.raises(TypeError, match="pass real floating-point numbers"):
        check_gradients(nn.layer_norm_forward, nn.layer_norm_backward, array)


@pytest.mark.parametrize("at", [0.3, 2.0])
def test_derivatives_are_within_their_own_error(at):
    def function(s):
        return np.sin(at + np.asarray([s]))

    for estimate, least in (
        (by_complex_step(function, np.ones(1), 1e-30), 1e-14),
        (by_differences(function, np.ones(1), 0.3, 0.0), 1e-10),
    ):
        value, error = estimate
        assert abs(value - np.cos(at)) <= error <= least


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e3])
def test_only_analytic_functions_of_complex_numbers_take_the_complex_step(scale):
    one = np.ones(1)

    def along(function):
        return lambda s: np.asarray([function(scale * s)])

    for right in (np.exp, lambda s: 2 * s + 3, lambda s: (s * s + 1) ** -0.5):
        assert is_analytic(along(right), one, 0.1)
    for wrong in (
        lambda s: abs(s + 1),
        lambda s: (s + 1).real ** 2 + s,
        lambda s: np.conj(s) + 2 * s,
        float,
    ):
        assert not is_analytic(along(wrong), one, 0.1)


KINKED = {  # with the gradients that they have off their kinks
    "relu": (lambda x: (np.maximum(x, 0), x), lambda dy, x: ((x > 0) * dy,)),
    "clip": (lambda x: (np.clip(x, -1, 1), x), lambda dy, x: ((abs(x) < 1) * dy,)),
    "largest": (
        lambda x: (x.max(-1), x),
        lambda dy, x: ((x == x.max(-1, keepdims=True)) * dy[:, None],),
    ),
}


@pytest.mark.parametrize("shape", [(4, 6), (40, 50)])
@pytest.mark.parametrize("kind", KINKED)
def test_kinks_near_by_are_no_fault(kind, shape):
    forward, backward = KINKED[kind]
    for seed in range(5):
        at = np.random.default_rng(seed).standard_normal(shape)
        assert check_gradients(forward, backward, at, seed=seed).passed
        assert not check_gradients(forward, scaled(backward, 0, 1 + 1e-5), at, seed=seed).passed


def test_at_a_kink_any_slope_between_its_sides_passes_and_the_report_says_so():
    forward, _ = KINKED["relu"]
    at = rng.standard_normal((4, 6))
    at[0, :3] = 0
    for slope in (0.0, 0.4, 1.0, 1.5, -0.5):
        report = check_gradients(forward, lambda dy, x, s=slope: (np.heaviside(x, s) * dy,), at)
        assert report.passed == (0 <= slope <= 1), report
        assert "the forward pass has a kink here" in report.remark


@pytest.mark.parametrize("seed", range(5))
def test_a_few_elements_in_float32_are_judged_by_their_own_rounding(seed):
    at = np.random.default_rng(seed).standard_normal((4, 6))

    def forward(x):
        return np.float32(x * x), x

    assert check_gradients(forward, lambda dy, x: (2 * x * dy,), at, seed=seed).passed
    assert not check_gradients(forward, lambda dy, x: (2.002 * x * dy,), at, seed=seed).passed


def test_a_y_of_zero_is_not_coarse():
    forward, backward = nn.layer_norm_forward, nn.layer_norm_backward
    assert check_gradients(forward, backward, np.ones((3, 5))).passed
    assert check_gradients(
        lambda x: (np.sin(x), x), lambda dy, x: (np.cos(x) * dy,), np.zeros(3)
    ).passed


def test_a_pass_that_is_random_is_told_to_be():
    def dropout(x):
        kept = np.random.default_rng().random(x.shape) < 0.5
        return kept * x, kept

    report = check_gradients(dropout, lambda dy, kept: (kept * dy,), x)
    assert "broken: y is the same when called again" in str(report)


@pytest.mark.parametrize(
    ("forward", "says"),
    [
        (3, "forward is 3; a function is expected"),
        (lambda a: a[:2], "forward returned a ndarray; y and a cache are expected"),
        (lambda a: None, "forward returned a NoneType; y and a cache"),
        (lambda a: (a, a, a), "forward returned a tuple of 3; y and a cache"),
        (lambda a: (None, a), "returned a NoneType as y; one array of real numbers"),
        (lambda a: ((a, a[:1]), a), "returned a tuple as y; one array of real numbers"),
    ],
)
def test_a_forward_pass_that_returns_no_pair_is_refused(forward, says):
    with pytest.raises(TypeError, match=says):
        check_gradients(forward, lambda dy, _: (dy,), x)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [((), "there is no array"), ((None,), "there is no array"), (([1, np.nan],), "holds NaN")],
)
def test_what_has_no_gradient_is_refused(arrays, says):
    with pytest.raises(ValueError, match=says):
        check_gradients(lambda *a: (np.ones(3), None), lambda dy, _: (), *arrays)


def test_values_without_a_derivative_and_gradients_that_are_no_numbers_are_told():
    report = check_gradients(lambda a: (a * np.nan, a), lambda dy, a: (dy,), x)
    assert "y fails in values\n  is not finite here" in str(report)
    report = check_gradients(lambda a: (a, a), lambda dy, a: (dy + 0j,), x)
    assert "holds complex128; real numbers are expected" in str(report)

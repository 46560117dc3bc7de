"""What the first sentence says of kernels that go wrong as people's do."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest
import torch
from trials import small, trial, without_large

from numpy_norms.oracle.sets import FEATURE_NORMS, NORMS
from numpy_norms.verify import Accumulator, check_kernel  # noqa: F401
from numpy_norms.verify.adapters import torch_kernel
from numpy_norms.verify.diagnosis.findings import FOLLOWS
from numpy_norms.verify.plain import plain_kernel

CENTRED = [norm for norm in NORMS if norm != "rms_norm"]
CHANNELS = [norm for norm in NORMS if norm not in FEATURE_NORMS]


def first(norm, forward=None, backward=None, battery=without_large):
    report = battery(norm).of(forward, backward)
    assert not report.passed
    return report.diagnosis[0]


def layer_norm(x, gamma, beta, eps, var=None):
    mean = x.mean(-1, keepdims=True)
    var = ((x - mean) ** 2).mean(-1, keepdims=True) if var is None else var
    return gamma * ((x - mean) / np.sqrt(var + x.dtype.type(eps))) + beta


@pytest.mark.parametrize("eps", ["1e-12", "1e-10", "1e-8", "1e-5", "1e-3", "0.1"])
def test_an_eps_that_is_hard_coded_is_told_with_its_value(eps):
    found = first("layer_norm", lambda x, gamma, beta, _: layer_norm(x, gamma, beta, float(eps)))
    assert found.what == f"eps is always {eps}"


@pytest.mark.parametrize("block", [8, 64, 256])
def test_zeros_that_pad_to_a_block_are_told_with_its_size(block):
    def padded(x, gamma, beta, eps):
        mean, m = x.mean(-1, keepdims=True), x.shape[-1]
        squares = ((x - mean) ** 2).sum(-1, keepdims=True) + (-m % block) * mean**2
        return layer_norm(x, gamma, beta, eps, squares / x.dtype.type(m))

    found = first("layer_norm", padded)
    assert (found.kind, found.share) == ("count wrong", 1)
    assert f"a multiple of {block} " in found.what


@pytest.mark.parametrize("norm", CENTRED)
def test_a_beta_that_is_off_by_one_is_told(norm):
    right = plain_kernel(norm)[0]

    def shifted(*arguments):
        *others, beta, eps = arguments
        return right(*others, np.roll(beta, 1), eps)

    assert "beta of the neighbour before" in first(norm, shifted).what


@pytest.mark.parametrize("norm", CHANNELS)
def test_parameters_that_are_read_along_the_last_axis_are_told(norm):
    right = plain_kernel(norm)[0]

    def confused(*arguments):
        x, *groups, gamma, beta, eps = arguments
        x_hat = right(x, *groups, np.ones_like(gamma), np.zeros_like(beta), eps)
        channel = np.arange(x.size).reshape(x.shape) % len(gamma)
        return gamma[channel] * x_hat + beta[channel]

    assert "along the last axis" in first(norm, confused).what


def test_a_mean_term_in_rms_norm_is_told():
    right = plain_kernel("rms_norm")[1]

    def centred(dy, x, gamma, eps):
        dx, dgamma = right(dy, x, gamma, eps)
        rstd = ((x * x).mean(-1, keepdims=True) + x.dtype.type(eps)) ** -0.5
        return dx - rstd * (gamma * dy).mean(-1, keepdims=True), dgamma

    assert "mean term of layer norm" in first("rms_norm", None, centred).what


@pytest.mark.parametrize("norm", NORMS)
def test_a_nan_that_no_case_asks_for_is_told_with_its_cases(norm):
    right = plain_kernel(norm)[0]

    def leaking(*arguments):
        y = right(*arguments)
        return y * np.nan if np.isnan(y).any() else y

    found = first(norm, leaking)
    assert (found.condition, found.kind) == ("only where x holds a NaN", "unknown")
    assert found.what == "y is NaN where a number is expected"
    if norm in FEATURE_NORMS:
        found = first(norm, lambda x, *rest: _nan_in_constant_rows(right(x, *rest), x))
        assert found.condition == "only for sets without variance"
        assert found.what == "y is NaN where a number is expected"


def _nan_in_constant_rows(y, x):
    return np.where(np.ptp(x, axis=-1, keepdims=True) == 0, np.float32(np.nan), y)


@pytest.mark.parametrize("norm", NORMS)
def test_a_result_that_differs_from_call_to_call_is_told_to(norm):
    right, rng = plain_kernel(norm)[1], np.random.default_rng(3)

    def racing(*arguments):
        dx, dgamma, *rest = right(*arguments)
        lost = rng.random(dgamma.shape) < 0.3
        return dx, np.where(lost, np.float32(0.5) * dgamma, dgamma), *rest

    found = first(norm, None, racing)
    assert (found.output, found.kind, found.where) == ("dgamma", "not repeatable", "")


WRONGLY_SAVED = {
    "the variance is returned": lambda mean, var, eps: (mean, var),
    "the standard deviation is returned": lambda mean, var, eps: (mean, np.sqrt(var + eps)),
    "eps is ignored": lambda mean, var, eps: (mean, 1 / np.sqrt(var)),
    "the reciprocal root is rounded to half": lambda mean, var, eps: (
        mean,
        (1 / np.sqrt(var + eps)).astype(np.float16),
    ),
    "the mean has the wrong sign": lambda mean, var, eps: (-mean, 1 / np.sqrt(var + eps)),
    "the mean is rounded to half": lambda mean, var, eps: (
        mean.astype(np.float16),
        1 / np.sqrt(var + eps),
    ),
    "mean is multiplied by 1.01": lambda mean, var, eps: (
        np.float32(1.01) * mean,
        1 / np.sqrt(var + eps),
    ),
}


@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize("words", WRONGLY_SAVED)
def test_a_statistic_that_is_saved_wrong_beside_a_right_y_is_told(words, keepdims):
    def forward(x, gamma, beta, eps):
        mean = x.mean(-1, keepdims=True)
        var = ((x - mean) ** 2).mean(-1, keepdims=True)
        saved = WRONGLY_SAVED[words](mean, var, x.dtype.type(eps))
        saved = saved if keepdims else [a[..., 0] for a in saved]
        return layer_norm(x, gamma, beta, eps), *saved

    report = without_large("layer_norm").of(forward, None)
    assert {row.output for row in report.rows if not row.passed} == {report.diagnosis[0].output}
    assert report.diagnosis[0].what.startswith(words)


def test_a_statistic_that_is_no_number_for_each_set_is_told():
    found = first(
        "layer_norm",
        lambda x, *rest: (layer_norm(x, *rest), x.mean(), x.std()),
        battery=small,
    )
    assert (found.output, found.what) == ("mean, rstd", "it is not one number for each set")


def test_sums_in_a_narrower_type_are_not_said_to_depend_on_what_is_exact_in_it():
    right = plain_kernel("layer_norm")[0]

    def narrow(x, gamma, beta, eps):
        return right(*(a.astype(np.float16) for a in (x, gamma, beta)), eps).astype(x.dtype)

    found = first("layer_norm", narrow)
    assert (found.kind, found.condition) == ("cast too early", "")


@pytest.mark.parametrize("norm", ["batch_norm", "instance_norm"])
def test_a_norm_that_was_left_in_evaluation_is_told(norm):
    """As PyTorch's modules after `eval()`, before anything was tracked."""

    def evaluating(x, gamma, beta, eps):
        channels = x.shape[1]
        start = torch.zeros(channels, dtype=x.dtype), torch.ones(channels, dtype=x.dtype)
        return torch.nn.functional.batch_norm(x, *start, gamma, beta, False, 0.1, eps)

    said = {f.output: f.what for f in without_large(norm).of(*torch_kernel(evaluating)).diagnosis}
    assert said.pop("dx") == FOLLOWS
    assert set(said) == {"y", "dgamma"}
    assert all("those that running ones start from, 0 and 1" in what for what in said.values())


def layered(x_hat):
    return lambda x, gamma, beta, eps: gamma * x_hat(x, eps) + beta


def plain_x_hat(x, eps):
    return layer_norm(x, 1, 0, eps)


ELSEWHERE = {
    "x_hat is computed as (x - median x) r": layered(
        lambda x, eps: (
            (x - np.median(x, -1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
        )
    ),
    "x_hat is computed as (x - min x) / (max x - min x + eps)": layered(
        lambda x, eps: (x - x.min(-1, keepdims=True)) / (np.ptp(x, -1, keepdims=True) + eps)
    ),
    "x_hat is computed as x / sqrt(sum x^2 + eps)": layered(
        lambda x, eps: x / np.sqrt((x * x).sum(-1, keepdims=True) + eps)
    ),
    "x_hat is computed as x_hat of x_hat: it is normalized twice": layered(
        lambda x, eps: plain_x_hat(plain_x_hat(x, eps), eps)
    ),
    "x_hat is computed as x_hat of gamma x: gamma comes first": lambda x, gamma, beta, eps: (
        plain_x_hat(gamma * x, eps) + beta
    ),
    "var is computed as the variance of all of x": layered(
        lambda x, eps: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var() + eps)
    ),
    "y is computed as gamma (x_hat + beta)": lambda x, gamma, beta, eps: (
        gamma * (plain_x_hat(x, eps) + beta)
    ),
    "y is computed as x + gamma x_hat + beta: x is added once more": lambda x, gamma, beta, eps: (
        x + gamma * plain_x_hat(x, eps) + beta
    ),
    "scale is computed as |gamma|": lambda x, gamma, beta, eps: (
        abs(gamma) * plain_x_hat(x, eps) + beta
    ),
}


@pytest.mark.parametrize("said", ELSEWHERE)
def test_another_function_is_told_by_its_formula(said):
    assert first("layer_norm", ELSEWHERE[said], battery=without_large).what == said


def of_the_first(statistic):
    return np.broadcast_to(statistic[(slice(0, 1),) * statistic.ndim], statistic.shape)


STATISTICS = {
    "the reciprocal root of the first set is used for all": lambda m, r, _: (m, of_the_first(r)),
    "the mean and the reciprocal root of the first set are used for all": lambda m, r, _: (
        of_the_first(m),
        of_the_first(r),
    ),
    "var is computed as (E|x - mu|)^2, the square of a mean": lambda m, _, x: (
        m,
        1 / np.sqrt(abs(x - m).mean(-1, keepdims=True) ** 2 + np.float32(0.5)),
    ),
}


@pytest.mark.parametrize("words", STATISTICS)
def test_statistics_of_another_set_or_kind_are_told(words):
    def wrong(x, gamma, beta, eps):
        mean = x.mean(-1, keepdims=True)
        rstd = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + x.dtype.type(eps))
        mean, rstd = STATISTICS[words](mean, rstd, x)
        return gamma * ((x - mean) * rstd) + beta

    report = check_kernel("layer_norm", wrong, eps=0.5, threads=0)
    assert report.diagnosis[0].what == words


BOUNDS = {
    (0, np.inf): "0 at least",
    (0, 6): "[0, 6]",
    (-1.3, 1.1): "[-1.3, 1.1]",
    (-10, 10): "10 at most",  # since no y is below -10
}


@pytest.mark.parametrize(("low", "high"), BOUNDS)
def test_what_is_clamped_is_told_with_its_bounds(low, high):
    forward, backward = plain_kernel("layer_norm")
    found = first("layer_norm", lambda *a: np.clip(forward(*a), low, high), battery=trial)
    assert found.what == f"y is clamped to {BOUNDS[low, high]}"
    if high < 2:
        clipped = lambda *a: (np.clip(backward(*a)[0], low, high), *backward(*a)[1:])  # noqa: E731
        assert first("layer_norm", None, clipped).what == f"dx is clamped to {BOUNDS[low, high]}"


def test_x_hat_that_is_clamped_is_said_of_all_that_it_reaches():
    edits = {"x_hat": lambda _, x_hat: np.clip(x_hat, -1.7, 2.3)}
    found = small("layer_norm").of(*plain_kernel("layer_norm", edits)).diagnosis
    assert [f.output for f in found] == ["y", "dx", "dgamma"]
    assert {f.what for f in found} == {"x_hat is clamped to [-1.7, 2.3]"}


CHANGED = {
    "y is truncated to whole numbers": (0, "y", np.trunc),
    "gamma is rounded to whole numbers": (0, "scale", np.rint),
    "dgamma is rounded down to whole numbers": (1, "dgamma", np.floor),
    "dgamma is that of the neighbour before": (1, "dgamma", lambda a: np.roll(a, 1)),
    "dbeta is in reverse order": (1, "dbeta", lambda a: a[..., ::-1]),
    "dx is that of the neighbour behind": (1, "dx", lambda a: np.roll(a, -1)),
}


@pytest.mark.parametrize("words", CHANGED)
def test_numbers_that_are_rounded_or_those_of_a_neighbour_are_told(words):
    backwards, step, change = CHANGED[words]
    passes = [None, None]
    edits = {step: lambda _, value: change(value)}
    passes[backwards] = plain_kernel("layer_norm", edits)[backwards]
    assert first("layer_norm", *passes, battery=small).what == words


def test_arguments_that_are_rounded_or_shifted_are_told():
    forward, backward = plain_kernel("layer_norm")
    whole = lambda x, *others: forward(np.trunc(x), *others)  # noqa: E731
    assert first("layer_norm", whole, battery=small).what == "x is truncated to whole numbers"
    shifted = lambda dy, *others: backward(np.roll(dy, 1), *others)  # noqa: E731
    found = small("layer_norm").of(None, shifted).diagnosis
    assert {f.what for f in found} == {"dy is that of the neighbour before"}


def test_a_dgamma_whose_axes_are_the_other_way_round_is_told():
    backward = plain_kernel("layer_norm")[1]

    def transposed(*arguments):
        dx, dgamma, dbeta = backward(*arguments)
        return dx, dgamma.T.reshape(dgamma.shape), dbeta

    report = trial("layer_norm", threads=0, axis=(-2, -1), most=20_000).of(None, transposed)
    assert [f.what for f in report.diagnosis] == ["dgamma is transposed"]


def test_a_number_of_groups_that_is_taken_for_their_size_is_told():
    forward, backward = plain_kernel("group_norm")
    passes = (
        lambda x, groups, *others: forward(x, x.shape[1] // groups, *others),
        lambda dy, x, groups, *others: backward(dy, x, x.shape[1] // groups, *others),
    )
    found = without_large("group_norm").of(*passes).diagnosis
    assert [f.output for f in found] == ["y", "dx", "dgamma"]
    assert {f.what for f in found} == {"num_groups is taken for the number of channels of a group"}


def test_a_mean_that_rms_norm_does_not_subtract_is_told():
    forward, backward = plain_kernel("layer_norm")
    passes = (
        lambda x, gamma, eps: forward(x, gamma, np.zeros_like(gamma), eps),
        lambda dy, x, gamma, eps: backward(dy, x, gamma, np.zeros_like(gamma), eps)[:2],
    )
    found = small("rms_norm").of(*passes).diagnosis
    assert found[0].what == "the mean is subtracted, and is no part of this norm"
    assert "mean is subtracted" in small("rms_norm").of(None, passes[1]).diagnosis[0].what


@pytest.mark.parametrize("factor", [1.0003, 0.9, 0.37])
@pytest.mark.parametrize("words", ["the mean", "the variance", "eps", "x in x - mu"])
def test_a_number_that_multiplies_within_a_step_is_told(words, factor):
    def forward(x, gamma, beta, eps):
        by = dict.fromkeys(("the mean", "the variance", "eps", "x in x - mu"), 1.0)
        by[words] = factor
        mean = by["the mean"] * x.mean(-1, keepdims=True)
        var = by["the variance"] * ((x - mean) ** 2).mean(-1, keepdims=True)
        rstd = 1 / np.sqrt(var + by["eps"] * x.dtype.type(eps))
        return gamma * (by["x in x - mu"] * x - mean) * rstd + beta

    found = first("layer_norm", forward)
    assert (found.kind, found.what) == ("factor", f"{words} is multiplied by {factor}")
    assert found.share > 0.9


def test_what_is_unknown_has_no_place_that_holds_little_of_it():
    forward = plain_kernel("layer_norm")[0]

    def spoilt(*arguments):
        y = forward(*arguments)
        y.flat[np.arange(3, int(y.size**0.5)) ** 2] = np.nan
        return y

    assert first("layer_norm", spoilt).where == ""


@pytest.mark.parametrize("in_x", [True, False])
def test_a_nan_that_is_hidden_is_no_place_and_no_zero(in_x):
    def forward(x, *rest):
        return np.nan_to_num(layer_norm(np.nan_to_num(x) if in_x else x, *rest))

    found = first("layer_norm", forward)
    assert found.what == "y is a number where NaN is expected: a NaN in x is hidden"
    assert found.where == "only where x holds a NaN"


def test_zeros_are_not_what_an_earlier_call_left():
    def forward(*arguments):
        y = layer_norm(*arguments)
        y[..., 3:4] = 0
        y.reshape(-1, y.shape[-1])[100:] *= 2
        return y

    assert "earlier" not in first("layer_norm", forward).what


def test_sets_without_digits_are_not_called_dropout():
    def forward(x, gamma, beta, eps):  # in which squares overflow
        mean = x.mean(-1, keepdims=True)
        rstd = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + x.dtype.type(eps))
        return gamma * ((x - mean) * rstd) + beta

    found = trial("layer_norm", "float16").of(forward, None).diagnosis
    assert not any("here and there" in finding.what for finding in found)


def test_a_root_is_not_rough_that_is_so_in_one_case():
    right = plain_kernel("layer_norm")[1]

    def backward(dy, x, gamma, beta, eps):
        dy *= gamma  # once more for each of its rows where they are one in memory
        return right(dy, x, np.ones_like(gamma), beta, eps)[0]

    found = check_kernel("layer_norm", None, backward, threads=0).diagnosis
    assert [finding.output for finding in found] == ["dy", "dx"]
    assert "root" not in found[1].what


def test_a_race_is_told_with_the_threads_and_no_place():
    main = threading.current_thread()

    def forward(*arguments):
        y = layer_norm(*arguments)
        if threading.current_thread() is not main:
            y[..., 1::2] += np.float32(np.random.default_rng().random())
        return y

    found = first("layer_norm", forward, battery=trial)
    assert (found.kind, found.where) == (
        "not repeatable",
        "only when several threads call it at once",
    )


def test_an_overwritten_dy_is_not_said_to_hold_dx():
    right = plain_kernel("layer_norm")[1]

    def backward(dy, *rest):
        found = right(dy, *rest)
        dy *= 2
        return found

    found = first("layer_norm", None, backward)
    assert (found.name, found.what) == ("dy_overwritten", "the argument dy is overwritten")


def test_what_is_infinite_is_not_what_an_earlier_call_left():
    forward = plain_kernel("batch_norm")[0]

    def spoilt(*arguments):
        y = forward(*arguments)
        y.flat[7] = np.inf
        return y

    found = first("batch_norm", spoilt)
    assert str(found) == "y, element 7 alone: y is infinite where a number is expected"


ADDED = {
    "0.001 is added to y": {"y": lambda _, y: y + np.float32(1e-3)},
    "-0.3 is added to dx": {"dx": lambda _, dx: dx - np.float32(0.3)},
    "0.25 is added to the variance": {"var": lambda _, var: var + np.float32(0.25)},
}


@pytest.mark.parametrize("words", ADDED)
@pytest.mark.parametrize("norm", ["batch_norm", "rms_norm"])
def test_a_number_that_is_added_is_told(norm, words):
    found = small(norm).of(*plain_kernel(norm, ADDED[words])).diagnosis
    assert {f.what for f in found} == {words}


def of_set(change):
    """The mean and the reciprocal root of other sets."""
    return {
        "x_hat": lambda w, _: (w.x - change(w.mean)) * w.rstd,
        "rstd": lambda _, rstd: change(rstd),
    }


def of_blocks(size):
    def own_means(w, _):
        starts = np.arange(0, w.view.set_size, size)
        counts = np.diff(np.append(starts, w.view.set_size))
        sums = np.add.reduceat(w.x, starts, axis=3)
        means = np.repeat(sums / counts.astype(w.x.dtype), counts, axis=3)
        return w.average((w.x - means) ** 2)

    return own_means


def lanes(kept, of):
    return lambda w, _: w.average((w.x - w.mean) ** 2 * (np.arange(w.view.set_size) % of < kept))


ROLLED = partial(np.roll, shift=1, axis=0)
IN_STATISTICS = {
    "the variance is held at 1e-3 at least": {"var": lambda _, var: np.maximum(var, 1e-3)},
    "the reciprocal root is held at 100 at most": {"rstd": lambda _, rstd: np.minimum(rstd, 100)},
    "the variance is divided by m - 2 instead of m": {
        "var": lambda w, var: var * np.float32(np.divide(w.view.set_size, w.view.set_size - 2))
    },
    "the mean and the reciprocal root are those of the set before": of_set(ROLLED),
    "y is that of the row before": {"y": lambda _, y: ROLLED(y)},
    "y is that of the first row, for all": {
        "x_hat": lambda _, x_hat: np.broadcast_to(x_hat[:1], x_hat.shape)
    },
    "scale is computed as gamma[0] for all": {"scale": lambda w, _: 0 * w.gamma + w.gamma.flat[0]},
    "rstd is computed as 1 / (sqrt(var) + sqrt(eps))": {
        "rstd": lambda w, _: 1 / (np.sqrt(w.var) + np.sqrt(w.eps))
    },
    "variances of blocks of 8 are merged without the distances of their means": {
        "var": of_blocks(8)
    },
    "the variance is taken over the first half of each 32 only, of each set": {
        "var": lanes(16, 32)
    },
    "the variance is taken over all but the last of each 4, of each set": {"var": lanes(3, 4)},
}


@pytest.mark.parametrize("words", IN_STATISTICS)
def test_statistics_that_are_held_shifted_or_of_a_part_are_told(words):
    forward = plain_kernel("layer_norm", IN_STATISTICS[words])[0]
    assert first("layer_norm", forward, battery=small).what == words


ACTIVATED = {
    "leaky_relu": torch.nn.functional.leaky_relu,
    "gelu": torch.nn.functional.gelu,
    "gelu_by_tanh": partial(torch.nn.functional.gelu, approximate="tanh"),
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
}


@pytest.mark.parametrize("name", ACTIVATED)
def test_an_activation_behind_the_norm_is_told_and_its_gradients_follow(name):
    """As a fused layer of PyTorch, differentiated by it."""

    def fused(x, gamma, beta, eps):
        return ACTIVATED[name](torch.nn.functional.layer_norm(x, x.shape[-1:], gamma, beta, eps))

    found = small("layer_norm").of(*torch_kernel(fused)).diagnosis
    assert found[0].what == f"y is computed as {name}(gamma x_hat + beta)"
    assert {f.output for f in found} == {"y", "dx", "dgamma", "dbeta"}
    assert {f.what for f in found[1:]} == {FOLLOWS}


def welford(x, gamma, beta, eps, twice):
    """With the square of a delta where the product of both belongs."""
    mean = square = np.zeros_like(x[..., :1])
    for n in range(x.shape[-1]):
        new = x[..., n : n + 1]
        deltas = [new - mean, new - (mean + (new - mean) / np.float32(n + 1))]
        mean, square = new - deltas[1], square + deltas[twice] ** 2
    return layer_norm(x, gamma, beta, eps, square / np.float32(x.shape[-1]))


@pytest.mark.parametrize("twice", [0, 1])
def test_a_delta_of_welford_that_is_squared_is_told(twice):
    found = first("layer_norm", partial(welford, twice=twice), battery=small)
    assert f"counts the {('first', 'second')[twice]} delta of Welford twice" in found.what


def test_a_gradient_that_a_residual_adds_is_told():
    edits = {"dx": lambda w, dx: dx + w.dy}
    found = first("layer_norm", None, plain_kernel("layer_norm", edits)[1], battery=small)
    assert found.what == "dx is computed as dx + dy: dy is added once more"


def test_a_nan_that_is_hidden_is_told():
    forward = plain_kernel("layer_norm")[0]
    found = first("layer_norm", lambda x, *a: forward(np.nan_to_num(x), *a))
    assert found.what == "y is a number where NaN is expected: a NaN in x is hidden"
    assert "where x holds a NaN" in found.condition


@pytest.mark.parametrize("norm", CHANNELS)
def test_memory_that_is_taken_for_channels_last_is_told(norm):
    forward = plain_kernel(norm)[0]

    def confused(x, *rest):
        n, channels, *sizes = x.shape
        y = forward(np.moveaxis(x.reshape(n, *sizes, channels), -1, 1), *rest)
        return np.moveaxis(y, 1, -1).reshape(x.shape)

    assert first(norm, confused).what == "x is read as if channels were last"


def to_float16(a):
    return a.astype(np.float16).astype(a.dtype)


def cut(a):
    return (a.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


COARSE = {
    "y is rounded to multiples of 1/256": lambda y: np.round(y * 256) / 256,
    "y is rounded to multiples of 1/1000": lambda y: np.round(y, 3),
    "y is rounded to multiples of max / 127, as int8": lambda y: (
        np.round(y / (abs(y).max() / 127)) * (abs(y).max() / 127)
    ),
    "y is cut to bfloat16": cut,
    "y is rounded to half precision": to_float16,
}


@pytest.mark.parametrize("words", COARSE)
def test_numbers_that_are_coarse_are_told_by_their_steps(words):
    forward = plain_kernel("layer_norm")[0]
    assert first("layer_norm", lambda *a: COARSE[words](forward(*a)), battery=small).what == words


def test_a_kernel_in_float16_is_told_and_a_rough_root_of_that_size_is_not_said_to_be_one():
    def narrow(x, gamma, beta, eps):
        x, gamma, beta = (a.astype(np.float16) for a in (x, gamma, beta))
        return layer_norm(x, gamma, beta, eps)

    found = first("layer_norm", narrow, battery=small)
    assert found.what == "y is computed in float16: its errors are those of such a kernel"
    rough = {"rstd": lambda _, rstd: rstd * np.float32(1 - 1e-3) ** (rstd * 97 % 1)}
    found = first("layer_norm", plain_kernel("layer_norm", rough)[0], battery=small)
    assert "float16" not in found.what


def quake(steps, a):
    """The reciprocal root of bits, and so many steps of Newton."""
    root = (np.int32(0x5F3759DF) - (a.view(np.int32) >> 1)).view(np.float32)
    for _ in range(steps):
        root = root * (np.float32(1.5) - np.float32(0.5) * a * root * root)
    return root


def to_12_bits(a):
    fraction, exponent = np.frexp(a**-0.5)
    return np.ldexp(np.rint(fraction * 4096) / 4096, exponent).astype(np.float32)


ROOTS = {"3.4e-02": partial(quake, 0), "1.7e-03": partial(quake, 1), "2.4e-04": to_12_bits}


@pytest.mark.parametrize("off", ROOTS)
def test_a_rough_root_is_told_in_all_that_it_reaches(off):
    edits = {"rstd": lambda w, _: ROOTS[off](w.var + w.eps)}
    found = without_large("layer_norm").of(*plain_kernel("layer_norm", edits)).diagnosis
    assert {f.output for f in found} == {"y", "dx", "dgamma"}
    assert {f.what.split("up to ")[1] for f in found} == {f"{off} of itself"}


@pytest.mark.parametrize("root", [partial(quake, 2), to_12_bits])
def test_a_rough_root_is_allowed_once_it_is_declared(root):
    kernel = plain_kernel("batch_norm", {"rstd": lambda w, _: root(w.var + w.eps)})
    cure = small("batch_norm").of(*kernel).diagnosis[0].formula
    declared = eval(cure.removeprefix("accumulate=").removesuffix(" would allow it"))
    assert small("batch_norm", accumulate=declared).of(*kernel).passed


@pytest.mark.parametrize(
    ("step", "share", "again"), [("y", 0.1, False), ("y", 0.5, True), ("dx", 0.2, True)]
)
def test_elements_that_are_dropped_are_told(step, share, again):
    """Whether they are the same ones when it is called again, or not."""
    rng = np.random.default_rng(3)

    def thinned(_, a):
        kept = (np.random.default_rng(5) if again else rng).random(a.shape) >= share
        return a * kept / np.float32(1 - share)

    found = small("layer_norm").of(*plain_kernel("layer_norm", {step: thinned})).diagnosis[0]
    said = f"{share:.0%} of {step} is 0, and the rest is divided by {1 - share:g}"
    assert found.what == f"{said}: dropout, as in training"


def twice(inside, last, w, _):
    """The average of all, and of those from the last block on once more."""
    more = np.arange(w.view.set_size) >= last(w.view.set_size)
    return w.average(inside(w) * (1 + more).astype(np.float32))


DEVIATIONS = {"mean": lambda w: w.x, "var": lambda w: (w.x - w.mean) ** 2}
TWICE = {
    "the variance is taken over all, and the last block of 8 twice, of each set": (
        ("var",),
        lambda m: (m - 1) // 8 * 8,
    ),
    "the mean and the variance are taken over all, and the last block of 4 twice, of each set": (
        ("mean", "var"),
        lambda m: (m - 1) // 4 * 4,
    ),
}


@pytest.mark.parametrize("words", TWICE)
def test_a_block_that_is_added_twice_is_told(words):
    steps, last = TWICE[words]
    edits = {step: partial(twice, DEVIATIONS[step], last) for step in steps}
    assert first("layer_norm", plain_kernel("layer_norm", edits)[0], battery=small).what == words


def to_tf32(a):
    return ((a.view(np.uint32) + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


PRODUCTS = {
    "y": {"y": lambda w, _: to_tf32(w.scale) * to_tf32(w.x_hat) + w.beta},
    "the variance": {"var": lambda w, _: w.average(to_tf32(w.x - w.mean) ** 2)},
    "dgamma": {"dgamma": lambda w, _: w.total(to_tf32(w.dy) * to_tf32(w.x_hat))},
    "E[dx_hat x_hat]": {
        "projection": lambda w, _: w.x_hat * w.average(to_tf32(w.dx_hat) * to_tf32(w.x_hat))
    },
}


@pytest.mark.parametrize("words", PRODUCTS)
def test_products_in_tf32_are_told(words):
    found = without_large("layer_norm").of(*plain_kernel("layer_norm", PRODUCTS[words])).diagnosis
    assert {f.what for f in found} == {f"the factors of {words} are rounded to 11 bits, as in TF32"}


def test_two_of_the_commonest_faults_in_one_output_are_told_together():
    def forward(x, gamma, beta, eps):
        m = x.shape[-1]
        deviation = x.std(-1, keepdims=True, ddof=int(m > 1))
        return gamma * ((x - x.mean(-1, keepdims=True)) / (deviation + x.dtype.type(eps))) + beta

    found = first("layer_norm", forward, battery=small)
    assert found.share > 0.99
    assert "divided by m - 1; and eps is added to the standard deviation" in found.what


RESIDUALS = {
    "the residual is not added": lambda norm, x, other: norm(x),
    "the residual is added twice": lambda norm, x, other: norm(x + 2 * other),
    "the residual is subtracted": lambda norm, x, other: norm(x - other),
    "the residual alone is normalized": lambda norm, x, other: norm(other),
    "the residual is added after the norm": lambda norm, x, other: norm(x) + other,
    "the residual is added once more": lambda norm, x, other: norm(x + other) + other,
    "the sum of x and the residual is added": lambda norm, x, other: norm(x + other) + x + other,
}


@pytest.mark.parametrize("words", RESIDUALS)
def test_what_a_kernel_makes_of_the_residual_is_told(words):
    def forward(x, other, *rest):
        return RESIDUALS[words](lambda a: layer_norm(a, *rest), x, other)

    (found,) = small("layer_norm", residual=True).of(forward, None).diagnosis
    assert found.what.startswith(words)
    assert found.share > 0.99


SUMS = {
    "the residual is returned": lambda x, other: other.copy(),
    "x is returned": lambda x, other: x.copy(),
    "the sum is rounded to half": lambda x, other: (x + other).astype(np.float16),
    "sum is multiplied by 0.5": lambda x, other: (x + other) / 2,
}


@pytest.mark.parametrize("words", SUMS)
def test_a_wrong_sum_is_told_beside_a_right_y(words):
    def forward(x, other, *rest):
        return layer_norm(x + other, *rest), SUMS[words](x, other)

    options = {"residual": True, "threads": 0, "shapes": ((5, 7, 13), (3, 40))}
    (found,) = check_kernel("layer_norm", forward, **options).diagnosis
    assert (found.output, found.what[: len(words)]) == ("sum", words)


KEPT = {
    "gamma is that of the first call with": lambda kept, x, gamma, beta, eps: layer_norm(
        x, kept.setdefault(x.shape, gamma.copy()), beta, eps
    ),
    "eps is that of the first call with": lambda kept, x, gamma, beta, eps: layer_norm(
        x, gamma, beta, kept.setdefault(x.shape, eps)
    ),
    "eps is that of the first call": lambda kept, x, gamma, beta, eps: layer_norm(
        x, gamma, beta, kept.setdefault("all", eps)
    ),
}


@pytest.mark.parametrize("words", KEPT)
def test_what_is_kept_of_a_first_call_is_told(words):
    found = first("layer_norm", partial(KEPT[words], {}))
    assert (found.kind, found.share) == ("stale buffer", 1)
    assert found.what.startswith(words)


@pytest.mark.parametrize("order", [(1, 2, 0), (2, 1, 0)])
def test_gradients_in_another_order_are_told_so(order):
    right = plain_kernel("layer_norm")[1]

    def backward(*arguments):
        found = right(*arguments)
        return tuple(found[i] for i in order)

    (found,) = small("layer_norm").of(None, backward).diagnosis
    names = ", ".join(("dx", "dgamma", "dbeta")[i] for i in order)
    assert found.what == f"the gradients come in another order: {names}"


INDEXED = {
    "by the group, not by the channel": lambda channel, width: channel // width,
    "by the channel within its group": lambda channel, width: channel % width,
    "of the first channel of the group": lambda channel, width: channel // width * width,
}


@pytest.mark.parametrize("words", INDEXED)
def test_parameters_of_another_channel_are_told(words):
    right = plain_kernel("group_norm")[0]

    def forward(x, groups, gamma, beta, eps):
        index = INDEXED[words](np.arange(x.shape[1]), x.shape[1] // groups)
        return right(x, groups, gamma[index], beta[index], eps)

    found = first("group_norm", forward)
    assert words in found.what
    assert found.share > 0.99


@pytest.mark.parametrize("size", [4, 16])
def test_blocks_of_equal_weight_are_told_with_their_size(size):
    def forward(x, gamma, beta, eps):
        def mean(a):
            starts = range(0, a.shape[-1], size)
            means = [a[..., i : i + size].mean(-1, keepdims=True) for i in starts]
            return sum(means) / np.float32(len(means))

        centre = mean(x)
        rstd = 1 / np.sqrt(mean((x - centre) ** 2) + x.dtype.type(eps))
        return gamma * (x - centre) * rstd + beta

    found = first("layer_norm", forward)
    assert f"blocks of {size}, the last of which counts as much" in found.what


@pytest.mark.parametrize("which", ["first", "second"])
def test_halves_of_a_set_are_told(which):
    def forward(x, gamma, beta, eps):
        middle = max(x.shape[-1] // 2, 1)
        half = x[..., :middle] if which == "first" else x[..., x.shape[-1] // 2 :]
        mean = half.mean(-1, keepdims=True)
        rstd = 1 / np.sqrt(((half - mean) ** 2).mean(-1, keepdims=True) + x.dtype.type(eps))
        return gamma * (x - mean) * rstd + beta

    assert f"over the {which} half only, of each set" in first("layer_norm", forward).what


@pytest.mark.parametrize(("norm", "axis"), [("batch_norm", 1), ("group_norm", -1)])
def test_statistics_of_another_layout_are_told(norm, axis):
    def forward(x, *rest):
        *groups, gamma, beta, eps = rest
        if norm == "batch_norm":
            rows = x.reshape(1, -1, x.shape[1])
        else:
            rows = np.moveaxis(x.reshape(len(x), *groups, -1), -1, 1)
        distances = rows - rows.mean(1, keepdims=True)
        rstd = 1 / np.sqrt((distances**2).mean(1, keepdims=True) + x.dtype.type(eps))
        x_hat = distances * rstd
        x_hat = (x_hat if norm == "batch_norm" else np.moveaxis(x_hat, 1, -1)).reshape(x.shape)
        along = [-1 if a == axis % x.ndim else 1 for a in range(x.ndim)]
        return gamma.reshape(along) * x_hat + beta.reshape(along)

    found = without_large(norm, channel_axis=axis).of(forward, None).diagnosis[0]
    assert f"as if channels were {'last' if axis == 1 else 'second'}" in found.what


SINGLE = {
    "the mean is": {"mean": lambda w, a: a.astype(np.float32).astype(np.float64)},
    "the reciprocal root is": {"rstd": lambda w, a: a.astype(np.float32).astype(np.float64)},
    "eps is": {"rstd": lambda w, _: (w.var + np.float32(w.eps)) ** -0.5},
}


@pytest.mark.parametrize("words", SINGLE)
def test_what_a_float64_kernel_rounds_to_float32_is_told(words):
    kernel = plain_kernel("layer_norm", SINGLE[words])
    found = small("layer_norm", "float64").of(kernel[0], None).diagnosis[0]
    assert found.what == f"{words} rounded to float32"

"""Kernels that are given a mask: right ones pass, and of wrong ones it is said what they do."""

import numpy as np
import pytest
from trials import trial, without_large

from numpy_norms.verify import cases, check_kernel

SHAPES = ((5, 7, 13), (4, 6))
NORMS = {
    "layer_norm": (-1,),
    "rms_norm": (-1,),
    "instance_norm": (2, 3, 4),
    "batch_norm": (0, 2, 3, 4),
}


def axes_of(norm, ndim):
    return tuple(a for a in NORMS[norm] if a < ndim)


def kernel(norm, mistake=""):
    """A masked kernel as it is written in half an hour, with a mistake or with none."""

    def parts(x, gamma, where):
        over = axes_of(norm, x.ndim)
        shape = (-1,) if norm in ("layer_norm", "rms_norm") else (-1, *[1] * (x.ndim - 2))
        if mistake == "ignored":
            where = np.ones_like(where)
        if mistake == "inverted":
            where = ~where
        if mistake == "of the first":
            where = np.broadcast_to(where[:1], where.shape)
        if mistake == "shifted":
            where = np.roll(where.ravel(), 1).reshape(where.shape)
        if mistake == "packed":
            sizes = [s if {a, a - x.ndim} & {*over} else 1 for a, s in enumerate(x.shape)]
            where = np.arange(np.prod(sizes)).reshape(sizes) < where.sum(over, keepdims=True)
        if mistake == "zeros":
            x, where = np.where(where, x, 0), np.ones_like(where)
        n = where.sum(over, keepdims=True)
        if mistake == "first count":
            n = np.full_like(n, n.flat[0])
        if mistake == "divided":
            n = np.full_like(n, where.size // n.size)

        def average(a):
            if mistake == "multiplied":
                return (a * where).sum(over, keepdims=True) / n
            return np.where(where, a, 0).sum(over, keepdims=True) / n

        return x, over, shape, average, n

    def statistics(x, average, n, over, where, eps):
        mean = average(x) if norm != "rms_norm" else 0
        share = n / (where.size // n.size)
        if mistake == "mean divided":
            mean = mean * share
        if mistake == "mean of all":
            mean = x.mean(over, keepdims=True)
        squares = (x - mean) ** 2
        if mistake == "distances":
            squares = (np.where(where, x, 0) - mean) ** 2
            var = squares.sum(over, keepdims=True) / n
        elif mistake == "variance of all":
            var = squares.mean(over, keepdims=True)
        else:
            var = average(squares) * (share if mistake == "variance divided" else 1)
        return mean, 1 / np.sqrt(var + eps)

    def forward(x, gamma, *rest):
        *beta, eps, where = rest
        x, over, shape, average, n = parts(x, gamma, where)
        mean, rstd = statistics(x, average, n, over, where, eps)
        y = gamma.reshape(shape) * (x - mean) * rstd
        return y + beta[0].reshape(shape) if beta else y

    def backward(dy, x, gamma, *rest):
        eps, where = rest[-2:]
        x, over, shape, average, n = parts(x, gamma, where)
        mean, rstd = statistics(x, average, n, over, where, eps)
        x_hat, g = (x - mean) * rstd, gamma.reshape(shape) * dy
        back = average
        if mistake == "divided back":
            share = n / (where.size // n.size)
            back = lambda a: average(a) * share  # noqa: E731
        dx = g - x_hat * back(g * x_hat)
        if norm != "rms_norm":
            dx = dx - back(g)
        own = x.ndim - 1 if len(shape) == 1 else 1
        others = tuple(a for a in range(x.ndim) if a != own)
        x_hat = x_hat if mistake == "multiplied" else np.where(where, x_hat, 0)
        dgamma = (dy * x_hat).sum(others)
        return (rstd * dx, dgamma, dy.sum(others))[: 3 - (norm == "rms_norm")]

    return forward, backward


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(
    "norm", ["batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm"]
)
def test_this_library_passes(norm, dtype):
    report = without_large(norm, dtype, where=True).of(None, None)
    assert report.passed, report
    kinds = ("holes", "ends") if norm == "batch_norm" else ("holes", "ends", "sets")
    assert {row.case for row in report.rows if "mask" in row.case} == {
        f"mask_{kind}_{what}" for kind in kinds for what in ("far", "nan")
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("norm", NORMS)
def test_a_right_kernel_passes(norm, seed):
    report = check_kernel(norm, *kernel(norm), where=True, seed=seed, threads=0, shapes=SHAPES)
    assert report.passed, report


WRONG = {
    "ignored": "the mask is not used",
    "divided": "the number that counts",
    "zeros": "is taken for 0",
    "distances": "the square of the mean to the variance",
    "divided back": "averages of (12)",
    "inverted": "the other way round",
    "of the first": "the mask of the first row",
    "packed": "the first positions of a set",
    "shifted": "shifted by one",
    "mean divided": "the mean alone is divided",
    "mean of all": "the mean is taken over all positions",
    "variance divided": "the variance alone is divided",
    "variance of all": "the variance is taken over all positions",
    "first count": "the number that counts in the first set",
    "multiplied": "select",
}


@pytest.mark.parametrize("mistake", WRONG)
@pytest.mark.parametrize("norm", NORMS)
def test_what_is_wrong_is_said(norm, mistake):
    if norm == "rms_norm" and mistake == "distances":
        pytest.skip("it has no mean")
    if norm == "rms_norm" and mistake == "zeros":
        pytest.skip("of RMS norm it is the same as dividing by the size of the set")
    if norm == "rms_norm" and mistake in ("mean divided", "mean of all", "variance divided"):
        pytest.skip("it has no mean, and no other average")
    if norm == "rms_norm" and mistake == "variance of all":
        pytest.skip("it has no other average: the mask is not used")
    if norm != "batch_norm" and mistake == "first count":
        pytest.skip("the first of all sets is whole: its size is what counts in it")
    if norm == "batch_norm" and mistake == "of the first":
        pytest.skip("the first of all samples is whole, as if there were no mask")
    passes = kernel(norm, mistake)
    report = trial(norm, where=True, threads=0, shapes=SHAPES).of(*passes)
    assert not report.passed
    said = [f for f in report.diagnosis if WRONG[mistake] in f.what]
    assert {f.output for f in said} >= ({"dx"} if mistake == "divided back" else {"y", "dx"})
    only = {"inverted": "", "packed": "only where a mask has holes"}
    if norm != "batch_norm":
        expected = only.get(mistake, "only where a mask leaves elements out")
        assert all(f.condition == expected for f in said)
    assert all(f.kind == "mask" for f in said)


@pytest.mark.parametrize("norm", ["layer_norm", "instance_norm", "rms_norm"])
def test_a_set_in_which_nothing_counts_reaches_no_sum(norm):
    forward, backward = kernel(norm)

    def multiplied(dy, x, gamma, *rest):
        *_, where = rest
        dx, dgamma, *dbeta = backward(dy, np.where(where, x, 0), gamma, *rest)
        none = ~where.any(axes_of(norm, x.ndim), keepdims=True)  # where x_hat is 0 / 0
        return (dx, dgamma + (0 / ~none * dy).sum(), *dbeta)

    with np.errstate(all="ignore"):
        report = trial(norm, where=True, threads=0, shapes=SHAPES).of(forward, multiplied)
    (finding,) = report.diagnosis
    assert str(finding).startswith("dgamma, only where nothing of a set counts: averages of")


def test_without_eps_no_mask_leaves_a_set_without_variance():
    for norm in ("layer_norm", "rms_norm"):
        for seed in range(3):
            passes = kernel(norm)
            report = check_kernel(norm, *passes, where=True, eps=0, threads=0, seed=seed)
            assert report.passed, report


def test_the_line_that_makes_a_case_again_makes_the_mask():
    report = check_kernel("layer_norm", *kernel("layer_norm", "divided"), where=True, threads=0)
    made: dict = {}
    exec(report.reproduce, made)
    case = made["case"]
    assert case.name == report.worst.case
    assert not case.where.all()
    *_, where = case.forward_arguments
    assert np.array_equal(where, case.where)


def checked(forward=None, backward=None, norm="layer_norm", shape=(5, 13), **options):
    return check_kernel(norm, forward, backward, where=True, threads=0, shapes=[shape], **options)


def test_another_shape_is_said_to_be_that():
    ahead, back = kernel("layer_norm")

    def lifted(*arguments):
        dx, dgamma, dbeta = back(*arguments)
        return dx, dgamma[None], dbeta

    findings = checked(ahead, lifted).diagnosis
    assert any(f.output == "dgamma" and "shape" in f.what for f in findings)


def test_saved_statistics_may_keep_their_axes():
    ahead, _ = kernel("layer_norm")

    def saving(x, gamma, beta, eps, where):
        n = where.sum(-1, keepdims=True)
        mean = np.where(where, x, 0).sum(-1, keepdims=True) / n
        var = np.where(where, x - mean, 0) ** 2
        rstd = 1 / np.sqrt(var.sum(-1, keepdims=True) / n + eps)
        return ahead(x, gamma, beta, eps, where), mean, rstd

    assert checked(saving).passed

    def ignoring(x, gamma, beta, eps, where):
        y, *_ = saving(x, gamma, beta, eps, where)
        return y, *saving(x, gamma, beta, eps, np.ones_like(where))[1:]

    assert {f.output for f in checked(ignoring).diagnosis} == {"mean", "rstd"}


def test_a_residual_is_added_under_a_mask_too():
    ahead, _ = kernel("layer_norm")

    def fused(x, residual, gamma, beta, eps, where):
        total = x + residual
        return ahead(total, gamma, beta, eps, where), total

    assert checked(fused, residual=True).passed

    def forgotten(x, residual, gamma, beta, eps, where):
        return fused(x, residual, gamma, beta, eps, where)[0], np.where(where, x + residual, 0) + x

    assert not checked(forgotten, residual=True).passed


def test_what_is_done_under_a_mask_alone_is_seen():
    ahead, back = kernel("layer_norm")

    def overwriting(x, gamma, beta, eps, where):
        y = ahead(x, gamma, beta, eps, where)
        x[~where] = 0
        return y

    assert "overwritten" in str(checked(overwriting))

    def lazy(dy, x, gamma, beta, eps, where):
        dx, dgamma, dbeta = back(dy, x, gamma, beta, eps, where)
        return dx, dgamma if where.all() else None, dbeta

    assert "dgamma is None here" in str(checked(ahead, lazy))


@pytest.mark.parametrize("norm", ["group_norm", "instance_norm"])
def test_no_set_is_left_without_any(norm):
    groups = {"num_groups": 3} if norm == "group_norm" else {}
    for shape in ((5, 6), (5, 6, 1), (5, 6, 7)):
        if norm == "instance_norm" and len(shape) == 2:
            continue
        assert checked(norm=norm, shape=shape, **groups).passed


def test_a_kernel_that_takes_no_mask_is_told_so():
    report = check_kernel("layer_norm", lambda x, gamma, beta, eps: x, where=True)
    assert "raises TypeError" in str(report.diagnosis[0])


def test_the_battery_hands_the_mask_over():
    case = cases("layer_norm", where=True)[0]
    *_, eps, where = case.forward_arguments
    assert eps == case.eps
    assert where.shape == case.x.shape
    assert where.all()
    assert cases("layer_norm")[0].forward_arguments[-1] == case.eps

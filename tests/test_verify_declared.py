"""What a kernel may declare, and what is then asked of it."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from trials import small, trial, without_large

from benchmarks.right_kernels import Right, right_kernels
from numpy_norms.oracle.sets import NORMS
from numpy_norms.verify import Accumulator, cases, check_kernel
from numpy_norms.verify.kernel import Trial
from numpy_norms.verify.plain import plain_kernel
from numpy_norms.verify.shapes import shapes

forward, backward = plain_kernel("layer_norm")
check = partial(check_kernel, threads=0, shapes=((5, 7, 13), (3, 40)))
ALL = list(right_kernels())
# A recurrence takes time; its lanes are folded by one rule, however many there are.
QUICK = [
    k
    for k in ALL
    if "Welford" not in k.name or (str(k.dtype) == "float32" and "4 lanes" not in k.name)
]


@pytest.mark.parametrize("kernel", QUICK, ids=lambda k: f"{k.norm}, {k.name}, {k.dtype}")
def test_no_right_kernel_is_called_wrong(kernel: Right):
    declared = trial(kernel.norm, kernel.dtype, kernel.accumulate, threads=0, **kernel.options)
    report = declared.of(*kernel.passes)
    assert report.passed, report


@pytest.mark.parametrize("norm", NORMS)
def test_the_battery_has_at_most_ten_shapes_and_sets_beyond_any_block(norm):
    battery = cases(norm)
    assert len({case.x.shape for case in battery}) <= 10
    assert len(shapes(norm)) <= 11
    assert max(case.x.size for case in battery) < 400_000


def test_the_sizes_on_request_are_those_at_which_kernels_change_their_ways():
    names = {case.name: case.x.shape for case in cases("layer_norm", sizes="all")}
    assert names["sets_of_4096"] == (3, 4096)
    assert names["sets_of_16385"] == (3, 16385)
    assert names["batch_of_100000"] == (100_000, 8)
    with pytest.raises(ValueError, match="sizes is 'some'; pass one of 'usual', 'all'"):
        cases("layer_norm", sizes="some")


def test_shapes_that_a_kernel_supports_are_all_that_is_run():
    widths = []

    def only_8192(x, gamma, eps):
        widths.append(x.shape[-1])
        assert x.shape[-1] == 8192
        return plain_kernel("rms_norm")[0](x, gamma, eps)

    report = check("rms_norm", only_8192, shapes=[(3, 8192)])
    assert report.passed, report
    assert set(widths) == {8192}
    assert "Run on the given shapes alone. Not run: flat, few, single, pair, long_sets" in str(
        report
    )
    with pytest.raises(ValueError, match="need num_groups"):
        cases("group_norm", shapes=[(2, 4, 3)])
    for shapes_given in ([(0, 3)], [(2, 3), (2, 0)]):
        with pytest.raises(ValueError, match=r"holds nothing to check; .* empty=True"):
            cases("layer_norm", shapes=shapes_given)
    assert check("layer_norm", forward, shapes=[(5, 8)], empty=True).passed


def test_statistics_that_come_back_are_judged():
    def with_statistics(x, gamma, beta, eps, wrong=False):
        mean = x.mean(-1)
        var = ((x - mean[..., None]) ** 2).mean(-1)
        saved = var if wrong else 1 / np.sqrt(var + np.float32(eps))
        return forward(x, gamma, beta, eps), mean, saved

    report = small("layer_norm").of(with_statistics, None)
    assert report.passed, report
    assert {row.output for row in report.rows if not row.law} == {"y", "mean", "rstd"}
    wrong = small("layer_norm").of(partial(with_statistics, wrong=True), None)
    assert {row.output for row in wrong.rows if not row.passed} == {"rstd"}


def test_what_forward_saved_is_given_to_backward():
    def ahead(x, gamma, beta, eps):
        mean = x.mean(-1, keepdims=True)
        rstd = 1 / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + np.float32(eps))
        return gamma * ((x - mean) * rstd) + beta, mean, rstd

    def back(dy, x, gamma, beta, eps, mean, rstd):
        x_hat, g = (x - mean) * rstd, gamma * dy
        rows = tuple(range(x.ndim - 1))
        centre, along = (a.mean(-1, keepdims=True) for a in (g, g * x_hat))
        return rstd * (g - centre - x_hat * along), (dy * x_hat).sum(rows), dy.sum(rows)

    report = check("layer_norm", ahead, back, saved=True)
    assert report.passed, report


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_residual_is_added_first(dtype):
    def fused(x, residual, gamma, beta, eps):
        total = x + residual
        return forward(total, gamma, beta, eps), total

    assert check("layer_norm", fused, backward, residual=True, dtype=dtype).passed

    def forgotten(x, residual, gamma, beta, eps):
        return forward(x, gamma, beta, eps)

    assert not check("layer_norm", forgotten, residual=True, dtype=dtype).passed


def test_a_scale_that_is_stored_from_one():
    gemma = plain_kernel("rms_norm", scheme="gemma")
    assert check("rms_norm", *gemma, scheme="gemma").passed
    lacking = check("rms_norm", *plain_kernel("rms_norm"), scheme="gemma")
    assert "the scale lacks its + 1" in str(lacking.diagnosis[0])


def test_a_fixed_eps_is_the_only_one_that_is_asked_for():
    fixed = plain_kernel("rms_norm")[0]
    report = check("rms_norm", lambda x, gamma, _: fixed(x, gamma, 1e-6), eps=1e-6)
    assert report.passed, report


def test_a_subnormal_number_between_two_roundings_is_allowed():
    """In one element of 200,000 here x_hat is subnormal in float16, and its error is multiplied."""
    kernel = next(k for k in ALL if (k.name, str(k.dtype)) == ("Llama", "float16"))
    trial = Trial(kernel.norm, kernel.dtype, None, 18, {}, threads=0, **kernel.options)
    assert trial.of(*kernel.passes).passed


def test_what_is_declared_to_be_in_place_is_no_fault():
    def in_place(x, gamma, beta, eps):
        x[...] = forward(x, gamma, beta, eps)
        return x.copy()

    assert not check("layer_norm", in_place).passed
    assert check("layer_norm", in_place, in_place="x").passed


def test_a_gradient_may_be_written_into_dy_whatever_its_strides():
    def in_place(dy, *arguments):
        dy[...], *others = backward(dy, *arguments)
        return (dy, *others)

    assert check("layer_norm", forward, in_place, in_place="dy").passed
    assert {f.output for f in check("layer_norm", None, in_place).diagnosis} >= {"dy"}


@pytest.mark.parametrize("name", ["x", "residual"])
def test_a_fused_kernel_that_writes_into_what_it_adds_says_so(name):
    def fused(x, residual, gamma, beta, eps):
        total = {"x": x, "residual": residual}[name]
        total += residual if name == "x" else x
        return forward(total, gamma, beta, eps), total

    assert check_kernel("layer_norm", fused, residual=True, in_place=name).passed
    report = check("layer_norm", fused, residual=True)
    assert [(f.output, f.kind) for f in report.diagnosis] == [(name, "overwritten")]


def test_a_mask_that_is_written_into_is_told():
    def filling(x, gamma, eps, where):
        counted = np.where(where, x, 0)
        square = (counted**2).sum(-1, keepdims=True) / where.sum(-1, keepdims=True)
        where[...] = True
        return gamma * x / np.sqrt(square + eps)

    report = check("rms_norm", filling, where=True)
    assert [(f.output, f.kind) for f in report.diagnosis] == [("where", "overwritten")]


@pytest.mark.parametrize("norm", NORMS)
def test_this_library_adds_a_residual_too(norm):
    assert check_kernel(norm, residual=True, threads=0).passed


def test_an_empty_batch_is_asked_for_where_it_is_declared():
    def refuses(x, gamma, beta, eps):
        assert x.size, "nothing to do"
        return forward(x, gamma, beta, eps)

    assert check("layer_norm", refuses).passed
    wrong = check("layer_norm", refuses, empty=True)
    assert "AssertionError: nothing to do" in str(wrong)
    assert check("layer_norm", forward, backward, empty=True).passed


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("norm", NORMS)
def test_an_empty_batch_warns_of_nothing(norm):
    assert without_large(norm, empty=True).of(None, None).passed


def test_a_kernel_that_is_not_safe_from_threads_is_told():
    import time

    left = {}

    def shared(x, gamma, beta, eps):
        left["x"] = x
        time.sleep(0.002)
        return forward(left["x"], gamma, beta, eps).reshape(x.shape) if x.ndim else None

    report = check_kernel("layer_norm", shared, threads=2, shapes=[(5, 7, 13), (5, 7, 17)])
    assert not report.passed
    assert "when several threads call it at once" in str(report)


def test_properties_are_told_of_every_kernel_and_required_where_declared():
    def by_batch(x, gamma, beta, eps):
        scale = np.float32(1 + 1e-7 * (len(x) > 1))  # other bits in a batch
        return forward(x * scale, gamma, beta, eps)

    told = without_large("layer_norm").of(by_batch, None)
    alone = "the same bits for a row alone and in a batch"
    assert told.properties[alone] is False
    assert told.passed, told
    assert f" no: {alone}" in str(told)
    required = without_large("layer_norm", require=("batch_invariant",))
    assert not required.of(by_batch, None).passed
    assert without_large("layer_norm").of(forward, backward).properties[alone]
    with pytest.raises(ValueError, match="require is 'speed'"):
        check("layer_norm", require="speed")


def test_a_declared_reciprocal_root_is_allowed_in_exact_cases():
    def rough(x, gamma, eps):
        rstd = 1 / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(eps))
        rstd = np.nextafter(np.nextafter(rstd, np.float32(2)), np.float32(2))
        return gamma * (x * rstd)

    exact = Accumulator(np.float32, "pairwise")
    assert not without_large("rms_norm", accumulate=exact).of(rough, None).passed
    declared = Accumulator(np.float32, "pairwise", rsqrt_ulp=2)
    assert without_large("rms_norm", accumulate=declared).of(rough, None).passed


def test_no_judgement_depends_on_a_longdouble_that_is_wider(monkeypatch):
    monkeypatch.setattr(np, "longdouble", np.float64)
    assert check("layer_norm", forward, backward, dtype="float64").passed
    scaled = check("layer_norm", lambda *a: forward(*a) * (1 + 1e-14), dtype="float64")
    assert not scaled.passed


@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_the_line_that_makes_a_case_again_runs_in_a_fresh_interpreter(dtype):
    report = check("rms_norm", lambda x, gamma, eps: 0 * x, dtype=dtype)
    program = f"{report.reproduce}; print(case.x.dtype)"
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert made.stdout.strip() == dtype, made.stderr


def test_a_nan_between_rows_hides_no_other_error():
    def leaking(x, gamma, eps):
        y = plain_kernel("rms_norm")[0](x, gamma, eps) * np.float32(1.5)
        return np.where(np.isnan(x).any(), np.nan, y)

    report = check("rms_norm", leaking)
    rows = {row.case: row for row in report.rows if not row.law}
    assert rows["one_nan"].not_finite > 0
    assert np.isfinite(report.worst.max_error)
    assert "y is multiplied by 1.5" in str(report.diagnosis[0])
    assert "worst: y[" in str(report)

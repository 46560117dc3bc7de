"""check_kernel: right kernels pass, whoever wrote them; wrong ones fail and say why."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from trials import small, trial, without_large

from benchmarks.peer_kernels import torch_kernel
from numpy_norms.oracle.sets import FEATURE_NORMS, NORMS
from numpy_norms.verify import Accumulator, check_kernel, mutants
from numpy_norms.verify.arrangement import Arrangement
from numpy_norms.verify.plain import plain_kernel
from numpy_norms.verify.runs import library_kernel

RIGHT = {"plain": plain_kernel, "torch": torch_kernel, "ours": library_kernel}
KINDS = [(kernel, dtype) for kernel in RIGHT for dtype in ("float32", "float64")]
KINDS.remove(("ours", "float32"))  # it is held to more below
forward, backward = plain_kernel("layer_norm")


@pytest.mark.parametrize(("kernel", "dtype"), KINDS)
@pytest.mark.parametrize("norm", NORMS)
def test_right_kernels_pass(norm, kernel, dtype):
    battery = trial(norm, dtype) if dtype == "float32" else without_large(norm, dtype)
    report = battery.of(*RIGHT[kernel](norm))
    assert report.passed, report
    assert report.suspects == ()


@pytest.mark.parametrize("norm", NORMS)
def test_without_a_kernel_the_librarys_own_is_checked_and_rounds_float32_once(norm):
    assert check_kernel(norm, accumulate=np.float64, threads=0).passed


def test_plain_float32_does_not_pass_for_float64_inside():
    report = small("layer_norm", accumulate=np.float64).of(forward, backward)
    assert not report.passed
    assert report.suspects == ()


def test_a_plain_kernel_keeps_to_centred_pairwise_sums_along_the_last_axis():
    declared = Accumulator(np.float32, "naive", centred=True)
    assert without_large("layer_norm", accumulate=declared).of(forward, backward).passed


def test_statistics_that_pytorch_saves_in_float16_are_named():
    report = small("layer_norm", "float16").of(*torch_kernel("layer_norm"))
    assert report.suspects[0] == "statistics_saved_in_half"


@pytest.mark.parametrize("norm", NORMS)
def test_other_axes_are_checked_as_well(norm):
    options = {"axis": (-2, -1)} if norm in FEATURE_NORMS else {"channel_axis": -1}
    moved = without_large(norm, **options)
    assert moved.of(*Arrangement.of(norm, options).arranged(*plain_kernel(norm))).passed
    mutant = next(m for m in mutants(norm) if m.name == "projection_dropped")
    wrong = Arrangement.of(norm, options).arranged(mutant.forward, mutant.backward)
    assert moved.of(*wrong).suspects[0] == "projection_dropped"


def test_a_kernel_for_other_axes_fails():
    assert not small("batch_norm", channel_axis=-1).of(*plain_kernel("batch_norm")).passed


@pytest.mark.parametrize("factor", [0.9999, 1.000001])
@pytest.mark.parametrize("output", [0, 1, 2])
def test_a_factor_close_to_one_is_seen_and_told(output, factor):
    def scaled(*arguments):
        found = list(backward(*arguments))
        found[output] = found[output] * np.float32(factor)
        return found

    report = without_large("layer_norm").of(forward, scaled)
    assert not report.passed
    assert report.diagnosis[0].kind == "factor"


def test_one_pass_alone_can_be_checked():
    ahead = small("layer_norm").of(forward, None)
    back = small("layer_norm").of(None, backward)
    assert {row.output for row in ahead.rows if not row.law} == {"y"}
    assert {row.output for row in back.rows if not row.law} == {"dx", "dgamma", "dbeta"}
    assert ahead.passed
    assert back.passed


def test_lists_and_tensors_may_come_back():
    as_list = small("layer_norm").of(lambda *a: forward(*a).tolist(), None)
    tensor = small("layer_norm").of(lambda *a: torch.from_numpy(forward(*a)), None)
    assert as_list.passed
    assert tensor.passed


def raising(*_):
    raise RuntimeError("no kernel image\nmore lines")


@pytest.mark.parametrize(
    ("wrong", "note"),
    [
        (raising, "RuntimeError: no kernel image"),
        (lambda *a: backward(*a)[:2], "returned 2 values; expected dx; or dx, dgamma, dbeta"),
        (lambda *a: [g[..., :1] for g in backward(*a)], "is expected"),
        (lambda *a: [None, None, None], "returned None for dx"),
        (lambda *a: None, "returned None for dx"),
        (lambda *a: ("dx", "dgamma", "dbeta"), "returned a str of <U2 for dx"),
        (lambda *a: ([[1], [2, 3]], 1, 2), "returned a list for dx"),
    ],
)
def test_what_is_not_a_result_fails_with_a_note(wrong, note):
    report = small("layer_norm").of(None, wrong)
    assert not report.passed
    assert note in str(report)


def test_an_exception_that_names_the_shape_is_told_once():
    def raising(x, *_):
        raise ValueError(f"no kernel for {x.shape}, which holds {x.size} elements")

    (found,) = small("layer_norm").of(raising, None).diagnosis
    assert (found.kind, found.where) == ("raises", "")
    assert found.what == "raises ValueError: no kernel for (5, 7, 13), which holds 455 elements"


@pytest.mark.parametrize(
    "returned", [lambda *a: backward(*a)[0], lambda *a: (backward(*a)[0], None, None)]
)
def test_dx_alone_may_come_back_and_the_report_says_what_was_not_checked(returned):
    report = small("layer_norm").of(None, returned)
    assert report.passed, report
    assert {row.output for row in report.rows if not row.law} == {"dx"}
    assert "Not checked: dgamma and dbeta, which the kernel does not return." in str(report)


SHAPES = {
    "an axis more": lambda a: a[None],
    "a number": np.sum,
    "nothing": lambda a: a[:0],
    "flat": np.ravel,
    "transposed": np.transpose,
}


@pytest.mark.parametrize("which", SHAPES)
@pytest.mark.parametrize("norm", NORMS)
def test_whatever_shape_comes_back_is_said_to_be_another(norm, which):
    forward, backward = plain_kernel(norm)

    def ahead(*arrays):
        return SHAPES[which](forward(*arrays))

    def back(*arrays):
        dx, *others = backward(*arrays)
        return (SHAPES[which](dx), *others)

    report = without_large(norm).of(ahead, back)
    said = {finding.output: finding.what for finding in report.diagnosis}
    assert said["y, dx"] == "its shape is not that of the argument"


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_results_without_sense_fail_without_a_warning(value):
    def senseless(*arguments):
        return [np.full_like(np.float64(gradient), value) for gradient in backward(*arguments)]

    report = small("layer_norm").of(lambda x, *_: np.full(x.shape, value), senseless)
    assert not report.passed
    assert "FAILED" in str(report)
    assert {f.output for f in report.diagnosis} == {"y", "dx", "dgamma", "dbeta"}


def test_an_argument_that_was_overwritten_is_restored_and_told():
    def in_place(x, gamma, beta, eps):
        y = forward(x, gamma, beta, eps)
        x[...] = 0
        return y

    report = small("layer_norm").of(in_place, backward)
    overwritten = {row.output for row in report.rows if not row.passed}
    assert overwritten == {"x"}
    assert "argument was overwritten" in str(report)


def test_a_failing_report_leads_to_the_worst_case_again():
    mutant = next(m for m in mutants("layer_norm") if m.name == "padding_counted")
    report = without_large("layer_norm").of(mutant.forward, mutant.backward)
    space = {}
    exec(report.reproduce, space)
    row, case = report.worst, space["case"]
    outputs = [mutant.forward(*case.forward_arguments), *mutant.backward(*case.backward_arguments)]
    got = dict(zip(("y", "dx", "dgamma", "dbeta"), outputs, strict=True))[row.output]
    assert float(got[row.worst]) == row.got


def test_the_report_is_plain_data_and_a_table():
    report = without_large("rms_norm").of(*plain_kernel("rms_norm"))
    content = json.loads(json.dumps(report.to_dict()))
    assert content["passed"] is True
    assert all(row.baseline == row.max_error for row in report.rows if not row.law)
    assert len(content["rows"]) == len(report.rows)
    assert "passed" in str(report).splitlines()[0]
    assert "plain float32 NumPy" in str(report)
    assert all(len(line) <= 120 for line in str(report).splitlines())


def test_options_that_a_norm_does_not_have_are_refused():
    with pytest.raises(TypeError, match="batch_norm has no option 'axis' here"):
        check_kernel("batch_norm", axis=-1)
    with pytest.raises(ValueError, match="norm is 'lrn'; pass one of"):
        check_kernel("lrn")

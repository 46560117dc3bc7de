"""The battery is what it claims to be."""

from __future__ import annotations

from math import prod

import ml_dtypes
import numpy as np
import pytest

from numpy_norms.oracle.sets import FEATURE_NORMS, NORMS
from numpy_norms.verify import Accumulator, cases
from numpy_norms.verify.arrangement import Arrangement
from numpy_norms.verify.judge import Judge
from numpy_norms.verify.plain import plain_kernel
from numpy_norms.verify.runs import run


def named(norm, **options):
    return {case.name: case for case in cases(norm, **options)}


@pytest.mark.parametrize("norm", NORMS)
def test_the_same_seed_gives_the_same_battery_and_another_other_values(norm):
    first, again, other = (cases(norm, seed=seed) for seed in (1, 1, 2))
    for one, same, different in zip(first, again, other, strict=True):
        assert one.x.tobytes() == same.x.tobytes()
        assert one.x.shape == different.x.shape
    assert first[0].x.tobytes() != other[0].x.tobytes()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("norm", NORMS)
def test_every_case_has_its_type_and_finite_values(norm, dtype):
    for case in cases(norm, dtype=dtype):
        arrays = (case.x, case.gamma, case.beta, case.dy)
        assert all(a.dtype == dtype for a in arrays)
        bad = sum(int((~np.isfinite(a.astype(float))).sum()) for a in arrays)
        assert bad == (case.name == "one_nan")


@pytest.mark.parametrize("norm", NORMS)
def test_sizes_differ_and_gamma_is_signed(norm):
    case = named(norm)["ordinary"]
    assert len(set(case.x.shape)) == case.x.ndim
    assert (case.gamma < 0).any()
    assert (case.gamma > 0).any()


@pytest.mark.parametrize("norm", NORMS)
def test_strided_cases_are_strided_and_can_be_written_to(norm):
    battery = named(norm)
    assert battery["strided_x"].x.strides[-1] == 2 * battery["strided_x"].x.itemsize
    assert battery["repeated_dy"].dy.strides[0] == 0
    assert set(battery["dy_of_a_sum"].dy.strides) == {0}
    assert battery["column_major"].x.flags.f_contiguous
    assert all(case.dy.flags.writeable for case in battery.values())


@pytest.mark.parametrize("norm", NORMS)
def test_some_sets_are_longer_than_a_block_and_some_more_than_a_grid(norm):
    battery = named(norm)
    for name, least in (("long_sets", 1024), ("many_sets", 65535)):
        case = battery[name]
        view = Arrangement(norm).view(case.x, case.gamma, case.num_groups)
        sets = prod(view.shape) // view.set_size
        assert (view.set_size if name == "long_sets" else sets) > least


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("norm", NORMS)
def test_exact_cases_have_results_that_any_right_order_of_sums_reaches(norm, dtype):
    declared = Accumulator(np.promote_types(dtype, np.float32), "naive")
    for case in cases(norm, dtype=dtype, seed=5):
        if case.exact_for:
            judge = Judge(case, Arrangement(norm), np.dtype(dtype), declared)
            found = run(case, *plain_kernel(norm))
            for name, got in found.results.items():
                assert np.array_equal(got, judge.expected[name]), (case.name, name)


@pytest.mark.parametrize("norm", NORMS)
def test_axes_go_where_they_are_asked_to(norm):
    if norm in FEATURE_NORMS:
        case = named(norm, axis=(0, 2))["ordinary"]
        assert case.gamma.shape == (case.x.shape[0], case.x.shape[2])
    else:
        case = named(norm, channel_axis=-1)["ordinary"]
        assert case.gamma.shape == case.x.shape[-1:]


@pytest.mark.parametrize("norm", NORMS)
def test_rms_norm_alone_has_no_beta_and_group_norm_alone_has_groups(norm):
    case = cases(norm)[0]
    count = 4 + (norm == "group_norm") - (norm == "rms_norm")
    assert len(case.forward_arguments) == count
    assert case.backward_arguments[0] is case.dy

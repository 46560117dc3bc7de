"""Tolerances: wide enough for right kernels, and for these alone."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from numpy_norms.oracle.sets import NORMS
from numpy_norms.verify import Accumulator, cases, tolerances
from numpy_norms.verify.plain import plain_kernel
from numpy_norms.verify.tolerances import roundoff


def allowed(case, **more):
    beta = None if case.norm == "rms_norm" else case.beta
    return tolerances(
        case.norm,
        case.x,
        case.gamma,
        beta,
        case.dy,
        eps=case.eps,
        num_groups=case.num_groups,
        **more,
    )


@pytest.mark.parametrize("norm", NORMS)
def test_plain_float32_stays_within_and_uses_a_good_part(norm):
    forward, backward = plain_kernel(norm)
    used = []
    for case in cases(norm, seed=2):
        wide = [
            a.astype(np.float64) if isinstance(a, np.ndarray) else a
            for a in case.backward_arguments
        ]
        pairs = [
            (forward(*case.forward_arguments), forward(*wide[1:])),
            *zip(backward(*case.backward_arguments), backward(*wide), strict=True),
        ]
        bounds = [bound for bound in allowed(case) if bound is not None]
        if case.name != "one_nan":
            used += [
                float((abs(got - exact) / bound).max())
                for (got, exact), bound in zip(pairs, bounds, strict=True)
            ]
    assert 0.1 < max(used) < 1


@pytest.mark.parametrize("norm", NORMS)
def test_tolerances_have_the_shapes_of_what_they_bound(norm):
    case = cases(norm)[0]
    bound = allowed(case)
    assert bound.y.shape == bound.dx.shape == case.x.shape
    assert bound.dgamma.shape == case.gamma.shape
    assert (bound.dbeta is None) == (norm == "rms_norm")


def test_tolerances_grow_with_the_ratio_of_mean_and_deviation():
    x = np.array([[0.0, 1.0, 3.0]], np.float32)
    near, far = (tolerances("layer_norm", x + shift, np.ones(3)).y for shift in (0, 1e4))
    assert (far > 1e3 * near).all()


def test_rms_norm_does_not_centre_so_that_a_mean_costs_nothing():
    x = np.array([[0.0, 1.0, 3.0]], np.float32)
    near, far = (tolerances("rms_norm", x + shift, np.ones(3)).y for shift in (1, 1e4))
    assert (far < 4 * near.max()).all()


def test_a_stricter_declaration_gives_smaller_tolerances():
    case = cases("layer_norm")[0]
    order = ("naive", "any", "pairwise")
    long = next(c for c in cases("layer_norm") if c.name == "long_sets")
    loose, middle, tight = (
        allowed(long, accumulate=Accumulator(np.float32, name)).dx for name in order
    )
    assert (loose >= middle).all()
    assert (middle > tight).all()
    centred = allowed(case, accumulate=Accumulator(np.float32, centred=True)).dx
    assert (centred <= allowed(case).dx).all()


def test_float64_inside_leaves_one_rounding():
    case = cases("layer_norm")[0]
    expected = plain_kernel("layer_norm")[0](
        case.x.astype(float), case.gamma.astype(float), case.beta.astype(float), case.eps
    )
    bound = allowed(case, accumulate=np.float64).y
    assert np.allclose(bound, 2.0**-24 * abs(expected), rtol=1e-5)


def test_a_root_known_to_be_approximate_is_allowed_for():
    case = cases("rms_norm")[0]
    rough = allowed(case, accumulate=Accumulator(np.float32, rsqrt_ulp=100.0))
    assert (rough.y > allowed(case).y).all()


@pytest.mark.parametrize(
    ("dtype", "bits"), [(np.float16, 11), (ml_dtypes.bfloat16, 8), (np.float32, 24), (float, 53)]
)
def test_roundoff_is_half_a_unit(dtype, bits):
    assert roundoff(dtype) == 2.0**-bits


def test_an_order_that_is_none_is_refused():
    with pytest.raises(ValueError, match="pass one of 'any', 'pairwise', 'naive'"):
        Accumulator(np.float32, "random")

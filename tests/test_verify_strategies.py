"""The exported strategies: well-formed inputs, and a search that finds what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from numpy_norms.oracle.sets import FEATURE_NORMS, NORMS
from numpy_norms.verify import mutants
from numpy_norms.verify.plain import plain_kernel
from numpy_norms.verify.strategies import aim, norm_cases


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("norm", NORMS)
def test_plain_kernels_stay_within_tolerance_on_whatever_is_drawn(norm, dtype):
    forward, backward = plain_kernel(norm)

    @settings(max_examples=25)
    @given(norm_cases(norm, dtype=dtype))
    def within(case):
        gradients = backward(*case.backward_arguments)
        names = dict(zip(("dx", "dgamma", "dbeta"), gradients, strict=False))
        assert aim(case, y=forward(*case.forward_arguments), **names) < 1

    within()


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_drawn_fits_together(norm):
    @settings(max_examples=25)
    @given(norm_cases(norm, dtype=np.float64))
    def fits(case):
        channels = case.x.shape[-1 if norm in FEATURE_NORMS else 1]
        assert case.gamma.shape == case.beta.shape == (channels,)
        assert case.dy.shape == case.x.shape
        assert case.x.dtype == case.dy.dtype == np.float64
        assert np.isfinite(case.x).all()

    fits()


@pytest.mark.parametrize("name", ["padding_counted", "eps_outside_root", "dy_strides_ignored"])
def test_a_search_finds_a_case_that_shows_a_mistake(name):
    mutant = next(m for m in mutants("layer_norm") if m.name == name)

    def shows(case):
        gradients = mutant.backward(*case.backward_arguments)
        return aim(case, y=mutant.forward(*case.forward_arguments), dx=gradients[0]) > 1

    drawn = st.shared(norm_cases("layer_norm"), key=name)
    try:
        assert find(drawn, shows, settings=settings(max_examples=300)) is not None
    except NoSuchExample:
        pytest.fail("nothing was found")


def test_axes_can_be_chosen():
    @settings(max_examples=10)
    @given(norm_cases("batch_norm", channel_axis=-1))
    def last(case):
        assert case.gamma.shape == case.x.shape[-1:]

    last()


@pytest.mark.parametrize("axes", [{"axis": (0, 3)}, {"axis": 2}, {"axis": (-2, -1)}])
def test_there_are_as_many_axes_as_are_asked_for(axes):
    @settings(max_examples=10)
    @given(norm_cases("layer_norm", **axes))
    def drawn(case):
        axis = axes["axis"] if isinstance(axes["axis"], tuple) else (axes["axis"],)
        assert case.gamma.shape == tuple(case.x.shape[a] for a in axis)

    drawn()


@pytest.mark.parametrize("dtype", [int, complex, np.longdouble, "floaty"])
def test_a_type_that_no_kernel_has_is_refused(dtype):
    with pytest.raises(TypeError, match="it must be one of float16, bfloat16"):
        find(norm_cases("layer_norm", dtype=dtype), lambda case: True)


def test_aim_is_told_which_results_it_is_given():
    case = find(norm_cases("rms_norm"), lambda case: True)
    with pytest.raises(ValueError, match="aim is given no result; it takes y, dx, dgamma by name"):
        aim(case)
    with pytest.raises(ValueError, match="aim is given y, dbeta; it takes y, dx, dgamma"):
        aim(case, y=case.x, dbeta=case.x)
    with pytest.raises(ValueError, match="y has shape"):
        aim(case, y=case.x[..., None])

"""The catalogue of known mistakes: many, named, sourced, and each wrong in its own way."""

from __future__ import annotations

import re

import numpy as np
import pytest
from trials import trial, without_large

from numpy_norms.oracle.sets import NORMS
from numpy_norms.verify import cases, mutants
from numpy_norms.verify.catalogue import KNOWN
from numpy_norms.verify.plain import plain_kernel

# Each fault once, on one of the norms that can have it.
LARGE = ("one_block_only", "grid_overflow")  # they show on large cases alone
EACH = [(fault.norms[i % len(fault.norms)], fault.name) for i, fault in enumerate(KNOWN)]


@pytest.mark.parametrize("norm", NORMS)
def test_every_norm_has_at_least_twenty_mutants_with_names_of_their_own(norm):
    names = [mutant.name for mutant in mutants(norm)]
    assert len(names) >= 20
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("fault", KNOWN, ids=lambda fault: fault.name)
def test_every_mistake_says_what_where_and_how(fault):
    assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", fault.issue)
    assert fault.what
    assert fault.formula
    assert fault.what[0].islower() or fault.what.startswith("dy")


@pytest.mark.parametrize(("norm", "name"), EACH, ids=lambda value: value)
def test_every_mistake_is_caught_and_named_first(norm, name):
    mutant = next(m for m in mutants(norm) if m.name == name)
    battery = trial(norm, threads=0) if name in LARGE else without_large(norm)
    report = battery.of(mutant.forward, mutant.backward)
    assert not report.passed
    assert report.suspects[0] == name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("norm", NORMS)
def test_mutants_return_the_shapes_and_types_of_their_arguments(norm, dtype):
    case = cases(norm, dtype=dtype)[0]
    for mutant in mutants(norm):
        y = mutant.forward(*case.forward_arguments)
        gradients = mutant.backward(np.array(case.dy), *case.forward_arguments)
        expected = (case.x, case.gamma, case.beta)
        assert (y.shape, y.dtype) == (case.x.shape, case.x.dtype)
        for gradient, array in zip(gradients, expected, strict=False):
            assert (gradient.shape, gradient.dtype) == (array.shape, array.dtype), mutant.name


@pytest.mark.parametrize("norm", NORMS)
def test_a_mistake_in_other_arithmetic_is_still_named(norm):
    mutant = next(m for m in mutants(norm) if m.name == "projection_dropped")

    def in_float64(kernel):
        def run(*arguments):
            wide = [a.astype(float) if isinstance(a, np.ndarray) else a for a in arguments]
            found = kernel(*wide)
            return tuple(found) if isinstance(found, tuple) else found

        return run

    report = without_large(norm).of(in_float64(mutant.forward), in_float64(mutant.backward))
    assert report.suspects[0] == "projection_dropped"


def test_a_plain_kernel_computes_in_float32_at_least():
    x, gamma = np.float16([[300.0, -300.0, 100.0]]), np.ones(3, np.float16)
    y = plain_kernel("rms_norm")[0](x, gamma, 1e-5)
    assert y.dtype == np.float16
    assert np.isfinite(y).all()


def test_an_unknown_norm_is_refused_with_the_list():
    with pytest.raises(ValueError, match="pass one of 'batch_norm', 'layer_norm'"):
        mutants("layernorm")

"""A wrong gradient fails tests of at least three kinds: proof that the suite can fail.

Each mutant is a mistake that some library has shipped, put into one equation of the package.
"""

import numpy as np
import pytest
import test_backward_laws as laws
import test_batch_norm
import test_gradients
import test_group_norm
import test_instance_norm
import test_layer_norm
import test_properties
import test_rms_norm
from cases import FIVE, parametrize

from numpy_norms import equations

dx, parameter_gradients = equations.input_gradient, equations.parameter_gradients
BY_HAND = {
    "batch_norm": test_batch_norm,
    "layer_norm": test_layer_norm,
    "group_norm": test_group_norm,
    "instance_norm": test_instance_norm,
    "rms_norm": test_rms_norm,
}


def wrong_axis(*arrays):
    """Average over what is not the set."""
    return np.mean(np.prod([a.value() for a in arrays], axis=0), axis=0, keepdims=True)


MUTANTS_OF_DX = {
    "wrong sign": lambda g, h, r, a, b: dx(g, h, r, a, -b),
    "term left out": lambda g, h, r, a, b: dx(g, h, r, a, 0 * b),
    "average over m - 1": lambda g, h, r, a, b: dx(g, h, r, a, 1.1 * b),
    "var for rstd": lambda g, h, r, a, b: dx(g, h, r**-2, a, b),
    "no rstd": lambda g, h, r, a, b: dx(g, h, r**0, a, b),
    "wrong axis": lambda g, h, r, a, b: dx(g, h, r, a, wrong_axis(g, h)),
    "nearly right": lambda g, h, r, a, b: dx(g, h, r * (1 + 1e-6), a, b),
}
MUTANTS_OF_THE_MEAN = {
    "wrong sign": lambda g, h, r, a, b: dx(g, h, r, -a, b),
    "left out": lambda g, h, r, a, b: dx(g, h, r, None, b),
    "wrong axis": lambda g, h, r, a, b: dx(g, h, r, wrong_axis(g), b),
}


def fails(test, *arguments):
    """Run a test of the suite and say whether it fails."""
    try:
        test(*arguments)
    except AssertionError:
        return True
    return False


def kinds_that_fail(norm):
    """Run one test of each kind on the gradients of ``norm``."""
    differences = test_gradients.test_gradients_are_central_differences_at_any_scale
    definition = test_properties.test_forward_and_backward_agree_with_loops_over_the_definition
    adjoint = laws.test_backward_is_the_adjoint_of_the_forward_derivative
    eps_law = laws.test_dx_along_x_hat_is_eps_rstd_cubed_times_that_of_dx_hat
    results = {
        "by hand": fails(BY_HAND[norm.name].test_hand_computed_backward),
        "by definition": fails(definition, norm),
        "complex step": fails(test_gradients.test_gradients_are_the_complex_step, norm, 3.0),
        "differences": fails(differences, norm, 2.0),
        "law": fails(adjoint, norm) or fails(eps_law, norm, 0.7),
    }
    return [kind for kind, failed in results.items() if failed]


@parametrize(FIVE)
def test_the_right_gradient_fails_no_test(norm):
    assert kinds_that_fail(norm) == []


@pytest.mark.parametrize("mutant", MUTANTS_OF_DX)
@parametrize(FIVE)
def test_a_wrong_dx_fails_three_kinds_of_test(norm, mutant, monkeypatch):
    monkeypatch.setattr(equations, "input_gradient", MUTANTS_OF_DX[mutant])
    assert len(kinds_that_fail(norm)) >= 3


@pytest.mark.parametrize("mutant", MUTANTS_OF_THE_MEAN)
@parametrize([norm for norm in FIVE if norm.centered])
def test_a_wrong_mean_of_dx_hat_fails_three_kinds_of_test(norm, mutant, monkeypatch):
    monkeypatch.setattr(equations, "input_gradient", MUTANTS_OF_THE_MEAN[mutant])
    assert len(kinds_that_fail(norm)) >= 3


@parametrize(FIVE)
def test_a_forgotten_gamma_fails_three_kinds_of_test(norm, monkeypatch):
    monkeypatch.setattr(equations, "scaled", lambda dy, gamma: dy)
    assert len(kinds_that_fail(norm)) >= 3


@pytest.mark.parametrize("factor", [-1.0, 0.0, 1 + 1e-6])
@parametrize(FIVE)
def test_a_wrong_dgamma_fails_three_kinds_of_test(norm, factor, monkeypatch):
    def wrong(*arguments):
        dgamma, dbeta = parameter_gradients(*arguments)
        return None if dgamma is None else factor * dgamma, dbeta

    monkeypatch.setattr(equations, "parameter_gradients", wrong)
    assert len(kinds_that_fail(norm)) >= 3


@pytest.mark.parametrize("factor", [-1.0, 0.0, 1 + 1e-6])
@parametrize([norm for norm in FIVE if "beta" in norm.parameters])
def test_a_wrong_dbeta_fails_three_kinds_of_test(norm, factor, monkeypatch):
    def wrong(*arguments):
        dgamma, dbeta = parameter_gradients(*arguments)
        return dgamma, None if dbeta is None else factor * dbeta

    monkeypatch.setattr(equations, "parameter_gradients", wrong)
    assert len(kinds_that_fail(norm)) >= 3

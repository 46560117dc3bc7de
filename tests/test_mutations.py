"""A mistake fails tests of at least three kinds: proof that the suite can fail.

Each mistake is one that some library has shipped, put into one equation of the package.
"""

from contextlib import contextmanager
from inspect import unwrap
from itertools import islice

import numpy as np
import pytest
import test_backward_laws as laws
import test_batch_norm
import test_batch_norm_inference as inference
import test_equivalences as equivalences
import test_gradients as gradients
import test_group_norm
import test_instance_norm
import test_layer_norm
import test_nasty_values
import test_properties
import test_rms_norm
from cases import (
    INFERENCE,
    Norm,
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    parametrize,
    rms_norm,
)
from each import each

from numpy_norms import equations as eq
from numpy_norms import normalize
from numpy_norms.engine import programs

pytestmark = pytest.mark.usefixtures("_without_programs")
FIVE = [  # small, as some tests take a step for every element
    batch_norm((4, 2, 3)),
    layer_norm((4, 2, 3), axis=(1, 2)),
    group_norm((3, 4, 2), 2),
    instance_norm((3, 2, 4)),
    rms_norm((3, 4)),
]
BY_HAND = {
    "batch_norm": test_batch_norm,
    "layer_norm": test_layer_norm,
    "group_norm": test_group_norm,
    "instance_norm": test_instance_norm,
    "rms_norm": test_rms_norm,
}

moments, variance, standardized = eq.moments, eq.variance, eq.standardized
output, sums_of, averages, dx = eq.output, eq.parameter_gradients, eq.averages, eq.input_gradient
of_given, of_constants = eq.statistics_gradients, eq.input_gradient_of_constants


def wrong_axis(*arrays):
    """Average over what is not the set."""
    for a in arrays:
        a.settle()
    return np.mean(np.prod([a.value() for a in arrays], axis=0), axis=0, keepdims=True)


def scaled_by(factors, numbers):
    """Numbers times a factor each, of which some may be None."""
    return [a if a is None else k * a for k, a in zip(factors, numbers, strict=True)]


MISTAKES = {
    "moments": {
        "mean square without the square": lambda x, E, M: (M(x), E(x)),
    },
    "variance": {
        "average over m - 1": lambda mean, square: 1.1 * variance(mean, square),
        "nearly right": lambda mean, square: (1 + 1e-6) * variance(mean, square),
    },
    "reciprocal_std": {
        "eps outside the root": lambda var, eps: 1 / (np.sqrt(var) + eps),
        "no eps": lambda var, eps: 1 / np.sqrt(var),
        "var for std": lambda var, eps: 1 / (var + eps),
        "std for rstd": lambda var, eps: np.sqrt(var + eps),
    },
    "standardized": {
        "no rstd": lambda x, mean, rstd: standardized(x, mean, None),
        "rstd first": lambda x, mean, rstd: standardized(standardized(x, None, rstd), mean, rstd),
    },
    "output": {
        "no gamma": lambda x_hat, gamma, beta: output(x_hat, None, beta),
        "1 + gamma": lambda x_hat, gamma, beta: output(x_hat, 1 + gamma, beta),
    },
    "parameter_gradients": {
        f"dgamma times {k}": lambda *a, k=k: scaled_by((k, 1), sums_of(*a))
        for k in (-1.0, 0.0, 1 + 1e-6)
    },
    "scaled": {"forgotten gamma": lambda dy, gamma: dy},
    "averages": {
        "wrong sign": lambda *a: scaled_by((1, -1), averages(*a)),
        "without x_hat": lambda g, h, E, M: (M(g), E(g)),
        "wrong axis": lambda g, h, E, M: (M(g), wrong_axis(g, h)),
    },
    "input_gradient": {
        "wrong sign": lambda g, h, r, a, b: dx(g, h, r, a, -b),
        "term left out": lambda g, h, r, a, b: dx(g, h, r, a, 0 * b),
        "average over m - 1": lambda g, h, r, a, b: dx(g, h, r, a, 1.1 * b),
        "var for rstd": lambda g, h, r, a, b: dx(g, h, r**-2, a, b),
        "no rstd": lambda g, h, r, a, b: dx(g, h, None, a, b),
        "nearly right": lambda g, h, r, a, b: dx(g, h, r * (1 + 1e-6), a, b),
    },
}
MISTAKES_OF_CENTERED = {
    "moments": {
        "no mean": lambda x, E, M: (None, E(x, x)),
    },
    "variance": {
        "mean square for variance": lambda mean, square: square,
        "wrong sign": lambda mean, square: square + mean * mean,
    },
    "standardized": {
        "not centered": lambda x, mean, rstd: standardized(x, None, rstd),
        "wrong sign": lambda x, mean, rstd: standardized(x, -mean, rstd),
    },
    "output": {
        "no beta": lambda x_hat, gamma, beta: output(x_hat, gamma, None),
        "beta scaled, too": lambda x_hat, gamma, beta: output(
            output(x_hat, None, beta), gamma, None
        ),
    },
    "parameter_gradients": {
        f"dbeta times {k}": lambda *a, k=k: scaled_by((1, k), sums_of(*a))
        for k in (-1.0, 0.0, 1 + 1e-6)
    },
    "averages": {
        "mean of the wrong sign": lambda *a: scaled_by((-1, 1), averages(*a)),
        "mean over the wrong axis": lambda g, h, E, M: (wrong_axis(g), E(g, h)),
    },
    "input_gradient": {
        "mean of the wrong sign": lambda g, h, r, a, b: dx(g, h, r, -a, b),
        "mean left out": lambda g, h, r, a, b: dx(g, h, r, None, b),
    },
}
MISTAKES_OF_INFERENCE = {
    "reciprocal_std": MISTAKES["reciprocal_std"],
    "standardized": MISTAKES["standardized"],  # float64 has been lessened by the mean before
    "parameter_gradients": {
        f"{name} times {k}": lambda *a, i=i, k=k: scaled_by((k, 1)[:: 1 - 2 * i], sums_of(*a))
        for k in (-1.0, 0.0, 1 + 1e-6)
        for i, name in enumerate(("dgamma", "dbeta"))
    },
    "scaled": MISTAKES["scaled"],
    "statistics_gradients": {
        f"{name} times {k}": lambda *a, i=i, k=k: scaled_by((k, 1)[:: 1 - 2 * i], of_given(*a))
        for k in (-1.0, 0.0, 2.0, 1 + 1e-6)
        for i, name in enumerate(("dmean", "dvar"))
    }
    | {"rstd squared for cubed": lambda g, gx, r: (of_given(g, gx, r)[0], -0.5 * r**2 * gx)},
    "input_gradient_of_constants": {
        "no rstd": lambda g, r: g,
        "var for rstd": lambda g, r: of_constants(g, r**-2),
        "wrong sign": lambda g, r: of_constants(g, -r),
        "nearly right": lambda g, r: of_constants(g, r * (1 + 1e-6)),
    },
}


def fails(test, *arguments):
    """Run a test of the suite and say whether it fails."""
    try:
        test(*arguments)
    except AssertionError:
        return True
    return False


def kinds_that_fail(norm):
    """Run tests of each kind on a norm and yield the kinds that fail."""
    # A set far from zero is centered by its pivot already, so that it takes sets near zero, too.
    norms = norm, Near(norm.name, norm.shape, norm.options)
    for kind, tests in (OF_INFERENCE if norm is INFERENCE else OF_FIVE).items():
        if any(fails(unwrap(test), n, *more) for test, *more in tests for n in norms):
            yield kind


class Near(Norm):
    """A norm whose sets lie near zero."""

    def draw(self, seed=0, *, mean=0.3, **options):
        """Draw as other norms do, but for the mean."""
        return super().draw(seed, mean=mean, **options)


OF_FIVE = {  # tests, and their arguments after the norm
    "by hand": [
        (lambda norm: BY_HAND[norm.name].test_hand_computed_forward(),),
        (lambda norm: BY_HAND[norm.name].test_hand_computed_backward(),),
    ],
    "law": [
        (laws.test_backward_is_the_adjoint_of_the_forward_derivative,),
        (laws.test_dx_along_x_hat_is_eps_rstd_cubed_times_that_of_dx_hat, 0.7),
    ],
    "exact": [(test_nasty_values.test_eps_from_0_to_far_above_the_variance, 0.5)],
    "by definition": [
        (test_properties.test_forward_and_backward_agree_with_loops_over_the_definition,),
    ],
    "complex step": [
        (gradients.test_gradients_are_the_complex_step, 3.0),
        (gradients.test_gradients_are_the_complex_step, 0.3),
    ],
    "differences": [(gradients.test_gradients_are_central_differences_at_any_scale, 2.0)],
}
OF_INFERENCE = {
    "by hand": [(lambda _: inference.test_hand_computed(),)],
    "by definition": [(inference.test_all_five_gradients_agree_with_loops_over_the_definition,)],
    "complex step": [(gradients.test_gradients_are_the_complex_step, 3.0)],
    "differences": [
        (lambda _: gradients.test_inference_gradients_are_central_differences_for_statistics_too(),)
    ],
    "law": [
        (laws.test_backward_is_the_adjoint_of_the_forward_derivative,),
        (lambda _: equivalences.test_batch_norm_is_inference_with_the_statistics_of_the_batch(),),
    ],
}


def one_by_one(mistakes):
    """Run a test on one mistake after the other."""
    pairs = [(name, mistake) for name, found in mistakes.items() for mistake in found]
    return each(("equation", "mistake"), pairs)


def assert_three_kinds_fail(norm):
    """Find three kinds of tests that fail; more would cost time."""
    assert len(list(islice(kinds_that_fail(norm), 3))) == 3


@contextmanager
def mistaken(equation, mistake):
    """Put a mistake into an equation."""
    programs.kind.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eq, equation, mistake)
        if equation == "output":  # which other schemes replace
            patch.setitem(normalize.forward.__kwdefaults__, equation, mistake)
        yield


@parametrize([*FIVE, INFERENCE])
def test_the_right_equations_fail_no_test(norm):
    assert list(kinds_that_fail(norm)) == []


@one_by_one(MISTAKES)
@parametrize(FIVE)
def test_a_mistake_fails_three_kinds_of_test(norm, equation, mistake):
    with mistaken(equation, MISTAKES[equation][mistake]):
        assert_three_kinds_fail(norm)


@one_by_one(MISTAKES_OF_CENTERED)
@parametrize([norm for norm in FIVE if norm.centered])
def test_a_mistake_with_the_mean_or_beta_fails_three(norm, equation, mistake):
    with mistaken(equation, MISTAKES_OF_CENTERED[equation][mistake]):
        assert_three_kinds_fail(norm)


@one_by_one(MISTAKES_OF_INFERENCE)
def test_a_mistake_in_inference_fails_three(equation, mistake):
    with mistaken(equation, MISTAKES_OF_INFERENCE[equation][mistake]):
        assert_three_kinds_fail(INFERENCE)


def test_every_equation_is_mistaken_once():
    functions = {
        name for name, f in vars(eq).items() if getattr(f, "__module__", "") == eq.__name__
    }
    assert functions == {*MISTAKES, *MISTAKES_OF_CENTERED, *MISTAKES_OF_INFERENCE}

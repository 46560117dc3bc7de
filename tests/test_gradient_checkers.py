"""The gradient checkers of other packages: each is asked about the kernel that is meant."""

import numpy as np
import pytest

from benchmarks.gradient_checkers import CHECKERS, Kernel
from benchmarks.kill_table import common_inputs
from numpy_norms.oracle.sets import FEATURE_NORMS, NORMS
from numpy_norms.verify import mutants
from numpy_norms.verify.plain import plain_kernel


def kernel_of(norm, forward, backward):
    """A kernel with a few of the inputs that tests commonly take; slow checkers need no more."""
    (x, *parameters), eps, groups = common_inputs(norm, 0)
    few = x[:, :2, :16] if norm in FEATURE_NORMS else x[:3, :, :3]
    return Kernel(forward, backward, few, tuple(p[:16] for p in parameters), eps, groups)


@pytest.fixture(params=CHECKERS, ids=lambda checker: checker.name)
def checker(request):
    """A checker whose package is installed."""
    pytest.importorskip(request.param.package)
    return request.param


@pytest.mark.parametrize("norm", NORMS)
def test_every_checker_accepts_a_right_kernel(checker, norm):
    assert checker.accepts(checker.module(), kernel_of(norm, *plain_kernel(norm)))


@pytest.mark.parametrize("name", ["mean_term_not_divided", "dgamma_dbeta_swapped"])
def test_every_checker_sees_each_argument_of_a_kernel(checker, name):
    wrong = next(mutant for mutant in mutants("batch_norm") if mutant.name == name)
    kernel = kernel_of("batch_norm", wrong.forward, wrong.backward)
    assert not checker.accepts(checker.module(), kernel)


def test_the_slow_check_of_pytorch_passes_a_gradient_that_is_a_thousandth_too_large(checker):
    forward, backward = plain_kernel("layer_norm")
    larger = kernel_of("layer_norm", forward, lambda *a: tuple(1.0009 * g for g in backward(*a)))
    assert checker.accepts(checker.module(), larger) == (checker.package == "torch")


def test_a_checker_leaves_the_global_generator_as_it_was(checker):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    checker.accepts(checker.module(), kernel_of("rms_norm", *plain_kernel("rms_norm")))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002

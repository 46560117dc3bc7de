"""Check a normalization kernel, whoever wrote it: is it right, and if not, what is wrong with it?

    check_kernel      a kernel of one of the norms against this library, on a designed battery
    assert_kernel     the same as an assertion, for a test
    check_gradients   any pair of forward and backward in this library's form
    grade             somebody's function, or class, in the words of the command grade
    mutants           kernels that are known to be wrong
    cases             the battery, for use elsewhere
    tolerances        how far a right kernel may be from the expected values
    why_weak          what somebody's own test inputs cannot detect

`adapters` has kernels on PyTorch tensors, on JAX arrays, on DLPack, and in C. `strategies` draws
inputs for property tests; it needs hypothesis. Both are imported by their own names.
"""

from .asserting import assert_kernel
from .battery import Case, cases
from .catalogue import Mutant, mutants
from .finding import Finding
from .grade import grade
from .gradients import check_gradients
from .kernel import check_kernel
from .linter import Weakness, why_weak
from .report import Report, Row
from .tolerances import Accumulator, Tolerances, tolerances

__all__ = [
    "Accumulator",
    "Case",
    "Finding",
    "Mutant",
    "Report",
    "Row",
    "Tolerances",
    "Weakness",
    "assert_kernel",
    "cases",
    "check_gradients",
    "check_kernel",
    "grade",
    "mutants",
    "tolerances",
    "why_weak",
]

"""Check a normalization kernel, whoever wrote it: is it right, and if not, what is wrong with it?

    check_kernel      a kernel of one of the norms against this library, on a designed battery
    check_gradients   any pair of forward and backward in this library's form
    mutants           kernels that are known to be wrong
    cases             the battery, for use elsewhere
    tolerances        how far a right kernel may be from the expected values
    why_weak          what somebody's own test inputs cannot detect

`strategies` draws inputs for property tests; it needs hypothesis and is imported by its own name.
"""

from .battery import Case, cases
from .catalogue import Mutant, mutants
from .finding import Finding
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
    "cases",
    "check_gradients",
    "check_kernel",
    "mutants",
    "tolerances",
    "why_weak",
]

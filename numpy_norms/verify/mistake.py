"""What a known mistake is, and the wrong kernel that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from numpy_norms.oracle.sets import NORMS

from .plain import Kernel, Step, plain_kernel

__all__ = ["CENTRED", "Mistake", "Mutant"]

CENTRED = tuple(norm for norm in NORMS if norm != "rms_norm")


@dataclass(frozen=True)
class Mutant:
    """A kernel that is known to be wrong.

    Parameters
    ----------
    name : str
        Unique within its norm, for instance ``"mean_term_dropped"``.
    norm : str
    what : str
        What is wrong, as a phrase that completes "equals ours, but ...".
    formula : str
        The wrong formula, in the notation of the equations.
    issue : str
        A public issue or pull request that had it: ``"owner/repository#number"``.
    forward, backward : callable
        The kernel in the form that `check_kernel` takes. Computes in the type of `x`, in float32
        if that is narrower, and returns the type of each argument.
    """

    name: str
    norm: str
    what: str
    formula: str
    issue: str
    forward: Kernel = field(repr=False)
    backward: Kernel = field(repr=False)


def _unchanged(forward: Kernel, backward: Kernel) -> tuple[Kernel, Kernel]:
    return forward, backward


@dataclass(frozen=True)
class Mistake:
    """A mistake, as what it changes in the plain kernel of each norm that can have it.

    Parameters
    ----------
    name, what, formula, issue : str
        As in `Mutant`.
    norms : tuple of str
        Norms that can have it.
    steps, backward : mapping of str to callable
        Steps of the plain kernel that it replaces: in both passes, and in the backward pass alone.
    around : callable
        Takes the two passes and returns them wrapped, for mistakes in how memory is read.
    """

    name: str
    what: str
    formula: str
    issue: str
    norms: tuple[str, ...] = NORMS
    steps: Mapping[str, Step] = field(default_factory=dict)
    backward: Mapping[str, Step] = field(default_factory=dict)
    around: Callable[[Kernel, Kernel], tuple[Kernel, Kernel]] = _unchanged

    def mutant(self, norm: str) -> Mutant:
        """Return the kernel of `norm` with this mistake in it."""
        forward, backward = self.around(*plain_kernel(norm, self.steps, self.backward))
        return Mutant(self.name, norm, self.what, self.formula, self.issue, forward, backward)

"""The catalogue of known-wrong kernels: each fault has been shipped by somebody."""

from __future__ import annotations

from dataclasses import dataclass, field

from numpy_norms.checks import choice
from numpy_norms.oracle.sets import NORMS

from .faults.grammar import Fault
from .faults.known_backward import BACKWARD_FAULTS
from .faults.known_forward import FORWARD_FAULTS
from .plain import Kernel

__all__ = ["KNOWN", "Mutant", "mutants"]

KNOWN: tuple[Fault, ...] = FORWARD_FAULTS + BACKWARD_FAULTS


@dataclass(frozen=True)
class Mutant:
    """A kernel that is known to be wrong.

    Parameters
    ----------
    name : str
        Unique within its norm, for instance ``"mean_term_dropped"``.
    norm : str
    kind : str
        Of the fault, for instance ``"term left out"``.
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
    kind: str
    what: str
    formula: str
    issue: str
    forward: Kernel = field(repr=False)
    backward: Kernel = field(repr=False)


def mutants(norm: str) -> tuple[Mutant, ...]:
    """Return the known-wrong kernels of a norm.

    Each is the plain kernel with one fault in it, and has a public issue that reports it. A
    checker is to be trusted as far as it tells them from right ones.

    Parameters
    ----------
    norm : str
        One of "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm".

    Returns
    -------
    tuple of Mutant

    Raises
    ------
    ValueError
        If `norm` is none of them.

    Examples
    --------
    >>> wrong = {mutant.name: mutant for mutant in mutants("layer_norm")}
    >>> wrong["mean_term_dropped"].formula
    'dx = r (dx_hat - x_hat E[dx_hat x_hat])'
    >>> wrong["mean_term_dropped"].issue
    'BVLC/caffe#1891'
    """
    choice("norm", norm, NORMS)
    return tuple(
        Mutant(f.name, norm, f.kind, f.what, f.formula, f.issue, *f.kernel(norm))
        for f in KNOWN
        if norm in f.norms
    )

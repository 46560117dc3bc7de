"""The catalogue of known-wrong kernels: each mistake has been shipped by somebody."""

from __future__ import annotations

from .mistake import Mistake, Mutant
from .mistakes_backward import BACKWARD_MISTAKES
from .mistakes_forward import FORWARD_MISTAKES
from .mistakes_memory import MEMORY_MISTAKES
from .plain import known_norm

__all__ = ["MISTAKES", "Mutant", "mutants"]

MISTAKES: tuple[Mistake, ...] = FORWARD_MISTAKES + BACKWARD_MISTAKES + MEMORY_MISTAKES


def mutants(norm: str) -> tuple[Mutant, ...]:
    """Return the known-wrong kernels of a norm.

    Each is the plain kernel with one mistake in it, and has a public issue that reports it. A
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
    known_norm(norm)
    return tuple(mistake.mutant(norm) for mistake in MISTAKES if norm in mistake.norms)

"""Mark somebody's function from a notebook, in the words of the command ``grade``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from numpy_norms.checks import shown

if TYPE_CHECKING:
    from numpy_norms.commands.grade.report import Grade


def grade(
    function: Callable[..., Any] | Sequence[Callable[..., Any]],
    norm: str,
    *,
    part: str | None = None,
    rank: int | None = None,
    seed: int = 0,
) -> Grade:
    """Run a function beside this library's, and name the mistake in it.

    The same as ``python -m numpy_norms grade FILE.py:function``, for a function that is there, and
    in this process: nothing limits its time or its memory.

    Parameters
    ----------
    function : callable or pair of callables
        ``forward(x, gamma, beta, eps)``, ``backward(dy, x, gamma, beta, eps)``, a class with
        ``forward(x)`` and ``backward(dy)``, or the pair of ``forward(...) -> y, cache`` and
        ``backward(dy, cache)``. Parameters go by their names, ``dout``, ``weight`` and other usual
        ones included.
    norm : str
        "batch_norm", "layer_norm", "group_norm", "instance_norm" or "rms_norm".
    part : {"forward", "backward"}, optional
        Which pass it is, where its name and its parameters do not say it.
    rank : int, optional
        The number of axes of x; all that the battery has by default.
    seed : int
        Seed of every random array.

    Returns
    -------
    Grade
        Its text says what is right, what is wrong and why; ``passed`` is True or False.

    Raises
    ------
    TypeError
        If the function is none.
    ValueError
        If the norm or the part is unknown, or it is not to be seen which pass the function is.

    Examples
    --------
    >>> import numpy as np
    >>> def backward(dy, x, gamma, beta, eps):
    ...     mean = x.mean(-1, keepdims=True)
    ...     rstd = (((x - mean) ** 2).mean(-1, keepdims=True) + eps) ** -0.5
    ...     x_hat, rows = rstd * (x - mean), tuple(range(x.ndim - 1))
    ...     return rstd * gamma * dy, (dy * x_hat).sum(rows), dy.sum(rows)
    >>> print(grade(backward, "layer_norm", rank=2).reasons()[0])
    your dx: you held the mean and the variance constant: they depend on x too: dx = r dx_hat
    """
    from numpy_norms.commands.grade.marking import mark_here

    functions = tuple(function) if isinstance(function, Sequence) else (function,)
    if not functions or not all(map(callable, functions)):
        raise TypeError(
            f"function is {shown(function)}, but a function, a class, or a pair of functions was "
            "expected; pass it itself, not its name or what it returned"
        )
    return mark_here(functions, norm, part, rank, seed)

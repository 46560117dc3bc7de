"""Functions of JAX arrays as kernels, compiled once for each shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from numpy_norms.conventions.read import needed
from numpy_norms.verify.plain import Kernel

__all__ = ["jax_kernel"]


def jax_kernel(
    forward: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    *,
    residual: bool = False,
) -> tuple[Kernel, Kernel]:
    """Return a kernel on JAX arrays in the form that `check_kernel` takes.

    Both passes go through ``jax.jit``. `eps` is an argument of the compiled function, and
    num_groups a constant in it, so that it is compiled once for each shape.

    Parameters
    ----------
    forward : callable
        ``forward(x, gamma, beta, eps) -> y`` on JAX arrays.
    backward : callable, optional
        ``backward(dy, x, gamma, beta, eps) -> dx, dgamma, dbeta``. Without it the gradients are
        those of ``jax.vjp`` of `forward`.
    residual : bool, default False
        Whether forward takes a residual after x, as for ``check_kernel(..., residual=True)``.

    Returns
    -------
    forward, backward : callable

    Raises
    ------
    ImportError
        If JAX is not installed.
    """
    needed("jax", "jax_kernel")
    jax = import_module("jax")

    def gradients(dy: Any, *arguments: Any) -> Any:
        """Return those of what is real and no number: of x and the parameters, not of a mask."""
        if residual:
            arguments = (arguments[0], 0 * arguments[0], *arguments[1:])  # x is the sum
        of = [i for i, a in enumerate(arguments) if _real(a) and a.ndim]

        def y(*chosen: Any) -> Any:
            moved = dict(zip(of, chosen, strict=True))
            return _first(forward(*(moved.get(i, a) for i, a in enumerate(arguments))))

        value, vjp = jax.vjp(y, *(arguments[i] for i in of))
        found = vjp(dy.astype(value.dtype))
        return found[:1] + found[1 + residual :]

    @cache
    def compiled(function: Callable[..., Any], counts: tuple[int, ...]) -> Callable[..., Any]:
        compiled: Callable[..., Any] = jax.jit(function, static_argnums=counts)
        return compiled

    def called(function: Callable[..., Any], *arguments: Any) -> Any:
        counts = tuple(i for i, a in enumerate(arguments) if isinstance(a, int))  # num_groups
        double = any(a.dtype == np.float64 for a in arguments if isinstance(a, np.ndarray))
        number = np.float64 if double else np.float32

        def handed(a: Any) -> Any:
            if isinstance(a, np.ndarray):
                return np.ascontiguousarray(a)
            return a if isinstance(a, int) else number(a)

        with jax.enable_x64(double):
            found = compiled(function, counts)(*map(handed, arguments))
            return jax.tree.map(np.asarray, found)

    def ahead(*arguments: Any) -> Any:
        return called(forward, *arguments)

    def back(*arguments: Any) -> Any:
        return called(backward or gradients, *arguments)

    return ahead, back


def _real(a: Any) -> bool:
    return hasattr(a, "dtype") and a.dtype.kind in "fV"  # V is bfloat16


def _first(returned: Any) -> Any:
    return returned[0] if isinstance(returned, (tuple, list)) else returned

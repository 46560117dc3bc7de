"""Functions of JAX arrays as kernels, compiled once for each shape."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from numpy_norms.verify.plain import Kernel

__all__ = ["jax_kernel"]


def jax_kernel(
    forward: Callable[..., Any], backward: Callable[..., Any] | None = None
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

    Returns
    -------
    forward, backward : callable

    Raises
    ------
    ImportError
        If JAX is not installed.
    """
    jax = import_module("jax")
    compiled: dict[tuple[str, Any], Callable[..., Any]] = {}

    def gradients(dy: Any, arrays: tuple[Any, ...], eps: Any, groups: tuple[int, ...]) -> Any:
        x, *parameters = arrays
        if backward is not None:
            return backward(dy, x, *groups, *parameters, eps)
        y, vjp = jax.vjp(lambda x, *rest: _first(forward(x, *groups, *rest, eps)), x, *parameters)
        return vjp(dy.astype(y.dtype))

    def called(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        *values, eps = arguments
        groups = tuple(value for value in values if isinstance(value, int))
        arrays = [value for value in values if not isinstance(value, int)]
        key = name, groups
        if key not in compiled:
            compiled[key] = jax.jit(lambda arrays, eps: function(arrays, eps, groups))
        with jax.enable_x64(any(a.dtype == np.float64 for a in arrays)):
            wide = np.float64 if arrays[0].dtype == np.float64 else np.float32
            found = compiled[key]([np.ascontiguousarray(a) for a in arrays], wide(eps))
            return tuple(map(np.asarray, found)) if isinstance(found, tuple) else np.asarray(found)

    def ahead(*arguments: Any) -> Any:
        def function(arrays: Any, eps: Any, groups: tuple[int, ...]) -> Any:
            return forward(arrays[0], *groups, *arrays[1:], eps)

        return called("forward", function, *arguments)

    def back(*arguments: Any) -> Any:
        def function(arrays: Any, eps: Any, groups: tuple[int, ...]) -> Any:
            return tuple(gradients(arrays[0], tuple(arrays[1:]), eps, groups))

        return called("backward", function, *arguments)

    return ahead, back


def _first(returned: Any) -> Any:
    return returned[0] if isinstance(returned, tuple) else returned

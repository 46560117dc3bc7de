"""C functions of pointers and sizes as kernels."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np

from numpy_norms.oracle.sets import FEATURE_NORMS
from numpy_norms.verify.plain import Array, Kernel, View

__all__ = ["c_kernel"]

TYPES: dict[str, Any] = {"float32": ctypes.c_float, "float64": ctypes.c_double}


def c_kernel(
    library: str | Path | ctypes.CDLL,
    norm: str,
    forward: str | None = None,
    backward: str | None = None,
    *,
    dtype: str = "float32",
) -> tuple[Kernel | None, Kernel | None]:
    """Return C functions in the form that `check_kernel` takes.

    They are called as follows, with `real` for float or double; there is no place for a mask, a
    residual or saved statistics::

        void forward(const real *x, const real *gamma, const real *beta,
                     size_t rows, size_t features, real eps, real *y);
        void backward(const real *dy, const real *x, const real *gamma,
                      size_t rows, size_t features, real eps,
                      real *dx, real *dgamma, real *dbeta);

    The sizes are ``rows, features`` for layer and RMS norm, ``n, channels, positions`` for batch
    and instance norm, and ``n, channels, positions, groups`` for group norm. RMS norm has neither
    beta nor dbeta. Arrays are contiguous, channels second or features last; outputs are filled
    with NaN before.

    Parameters
    ----------
    library : path or CDLL
        The shared library.
    norm : str
    forward, backward : str, optional
        The names of the functions; a pass without a name is not checked.
    dtype : {"float32", "float64"}

    Returns
    -------
    forward, backward : callable or None

    Raises
    ------
    ValueError
        If `dtype` is another, or the library has no such function.
    OSError
        If there is no such library.
    """
    if dtype not in TYPES:
        raise ValueError(f"dtype is {dtype!r}; it must be one of {', '.join(TYPES)}")
    opened = library if isinstance(library, ctypes.CDLL) else ctypes.CDLL(str(library))

    def ahead(x: Array, *rest: Any) -> Any:
        parameters, sizes, eps = _sorted(norm, x, rest)
        return _call(opened, str(forward), dtype, [x, *parameters], sizes, eps, [x])[0]

    def back(dy: Array, x: Array, *rest: Any) -> Any:
        parameters, sizes, eps = _sorted(norm, x, rest)
        given = [dy, x, parameters[0]]
        return _call(opened, str(backward), dtype, given, sizes, eps, [x, *parameters])

    for name in (forward, backward):
        if name is not None and not hasattr(opened, name):
            raise ValueError(f"the library has no function {name}")
    return (ahead if forward else None), (back if backward else None)


def _sorted(norm: str, x: Array, rest: tuple[Any, ...]) -> tuple[list[Array], list[int], float]:
    """Return the parameters, the sizes and eps of what follows x."""
    *groups, eps = (value for value in rest if not isinstance(value, np.ndarray))
    parameters = [value for value in rest if isinstance(value, np.ndarray)]
    if len(parameters) != 2 - (norm == "rms_norm"):  # C would read beyond what it is given
        raise TypeError(
            "c_kernel hands over x, gamma and beta alone; for where, saved and residual write the "
            "call by ctypes yourself"
        )
    view = View.of(norm, x.shape, parameters[0].shape, *groups).shape
    if norm in FEATURE_NORMS:
        return parameters, [view[0], view[3]], eps
    return parameters, [view[0], view[1] * view[2], view[3], *groups], eps


def _call(
    library: ctypes.CDLL,
    name: str,
    dtype: str,
    arrays: list[Array],
    sizes: list[int],
    eps: float,
    like: list[Array],
) -> tuple[Array, ...]:
    real = TYPES[dtype]
    given = [np.ascontiguousarray(a, dtype) for a in arrays]
    made = [np.full(a.shape, np.nan, dtype) for a in like]

    def pointer(a: Array) -> Any:
        return a.ctypes.data_as(ctypes.POINTER(real))

    function = getattr(library, name)
    function.restype = None
    function(*map(pointer, given), *map(ctypes.c_size_t, sizes), real(eps), *map(pointer, made))
    return tuple(made)

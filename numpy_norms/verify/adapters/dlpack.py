"""Functions of arrays that speak DLPack as kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numpy_norms.verify.plain import Kernel

__all__ = ["dlpack_kernel"]


def dlpack_kernel(
    from_dlpack: Callable[[Any], Any],
    forward: Callable[..., Any] | None = None,
    backward: Callable[..., Any] | None = None,
) -> tuple[Kernel | None, Kernel | None]:
    """Return a kernel on another library's arrays in the form that `check_kernel` takes.

    Parameters
    ----------
    from_dlpack : callable
        What makes an array of that library: ``torch.from_dlpack``, for instance. It may move the
        array to another device as well, or copy it where the library takes no strides:
        ``lambda a: jax.dlpack.from_dlpack(np.ascontiguousarray(a))``.
    forward, backward : callable, optional
        On such arrays. What they return is taken back by ``np.from_dlpack``, from its own device
        to the host if that is another.

    Returns
    -------
    forward, backward : callable or None

    Examples
    --------
    >>> from numpy_norms.verify import check_kernel
    >>> def rms_norm(x, gamma, eps):
    ...     return gamma * x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    >>> forward, _ = dlpack_kernel(np.from_dlpack, rms_norm)
    >>> check_kernel("rms_norm", forward).passed
    True
    """

    def adapted(kernel: Callable[..., Any] | None) -> Kernel | None:
        if kernel is None:
            return None

        def run(*arguments: Any) -> Any:
            given = [from_dlpack(a) if isinstance(a, np.ndarray) else a for a in arguments]
            found = kernel(*given)
            return tuple(map(_back, found)) if isinstance(found, (tuple, list)) else _back(found)

        return run

    return adapted(forward), adapted(backward)


def _back(array: Any) -> Any:
    if not hasattr(array, "__dlpack_device__") or isinstance(array, np.ndarray):
        return array
    on_the_host = array.__dlpack_device__()[0] == 1
    return np.from_dlpack(array) if on_the_host else np.from_dlpack(array, device="cpu", copy=True)

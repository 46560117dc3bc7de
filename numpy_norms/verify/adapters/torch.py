"""Functions of PyTorch tensors as kernels."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from numpy_norms.conventions.read import needed
from numpy_norms.verify.plain import Array, Kernel

__all__ = ["as_array", "as_tensor", "torch_kernel"]


def torch_kernel(
    forward: Callable[..., Any],
    backward: Callable[..., Any] | None = None,
    *,
    device: str = "cpu",
    residual: bool = False,
) -> tuple[Kernel, Kernel]:
    """Return a kernel on PyTorch tensors in the form that `check_kernel` takes.

    Tensors have the strides of the arrays of the battery, and on the CPU their memory, so that
    layouts are tested and what is overwritten is seen. bfloat16 is passed on as such.

    Parameters
    ----------
    forward : callable
        ``forward(x, gamma, beta, eps) -> y`` on tensors: a plain function, an
        ``autograd.Function``'s ``apply``, or a compiled one; ``num_groups`` after x for group norm.
    backward : callable, optional
        ``backward(dy, x, gamma, beta, eps) -> dx, dgamma, dbeta``. Without it the gradients are
        those of PyTorch's autograd through `forward`.
    device : str, default "cpu"
    residual : bool, default False
        Whether forward takes a residual after x, as for ``check_kernel(..., residual=True)``.

    Returns
    -------
    forward, backward : callable

    Raises
    ------
    ImportError
        If PyTorch is not installed.

    Examples
    --------
    >>> torch = import_module("torch")  # doctest: +SKIP
    >>> layer_norm = torch.nn.functional.layer_norm  # doctest: +SKIP
    >>> passes = torch_kernel(  # doctest: +SKIP
    ...     lambda x, gamma, beta, eps: layer_norm(x, gamma.shape, gamma, beta, eps)
    ... )
    >>> check_kernel("layer_norm", *passes).passed  # doctest: +SKIP
    True
    """
    needed("torch", "torch_kernel")
    torch = import_module("torch")

    def moved(values: tuple[Any, ...]) -> list[Any]:
        return [as_tensor(v, device) if isinstance(v, np.ndarray) else v for v in values]

    def ahead(*arguments: Any) -> Any:
        with torch.no_grad():
            return _returned(forward(*moved(arguments)))

    def by_hand(*arguments: Any) -> Any:
        assert backward is not None
        with torch.no_grad():
            return _returned(backward(*moved(arguments)))

    def by_autograd(dy: Any, *arguments: Any) -> Any:
        cotangent, *tensors = moved((dy, *arguments))
        if residual:
            tensors.insert(1, torch.zeros_like(tensors[0]))  # x is the sum
        real = [torch.is_tensor(t) and t.is_floating_point() for t in tensors]  # not a mask
        leaves = [
            t.detach().requires_grad_() if of else t for t, of in zip(tensors, real, strict=True)
        ]
        y = forward(*leaves)
        y = y[0] if isinstance(y, (tuple, list)) else y
        wanted = [leaf for leaf, of in zip(leaves, real, strict=True) if of]
        found = torch.autograd.grad(y, wanted, cotangent.to(y.dtype), allow_unused=True)
        return _returned(found[:1] + found[1 + residual :])

    return ahead, by_autograd if backward is None else by_hand


def as_tensor(a: Array, device: str = "cpu") -> Any:
    """Return a tensor with an array's values, type and strides; on the CPU with its memory."""
    torch = import_module("torch")
    if a.dtype.name == "bfloat16":
        tensor = torch.from_numpy(a.view(np.int16)).view(torch.bfloat16)
    else:
        tensor = torch.from_numpy(a)
    if device == "cpu":
        return tensor
    strides = tensor.stride()
    once = tensor[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in strides)]
    there = torch.empty_strided(once.shape, once.stride(), dtype=tensor.dtype, device=device)
    return there.copy_(once).expand(tensor.shape)


def as_array(tensor: Any) -> Array:
    """Return the values of a tensor, those of bfloat16 as float32."""
    torch = import_module("torch")
    tensor = tensor.detach().cpu()
    return np.asarray((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())


def _returned(found: Any) -> Any:
    if isinstance(found, (tuple, list)):
        return tuple(_returned(one) for one in found)
    return as_array(found) if hasattr(found, "detach") else found

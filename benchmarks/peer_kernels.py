"""Kernels of others, in the form that `numpy_norms.verify.check_kernel` takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Kernel = Callable[..., Any]


def torch_kernel(norm: str) -> tuple[Kernel, Kernel]:
    """Return PyTorch's own kernel of a norm: its functional form and its autograd."""
    import torch
    import torch.nn.functional as F

    def apply(x: Any, *rest: Any) -> Any:
        *groups, eps = (value for value in rest if not isinstance(value, torch.Tensor))
        gamma, *beta = (value for value in rest if isinstance(value, torch.Tensor))
        if norm == "batch_norm":
            return F.batch_norm(x, None, None, gamma, *beta, training=True, eps=eps)
        if norm == "layer_norm":
            return F.layer_norm(x, gamma.shape, gamma, *beta, eps)
        if norm == "group_norm":
            return F.group_norm(x, *groups, gamma, *beta, eps)
        if norm == "instance_norm":
            return F.instance_norm(x, weight=gamma, bias=beta[0], eps=eps)
        return F.rms_norm(x, gamma.shape, gamma, eps)

    def tensor(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        if value.dtype.name == "bfloat16":
            return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(value)

    def array(value: Any) -> Any:
        value = value.detach()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()

    def forward(*arguments: Any) -> Any:
        return array(apply(*map(tensor, arguments)))

    def backward(dy: Any, *arguments: Any) -> Any:
        values = [tensor(value) for value in arguments]
        leaves = [v.requires_grad_() for v in values if isinstance(v, torch.Tensor)]
        apply(*values).backward(tensor(dy))
        return tuple(array(leaf.grad) for leaf in leaves)

    return forward, backward

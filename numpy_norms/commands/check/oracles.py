"""Three routes to the gradients that share nothing with the backward functions."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from numpy_norms.commands.check.cases import Array, Case


def complex_step(case: Case) -> dict[str, Array]:
    """Return the gradient of sum(dy * y) for every array, by the imaginary part of one step.

    Squire and Trapp 1998: nothing is subtracted, so the step can be tiny and no digit is lost.
    """
    step = 1e-30

    def derivative(name: str, index: tuple[int, ...]) -> float:
        arrays = {key: array.astype(np.complex128) for key, array in case.arrays.items()}
        arrays[name][index] += step * 1j
        y, _ = case.forward(arrays)
        return float((case.dy * y.imag).sum() / step)

    return _for_every_element(case, derivative)


def central_differences(case: Case) -> dict[str, Array]:
    """Return the gradient of sum(dy * y) for every array, by differences of fourth order."""
    steps = _steps(case)

    def slope(name: str, index: tuple[int, ...], step: float) -> float:
        up, down = ({k: a.copy() for k, a in case.arrays.items()} for _ in range(2))
        up[name][index] += step
        down[name][index] -= step
        # The step as it was rounded: at a large mean it is not the step that was asked for.
        distance = up[name][index] - down[name][index]
        return float((case.dy * (case.forward(up)[0] - case.forward(down)[0])).sum() / distance)

    def derivative(name: str, index: tuple[int, ...]) -> float:
        step = steps[name][index]
        return (4 * slope(name, index, step) - slope(name, index, 2 * step)) / 3

    return _for_every_element(case, derivative)


def _steps(case: Case) -> dict[str, Array]:
    """Return for each element the step that changes x_hat or y by about 2e-3 of its size."""
    size = np.hypot(case.spread().std, np.sqrt(case.eps))
    per_channel = size.ravel()[case.sharing.parameter_rows[:, 0]]
    arrays = case.arrays
    steps = {"x": size, "running_mean": per_channel}
    if "running_var" in arrays:
        steps["running_var"] = (arrays["running_var"] + case.eps) / 4
    ones = {name: np.ones_like(arrays[name]) for name in ("gamma", "beta") if name in arrays}
    return {name: 2e-3 * step for name, step in (steps | ones).items()}


def pytorch() -> Any:
    """Return the module torch, or None where it is not installed or cannot be imported."""
    try:
        return import_module("torch")
    except (ImportError, OSError):
        return None


def pytorch_results(torch: Any, case: Case) -> dict[str, Array] | None:
    """Return PyTorch's y and gradients in float64; None where it refuses the shape."""
    tensors = {
        name: torch.tensor(array.astype(np.float64), requires_grad=not name.startswith("running"))
        for name, array in case.arrays.items()
    }
    try:
        y = _forward(torch.nn.functional, case, **tensors)
        (y * torch.tensor(case.dy.astype(np.float64))).sum().backward()
    except (ValueError, RuntimeError, AttributeError):
        return None
    gradients = {f"d{n}": t.grad.numpy() for n, t in tensors.items() if t.grad is not None}
    return {"y": y.detach().numpy()} | gradients


def _forward(
    functional: Any,
    case: Case,
    *,
    x: Any,
    gamma: Any,
    beta: Any = None,
    running_mean: Any = None,
    running_var: Any = None,
) -> Any:
    last = tuple(gamma.shape)
    if case.norm == "layer_norm":
        return functional.layer_norm(x, last, gamma, beta, eps=case.eps)
    if case.norm == "rms_norm":
        return functional.rms_norm(x, last, gamma, eps=case.eps)
    if case.norm == "group_norm":
        return functional.group_norm(x, case.num_groups, gamma, beta, eps=case.eps)
    if case.norm == "instance_norm":
        return functional.instance_norm(x, weight=gamma, bias=beta, eps=case.eps)
    training = running_mean is None
    return functional.batch_norm(x, running_mean, running_var, gamma, beta, training, eps=case.eps)


def _for_every_element(
    case: Case, derivative: Callable[[str, tuple[int, ...]], float]
) -> dict[str, Array]:
    return {
        f"d{name}": np.array([derivative(name, i) for i in np.ndindex(a.shape)]).reshape(a.shape)
        for name, a in case.arrays.items()
    }

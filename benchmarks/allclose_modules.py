"""Wrong modules for KernelBench's eight norms: each does less, or other, than is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

__all__ = ["Wrong", "reference", "wrong_modules"]

AXES = {33: (0, 2, 3), 34: (2, 3), 40: (1, 2, 3)}


class Wrong(NamedTuple):
    """A wrong module: the problem, what is wrong with it, and its class."""

    problem: int
    what: str
    made_by: Any


def reference(problem: int) -> Any:
    """Return the class of the module that the problem gives as its reference."""

    class Reference(nn.Module):
        def __init__(self, *init: Any) -> None:
            super().__init__()
            made: dict[int, Callable[..., nn.Module]] = {
                33: nn.BatchNorm2d,
                34: nn.InstanceNorm2d,
                35: lambda c, g: nn.GroupNorm(g, c),
                40: nn.LayerNorm,
            }
            self.norm = made[problem](*init) if problem in made else None

        def forward(self, x: Any) -> Any:
            if self.norm is not None:
                return self.norm(x)
            if problem == 36:
                return x / torch.sqrt((x**2).mean(1, keepdim=True) + 1e-5)
            if problem == 37:
                return x / torch.norm(x, p="fro")
            if problem == 38:
                return x / x.abs().mean(1, keepdim=True)
            return x / torch.norm(x, p=2, dim=1, keepdim=True)

    return Reference


def _module(problem: int, function: Callable[[Any, Any], Any]) -> Any:
    """Return the class of modules with the reference's parameters that compute something else."""

    class Other(reference(problem)):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return function(self, x)

    return Other


def _statistics(problem: int, module: Any, x: Any) -> tuple[Any, Any, Any]:
    """Return x as its sets lie, the axes of a set, and what brings it back."""
    if problem == 35:
        groups = module.norm.num_groups
        seen = x.reshape(x.shape[0], groups, -1)
        return seen, (2,), lambda y: y.reshape(x.shape)
    return x, AXES[problem], lambda y: y


def _affine(problem: int, module: Any, y: Any) -> Any:
    gamma, beta = module.norm.weight, module.norm.bias
    if gamma is None:
        return y
    shape = gamma.shape if problem == 40 else (1, -1, 1, 1)
    return y * gamma.reshape(shape) + beta.reshape(shape)


def _normalized(problem: int, way: str, affine: bool = True) -> Any:
    """Return a module that normalizes in some way."""

    def function(module: Any, x: Any) -> Any:
        seen, axes, back = _statistics(problem, module, x)
        mean = seen.mean(axes, keepdim=True)
        c = seen - mean
        eps = 1e-5
        var = (c * c).mean(axes, keepdim=True)
        if way == "m - 1":
            var = seen.var(axes, keepdim=True)
        if way == "one pass":
            var = (seen * seen).mean(axes, keepdim=True) - mean * mean
        if way == "no statistics":
            return _affine(problem, module, (x - 0.5) * 12**0.5)
        root = torch.sqrt(var) if way == "no eps" else torch.sqrt(var + eps)
        root = torch.sqrt(var) + eps if way == "eps outside" else root
        y = back(c / root)
        return _affine(problem, module, y) if affine else y

    return _module(problem, function)


def wrong_modules() -> Iterator[Wrong]:
    """Yield the wrong modules of every problem."""
    for problem in (33, 34, 35, 40):
        if problem != 34:  # which has neither
            ignoring = _normalized(problem, "", affine=False)
            yield Wrong(problem, "gamma and beta are ignored", ignoring)
        ways = {
            "m - 1": "the variance is divided by m - 1",
            "one pass": "one-pass variance E[x^2] - E[x]^2",
            "no eps": "eps is ignored",
            "eps outside": "eps is added to the standard deviation",
            "no statistics": "no statistics at all: (x - 1/2) sqrt(12)",
        }
        for way, what in ways.items():
            yield Wrong(problem, what, _normalized(problem, way))
    yield Wrong(
        33,
        "training arithmetic in eval mode, running statistics never updated",
        _normalized(33, ""),
    )
    yield Wrong(
        36,
        "eps is ignored",
        _module(36, lambda _, x: x / torch.sqrt((x * x).mean(1, keepdim=True))),
    )
    yield Wrong(
        36,
        "divided by sqrt(1/3), the root mean square of uniform numbers",
        _module(36, lambda _, x: x * 3**0.5),
    )
    for problem, axes in ((37, (0, 1, 2, 3)), (39, (1,))):
        yield Wrong(problem, "zeros", _module(problem, lambda _, x: 0 * x))
        yield Wrong(
            problem,
            "the length of uniform numbers, sqrt(m/3), for that of x",
            _module(problem, lambda _, x, axes=axes: x / _uniform_length(x, axes)),
        )
    yield Wrong(38, "|x| is taken as x", _module(38, lambda _, x: x / x.mean(1, keepdim=True)))
    yield Wrong(38, "twice x: the mean of uniform numbers", _module(38, lambda _, x: 2 * x))


def _uniform_length(x: Any, axes: tuple[int, ...]) -> float:
    count = 1
    for axis in axes:
        count *= x.shape[axis]
    return float((count / 3) ** 0.5)

"""Somebody's PyTorch module as a kernel: made for each shape, its parameters set, run, derived."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numpy_norms.commands.judge.problems import Problem
from numpy_norms.oracle.sets import FEATURE_NORMS
from numpy_norms.verify.adapters.torch import as_array, as_tensor
from numpy_norms.verify.plain import Array

__all__ = ["Subject", "load_class", "only_y"]

GAMMA = ("weight", "gamma", "scale", "g", "w", "gain")
BETA = ("bias", "beta", "shift", "b")
EPS = ("eps", "epsilon", "variance_epsilon", "norm_eps", "layer_norm_eps", "rms_norm_eps")
GROUPS = ("num_groups", "n_groups", "groups")


def load_class(path: Path, name: str) -> Any:
    """Return the class of a file; AttributeError if it has none of the name, that can be called."""
    spec = spec_from_file_location(f"judged_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent))
    with redirect_stdout(sys.stderr):
        spec.loader.exec_module(module)
    found = getattr(module, name)
    if not callable(found):
        raise AttributeError(name)
    return found


class Subject:
    """A class of modules, and one of them for each shape that it was asked for."""

    def __init__(self, made_by: Any, problem: Problem, device: str) -> None:
        self.made_by, self.device = made_by, device
        names = _parameters_of(made_by)
        if problem.init == ("C", "G") and names and names[0].lower() in GROUPS:
            problem = replace(problem, init=("G", "C"))  # as PyTorch has them
        self.problem = problem
        self.takes_eps = next((name for name in names if name in EPS), "")
        self._modules: dict[Any, Any] = {}

    @property
    def _given_eps(self) -> bool:
        return any(v == "eps" or n in EPS for n, v in self.problem.arguments)

    @property
    def eps(self) -> float | None:
        """The eps that is built in; None where each module is told its own."""
        if self.takes_eps or self._given_eps:
            return None
        shape = (2, 2 * (self.problem.num_groups or 1), *(2,) * (self.problem.rank - 2))
        for part in self.module(shape, 1e-5).modules():
            for name in EPS:
                value = getattr(part, name, None)
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    return float(value)
        return 1e-5

    def module(self, shape: tuple[int, ...], eps: float) -> Any:
        """Return the module for an x of this shape."""
        key = shape[1:], eps
        if key not in self._modules:
            axes = self.problem.axis or (1,)
            sizes = tuple(shape[axis] for axis in axes)
            channels = sizes[0] if self.problem.norm in FEATURE_NORMS else shape[1]
            known = {"C": channels, "G": self.problem.num_groups, "shape": sizes, "eps": eps}
            init: list[Any] = []
            keywords: dict[str, Any] = {}
            if self.takes_eps and not self._given_eps:
                keywords[self.takes_eps] = eps
            for name, value in self.problem.arguments:
                meant = known.get(value, value) if isinstance(value, str) else value
                if name:
                    keywords[name] = meant
                else:
                    init.append(meant)
            with redirect_stdout(sys.stderr):
                made = self.made_by(*init, **keywords)
            if not isinstance(made, torch.nn.Module):
                raise TypeError(f"it is a {type(made).__name__}; a torch.nn.Module is expected")
            self._modules[key] = made.to(self.device)
        return self._modules[key]

    def derives(self, shape: tuple[int, ...], eps: float) -> bool:
        """Return whether autograd goes through the module."""
        x = torch.ones(shape, device=self.device, requires_grad=True)
        with redirect_stdout(sys.stderr):
            y = self.module(shape, eps).to(x.dtype)(x)
        return bool(only_y(y).requires_grad)

    def passes(self, *, backward: bool) -> tuple[Any, Any]:
        """Return forward and backward, the latter by autograd, in the form of `check_kernel`."""
        return self._forward, self._backward if backward else None

    def _forward(self, x: Array, *rest: Any) -> Any:
        with torch.no_grad():
            y, _ = self._run(as_tensor(x, self.device), rest)
        return as_array(y)

    def _backward(self, dy: Array, x: Array, *rest: Any) -> Any:
        leaf = as_tensor(x, self.device).detach().requires_grad_()
        y, leaves = self._run(leaf, rest)
        cotangent = as_tensor(dy, self.device).to(y.dtype)
        found = torch.autograd.grad(y, [leaf, *leaves], cotangent, allow_unused=True)
        shapes = [x.shape, *(a.shape for a in rest if isinstance(a, np.ndarray))]
        return tuple(
            None if g is None else as_array(g).reshape(shape)
            for g, shape in zip(found, shapes, strict=False)
        )

    def _run(self, x: Any, rest: tuple[Any, ...]) -> tuple[Any, list[Any]]:
        """Run the module on x with these parameters; return y and what has the gradients."""
        module = self.module(tuple(x.shape), float(rest[-1]))
        arrays = [a for a in rest if isinstance(a, np.ndarray)]
        pairs = zip((GAMMA, BETA), arrays, strict=False)
        own = [_parameter(module, names, a.size) for names, a in pairs]
        module.train()
        module.to(x.dtype)
        with torch.no_grad():
            for parameter, a in zip(own, arrays, strict=True):
                if parameter is not None:
                    parameter.copy_(as_tensor(a, self.device).reshape(parameter.shape))
        with redirect_stdout(sys.stderr):
            y = module(x)
        y = only_y(y)
        leaves = []
        for number, (parameter, a) in enumerate(zip(own, arrays, strict=True)):
            if parameter is None:  # it has none: what it would do is done here
                made = as_tensor(a, self.device).detach().clone().requires_grad_()
                leaves.append(made)
                seen = self._seen(made, y)
                y = y + seen if number else y * seen
            else:
                leaves.append(parameter)
        return y, leaves

    def _seen(self, parameter: Any, y: Any) -> Any:
        """Return a parameter in a shape that broadcasts to y."""
        axes = self.problem.axis if self.problem.norm in FEATURE_NORMS else (1,)
        kept = [a % y.ndim for a in axes or (-1,)]
        return parameter.reshape([n if a in kept else 1 for a, n in enumerate(y.shape)])


def only_y(returned: Any) -> Any:
    """Return the first tensor of what a module returned; TypeError if there is none."""
    y = returned[0] if isinstance(returned, (tuple, list)) and returned else returned
    if not isinstance(y, torch.Tensor):
        raise TypeError(f"returned a {type(y).__name__}; a tensor is expected")
    return y


def _parameters_of(made_by: Any) -> list[str]:
    try:
        return list(inspect.signature(made_by).parameters)
    except (TypeError, ValueError):  # built in
        return []


def _parameter(module: Any, names: tuple[str, ...], size: int) -> Any:
    """Return the module's own parameter of one of the names, or None."""
    for name, parameter in module.named_parameters():
        if name.rpartition(".")[2].lower() in names and parameter.numel() == size:
            return parameter
    return None


def buffers(module: Any, word: str) -> Iterator[Any]:
    """Yield the running statistics whose name ends so."""
    for name, buffer in module.named_buffers():
        if name.rpartition(".")[2].lower() in (f"running_{word}", f"moving_{word}"):
            yield buffer

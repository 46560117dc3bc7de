"""Somebody's PyTorch module as a kernel: made for each shape, its parameters set, run, derived."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import numpy as np
import torch

from numpy_norms.commands.judge.problems import Problem
from numpy_norms.oracle.sets import FEATURE_NORMS
from numpy_norms.verify.adapters.torch import as_array, as_tensor
from numpy_norms.verify.plain import Array

__all__ = ["Subject", "load_class"]

GAMMA = ("weight", "gamma", "scale", "g", "w", "gain")
BETA = ("bias", "beta", "shift", "b")


def load_class(path: Path, name: str) -> Any:
    """Return the class of a file; AttributeError if it has none of the name."""
    spec = spec_from_file_location(f"judged_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent))
    with redirect_stdout(sys.stderr):
        spec.loader.exec_module(module)
    return getattr(module, name)


class Subject:
    """A class of modules, and one of them for each shape that it was asked for."""

    def __init__(self, made_by: Any, problem: Problem, device: str) -> None:
        self.made_by, self.problem, self.device = made_by, problem, device
        self.takes_eps = "eps" in inspect.signature(made_by).parameters
        self._modules: dict[Any, Any] = {}

    @property
    def eps(self) -> float | None:
        """The eps that is built in; None where each module is told its own."""
        if self.takes_eps or "eps" in self.problem.init:
            return None
        shape = (2, 2 * (self.problem.num_groups or 1), *(2,) * (self.problem.rank - 2))
        for part in self.module(shape, 1e-5).modules():
            if isinstance(getattr(part, "eps", None), float):
                return float(part.eps)
        return 1e-5

    def module(self, shape: tuple[int, ...], eps: float) -> Any:
        """Return the module for an x of this shape."""
        key = shape[1:], eps
        if key not in self._modules:
            axes = self.problem.axis or (1,)
            sizes = tuple(shape[axis] for axis in axes)
            known = {"C": shape[1], "G": self.problem.num_groups, "shape": sizes, "eps": eps}
            init = [known.get(v, v) if isinstance(v, str) else v for v in self.problem.init]
            keywords = {"eps": eps} if self.takes_eps and "eps" not in self.problem.init else {}
            with redirect_stdout(sys.stderr):
                self._modules[key] = self.made_by(*init, **keywords).to(self.device)
        return self._modules[key]

    def derives(self, shape: tuple[int, ...], eps: float) -> bool:
        """Return whether autograd goes through the module."""
        x = torch.ones(shape, device=self.device, requires_grad=True)
        with redirect_stdout(sys.stderr):
            y = self.module(shape, eps).to(x.dtype)(x)
        return bool((y[0] if isinstance(y, (tuple, list)) else y).requires_grad)

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
        y = y[0] if isinstance(y, (tuple, list)) else y
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

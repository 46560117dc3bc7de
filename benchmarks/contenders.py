"""What a user would pick: the same norm by each library, as calls on ready data.

Every forward call returns y; every backward call returns dx, dgamma and dbeta for a fixed dy, with
what its forward pass keeps at hand.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

import numpy_norms

from .grid import EPS, NUM_GROUPS, Entry, Problem
from .machine import cores

Call = Callable[[], Any]


class Calls(NamedTuple):
    """The forward and the backward pass of a contender on one problem."""

    forward: Call
    backward: Call


class Contender(NamedTuple):
    """A name, the package that it needs, and how it sets up its calls."""

    name: str
    package: str
    prepare: Callable[[Problem], Calls]


def ours(problem: Problem, dtype: Any) -> Calls:
    """Set up this library in one of its two modes."""
    norm = problem.entry.norm
    forward = getattr(numpy_norms, f"{norm}_norm_forward")
    backward = getattr(numpy_norms, f"{norm}_norm_backward")
    x, *parameters = problem.arguments
    groups = (NUM_GROUPS,) if norm == "group" else ()
    _, cache = forward(x, *groups, *parameters, eps=EPS, dtype=dtype)
    return Calls(
        lambda: forward(x, *groups, *parameters, eps=EPS, dtype=dtype)[0],
        lambda: backward(problem.dy, cache)[: 1 + len(parameters)],
    )


def pytorch(problem: Problem) -> Calls:
    """Set up PyTorch on all cores.

    Forward on tensors that require no gradient; backward is `torch.autograd.grad` on a graph that
    is kept.
    """
    torch: Any = importlib.import_module("torch")
    F: Any = importlib.import_module("torch.nn.functional")
    torch.set_num_threads(cores())
    shape = (problem.entry.width,)
    norms: dict[str, Callable[..., Any]] = {
        "layer": lambda x, *parameters: F.layer_norm(x, shape, *parameters, EPS),
        "rms": lambda x, gamma: F.rms_norm(x, shape, gamma, EPS),
        "group": lambda x, *parameters: F.group_norm(x, NUM_GROUPS, *parameters, EPS),
        "instance": lambda x, *parameters: F.instance_norm(x, None, None, *parameters, eps=EPS),
        "batch": lambda x, *parameters: F.batch_norm(x, None, None, *parameters, True, eps=EPS),
    }
    run = norms[problem.entry.norm]
    leaves = [torch.tensor(a, requires_grad=True) for a in problem.arguments]
    constants, dy, y = [a.detach() for a in leaves], torch.tensor(problem.dy), run(*leaves)
    return Calls(
        lambda: run(*constants), lambda: torch.autograd.grad(y, leaves, dy, retain_graph=True)
    )


class View(NamedTuple):
    """How the plain formula sees x, what it averages over, and how the parameters broadcast."""

    shape: tuple[int, ...]
    over: tuple[int, ...]
    parameters: tuple[int, ...]
    summed: tuple[int, ...]

    @classmethod
    def of(cls, entry: Entry) -> View:
        """Return the view of an entry."""
        shape, spatial = entry.shape, tuple(range(2, len(entry.shape)))
        channels = (1, entry.width, *[1] * len(spatial))
        if entry.norm in ("layer", "rms"):
            return cls(shape, (1,), channels, (0,))
        if entry.norm == "group":
            return cls((shape[0], NUM_GROUPS, -1), (2,), channels, (0, *spatial))
        over = spatial if entry.norm == "instance" else (0, *spatial)
        return cls(shape, over, channels, (0, *spatial))


def formula(entry: Entry) -> Callable[..., tuple[Any, Any, Any]]:
    """Return the textbook formula."""
    view, centered = View.of(entry), entry.norm != "rms"

    def forward(x: Any, gamma: Any, *beta: Any) -> tuple[Any, Any, Any]:
        xc = x.reshape(view.shape)
        if centered:
            xc = xc - np.mean(xc, axis=view.over, keepdims=True)
        var = np.mean(xc * xc, axis=view.over, keepdims=True)
        rstd = 1 / np.sqrt(var + EPS)
        x_hat = (xc * rstd).reshape(entry.shape)
        y = gamma.reshape(view.parameters) * x_hat
        return (y + beta[0].reshape(view.parameters) if beta else y), x_hat, rstd

    return forward


def plain(problem: Problem) -> Calls:
    """Set up the textbook formula in NumPy, in the data's dtype; x_hat is kept for backward."""
    entry, dy = problem.entry, problem.dy
    view, forward = View.of(entry), formula(entry)
    _, x_hat, rstd = forward(*problem.arguments)

    def backward() -> Any:
        dgamma = (dy * x_hat).sum(axis=view.summed)
        dx_hat = (dy * problem.gamma.reshape(view.parameters)).reshape(view.shape)
        h = x_hat.reshape(view.shape)
        dx = dx_hat - h * (dx_hat * h).mean(axis=view.over, keepdims=True)
        if entry.norm == "rms":
            return (rstd * dx).reshape(entry.shape), dgamma
        dx = rstd * (dx - dx_hat.mean(axis=view.over, keepdims=True))
        return dx.reshape(entry.shape), dgamma, dy.sum(axis=view.summed)

    return Calls(lambda: forward(*problem.arguments)[0], backward)


FLOAT32, DEFAULT, TORCH = "numpy_norms float32", "numpy_norms", "PyTorch"
PLAIN = "plain NumPy"

OURS = (
    Contender(FLOAT32, "numpy", partial(ours, dtype=np.float32)),
    Contender(DEFAULT, "numpy", partial(ours, dtype=None)),
)
CONTENDERS = (*OURS, Contender(TORCH, "torch", pytorch), Contender(PLAIN, "numpy", plain))


def installed() -> list[Contender]:
    """Return the contenders that can be imported here."""
    return [c for c in CONTENDERS if find_spec(c.package) is not None]

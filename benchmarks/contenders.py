"""What a user would pick: the same norm by each library, as calls on ready data.

Every forward call returns y; every backward call returns dx, dgamma and dbeta for a fixed dy, with
what its forward pass keeps at hand. A contender that lacks a norm or a direction has None there.
"""

from __future__ import annotations

import collections
import collections.abc
import importlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import numpy_norms

from .grid import EPS, NUM_GROUPS, Entry, Problem
from .machine import cores, on_all_cores

Call = Callable[[], Any]


class Calls(NamedTuple):
    """The forward and the backward pass of a contender on one problem."""

    forward: Call | None = None
    backward: Call | None = None


class Contender(NamedTuple):
    """A name, the package whose version counts, its module, and how it sets up its calls."""

    name: str
    package: str
    module: str
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


def pytorch(problem: Problem, *, recording: bool = False) -> Calls:
    """Set up PyTorch on all cores.

    Forward on tensors that require no gradient, or else `recording` for a backward pass; backward
    is `torch.autograd.grad` on a graph that is kept.
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
    if recording:
        return Calls(lambda: run(*leaves))
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


def formula(entry: Entry, xp: Any) -> Callable[..., tuple[Any, Any, Any]]:
    """Return the textbook formula, in the words of NumPy or of a module like it."""
    view, centered = View.of(entry), entry.norm != "rms"

    def forward(x: Any, gamma: Any, *beta: Any) -> tuple[Any, Any, Any]:
        xc = x.reshape(view.shape)
        if centered:
            xc = xc - xp.mean(xc, axis=view.over, keepdims=True)
        var = xp.mean(xc * xc, axis=view.over, keepdims=True)
        rstd = 1 / xp.sqrt(var + EPS)
        x_hat = (xc * rstd).reshape(entry.shape)
        y = gamma.reshape(view.parameters) * x_hat
        return (y + beta[0].reshape(view.parameters) if beta else y), x_hat, rstd

    return forward


def plain(problem: Problem) -> Calls:
    """Set up the textbook formula in NumPy, float32 throughout; x_hat is kept for backward."""
    entry, dy = problem.entry, problem.dy
    view, forward = View.of(entry), formula(entry, np)
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


def hips_autograd(problem: Problem) -> Calls:
    """Set up HIPS autograd on the textbook formula; its graph is made once and kept."""
    autograd = importlib.import_module("autograd")
    run = formula(problem.entry, importlib.import_module("autograd.numpy"))
    vjp, _ = autograd.make_vjp(lambda arguments: run(*arguments)[0])(problem.arguments)
    return Calls(lambda: run(*problem.arguments)[0], lambda: vjp(problem.dy))


def jax_on_cpu(problem: Problem) -> Calls:
    """Set up JAX on the textbook formula: both passes compiled, residuals kept for backward."""
    jax, jnp = (importlib.import_module(name) for name in ("jax", "jax.numpy"))
    run = formula(problem.entry, jnp)
    with jax.default_device(jax.devices("cpu")[0]):
        arguments = [jnp.asarray(a) for a in problem.arguments]
        dy = jnp.asarray(problem.dy)
    forward = jax.jit(lambda *arguments: run(*arguments)[0])
    _, vjp = jax.vjp(forward, *arguments)
    backward = jax.jit(lambda vjp, dy: vjp(dy))
    return Calls(
        lambda: forward(*arguments).block_until_ready(),
        lambda: jax.block_until_ready(backward(vjp, dy)),
    )


def onnx_reference(problem: Problem) -> Calls:
    """Set up ONNX's reference evaluator, which is in NumPy and has no backward pass."""
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    norm, arguments = problem.entry.norm, problem.named
    if norm == "batch":
        arguments |= {"mean": np.zeros_like(problem.gamma), "var": np.ones_like(problem.gamma)}
    options: dict[str, Any] = {"group": {"num_groups": NUM_GROUPS}, "batch": {"training_mode": 1}}
    node = helper.make_node(
        {"rms": "RMS"}.get(norm, norm.title()) + "Normalization",
        list(arguments),
        ["y", "new_mean", "new_var"] if norm == "batch" else ["y"],
        epsilon=EPS,
        **options.get(norm, {}),
    )
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in (*arguments, "y")]
    graph = helper.make_graph([node], norm, values[:-1], values[-1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])
    evaluator: Any = ReferenceEvaluator(model)
    return Calls(lambda: evaluator.run(["y"], arguments)[0])


def numpy_ml(problem: Problem) -> Calls:
    """Set up numpy-ml's layers, where it has one; its images have their channels last."""
    layers = _import("numpy_ml.neural_nets.layers")
    entry, images = problem.entry, len(problem.entry.shape) == 4
    if entry.norm not in ("layer", "batch"):
        return Calls()
    kind = "BatchNorm" if entry.norm == "batch" else "LayerNorm"
    layer = getattr(layers, kind + ("2D" if images else "1D"))(epsilon=EPS)
    x, dy = (
        np.ascontiguousarray(np.moveaxis(a, 1, -1)) if images else a
        for a in (problem.x, problem.dy)
    )

    def forward() -> Any:
        layer.X = []  # which it would collect
        return np.moveaxis(layer.forward(x), -1, 1) if images else layer.forward(x)

    def backward() -> Any:
        layer.gradients = {"scaler": 0.0, "intercept": 0.0}  # to which it adds
        dx = layer.backward(dy)
        dx = np.moveaxis(dx, -1, 1) if images else dx
        return dx, layer.gradients["scaler"], layer.gradients["intercept"]

    forward()
    layer.parameters |= {"scaler": problem.gamma, "intercept": problem.beta}
    return Calls(forward, backward)


def floor(problem: Problem) -> Calls:
    """Set up what any implementation must at least do: read x, or x and dy, and write y or dx.

    All cores do it, into memory that is already there.
    """
    out = np.zeros_like(problem.x)
    return Calls(
        on_all_cores(np.positive, problem.x, out), on_all_cores(np.add, problem.x, problem.dy, out)
    )


FLOAT32, DEFAULT, TORCH = "numpy_norms float32", "numpy_norms", "PyTorch"
PLAIN, FLOOR = "plain NumPy", "memory floor"

CONTENDERS = (
    Contender(FLOAT32, "numpy", "numpy", partial(ours, dtype=np.float32)),
    Contender(DEFAULT, "numpy", "numpy", partial(ours, dtype=None)),
    Contender(TORCH, "torch", "torch", pytorch),
    Contender("PyTorch recording", "torch", "torch", partial(pytorch, recording=True)),
    Contender(PLAIN, "numpy", "numpy", plain),
    Contender("JAX", "jax", "jax", jax_on_cpu),
    Contender("ONNX reference", "onnx", "onnx.reference", onnx_reference),
    Contender("HIPS autograd", "autograd", "autograd.numpy", hips_autograd),
    Contender("numpy-ml", "numpy-ml", "numpy_ml.neural_nets.layers", numpy_ml),
    Contender(FLOOR, "numpy", "numpy", floor),
)


def installed() -> list[Contender]:
    """Return the contenders that can be imported here."""
    return [c for c in CONTENDERS if _import(c.module) is not None]


def _import(module: str) -> Any:
    # numpy-ml 0.1.2 asks `collections` for a name that left it with Python 3.10.
    borrowed = module.startswith("numpy_ml") and not hasattr(collections, "Hashable")
    if borrowed:
        vars(collections)["Hashable"] = collections.abc.Hashable
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError:
        return None
    finally:
        if borrowed:
            del vars(collections)["Hashable"]

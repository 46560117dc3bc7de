"""Gradient checkers of other packages, each asked the same: is this backward that forward's?

Each gets the kernel as its own kind of function, with the gradient written by hand, and its own
default tolerances. Their second-order and forward-mode checks do not apply to such a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
MISSING = "not installed"


class Kernel(NamedTuple):
    """A kernel and the inputs to check it on: its arrays in order, then what is not an array."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    x: Array
    parameters: tuple[Array, ...]
    eps: float
    num_groups: int | None = None

    @property
    def arrays(self) -> tuple[Array, ...]:
        """Everything that the kernel has a gradient for."""
        return (self.x, *self.parameters)

    def y(self, x: Any, *parameters: Any) -> Array:
        """Run the forward pass."""
        return np.asarray(self.forward(*self._arguments(x, parameters)), dtype=np.float64)

    def gradients(self, dy: Any, x: Any, *parameters: Any) -> tuple[Array, ...]:
        """Run the backward pass."""
        found = self.backward(np.asarray(dy), *self._arguments(x, parameters))
        return tuple(np.asarray(gradient, dtype=np.float64) for gradient in found)

    def _arguments(self, x: Any, parameters: tuple[Any, ...]) -> tuple[Any, ...]:
        groups = () if self.num_groups is None else (self.num_groups,)
        return (np.asarray(x), *groups, *map(np.asarray, parameters), self.eps)


class Checker(NamedTuple):
    """A checker: the package it comes from, what it is called, and whether it accepts a kernel."""

    package: str
    name: str
    accepts: Callable[[Any, Kernel], bool]

    def module(self) -> Any:
        """Return the package, or None where it is not installed."""
        try:
            return import_module(self.package)
        except (ImportError, OSError):
            return None

    def version(self) -> str:
        """Return the version of the package, or "not installed"."""
        return version(self.package) if self.module() else MISSING


def _torch(torch: Any, kernel: Kernel, *, fast_mode: bool) -> bool:
    class ByHand(torch.autograd.Function):  # type: ignore[misc, name-defined, unused-ignore]
        @staticmethod
        def forward(ctx: Any, *arrays: Any) -> Any:
            ctx.save_for_backward(*arrays)
            return torch.from_numpy(kernel.y(*(a.detach().numpy() for a in arrays)))

        @staticmethod
        def backward(ctx: Any, *dy: Any) -> Any:
            arrays = (a.detach().numpy() for a in ctx.saved_tensors)
            gradients = kernel.gradients(dy[0].detach().numpy(), *arrays)
            return tuple(torch.from_numpy(np.ascontiguousarray(g)) for g in gradients)

    tensors = [torch.tensor(a, dtype=torch.float64, requires_grad=True) for a in kernel.arrays]
    check = torch.autograd.gradcheck
    return bool(check(ByHand.apply, tensors, fast_mode=fast_mode, raise_exception=False))


def _torch_slow(torch: Any, kernel: Kernel) -> bool:
    return _torch(torch, kernel, fast_mode=False)


def _torch_fast(torch: Any, kernel: Kernel) -> bool:
    return _torch(torch, kernel, fast_mode=True)


def _jax(jax: Any, kernel: Kernel) -> bool:
    def shapes(arrays: Any) -> Any:
        return tuple(jax.ShapeDtypeStruct(np.shape(a), np.float64) for a in arrays)

    @jax.custom_vjp  # type: ignore[untyped-decorator, unused-ignore]
    def layer(*arrays: Any) -> Any:
        return jax.pure_callback(kernel.y, *shapes(arrays[:1]), *arrays)

    def backward(arrays: Any, dy: Any) -> Any:
        return jax.pure_callback(kernel.gradients, shapes(arrays), dy, *arrays)

    layer.defvjp(lambda *arrays: (layer(*arrays), arrays), backward)
    with jax.enable_x64(True):
        check = import_module("jax.test_util").check_grads
        return _asserts(lambda: check(layer, kernel.arrays, order=1, modes=["rev"]))


def _autograd(autograd: Any, kernel: Kernel) -> bool:
    extend = import_module("autograd.extend")
    layer = extend.primitive(kernel.y)

    def vjp(argument: int) -> Any:
        def make(_: Any, *arrays: Any) -> Any:
            return lambda dy: kernel.gradients(dy, *arrays)[argument]

        return make

    extend.defvjp(layer, *map(vjp, range(len(kernel.arrays))))
    check = import_module("autograd.test_util").check_grads
    # It perturbs in a direction drawn from NumPy's global generator, which it does not seed.
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    try:
        everything = tuple(range(len(kernel.arrays)))
        return _asserts(lambda: check(layer, everything, modes=["rev"], order=1)(*kernel.arrays))
    finally:
        np.random.set_state(state)  # noqa: NPY002


def _asserts(check: Callable[[], Any]) -> bool:
    try:
        check()
    except AssertionError:
        return False
    return True


CHECKERS = (
    Checker("torch", "PyTorch slow", _torch_slow),
    Checker("torch", "PyTorch fast", _torch_fast),
    Checker("jax", "JAX", _jax),
    Checker("autograd", "autograd", _autograd),
)

"""What autograd traces, and the derivatives of each in terms of the others.

The arrays of a call are passed on for autograd to see what depends on them; the numbers are in the
cache. Tangents are one for each of these arrays, None for zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    from autograd.extend import (  # type: ignore[import-untyped, unused-ignore]
        defjvp_argnums,
        defvjp_argnums,
        primitive,
        vspace,
    )
except ImportError as error:
    raise ImportError("numpy_norms.autograd needs autograd: pip install autograd") from error

import numpy_norms

from ..cache import Cache

Array = NDArray[Any]

STEP = 1e-100  # of the complex step; nothing is subtracted, so that it can be as small
_OPTIONAL = "gamma", "beta"


class Call:
    """One call of a norm: its options, the names of its arrays, and the cache that it leaves."""

    cache: Cache

    def __init__(self, norm: str, options: dict[str, Any], names: Sequence[str]) -> None:
        self.norm, self.options, self.names = norm, options, names

    def forward(self, arrays: Sequence[Array], **options: Any) -> tuple[Array, Cache]:
        """Call the norm's forward function."""
        forward = getattr(numpy_norms, f"{self.norm}_forward")
        found: tuple[Array, Cache] = forward(**self.named("", arrays), **self.options | options)
        return found

    def named(self, prefix: str, arrays: Sequence[Any], suffix: str = "") -> dict[str, Any]:
        """Arrays by the names of the arguments."""
        return {f"{prefix}{name}{suffix}": a for name, a in zip(self.names, arrays, strict=True)}

    def apart(self, arrays: Sequence[Any]) -> list[Sequence[Any]]:
        """Runs of as many arrays as the call had."""
        n = len(self.names)
        return [arrays[k : k + n] for k in range(0, len(arrays), n)]

    def along(self, first: int, argnums: Sequence[int], gs: Sequence[Any]) -> list[Any]:
        """What autograd gives for the arguments from the first on, one for each array."""
        given = dict(zip(argnums, gs, strict=True))
        return [given.get(first + k) for k in range(len(self.names))]


def traced(norm: str, options: dict[str, Any], **arrays: Any) -> Any:
    """Return y of a norm as autograd's own functions return theirs."""
    if "out" in options:
        raise TypeError("out was given, but y is differentiated, not overwritten; leave it out")
    names = [name for name, a in arrays.items() if a is not None or name not in _OPTIONAL]
    return output(Call(norm, options, names), *[arrays[name] for name in names])


@primitive  # type: ignore[untyped-decorator, unused-ignore]
def output(call: Call, *arrays: Array) -> Array:
    """Return y."""
    y, call.cache = call.forward(arrays)
    return y


@primitive  # type: ignore[untyped-decorator, unused-ignore]
def tangent(call: Call, *tangents_and_arrays: Any) -> Array:
    """Return the tangent of y."""
    tangents, _ = call.apart(tangents_and_arrays)
    return numpy_norms.jvp(call.cache, **call.named("", tangents, "_dot"))


@primitive  # type: ignore[untyped-decorator, unused-ignore]
def gradients(call: Call, dy: Array, *arrays: Array) -> tuple[Array, ...]:
    """Return the gradient of each array."""
    backward = getattr(numpy_norms, f"{call.norm}_backward")
    return tuple(d for d in backward(dy, call.cache) if d is not None)


@primitive  # type: ignore[untyped-decorator, unused-ignore]
def second_gradients(call: Call, dy: Array, *tangents_and_arrays: Any) -> tuple[Array, ...]:
    """Return the gradients of sum(dy * tangent of y): of each array, and at last of dy."""
    tangents, arrays = call.apart(tangents_and_arrays)
    found = numpy_norms.double_backward(dy, call.cache, **call.named("dd", tangents))
    d_dy, *of_arrays = [d for d in found if d is not None]
    if call.names[-1] == "beta":
        of_arrays.append(np.zeros_like(arrays[-1]))  # the tangent of y does not depend on it
    return *of_arrays, d_dy


@primitive  # type: ignore[untyped-decorator, unused-ignore]
def second_tangent(call: Call, *tangents_and_arrays: Any) -> Array:
    """Return the tangent of the tangent of y, along a second tangent of each array."""
    tangents, along, arrays = call.apart(tangents_and_arrays)
    if np.iscomplexobj(arrays[0]):
        raise NotImplementedError(
            "forward mode within forward mode was asked for, which takes a complex step, but x is "
            f"{arrays[0].dtype}; take forward mode of grad, which is the same derivative"
        )
    moved = [
        a if t is None else a.astype(np.complex128) + 1j * STEP * t.astype(np.complex128)
        for a, t in zip(arrays, along, strict=True)
    ]
    moved[0] = moved[0].astype(np.complex128)
    _, cache = call.forward(moved, dtype=None)
    y_dot = numpy_norms.jvp(cache, **call.named("", tangents, "_dot"))
    return (y_dot.imag / STEP).astype(call.cache.plan.result)


def _output_vjp(argnums: Any, y: Any, args: Any, _: Any) -> Any:
    call, *arrays = args

    def vjp(dy: Any) -> Any:
        found = gradients(call, dy, *arrays)
        return [found[k - 1] for k in argnums]

    return vjp


def _output_jvp(argnums: Any, gs: Any, y: Any, args: Any, _: Any) -> Any:
    call, *arrays = args
    return tangent(call, *call.along(1, argnums, gs), *arrays)


def _gradients_vjp(argnums: Any, result: Any, args: Any, _: Any) -> Any:
    call, dy, *arrays = args

    def vjp(cotangents: Any) -> Any:
        along = [cotangents[k] for k in range(len(arrays))]
        found = second_gradients(call, dy, *along, *arrays)
        return [found[k - 2] for k in argnums]  # the last is dy's

    return vjp


def _gradients_jvp(argnums: Any, gs: Any, result: Any, args: Any, _: Any) -> Any:
    """They are linear in dy; along the arrays second derivatives are the same in either order."""
    call, dy, *arrays = args
    terms = []
    if argnums[0] == 1:
        terms.append(gradients(call, gs[0], *arrays))
    if argnums[-1] > 1:
        terms.append(second_gradients(call, dy, *call.along(2, argnums, gs), *arrays)[:-1])
    return _sum(result, terms)


def _tangent_vjp(argnums: Any, y_dot: Any, args: Any, _: Any) -> Any:
    call, *tangents_and_arrays = args
    n = len(call.names)

    def vjp(dy: Any) -> Any:
        of_tangents, of_arrays = (), ()
        if argnums[0] <= n:
            of_tangents = gradients(call, dy, *tangents_and_arrays[n:])
        if argnums[-1] > n:
            of_arrays = second_gradients(call, dy, *tangents_and_arrays)
        return [of_tangents[k - 1] if k <= n else of_arrays[k - n - 1] for k in argnums]

    return vjp


def _tangent_jvp(argnums: Any, gs: Any, y_dot: Any, args: Any, _: Any) -> Any:
    call, *tangents_and_arrays = args
    tangents, arrays = call.apart(tangents_and_arrays)
    n = len(call.names)
    terms = []
    if argnums[0] <= n:
        terms.append(tangent(call, *call.along(1, argnums, gs), *arrays))
    if argnums[-1] > n:
        along = call.along(n + 1, argnums, gs)
        terms.append(second_tangent(call, *tangents, *along, *arrays))
    return _sum(y_dot, terms)


def _sum(result: Any, terms: list[Any]) -> Any:
    return terms[0] if len(terms) == 1 else vspace(result).add(*terms)


def _refused(call: Call) -> Any:
    raise NotImplementedError(
        f"a third derivative of {call.norm} was asked for, but the first two are known here; "
        "write the norm in autograd.numpy, which has them all"
    )


defvjp_argnums(output, _output_vjp)
defjvp_argnums(output, _output_jvp)
defvjp_argnums(gradients, _gradients_vjp)
defjvp_argnums(gradients, _gradients_jvp)
defvjp_argnums(tangent, _tangent_vjp)
defjvp_argnums(tangent, _tangent_jvp)
for last in (second_gradients, second_tangent):
    defvjp_argnums(last, lambda argnums, result, args, kwargs: lambda g: _refused(args[0]))
    defjvp_argnums(last, lambda argnums, gs, result, args, kwargs: _refused(args[0]))

"""Running a kernel on a case: what came back, what raised, what was overwritten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import numpy_norms

from .battery import Case
from .plain import Array, Kernel

__all__ = ["Contract", "Run", "gradient_names", "library_kernel", "run"]


@dataclass(frozen=True)
class Contract:
    """What a kernel is given, and what it may do.

    Parameters
    ----------
    saved : bool
        Whether backward is given, after eps, what forward returned after y.
    residual : bool
        Whether forward adds a residual to x first, and returns the sum after y if it returns it.
    in_place : tuple of str
        The arguments that it may write into.
    """

    saved: bool = False
    residual: bool = False
    in_place: tuple[str, ...] = ()


@dataclass
class Run:
    """What a kernel did with a case: results by name, exceptions by name, arguments it changed.

    `absent` is what it returned None for, or did not return; `traits` what was special about the
    call.
    """

    results: dict[str, Array] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    traits: dict[str, Any] = field(default_factory=dict)

    def bits(self) -> dict[str, bytes]:
        """Return the bits of every result."""
        return {name: a.tobytes() for name, a in self.results.items()}


def gradient_names(norm: str) -> tuple[str, ...]:
    """Return the names of what a backward pass returns, in order."""
    return ("dx", "dgamma") if norm == "rms_norm" else ("dx", "dgamma", "dbeta")


def output_names(norm: str, contract: Contract) -> list[tuple[str, ...]]:
    """Return what a forward pass may return, the shortest first."""
    statistics = ("rstd",) if norm == "rms_norm" else ("mean", "rstd")
    if not contract.residual:
        return [("y",), ("y", *statistics)]
    return [("y",), ("y", "sum"), ("y", "sum", *statistics)]


def run(
    case: Case,
    forward: Kernel | None,
    backward: Kernel | None,
    contract: Contract | None = None,
) -> Run:
    """Run the passes that are given; exceptions are kept, not raised."""
    contract = contract or Contract()
    found = Run()
    saved: tuple[Any, ...] = ()
    with np.errstate(all="ignore"):
        if forward is not None:
            given = _handed(("x", "residual"), case, case.forward_arguments, contract)
            before = _bits(given)
            names = output_names(case.norm, contract)
            returned = _call(found, names, lambda: forward(*given.values()))
            saved = tuple(returned[1:]) if contract.saved else ()
            _restore(found, given, before, contract)
        if backward is not None:
            given = _handed(("dy", "x"), case, case.backward_arguments, contract)
            before = _bits(given)
            every = gradient_names(case.norm)
            _call(found, [every[:1], every], lambda: backward(*given.values(), *saved))
            _restore(found, given, before, contract)
    return found


def _handed(
    first: tuple[str, ...], case: Case, arguments: tuple[Any, ...], contract: Contract
) -> dict[str, Any]:
    """Return the arguments by name; what is written into, with no place that is two of its own."""
    absent = {
        name
        for name, there in (
            ("residual", case.residual is not None),
            ("num_groups", case.num_groups is not None),
            ("beta", case.norm != "rms_norm"),
            ("where", case.where is not None),
        )
        if not there
    }
    every = (*first, "num_groups", "gamma", "beta", "eps", "where")
    given = dict(zip((n for n in every if n not in absent), arguments, strict=True))
    for name in contract.in_place:
        if 0 in getattr(given.get(name), "strides", ()):
            given[name] = given[name].copy()
    return given


def _bits(given: Mapping[str, Any]) -> dict[str, bytes]:
    return {name: a.tobytes() for name, a in given.items() if isinstance(a, np.ndarray)}


def _restore(
    found: Run, given: Mapping[str, Any], before: Mapping[str, bytes], contract: Contract
) -> None:
    """Note which arguments were changed, and give them their values back."""
    for name, bits in before.items():
        array = given[name]
        if bits != array.tobytes():
            array[...] = np.frombuffer(bits, array.dtype).reshape(array.shape)
            if name not in contract.in_place:
                found.changed = tuple(dict.fromkeys((*found.changed, name)))


def _call(found: Run, kinds: Sequence[tuple[str, ...]], call: Any) -> Sequence[Any]:
    """Call a pass and keep what it returned by name; return it as it came."""
    try:
        returned = call()
        values = _several(returned, kinds)
        names = next(names for names in kinds if len(names) == len(values))
        for name, value in zip(names, values, strict=True):
            if value is None and name not in ("y", "dx"):
                found.absent = (*found.absent, name)
            else:
                found.results[name] = _real_array(name, value)
        found.absent = (*found.absent, *(n for n in kinds[-1] if n not in names))
    except Exception as error:  # whatever somebody else's kernel raises is a finding
        note = f"{type(error).__name__}: {error}".splitlines()[0]
        if isinstance(error, _NotAResult):
            note = str(error)
        for name in kinds[0] if kinds[0] == ("y",) else kinds[-1]:
            found.results.pop(name, None)
            found.failures[name] = note
        return ()
    return values


class _NotAResult(TypeError):
    """What came back cannot be measured; the message begins with "returned"."""


def _several(returned: Any, kinds: Sequence[tuple[str, ...]]) -> Sequence[Any]:
    """Return what came back as the values of one of the kinds."""
    counts = {len(names) for names in kinds}
    if isinstance(returned, (tuple, list)) and len(returned) in counts:
        nested = any(isinstance(value, (tuple, list)) for value in returned)
        if isinstance(returned, tuple) or not nested:
            return returned
    if isinstance(returned, tuple):
        expected = "; or ".join(", ".join(names) for names in kinds)
        count = f"{len(returned)} value{'s' * (len(returned) != 1)}"
        raise _NotAResult(f"returned {count}; expected {expected}")
    return (returned,)


def _real_array(name: str, value: Any) -> Array:
    if value is None:
        raise _NotAResult(f"returned None for {name}; an array is expected")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise _NotAResult(f"returned a {type(value).__name__} for {name}: {error}") from None
    if array.dtype.kind in "OUSbc":
        raise _NotAResult(
            f"returned a {type(value).__name__} of {array.dtype} for {name}; "
            "an array of real numbers is expected"
        )
    return array.astype(np.promote_types(array.dtype, np.float64))


def library_kernel(
    norm: str, *, where: bool = False, residual: bool = False, **options: Any
) -> tuple[Kernel, Kernel]:
    """Return this library's functions in the form that `check_kernel` takes."""
    forward = getattr(numpy_norms, f"{norm}_forward")
    backward = getattr(numpy_norms, f"{norm}_backward")
    names = ("eps", "where") if where else ("eps",)

    def both(arrays: tuple[Any, ...]) -> Any:
        named = dict(zip(names, arrays[-len(names) :], strict=True))
        return forward(*arrays[: -len(names)], **named, **options)

    def ahead(*arrays: Any) -> Any:
        return both(arrays)[0]

    def added(x: Any, other: Any, *arrays: Any) -> Any:
        return ahead(x + other, *arrays), x + other

    def back(dy: Any, *arrays: Any) -> Any:
        return backward(dy, both(arrays)[1])

    return added if residual else ahead, back

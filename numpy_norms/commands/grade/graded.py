"""Somebody's function as a kernel of `numpy_norms.verify`, and the cases it is graded on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numpy_norms.cli import UsageError
from numpy_norms.commands.grade.student import Student, as_array
from numpy_norms.oracle.sets import FEATURE_NORMS
from numpy_norms.verify import Case, cases
from numpy_norms.verify.plain import Array
from numpy_norms.verify.runs import gradient_names

MOST = 5000  # elements of x in a case: loops written in Python shall finish too


@dataclass(frozen=True)
class Graded:
    """The passes that are graded, in the form that `check_kernel` takes, and what they return."""

    norm: str
    forward: Callable[..., Any] | None
    backward: Callable[..., Any] | None
    outputs: tuple[str, ...]
    form: str

    def results(self, case: Case) -> dict[str, Array]:
        """Run the passes once; UsageError where what comes back cannot be graded."""
        found: dict[str, Any] = {}
        case = _own_arrays(case)
        if self.forward:
            found["y"] = self.forward(*case.forward_arguments)
        if self.backward:
            gradients = self.backward(*case.backward_arguments)
            found |= dict(zip(gradient_names(self.norm), gradients, strict=True))
        arguments = {"y": "x", "dx": "x", "dgamma": "gamma", "dbeta": "beta"}
        arrays = {name: as_array(found[name], name) for name in self.outputs}
        for name, array in arrays.items():
            shape = getattr(case, arguments[name]).shape
            if array.shape != shape:
                raise UsageError(
                    f"{name} has shape {array.shape}, but {shape} was expected, "
                    f"the shape of {arguments[name]}"
                )
        return arrays


def graded(norm: str, students: Sequence[Student], part: str | None) -> Graded:
    """Return the passes that the functions are.

    Raises
    ------
    UsageError
        If it is not to be seen which pass a function is, or a cache is asked for without the
        forward pass that makes it.
    """
    if len(students) > 2:
        raise UsageError(f"{len(students)} functions given; expected one, or forward,backward")
    if len(students) == 2:
        return _pair(norm, *students)
    (student,) = students
    if (part or _part_of(student)) == "forward":
        takes = ", ".join(_names(norm, "forward"))
        return Graded(norm, _forward(norm, student), None, ("y",), f"forward({takes})")
    if student.takes("cache"):
        raise UsageError(
            f"{student.name} takes a cache; give the forward pass that makes it too, "
            f"as {student.path.name}:forward,{student.name}"
        )
    takes = ", ".join(_names(norm, "backward"))
    outputs = gradient_names(norm)
    return Graded(norm, None, _backward(norm, student), outputs, f"backward({takes})")


def battery(norm: str, seed: int, rank: int | None) -> list[Case]:
    """Return the cases of the kit that are small enough, in float64, "ordinary" first."""
    small = [case for case in cases(norm, dtype=np.float64, seed=seed) if case.x.size <= MOST]
    if rank is None:
        return small
    folded = [_folded(case, rank) for case in small]
    found = [case for case in folded if case is not None]
    if not found or found[0].name != small[0].name:
        raise UsageError(f"--rank {rank} is not a number of axes that {norm} is graded on")
    return found


def _folded(case: Case, rank: int) -> Case | None:
    """Give x and dy so many axes, the same sets as before; None where that is not possible."""
    x, dy, shape = case.x, case.dy, case.x.shape
    least = 3 if case.norm in ("group_norm", "instance_norm") else 2
    if len(shape) == rank:
        return case
    if rank < least:
        return None
    if case.norm == "batch_norm" and rank == 2:
        x, dy = np.moveaxis(x, 1, -1), np.moveaxis(dy, 1, -1)
        new = (-1, shape[1])
    elif case.norm in FEATURE_NORMS:
        kept = shape[max(len(shape) - rank + 1, 1) :]
        new = (*(1,) * (rank - 1 - len(kept)), -1, *kept)
    else:
        kept = shape[max(len(shape) - rank + 3, 3) :]
        new = (*shape[:2], -1, *kept, *(1,) * (rank - 3 - len(kept)))
    return replace(case, x=x.reshape(new), dy=dy.reshape(new))


def _names(norm: str, part: str) -> list[str]:
    groups = ["num_groups"] if norm == "group_norm" else []
    beta = [] if norm == "rms_norm" else ["beta"]
    return ["dy"] * (part == "backward") + ["x", *groups, "gamma", *beta, "eps"]


def _part_of(student: Student) -> str:
    name = student.name.lower()
    if student.takes("dy") or any(word in name for word in ("backward", "bwd", "grad", "vjp")):
        return "backward"
    if student.takes("x") or any(word in name for word in ("forward", "fwd")):
        return "forward"
    raise UsageError(f"{student.name} may be either pass; say which with --part")


def _forward(norm: str, student: Student) -> Callable[..., Any]:
    def forward(*arguments: Any) -> Any:
        returned = student(dict(zip(_names(norm, "forward"), arguments, strict=True)))
        return returned[0] if isinstance(returned, tuple) and returned else returned

    return forward


def _backward(norm: str, student: Student) -> Callable[..., Any]:
    def backward(*arguments: Any) -> tuple[Any, ...]:
        returned = student(dict(zip(_names(norm, "backward"), arguments, strict=True)))
        return _gradients(norm, student, returned)

    return backward


def _pair(norm: str, ahead: Student, back: Student) -> Graded:
    def run(arguments: Sequence[Any]) -> tuple[Any, Any]:
        returned = ahead(dict(zip(_names(norm, "forward"), arguments, strict=True)))
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise UsageError(f"{ahead.name} returned no pair; expected (y, cache)")
        return returned

    def forward(*arguments: Any) -> Any:
        return run(arguments)[0]

    def backward(dy: Any, *arguments: Any) -> tuple[Any, ...]:
        return _gradients(norm, back, back({"dy": dy, "cache": run(arguments)[1]}))

    names = ("y", *gradient_names(norm))
    takes = ", ".join(_names(norm, "forward"))
    return Graded(norm, forward, backward, names, f"forward({takes}), backward(dy, cache)")


def _gradients(norm: str, student: Student, returned: Any) -> tuple[Any, ...]:
    names = gradient_names(norm)
    if returned is None:
        raise UsageError(f"{student.name} returned None; expected {', '.join(names)}")
    if not isinstance(returned, (tuple, list)) or len(returned) != len(names):
        count = len(returned) if isinstance(returned, (tuple, list)) else 1
        raise UsageError(
            f"{student.name} returned {count} value{'s' * (count != 1)}; "
            f"expected {len(names)}: {', '.join(names)}"
        )
    return tuple(returned)


def _own_arrays(case: Case) -> Case:
    """Return the case with copies, which the functions may spoil."""
    arrays = {name: getattr(case, name).copy() for name in ("x", "gamma", "beta", "dy")}
    return replace(case, **arrays)

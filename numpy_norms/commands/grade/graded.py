"""Somebody's function as a kernel of `numpy_norms.verify`, and the cases it is graded on."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from numpy_norms.cli import UsageError
from numpy_norms.commands.grade.layer import Layer, is_layer, static_passes
from numpy_norms.commands.grade.student import Failure, Student, as_array, first
from numpy_norms.oracle.sets import FEATURE_NORMS
from numpy_norms.verify import Case, cases
from numpy_norms.verify.runs import Run, gradient_names

MOST = 10_000  # elements of x in a case: loops written in Python shall finish too
ARGUMENTS = {"y": "x", "dx": "x", "dgamma": "gamma", "dbeta": "beta"}  # whose shape an output has


@dataclass(frozen=True)
class Graded:
    """The passes that are graded, in the form that `check_kernel` takes."""

    norm: str
    forward: Callable[..., Any] | None
    backward: Callable[..., Any] | None
    form: str

    def run(self, case: Case) -> tuple[Run, str]:
        """Run the passes; what cannot be graded of it is among the failures. And a traceback."""
        found, details = Run(), ""
        for names, call, arguments in self._calls(case):
            arrays = {name: getattr(case, name) for name in ("x", "gamma", "beta", "dy")}
            before = {name: array.copy() for name, array in arrays.items()}
            try:
                returned = call(*arguments)
            except Failure as failure:
                found.failures |= dict.fromkeys(names, str(failure))
                details = details or failure.details
            else:
                for name, value in zip(names, returned, strict=True):
                    _take(found, case, name, value)
            for name, array in arrays.items():
                if array.tobytes() != before[name].tobytes():
                    array[...] = before[name]
                    found.changed = tuple(dict.fromkeys((*found.changed, name)))
        return found, details

    def _calls(self, case: Case) -> Iterator[tuple[tuple[str, ...], Callable[..., Any], Any]]:
        if ahead := self.forward:
            yield ("y",), lambda *arguments: (ahead(*arguments),), _views(case.forward_arguments)
        if self.backward:
            names = gradient_names(self.norm)
            yield names, self.backward, _views(case.backward_arguments)


def _views(arguments: Sequence[Any]) -> list[Any]:
    """Return arrays whose shape somebody may set: the case keeps its own."""
    return [a.view() if isinstance(a, np.ndarray) else a for a in arguments]


def _take(found: Run, case: Case, name: str, value: Any) -> None:
    """Take a result, or say why it cannot be graded."""
    try:
        if isinstance(value, Failure):
            raise value
        array = as_array(value, name)
    except Failure as failure:
        found.failures[name] = str(failure)
        return
    argument = ARGUMENTS[name]
    shape = getattr(case, argument).shape
    if array.shape == shape:
        found.results[name] = array
    else:
        found.failures[name] = (
            f"{name} has shape {array.shape}, but {shape} was expected, the shape of {argument}"
        )


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
    if pair := static_passes(student):
        return _pair(norm, *pair)
    if inspect.isclass(student.function):
        return _layer(norm, student, part)
    if (part or _part_of(student)) == "forward":
        takes = ", ".join(_names(norm, "forward"))
        return Graded(norm, _forward(norm, student), None, f"forward({takes})")
    if student.takes("cache"):
        raise UsageError(
            f"{student.name} takes a cache; give the forward pass that makes it too, "
            f"as {student.path.name}:forward,{student.name}"
        )
    takes = ", ".join(_names(norm, "backward"))
    return Graded(norm, None, _backward(norm, student), f"backward({takes})")


def battery(norm: str, seed: int, rank: int | None) -> list[Case]:
    """Return the cases of the kit that are small enough, in float64, "ordinary" first."""
    small = cases(norm, dtype=np.float64, seed=seed, most=MOST)
    if rank is None:
        return list(small)
    found = [case for case in (folded(case, rank) for case in small) if case is not None]
    if not found or found[0].name != small[0].name:
        raise UsageError(f"--rank {rank} is not a number of axes that {norm} has; pass 3, 4 or 5")
    return found


def folded(case: Case, rank: int) -> Case | None:
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
        return first(returned, arguments[0])

    return forward


def _backward(norm: str, student: Student) -> Callable[..., Any]:
    def backward(*arguments: Any) -> tuple[Any, ...]:
        returned = student(dict(zip(_names(norm, "backward"), arguments, strict=True)))
        return _gradients(norm, student, returned)

    return backward


def _layer(norm: str, student: Student, part: str | None) -> Graded:
    if not is_layer(student.function):
        raise UsageError(f"{student.name} is a class without forward and backward methods")
    names = _names(norm, "forward")
    parameters = [name[1:] for name in gradient_names(norm)[1:]]

    def forward(*arguments: Any) -> Any:
        values = dict(zip(names, arguments, strict=True))
        return Layer(student, values).forward(values["x"])

    def backward(dy: Any, *arguments: Any) -> tuple[Any, ...]:
        values = dict(zip(names, arguments, strict=True))
        layer = Layer(student, values)
        layer.forward(values["x"])
        returned = layer.backward(dy, {name: values[name] for name in parameters})
        return _gradients(norm, student, returned)

    return Graded(
        norm,
        None if part == "backward" else forward,
        None if part == "forward" else backward,
        "class with forward(x), backward(dy)",
    )


def _pair(norm: str, ahead: Student, back: Student) -> Graded:
    def run(arguments: Sequence[Any]) -> tuple[Any, Any]:
        returned = ahead(dict(zip(_names(norm, "forward"), arguments, strict=True)))
        if not isinstance(returned, (tuple, list)) or len(returned) != 2:
            raise Failure(f"{ahead.name} returned no pair; expected (y, cache)")
        y, cache = returned
        return y, cache

    def forward(*arguments: Any) -> Any:
        return run(arguments)[0]

    def backward(dy: Any, *arguments: Any) -> tuple[Any, ...]:
        return _gradients(norm, back, back({"dy": dy, "cache": run(arguments)[1]}))

    takes = ", ".join(_names(norm, "forward"))
    return Graded(norm, forward, backward, f"forward({takes}), backward(dy, cache)")


def _gradients(norm: str, student: Student, returned: Any) -> tuple[Any, ...]:
    """Return one value per gradient, a Failure where it is missing."""
    names = gradient_names(norm)
    if returned is None:
        raise Failure(f"{student.name} returned None; expected {', '.join(names)}")
    values = tuple(returned) if isinstance(returned, (tuple, list)) else (returned,)
    count = f"{student.name} returned {len(values)} value{'s' * (len(values) != 1)}"
    says = f"{count}; expected {len(names)}: {', '.join(names)}"
    if len(values) > len(names):
        raise Failure(says)
    return values + tuple(Failure(f"{name} is missing: {says}") for name in names[len(values) :])

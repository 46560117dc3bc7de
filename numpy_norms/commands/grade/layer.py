"""Somebody's class: made, given the parameters of a case, and asked for both passes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from numpy_norms.commands.grade.student import NAMES, OURS, Failure, Student, first

PLACES = ("params", "parameters", "weights", "grads", "gradients", "cache")  # dicts of arrays
KEPT = ("d{}", "d_{}", "grad_{}", "{}_grad", "{}")  # names of a gradient, the last in a dict alone


class Layer:
    """An object of somebody's class, with the parameters of one case."""

    def __init__(self, student: Student, values: Mapping[str, Any]) -> None:
        self.student = student
        given = self._constructor(values)
        self.object = self._student("__init__", student.function)(given)
        for ours in ("gamma", "beta", "eps"):
            if ours in values and ours not in given:
                self._set(ours, values[ours])

    def forward(self, x: Any) -> Any:
        """Return y; where forward returns more, its first."""
        return first(self._method("forward")({"x": x}), x)

    def backward(self, dy: Any, parameters: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return dx and a gradient of each parameter: what is returned, or kept in the object."""
        returned = self._method("backward")({"dy": dy})
        if isinstance(returned, (tuple, list)):
            if len(returned) != 1:
                return tuple(returned)
            (returned,) = returned
        kept = (self._gradient(name, np.shape(value)) for name, value in parameters.items())
        return (returned, *kept)

    def _constructor(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """What to pass: our values by their names, and the size where another one is needed."""
        gamma = values["gamma"]
        size = gamma.size if gamma.ndim == 1 else gamma.shape
        given: dict[str, Any] = {}
        for name, parameter in inspect.signature(self.student.function).parameters.items():
            ours = OURS.get(name.lower(), "")
            if ours in values and ours != "x":
                given[ours] = values[ours]
            elif parameter.default is parameter.empty and parameter.kind not in (
                parameter.VAR_POSITIONAL,
                parameter.VAR_KEYWORD,
            ):
                if "size" in given:
                    raise Failure(
                        f"{self.student.name}({', '.join(self.student.parameters)}) cannot be "
                        "made; expected the number of features, or gamma, beta and eps"
                    )
                given["size"] = size
        return given

    def _set(self, ours: str, value: Any) -> None:
        for put, kept in self._found(NAMES[ours]):
            old = np.shape(kept)
            fits = np.size(value) == int(np.prod(old)) and ours != "eps"
            put(np.reshape(value, old) if fits else value)
            return
        if ours != "eps":
            raise Failure(
                f"{self.student.name} has no attribute {ours}, and takes no {ours} either; "
                f"expected self.{ours}"
            )

    def _gradient(self, ours: str, shape: tuple[int, ...]) -> Any:
        own = [form.format(name) for name in NAMES[ours] for form in KEPT[:-1]]
        for _, value in self._found((*own, *NAMES[ours]), of_gradients=True):
            fits = isinstance(value, np.ndarray) and value.size == int(np.prod(shape))
            return np.reshape(value, shape) if fits else value
        return Failure(f"d{ours} is missing: neither returned by backward nor kept as self.d{ours}")

    def _found(
        self, names: tuple[str, ...], *, of_gradients: bool = False
    ) -> Iterator[tuple[Callable[[Any], None], Any]]:
        """What sets a value under one of the names, and that value: attributes, then dicts."""
        own = self._attributes()
        dicts = [own[p] for p in PLACES if isinstance(own.get(p), dict)]
        if of_gradients:
            dicts = [own[p] for p in PLACES if "grad" in p and isinstance(own.get(p), dict)]
            own = {n: v for n, v in own.items() if n.lower() not in OURS}
        puts = partial(setattr, self.object), *[partial(dict.__setitem__, d) for d in dicts]
        for place, put in zip((own, *dicts), puts, strict=True):
            yield from ((partial(put, n), place[n]) for n in place if str(n).lower() in names)

    def _attributes(self) -> dict[str, Any]:
        """What the object has by name, in slots of its class, too."""
        slots = [vars(kind).get("__slots__", ()) for kind in type(self.object).__mro__]
        every = [name for given in slots for name in ([given] if isinstance(given, str) else given)]
        own = {n: getattr(self.object, n) for n in every if hasattr(self.object, n)}
        return own | getattr(self.object, "__dict__", {})

    def _method(self, name: str) -> Student:
        return self._student(name, getattr(self.object, name))

    def _student(self, name: str, function: Any) -> Student:
        return Student(self.student.path, f"{self.student.name}.{name}", function)


PASSES = "forward", "backward"


def is_layer(function: Any) -> bool:
    """Whether it is a class with both passes."""
    return inspect.isclass(function) and all(callable(getattr(function, n, None)) for n in PASSES)


def static_passes(student: Student) -> list[Student]:
    """The passes of a class that needs no object of its own: a pair of functions."""
    kind = student.function
    written = [inspect.getattr_static(kind, name, None) for name in PASSES]
    if not all(isinstance(method, (staticmethod, classmethod)) for method in written):
        return []
    return [Student(student.path, f"{student.name}.{n}", getattr(kind, n)) for n in PASSES]

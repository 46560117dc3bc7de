"""Somebody's class: made, given the parameters of a case, and asked for both passes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from numpy_norms.commands.grade.student import NAMES, OURS, Failure, Student

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
        returned = self._method("forward")({"x": x})
        return returned[0] if isinstance(returned, tuple) and returned else returned

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
        for place, name in self._found(NAMES[ours]):
            old = np.shape(place[name])
            fits = np.size(value) == int(np.prod(old)) and ours != "eps"
            place[name] = np.reshape(value, old) if fits else value
            return
        if ours != "eps":
            raise Failure(
                f"{self.student.name} has no attribute {ours}, and takes no {ours} either; "
                f"expected self.{ours}"
            )

    def _gradient(self, ours: str, shape: tuple[int, ...]) -> Any:
        own = [form.format(name) for name in NAMES[ours] for form in KEPT[:-1]]
        for place, name in self._found((*own, *NAMES[ours]), of_gradients=True):
            value = place[name]
            fits = isinstance(value, np.ndarray) and value.size == int(np.prod(shape))
            return np.reshape(value, shape) if fits else value
        return Failure(f"d{ours} is missing: neither returned by backward nor kept as self.d{ours}")

    def _found(
        self, names: tuple[str, ...], *, of_gradients: bool = False
    ) -> Iterator[tuple[dict[str, Any], str]]:
        """The places where one of the names is: attributes, then dicts among them."""
        own = vars(self.object)
        dicts = [own[p] for p in PLACES if isinstance(own.get(p), dict)]
        if of_gradients:
            dicts = [own[p] for p in PLACES if "grad" in p and isinstance(own.get(p), dict)]
            own = {n: v for n, v in own.items() if n.lower() not in OURS}
        for place in (own, *dicts):
            yield from ((place, n) for n in place if str(n).lower() in names)

    def _method(self, name: str) -> Student:
        return self._student(name, getattr(self.object, name))

    def _student(self, name: str, function: Any) -> Student:
        return Student(self.student.path, f"{self.student.name}.{name}", function)


def is_layer(function: Any) -> bool:
    """Whether it is a class with both passes."""
    return inspect.isclass(function) and all(
        callable(getattr(function, name, None)) for name in ("forward", "backward")
    )

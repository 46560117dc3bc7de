"""Somebody else's function: found in a file, called by the names of its parameters."""

from __future__ import annotations

import inspect
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from numpy_norms.cli import UsageError
from numpy_norms.commands.isolated import one_line

# What others call our arguments, in lower case.
NAMES = {
    "dy": ("dy", "dout", "d_out", "dl_dy", "dldy", "grad", "grad_y", "grad_out", "grad_output"),
    "x": ("x", "input", "inputs"),
    "num_groups": ("num_groups", "n_groups", "groups", "g"),
    "gamma": ("gamma", "weight", "w", "scale", "gain", "γ"),
    "beta": ("beta", "bias", "b", "shift", "β"),
    "eps": ("eps", "epsilon", "ε"),
    "cache": ("cache", "ctx"),
}
OURS = {theirs: ours for ours, names in NAMES.items() for theirs in names}
# Beside a name that is unknown b may be the second of a, b, c, and no bias.
SURE = {name: ours for name, ours in OURS.items() if name not in ("b", "g", "w")}


class Failure(Exception):
    """Somebody's code is wrong: one line that says where and what, and a traceback if it raised."""

    def __init__(self, line: str, details: str = "") -> None:
        super().__init__(line)
        self.details = details


@dataclass(frozen=True)
class Student:
    """A function of somebody's file."""

    path: Path
    name: str
    function: Callable[..., Any]

    @property
    def parameters(self) -> list[str]:
        """The names of its parameters; empty where they are not known."""
        try:
            return list(inspect.signature(self.function).parameters)
        except (TypeError, ValueError):
            return []

    def takes(self, name: str) -> bool:
        """Whether one of its parameters is our `name`."""
        return any(OURS.get(parameter.lower()) == name for parameter in self.parameters)

    def __call__(self, arguments: Mapping[str, Any]) -> Any:
        """Call it with what it asks for; Failure says where it raised, and what."""
        names, keywords = self._bind(arguments)
        try:
            return self.function(*names, **keywords)
        except BaseException as error:
            raise Failure(f"{self._where(error)} raised {one_line(error)}", _details()) from None

    def _bind(self, arguments: Mapping[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
        """By the names that are known; what is left goes to the others, in our order."""
        try:
            signature = inspect.signature(self.function)
        except (TypeError, ValueError):
            return list(arguments.values()), {}
        for known in (OURS, SURE):
            bound, left, others = inspect.BoundArguments(signature, {}), dict(arguments), []
            for name, parameter in signature.parameters.items():
                ours = known.get(name.lower(), "")
                if parameter.kind is parameter.VAR_POSITIONAL:
                    bound.arguments[name], left = tuple(left.values()), {}
                elif parameter.kind is parameter.VAR_KEYWORD:
                    bound.arguments[name], left = left, {}
                elif ours in left:
                    bound.arguments[name] = left.pop(ours)
                elif name.lower().endswith(("_param", "_params")) and "eps" in arguments:
                    bound.arguments[name] = {"eps": arguments["eps"], "mode": "train"}
                    left.pop("eps", None)
                elif parameter.default is parameter.empty:
                    others.append(name)
            if not others or (len(others) == len(left) and (len(left) == 1 or known is SURE)):
                bound.arguments |= zip(others, left.values(), strict=False)
                return bound.args, bound.kwargs
        values = list(arguments.values())
        try:
            signature.bind(*values)
        except TypeError:
            raise Failure(
                f"{self.name}{signature} cannot be called with ({', '.join(arguments)}); name its "
                "parameters so, or take them in this order, and give any other a default"
            ) from None
        return values, {}

    def _where(self, error: BaseException) -> str:
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename) == self.path
        ]
        return f"{self.path.name}{f':{lines[-1]}' if lines else ''}: {self.name}"


def named(target: str) -> tuple[Path, list[str]]:
    """Return the file and the names in ``FILE.py[:function[,function]]``.

    Raises
    ------
    UsageError
        If it is not of this form, or there is no such file that can be read.
    """
    whole = target.endswith((".py", ".ipynb"))
    file, colon, names = (target, ":", "") if whole else target.rpartition(":")
    if not colon or not file or not (names or whole):
        raise UsageError(f"{target!r} names no function; expected FILE.py:function")
    path = Path(file)
    try:
        if not path.is_file():
            raise UsageError(f"there is no file {file}")
        path.open("rb").close()
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {one_line(error)}") from None
    if path.suffix == ".ipynb":
        raise UsageError(
            f"{path.name} is a notebook; call numpy_norms.verify.grade in it, or copy the function "
            "into a Python file"
        )
    if path.suffix != ".py":
        raise UsageError(f"{file} is not a Python file; its name should end in .py")
    return path.resolve(), [name.strip() for name in names.split(",") if name.strip()]


def load(path: Path, names: Sequence[str], norm: str) -> list[Student]:
    """Import the file here, and return its functions of these names, or those of the norm.

    Raises
    ------
    UsageError
        If there is no such function.
    Failure
        If the file is no Python, or raises when it is imported.
    """
    module = _imported(path)
    return [_function(module, path, name) for name in names or _meant(module, path, norm)]


def _meant(module: ModuleType, path: Path, norm: str) -> list[str]:
    """The names that are meant where none is given: a class, a pair, or a backward pass."""
    own = {n: f for n, f in vars(module).items() if getattr(f, "__module__", "") == module.__name__}
    layers = [n for n, f in own.items() if inspect.isclass(f) and hasattr(f, "backward")]
    back = [n for n, f in own.items() if inspect.isfunction(f) and "backward" in n.lower()]
    ahead = [n for n, f in own.items() if inspect.isfunction(f) and "forward" in n.lower()]
    for chosen in (_exactly, _containing, lambda names, *_: names):
        layer, last = chosen(layers, norm, ""), chosen(back, norm, "backward")
        first = chosen(ahead, norm, "forward")
        if len(layer) == 1:
            return layer
        if len(last) == 1:
            pair = len(first) == 1 and Student(path, last[0], own[last[0]]).takes("cache")
            return [*first, *last] if pair else last
        if len(first) == 1 and not last:
            return first
    passes = layers + ahead + back
    there = ", ".join(passes or [n for n, f in own.items() if callable(f)]) or "none"
    raise UsageError(
        f"{path.name} has no one pass of {norm} (found: {there}); name it, as {path.name}:function"
    )


def _squeezed(text: str) -> str:
    return text.replace("_", "").lower()


def _exactly(names: list[str], norm: str, part: str) -> list[str]:
    return [n for n in names if _squeezed(n) == _squeezed(norm + part)]


def _containing(names: list[str], norm: str, part: str) -> list[str]:
    return [n for n in names if _squeezed(norm) in _squeezed(n)]


def _function(module: ModuleType, path: Path, name: str) -> Student:
    found = getattr(module, name, None)
    if callable(found):
        return Student(path, name, found)
    if found is not None:
        raise UsageError(f"{name} in {path.name} is {type(found).__name__}, not a function")
    there = [n for n, value in vars(module).items() if inspect.isfunction(value)]
    close = get_close_matches(name, there, n=1)
    if close:
        raise UsageError(f"{path.name} has no function {name}; did you mean {close[0]}?")
    raise UsageError(f"{path.name} has no function {name}; it has {', '.join(there) or 'none'}")


def _imported(path: Path) -> ModuleType:
    # Under a name of its own, so that it stands in for no module of the same name.
    spec = spec_from_file_location(f"graded_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    sys.path.insert(0, str(path.parent))  # its neighbours
    try:
        if b"\0" in path.read_bytes():  # a ValueError before Python 3.11.4
            raise SyntaxError("source code string cannot contain null bytes")
        spec.loader.exec_module(module)
    except SyntaxError as error:
        at = f"{path.name}:{error.lineno}" if error.lineno else path.name
        cure = "; save it as UTF-8" if re.search("null byte|utf-8", error.msg) else ""
        raise Failure(f"{at} is no Python: {type(error).__name__}: {error.msg}{cure}") from None
    except BaseException as error:
        raise Failure(f"importing {path.name} raised {one_line(error)}", _details()) from None
    return module


def first(returned: Any, x: Any) -> Any:
    """What a forward pass returned as y: the first of several, of a list if it is like x."""
    if not isinstance(returned, (tuple, list)) or not returned:
        return returned
    one = isinstance(returned, list) and getattr(returned[0], "shape", None) != x.shape  # of rows
    return returned if one else returned[0]


def as_array(value: Any, name: str) -> np.ndarray[Any, Any]:
    """Return `value` as an array of numbers; Failure if it is none."""
    try:
        array = np.asarray(value)
    except Exception as error:
        raise Failure(f"{name} is not an array: {one_line(error)}") from None
    if array.dtype.kind not in "fiu":
        raise Failure(f"{name} is {_described(value)}, but an array of real numbers was expected")
    return array.astype(np.float64)


def _described(value: Any) -> str:
    if value is None or value is ...:
        return {None: "None", ...: "still a blank (...)"}[value]
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return f"a {type(value).__name__}"


def _details() -> str:
    return traceback.format_exc().rstrip()

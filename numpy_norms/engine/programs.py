"""What comes often: the calls of NumPy that a pass came to, without what chose them.

Where arrays are small, what Python does between two calls of NumPy takes longer than they do, and
in a tile of a large one some hundredths of the time. Over arrays of one kind a pass makes the same
calls every time, unless it asks what is in an array. A `Noted` array writes both down, and a
function is made of what it wrote. Where the answer to such a question is another than it was, the
function gives nothing, and the pass itself is run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, wraps
from types import CodeType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .plans import FEW, Plan

Array = NDArray[Any]
Pass = Callable[..., Any]

METHODS = [
    getattr(np.ndarray, name)
    for name in ("__getitem__", "astype", "copy", "reshape", "swapaxes", "transpose", "view")
]
OFTEN = 16  # times that a kind comes before it is written down, which pays within some 50


class Kind:
    """What calls have in common that differ in the numbers in their arrays."""

    def __init__(self, *_: Any) -> None:
        self.often = self.left = OFTEN
        self.program: Pass | None = None


kind = lru_cache(maxsize=512)(Kind)


def repeated(work: Pass) -> Pass:
    """The pass ``work(plan, *args)`` over one tile, or for a kind that comes often its program.

    Arguments are arrays, or what can be hashed. Only the first array may come again, as one that is
    written to.
    """

    @wraps(work)
    def call(plan: Plan, *args: Any) -> Any:
        if not plan.small:
            return work(plan, *args)
        arrays: list[Array] = []
        key: list[Any] = [work, plan]
        for a in args:
            if type(a) is np.ndarray:
                if arrays and a is arrays[0]:  # to note the pass would be to run it twice
                    return work(plan, *args)
                arrays.append(a)
                a = a.dtype, a.shape, a.strides, a.flags.aligned
            key.append(a)
        here = kind(*key)
        program = here.program
        if program is not None:
            found = program(*arrays)
            if found is not None:
                return found[0]
            here.program = None
        here.left -= 1
        if here.left <= 0:
            here.often *= 4  # where numbers differ that much it pays later, or never
            here.left = here.often
            here.program = _program(work, plan, args)
        return work(plan, *args)

    return call


def _program(work: Pass, plan: Plan, args: tuple[Any, ...]) -> Pass | None:
    """The program of a pass, which is run for notes; None where it cannot be noted."""
    notes = Notes(plan.size)
    try:
        noted = [notes.array(a) if type(a) is np.ndarray else a for a in args]
        inputs = ", ".join(notes.names)
        with np.errstate(all="ignore"):
            result = notes.spelled(work(plan, *noted))
    except Exception:  # of a kind that has no program; what is wrong the pass will raise
        return None
    finally:
        notes.known.clear()  # or the arrays would keep each other
    lines = [*notes.lines, f"return ({result},)"]
    for name in notes.large:  # as soon as it is used up
        last = max(i for i, line in enumerate(lines) if re.search(rf"\b{name}\b", line))
        lines[last] += f"; del {name}"
    buffer = [f"{notes.spelled(np.setbufsize)}({plan.buffer})"] if plan.size > FEW else []
    source = [f"def program({inputs}):", *buffer, *lines]
    exec(_compiled("\n    ".join(source)), notes.constants)
    program: Pass = np.errstate(all="ignore")(notes.constants["program"])
    return program


@lru_cache(maxsize=256)
def _compiled(source: str) -> CodeType:
    """The code of a program, which kinds that differ in shapes alone have in common."""
    return compile(source, "<program>", "exec")


class Notes:
    """The lines of a program, and what its names stand for."""

    def __init__(self, size: int) -> None:
        self.room = max(16 * FEW, size // 4)  # elements of what is known, which takes memory
        self.lines: list[str] = []
        self.names: list[str] = []
        self.constants: dict[str, Any] = {"__name__": __name__}
        self.spellings: dict[int, str] = {}
        self.known: dict[str, tuple[Noted, ...]] = {}
        self.shared: list[Array] = []
        self.large: list[str] = []

    def array(self, a: Array) -> Noted:
        """An array under a name of its own, which will write down what it is used for."""
        noted = a.view(Noted)
        noted.plain, noted.notes, noted.name = a, self, f"a{len(self.names)}"
        self.names.append(noted.name)
        return noted

    def call(self, function: Pass, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """What a function gives, and its line, unless it has only handed on an array."""
        found = function(*map(_plain, args), **{k: _plain(a) for k, a in options.items()})
        spelled = [self.spelled(a) for a in args]
        spelled += [f"{k}={self.spelled(a)}" for k, a in options.items()]
        if function is np.ndarray.__getitem__:
            line = f"{spelled[0]}[{spelled[1]}]"
        elif function in METHODS:
            line = f"{spelled[0]}.{function.__name__}({', '.join(spelled[1:])})"
        else:
            line = f"{self.spelled(function)}({', '.join(spelled)})"
        same = [a for a in args if type(a) is Noted and a.plain is found]
        if found is None or (same and isinstance(function, np.ufunc)):
            self.lines.append(line)
            self.forget(args[0].plain if found is None else found)
        if found is None or same:
            return same[0] if same else None
        if line in self.known:
            self.shared.append(self.known[line][0].plain)
            return self.known[line][0]
        noted = self.array(np.asarray(found))
        self.lines.append(f"{noted.name} = {line}")
        if noted.size > FEW:
            self.large.append(noted.name)
        made_anew = function is np.ndarray.astype or isinstance(function, np.ufunc)
        if made_anew and noted.size <= self.room:
            self.room -= noted.size
            self.known[line] = noted, *[a for a in args if type(a) is Noted]
        return noted

    def forget(self, written: Array) -> None:
        """Know no longer what was made of an array that is written to."""
        if any(np.may_share_memory(a, written) for a in self.shared):
            raise TypeError("an array was written to that stands for two")
        self.known = {
            line: arrays
            for line, arrays in self.known.items()
            if not any(np.may_share_memory(a.plain, written) for a in arrays)
        }

    def asked(self, question: str, answer: bool) -> bool:
        """The answer to a question about an array, on which depends what comes next."""
        self.lines.append(f"if {'not ' if answer else ''}{question}: return None")
        return answer

    def spelled(self, a: Any) -> str:
        """An argument as it stands in a line."""
        if type(a) is Noted:
            return a.name
        if _holds_arrays(a):
            items = "".join(f"{self.spelled(item)}, " for item in a)
            if isinstance(a, list):
                return f"[{items}]"
            return f"{self.spelled(type(a)) if hasattr(a, '_fields') else ''}({items})"
        if isinstance(a, np.ndarray) and a.ndim and a.flags.writeable:
            raise TypeError("an array was made of noted ones without a note")
        if id(a) in self.spellings:
            return self.spellings[id(a)]
        name = f"{getattr(a, '__name__', 'c')}{len(self.constants)}"
        self.constants[name] = a
        return self.spellings.setdefault(id(a), name)


def _holds_arrays(a: Any) -> bool:
    return isinstance(a, tuple | list) and any(
        isinstance(item, np.ndarray) or _holds_arrays(item) for item in a
    )


def _plain(a: Any) -> Any:
    """An argument without notes."""
    return a.plain if type(a) is Noted else a


class Noted(np.ndarray):
    """An array that notes what functions are given it, and what is asked about its numbers."""

    plain: Array
    notes: Notes
    name: str

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **options: Any) -> Any:
        if method == "__call__":
            return self.notes.call(ufunc, args + options.pop("out", ()), options)
        return self.notes.call(getattr(ufunc, method), args, options)

    def __array_function__(self, function: Pass, _: Any, args: Any, options: Any) -> Any:
        return self.notes.call(function, args, options)

    def __bool__(self) -> bool:
        return self.notes.asked(self.name, bool(self.plain))

    def __float__(self) -> float:
        raise TypeError("a number was taken out of an array without a note")

    __complex__ = __index__ = __int__ = item = tolist = __setitem__ = __float__  # type: ignore

    def tobytes(self, *_: Any) -> Any:
        return _Bytes(self)


class _Bytes:
    """The bytes of a noted array, which are asked for one among them."""

    def __init__(self, a: Noted):
        self.a = a

    def __contains__(self, n: int) -> bool:
        answer = n in self.a.plain.tobytes()
        return self.a.notes.asked(f"({n} in {self.a.name}.tobytes())", answer)


def _noting(method: Pass) -> Pass:
    """A method that notes that it was called."""
    return lambda self, *args, **options: self.notes.call(method, (self, *args), options)


for _method in METHODS:
    setattr(Noted, _method.__name__, _noting(_method))

"""Which norms a state holds, by the names and shapes of its arrays."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .. import checks
from .state import flat
from .table import CONVENTIONS, Convention

_ROWS = [c for c in CONVENTIONS if c.framework not in ("paper", "onnx") and c.names]
_STATISTICS = ("running_mean", "running_var")
_FACTOR = "2"  # Caffe's third blob, one number
_OLD = {"pytorch": {"gamma", "beta"}}  # of old transformers
_ALL = {c: {*c.names.values(), *_OLD.get(c.framework, ()), _FACTOR} for c in _ROWS}
_LASTS = set().union(*_ALL.values())

_SAYS_NORM = re.compile(r"norm|rms|(?:^|[._/\d])(?:ln|bn|gn)(?:\d|[._/]|$)", re.IGNORECASE)
_PARTS, _NUMBER = re.compile(r"[./]"), re.compile(r"[._/]\d+$")
_OF_WEIGHTS = re.compile(r"(?:weight|spectral)_?norm", re.IGNORECASE)
_SAYS = {
    "batch_norm": re.compile(r"batch_?norm|(?:^|[._/])bn\d*$", re.IGNORECASE),
    "layer_norm": re.compile(r"layer_normalization|LayerNorm_\d"),
    "group_norm": re.compile(r"group_?norm|(?:^|[._/])gn\d*$", re.IGNORECASE),
    "instance_norm": re.compile(r"instance_?norm|(?:^|[._/])in\d*$", re.IGNORECASE),
    "rms_norm": re.compile(r"rms", re.IGNORECASE),
}
Shapes = Mapping[str, tuple[int, ...]]
Place = tuple[str, str]  # prefix and separator


class FoundNorm(NamedTuple):
    """A norm in a state: ``load(state, framework, prefix, norm=norm, without=missing)`` loads it.

    `framework` is guessed from the names; `shapes` is the shape of each array under our names, and
    `missing` our names of what the norm can have, but not here.
    """

    prefix: str
    norm: str
    framework: str
    shapes: dict[str, tuple[int, ...]]
    missing: tuple[str, ...]


def norms_in(state: Mapping[str, Any], framework: str | None = None) -> list[FoundNorm]:
    """List the norms that a state holds, in the order in which it has them.

    A norm is told by its running statistics, by two arrays of one shape under a framework's names
    of scale and shift, or by one such array and a name that says norm, unless an array of its shape
    lies beside it under an unknown name. Where the prefix does not say which, scale and shift are
    called a layer norm, though it may be a group or instance norm, and a scale alone an RMS norm,
    though it may be a layer norm without shift. A batch norm by its name is one without statistics,
    too: these are `missing`. Frameworks that share names (PyTorch, MLX, candle; Keras, TensorFlow
    1) are one to a guess: pass the framework where it is known.

    Parameters
    ----------
    state : mapping
        Names to arrays, flat or nested. Of what `read_state` reads, arrays of types that NumPy does
        not have are listed, too; `load` says what is needed for them.
    framework : str, optional
        Whose names these are; left out, the one to which most norms and arrays fit; those of which
        the name or a statistic says so count first.

    Returns
    -------
    list of FoundNorm
        prefix, norm, framework, shapes, missing.

    Raises
    ------
    ValueError
        If the framework is unknown.
    TypeError
        If the state is no mapping.

    Examples
    --------
    >>> import numpy as np
    >>> state = {"h.0.ln_1.weight": np.ones(4), "h.0.ln_1.bias": np.zeros(4)}
    >>> (found,) = norms_in(state)
    >>> found.prefix, found.norm, found.framework, found.missing
    ('h.0.ln_1', 'layer_norm', 'pytorch', ())
    """
    known = list(dict.fromkeys(c.framework for c in _ROWS))
    asked = known if framework is None else [checks.choice("framework", framework, known)]
    return max((_norms_of(state, f) for f in asked), key=_fit)[0]


def _norms_of(state: Mapping[str, Any], framework: str) -> tuple[list[FoundNorm], bool]:
    """The norms whose names say so or are joined as the framework does, or all if there are none.

    And whether any is joined as the framework does.
    """
    rows = [row for row in _ROWS if row.framework == framework]
    shapes = {name: _shape_of(a) for name, a, _ in flat(state, framework)}
    groups = _groups(shapes | getattr(state, "unread_shapes", {}))
    found = {place: _norm_of(rows, place[0], group) for place, group in groups.items()}
    every = {place: norm for place, norm in found.items() if norm is not None}
    own = {place: norm for place, norm in every.items() if place[1] in (rows[0].separator, "")}
    sure = [norm for place, norm in every.items() if place in own or _is_said(norm)]
    return sure or list(every.values()), bool(own)


def _fit(found: tuple[list[FoundNorm], bool]) -> tuple[int, ...]:
    """How well a framework fits: by what is said to be a norm, and only then by mere pairs."""
    norms, own = found
    said = [f for f in norms if _is_said(f)]
    whole = sum(not f.missing for f in said)
    return len(said), _arrays(said), own, whole, len(norms), _arrays(norms)


def _is_said(found: FoundNorm) -> bool:
    """Whether its name or a statistic says that it is a norm."""
    return "running_var" in found.shapes or _is_named(found.prefix)


def _arrays(norms: list[FoundNorm]) -> int:
    return sum(len(f.shapes) for f in norms)


def _shape_of(a: Any) -> tuple[int, ...]:
    try:
        return tuple(np.shape(a))
    except ValueError:  # of lists that differ in length, a log in a checkpoint for example
        return ()


def _groups(arrays: Shapes) -> dict[Place, dict[str, tuple[int, ...]]]:
    """The shapes of arrays, by prefix and separator, and by what follows.

    One array beside an unknown one of its shape is no group: it may be a shift by another name.
    """
    groups: dict[Place, dict[str, tuple[int, ...]]] = defaultdict(dict)
    unknown = set()
    for name, shape in arrays.items():
        start = max(name.rfind("."), name.rfind("/")) + 1
        last = _last(name[start:])
        if last:
            rest = name.removesuffix(last)
            groups[rest[:-1], rest[-1:]][last] = shape
        else:
            unknown.add((name[: max(start - 1, 0)], shape))
    return {
        place: group
        for place, group in groups.items()
        if len(group) > 1 or not unknown & {(place[0], shape) for shape in group.values()}
    }


@lru_cache(maxsize=1024)
def _last(part: str) -> str:
    """The longest name of a parameter that the last part of a name ends in."""
    return max((n for n in _LASTS if part == n or part.endswith(f"_{n}")), key=len, default="")


def _norm_of(rows: list[Convention], prefix: str, shapes: Shapes) -> FoundNorm | None:
    """The norm of a framework that these arrays can be, and are best."""
    rows = [row for row in rows if shapes.keys() <= _ALL[row]]
    if not rows:
        return None
    said = next((norm for norm, words in _SAYS.items() if words.search(prefix)), None)
    fits = [(row, _present(row, shapes)) for row in rows if _is(row, prefix, said, shapes)]
    if not fits:
        return None
    row, names = min(fits, key=lambda f: (f[0].norm != said, len(f[0].names) - len(f[1])))
    missing = tuple(ours for ours in row.names if ours not in names)
    found = {ours: shapes[theirs] for ours, theirs in names.items()}
    return FoundNorm(prefix, row.norm, row.framework, found, missing)


def _present(row: Convention, shapes: Shapes) -> dict[str, str]:
    """Our names of a row's parameters that are there, and theirs."""
    names = {ours: theirs for ours, theirs in row.names.items() if theirs in shapes}
    if row.framework == "pytorch" and not names:  # old transformers
        names = {o: o for o in ("gamma", "beta") if o in row.names and o in shapes}
    return names


def _is(row: Convention, prefix: str, said: str | None, shapes: Shapes) -> bool:
    names = _present(row, shapes)
    found = {ours: shapes[theirs] for ours, theirs in names.items()}
    one = set(found.values())
    if len(one) != 1 or () in one or (row.shape == "C" and len(next(iter(one))) != 1):
        return False
    if shapes.keys() - names.values() - {_FACTOR}:
        return False  # it would leave some out
    if row.norm == "batch_norm" and not found.keys() >= set(_STATISTICS):
        return said == row.norm and found.keys() <= {"gamma", "beta"} and "gamma" in found
    if row.framework == "caffe":
        return math.prod(shapes.get(_FACTOR, (0,))) == 1 and not prefix.endswith("/vars")
    pair = found.keys() == {"gamma", "beta"} and len(found["gamma"]) == 1
    if row.norm == "batch_norm" or pair:
        return True
    if len(next(iter(one))) > 1:  # it may be a linear map within a norm, whose name says norm, too
        prefix = _PARTS.split(_NUMBER.sub("", prefix))[-1]
    return "gamma" in found and _is_named(prefix)


def _is_named(prefix: str) -> bool:
    return _SAYS_NORM.search(prefix) is not None and _OF_WEIGHTS.search(prefix) is None

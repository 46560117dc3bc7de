"""The plain kernel of every norm, step by step, so that one step can be replaced by a wrong one.

This is the baseline of the reports and the body of the catalogue's mutants. It shares no line
with the library's own kernels, so that a slip there is not repeated here.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numpy_norms.checks import shown
from numpy_norms.oracle.sets import FEATURE_NORMS

__all__ = [
    "OUTPUTS",
    "SCHEMES",
    "STEPS",
    "Array",
    "Edit",
    "Kernel",
    "Step",
    "View",
    "Work",
    "as_dtype",
    "plain_kernel",
    "worked",
    "worked_again",
]

Array = NDArray[Any]
Kernel = Callable[..., Any]


def as_dtype(dtype: DTypeLike, what: str = "dtype") -> np.dtype[Any]:
    """Return a dtype, bfloat16 among them, which is not NumPy's own.

    Raises
    ------
    TypeError
        If it is none.
    ImportError
        If it is bfloat16, and `ml_dtypes` is not installed.
    """
    if isinstance(dtype, str) and dtype == "bfloat16":
        try:
            dtype = importlib.import_module("ml_dtypes").bfloat16
        except ImportError:
            raise ImportError("bfloat16 arrays need ml_dtypes: pip install ml_dtypes") from None
    try:
        return np.dtype(dtype)
    except (TypeError, ValueError):
        raise TypeError(f"{what} is {shown(dtype)}; pass 'float32', say") from None


@dataclass(frozen=True)
class View:
    """How a norm sees `x`: four axes, those that share statistics, and those of the parameters."""

    shape: tuple[int, int, int, int]
    params: tuple[int, int, int, int]
    over: tuple[int, ...]

    @classmethod
    def of(cls, norm: str, x: tuple[int, ...], gamma: tuple[int, ...], groups: int = 1) -> View:
        """Return the view of an `x` with channels on axis 1, or with `gamma`'s axes last."""
        if norm in FEATURE_NORMS:
            features = math.prod(gamma)
            rows = math.prod(x[: len(x) - len(gamma)])
            return cls((rows, 1, 1, features), (1, 1, 1, features), (3,))
        samples, channels, positions = x[0], x[1], math.prod(x[2:])
        if norm == "group_norm":
            width = channels // groups
            return cls((samples, groups, width, positions), (1, groups, width, 1), (2, 3))
        over = (0, 3) if norm == "batch_norm" else (3,)
        return cls((samples, channels, 1, positions), (1, channels, 1, 1), over)

    @property
    def summed(self) -> tuple[int, ...]:
        """The axes along which gamma and beta were broadcast."""
        return tuple(axis for axis, size in enumerate(self.params) if size == 1)

    @property
    def set_size(self) -> int:
        """The number of positions that share statistics."""
        return math.prod(self.shape[axis] for axis in self.over)

    @property
    def sum_size(self) -> int:
        """The number of terms in one element of dgamma and dbeta."""
        return math.prod(self.shape[axis] for axis in self.summed)


@dataclass
class Work:
    """What one run of a kernel has computed so far, each array on the four-axis view.

    `shape` is that of `x` before it was seen so, `features` the number of axes that gamma has,
    `half` the type of `x` if that has 16 bits, and otherwise float16. `residual` is the part of `x`
    that a kernel is given apart, if there is one.
    """

    norm: str
    view: View
    shape: tuple[int, ...]
    features: int
    half: np.dtype[Any]
    eps: Any
    x: Any
    gamma: Any
    beta: Any
    dy: Any = None
    residual: Any = None
    mean: Any = None
    var: Any = None
    rstd: Any = None
    x_hat: Any = None
    scale: Any = None
    y: Any = None
    dx_hat: Any = None
    centre: Any = None
    projection: Any = None
    dx: Any = None
    dgamma: Any = None
    dbeta: Any = None

    @property
    def centred(self) -> bool:
        """Whether the norm subtracts the mean."""
        return self.norm != "rms_norm"

    def average(self, a: Array) -> Array:
        """Return the mean over each set."""
        over = self.view.over
        return np.asarray(
            np.add.reduce(a, over, keepdims=True) / math.prod([a.shape[i] for i in over])
        )

    def total(self, a: Array) -> Array:
        """Return the sum over the axes along which gamma and beta were broadcast."""
        return np.asarray(np.add.reduce(a, self.view.summed, keepdims=True))


Step = Callable[[Work], Any]
Edit = Callable[[Work, Any], Any]

STEPS: dict[str, Step] = {
    "mean": lambda w: w.average(w.x) if w.centred else np.zeros_like(w.average(w.x)),  # (1)
    "var": lambda w: w.average((w.x - w.mean) ** 2),  # (2)
    "rstd": lambda w: 1 / np.sqrt(w.var + w.eps),  # (3)
    "x_hat": lambda w: (w.x - w.mean) * w.rstd,  # (4)
    "scale": lambda w: w.gamma,
    "y": lambda w: w.scale * w.x_hat + w.beta,  # (5)
    "dbeta": lambda w: w.total(w.dy),  # (6)
    "dgamma": lambda w: w.total(w.dy * w.x_hat),  # (7)
    "dx_hat": lambda w: w.scale * w.dy,  # (8)
    "centre": lambda w: w.average(w.dx_hat) if w.centred else 0,
    "projection": lambda w: w.x_hat * w.average(w.dx_hat * w.x_hat),
    "dx": lambda w: w.rstd * (w.dx_hat - w.centre - w.projection),  # (12), (13)
}
# The steps before it that a step needs.
NEEDED: dict[str, tuple[str, ...]] = {
    "mean": (),
    "var": ("mean",),
    "rstd": ("var",),
    "x_hat": ("mean", "rstd"),
    "scale": (),
    "y": ("x_hat", "scale"),
    "dbeta": (),
    "dgamma": ("x_hat",),
    "dx_hat": ("scale",),
    "centre": ("dx_hat",),
    "projection": ("x_hat", "dx_hat"),
    "dx": ("rstd", "dx_hat", "centre", "projection"),
}
NAMES = tuple(STEPS)
NUMBERS = {name: number for number, name in enumerate(NAMES)}
BLANK = [dict.fromkeys(NAMES[first:]) for first in range(len(NAMES) + 1)]
OUTPUTS = ("y", "dx", "dgamma", "dbeta")  # which no other step needs
FORWARD = ("mean", "var", "rstd", "x_hat", "scale", "y")
SCHEMES: dict[str, dict[str, Edit]] = {  # where they change more than the place of roundings
    "exact": {},
    "llama": {},
    "gemma": {"scale": lambda w, gamma: gamma + 1},
    "onnx": {},
}


def plain_kernel(
    norm: str,
    edits: Mapping[str, Edit] | None = None,
    backward_edits: Mapping[str, Edit] | None = None,
    scheme: str = "exact",
) -> tuple[Kernel, Kernel]:
    """Return `forward` and `backward` of a norm in the form that `check_kernel` takes.

    They compute in the type of `x`, or in float32 where that is narrower.

    Parameters
    ----------
    norm : str
    edits : mapping of str to callable, optional
        What is made of the value of a step, in both passes: ``edit(work, value)``.
    backward_edits : mapping of str to callable, optional
        Likewise in the backward pass alone, in place of those.
    scheme : str
        What the scale is stored as.
    """
    first = SCHEMES.get(scheme, {})
    ahead = dict(edits or {})
    back = ahead | dict(backward_edits or {})

    def forward(*arrays: Any) -> Any:
        work = worked(norm, arrays, None, (first, ahead))
        return _finish(work.y, arrays[0])

    def backward(dy: Any, *arrays: Any) -> Any:
        work = worked(norm, arrays, dy, (first, back))
        like = (arrays[0], arrays[-3], arrays[-2])
        gradients = tuple(map(_finish, (work.dx, work.dgamma, work.dbeta), like))
        return gradients[:2] if norm == "rms_norm" else gradients

    if norm == "rms_norm":
        return (
            lambda x, gamma, eps: forward(x, gamma, np.zeros_like(gamma), eps),
            lambda dy, x, gamma, eps: backward(dy, x, gamma, np.zeros_like(gamma), eps),
        )
    return forward, backward


def worked(
    norm: str, arrays: tuple[Any, ...], dy: Any, edits: Sequence[Mapping[str, Edit]]
) -> Work:
    """Return every step of a pass on (x, gamma, beta, eps), backward where there is a dy."""
    work = _start(norm, arrays, dy)
    with np.errstate(all="ignore"):
        for name in FORWARD if dy is None else NAMES:
            value = STEPS[name](work)
            for chosen in edits:
                value = chosen[name](work, value) if name in chosen else value
            setattr(work, name, value)
    return work


def worked_again(work: Work, edits: Mapping[str, Edit], last: str) -> Work:
    """Return a pass with further edits, up to a step; what they do not reach is as it was.

    It is for the diagnosis, in which NumPy's warnings are off.
    """
    first = min((NUMBERS[name] for name in edits), default=len(NUMBERS))
    again, known = object.__new__(Work), vars(work)
    steps = vars(again)
    steps.update(known)
    steps.update(BLANK[first])
    reached = set(edits)
    for name in NAMES[first : NUMBERS[last] + 1]:
        if name in OUTPUTS and name != last:
            continue
        steps[name] = known[name]
        if not reached.isdisjoint(NEEDED[name]):
            steps[name] = STEPS[name](again)
            reached.add(name)
        if name in edits:
            steps[name] = edits[name](again, steps[name])
    return again


def _start(norm: str, arrays: tuple[Any, ...], dy: Any) -> Work:
    x, *groups, gamma, beta, eps = arrays
    view = View.of(norm, np.shape(x), np.shape(gamma), *groups)
    given = np.asarray(x).dtype
    working = np.result_type(given, np.float32)

    def lift(a: Any, shape: tuple[int, ...]) -> Array:
        return np.asarray(a).astype(working).reshape(shape)

    return Work(
        norm,
        view,
        shape=np.shape(x),
        features=np.ndim(gamma),
        half=given if given.itemsize == 2 else np.dtype(np.float16),
        eps=working.type(eps),
        x=lift(x, view.shape),
        gamma=lift(gamma, view.params),
        beta=lift(beta, view.params),
        dy=None if dy is None else lift(dy, view.shape),
    )


def _finish(a: Array, like: Any) -> Array:
    with np.errstate(all="ignore"):
        shape, dtype = np.shape(like), np.asarray(like).dtype
        return np.asarray(a).reshape(shape).astype(dtype)

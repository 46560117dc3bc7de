"""Checks of arguments: each says what came, what was expected, and the cure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache, reduce
from numbers import Real
from operator import index
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .cache import Cache
from .engine.rounding import is_foreign

Array = NDArray[Any]
Shape = tuple[int, ...]

_NARROW = ("float16", "bfloat16", "float32")
_WIDE = ("float64", "longdouble", "complex128")
_WORK = {"float32": np.float32, "float64": np.float64, "longdouble": np.longdouble}


def array(name: str, a: ArrayLike) -> Array:
    """`a` as a plain array of a dtype that can be normalized."""
    if _is_masked(a):
        raise TypeError(
            f"{name} is a masked array, but masks are given apart; pass {name}.data"
            + (" and where=~x.mask, if the function takes a mask" if name == "x" else "")
        )
    given, a = a, read(name, a)
    if not _is_supported(a.dtype):
        raise TypeError(
            f"{name} has dtype {a.dtype}, but one of {', '.join(_NARROW + _WIDE)} was expected; "
            f"{_cure(name, given, a)}"
        )
    return a


def read(name: str, a: ArrayLike) -> Array:
    """`a` as a plain array of any dtype."""
    try:
        return np.asarray(a)
    except ValueError as error:  # of lists that differ in length
        pair = isinstance(a, tuple) and len(a) == 2 and isinstance(a[1], tuple)
        cure = f"pass {name}[0], without the cache" if pair else "pass lists of one length"
        raise ValueError(f"{name} is no array: {error}; {cure}") from None
    except (RuntimeError, TypeError) as error:  # of tensors that hold more than numbers
        raise TypeError(
            f"{name} is a {type(a).__name__} that NumPy cannot read ({one_line(error)}); "
            f"pass {_numbers_of(name, a)}"
        ) from error


def one_line(error: Exception) -> str:
    """What an exception says, on one line, and not the whole of a long text."""
    return " ".join(str(error).split())[:200]


_ROUTES = (
    "toarray",  # sparse arrays of SciPy; the others are tensors of PyTorch
    "detach.cpu.numpy",
    "detach.cpu.resolve_conj.numpy",
    "detach.cpu.to_dense.numpy",
    "detach.cpu.float.numpy",
    "detach.cpu.to_dense.float.numpy",
)


def _numbers_of(name: str, a: Any) -> str:
    """What makes an array of something that is none: the first route that does."""
    for route in _ROUTES:
        steps = route.split(".")
        if all(hasattr(a, step) for step in steps):
            with suppress(Exception):
                reduce(lambda found, step: getattr(found, step)(), steps, a)
                return name + "".join(f".{step}()" for step in steps)
    return "an array of floats"


def _is_masked(a: Any) -> bool:
    # Not asked of plain arrays: numpy.ma takes many times as long to import as a call.
    return type(a) is not np.ndarray and isinstance(a, np.ma.MaskedArray)


def _cure(name: str, given: Any, a: Array) -> str:
    """What makes an array of a lawful dtype of what was given, and read as `a`."""
    if a.dtype == "V2":  # as NumPy stores it
        return f"pass {name}.view(ml_dtypes.bfloat16), or another of these"
    if a.dtype == object and a.size and type(a.flat[0]).__module__.startswith("autograd"):
        return "autograd follows it; call the function of numpy_norms.autograd"
    is_array, of_objects = isinstance(given, np.ndarray), a.dtype.kind in "OSTU"
    if of_objects and a.ndim == 0 and not is_array:
        return f"it is a {type(given).__name__}; pass {_numbers_of(name, given)}"
    if issubclass(a.dtype.type, np.void):
        return "pass an array of floats"
    lawful = "np.complex128" if a.dtype.kind == "c" else "np.float32"
    made = f"{name}.astype({lawful})" if is_array else f"np.asarray({name}, {lawful})"
    return f"pass {made}, or another of these" + (
        ", if all that it holds are numbers" if of_objects else ""
    )


@lru_cache(maxsize=64)
def _is_supported(dtype: np.dtype[Any]) -> bool:
    floating = dtype.kind == "f" and dtype.itemsize >= 2
    return floating or dtype.name in ("bfloat16", "complex128")


def working_dtype(x: Array, dtype: DTypeLike | None) -> np.dtype[Any]:
    """The dtype to compute in: `dtype`, or float64 for narrower `x` and that of `x` otherwise."""
    if dtype is None:
        return _default_work(x.dtype)
    work = dtype_of(dtype)
    if work not in (np.float32, np.float64, np.longdouble):
        raise TypeError(
            f"dtype is {work}, but arithmetic is done in {', '.join(_WORK)}; pass one of these"
        )
    if x.dtype.kind == "c":
        raise TypeError(
            f"dtype is {work}, but x is {x.dtype}, which is computed in its own type; "
            "leave dtype out"
        )
    return work


def dtype_of(dtype: DTypeLike) -> np.dtype[Any]:
    """What `dtype` stands for, if it does for anything."""
    try:
        return np.dtype(dtype)
    except (TypeError, ValueError):
        raise TypeError(
            f"dtype is {shown(dtype)}, which names no type; pass one of {', '.join(_WORK)}"
        ) from None


@lru_cache(maxsize=64)
def _default_work(dtype: np.dtype[Any]) -> np.dtype[Any]:
    wide = dtype.kind in "fc" and dtype.itemsize >= 8
    return dtype.newbyteorder("=") if wide else np.dtype(np.float64)


def per_channel(
    gamma: ArrayLike | None, beta: ArrayLike | None, c: Shape, x: Array
) -> tuple[Array | None, Array | None]:
    """gamma and beta with one number for each channel of `x`, or None."""
    return of_channels("gamma", gamma, c, x), of_channels("beta", beta, c, x)


def of_channels(name: str, a: ArrayLike | None, c: Shape, x: Array) -> Array | None:
    """An array with one number for each channel of `x`, or None."""
    return None if a is None else given_of_channels(name, a, c, x)


def given_of_channels(name: str, a: ArrayLike, c: Shape, x: Array) -> Array:
    """An array with one number for each channel of `x`, whose channels are on the axes `c`."""
    a = array(name, a)
    channels = tuple([x.shape[axis] for axis in c])
    if a.shape != channels:
        cure = f"pass {name} of shape {channels}"
        if a.ndim == len(c) == 1 and a.size in x.shape:
            elsewhere = -1 if x.shape[-1] == a.size else x.shape.index(a.size)
            cure = f"pass channel_axis={elsewhere} if that is where the channels are"
        of, on = (channels[0], f"axis {c[0]}") if len(c) == 1 else (channels, f"axes {c}")
        raise ValueError(f"{name} has shape {a.shape}, but x has {of} channels on {on}; {cure}")
    real_for_real(name, a, x)
    return a


def per_feature(name: str, a: ArrayLike | None, along: Shape, x: Array) -> Array | None:
    """An array with one number for each index of the axes `along` of `x`, or None."""
    if a is None:
        return None
    a = array(name, a)
    features = tuple([x.shape[axis] for axis in along])
    if a.shape != features:
        raise ValueError(
            f"{name} has shape {a.shape}, but the axes {along} of x, along which it varies, have "
            f"{features}; pass {name} of that shape, or another axis= or feature_axis="
        )
    real_for_real(name, a, x)
    return a


def real_for_real(name: str, a: Array, x: Array, of: str = "x", to: str = "") -> None:
    """Refuse a complex array beside a real `x`, named `of`, whose dtype the results have."""
    if a.dtype.kind == "c" and x.dtype.kind != "c":
        raise TypeError(
            f"{name} is {a.dtype}, but {of} is {x.dtype}, and results have the dtype of {of}; "
            f"pass {of}.astype(np.complex128){to}"
        )


def channel_axis(axis: Any, x: Array, *, least: int = 2) -> int:
    """The channel axis of `x`, counted from the front; `x` has at least `least` axes."""
    if x.ndim < least:
        raise ValueError(
            f"x has shape {x.shape}, but at least {least} axes were expected, a batch axis and a "
            f"channel axis among them; pass np.reshape(x, ...) with {least} or more axes"
        )
    return _axis("channel_axis", axis, x)


def weight_axis(name: str, axis: Any, weight: Array, least: int) -> int:
    """The axis of the output channels of weights, which have at least `least` axes."""
    if weight.ndim < least:
        raise ValueError(
            f"{name} has shape {weight.shape}, but at least {least} axes were expected, that of "
            "the output channels among them; "
            f"pass np.reshape({name}, ...) with {least} or more axes"
        )
    return _axis("channel_axis", axis, weight, name)


def channel_axes(axis: int | Sequence[int], x: Array) -> Shape:
    """The channel axes of `x`, counted from the front, in increasing order."""
    if not isinstance(axis, tuple | list):
        return (channel_axis(axis, x),)
    found = axes(axis, x, name="channel_axis")
    if len(found) == x.ndim:
        raise ValueError(
            f"channel_axis is {axis}, all axes of x, but one of the batch was expected; "
            "leave that out, or pass x[None] and axes that are one further"
        )
    return found


def batch_axis(c: Shape) -> int:
    """The axis of the samples: the first that is not one of the channels."""
    return next(a for a in range(len(c) + 1) if a not in c)


def integers(name: str, value: Any, example: object = -1) -> Any:
    """An int, or a tuple of ints, of Python's own; `example` is an int that fits."""
    if type(value) is int:
        return value
    if isinstance(value, tuple | list):
        return tuple([integers(name, v, example) for v in value])
    return integer(name, value, example, "an integer or a tuple of integers")


def integer(name: str, value: Any, example: object = -1, kind: str = "an integer") -> int:
    """An int of Python's own; `example` is one that fits."""
    if type(value) is int:
        return value
    try:
        if not isinstance(value, bool | np.bool_):
            return index(value)
    except (TypeError, ValueError):  # the latter of a Dask array whose size is not known
        pass
    raise TypeError(
        f"{name} is {shown(value)}, but {kind} was expected; pass {name}={example}, say"
    )


def sizes(name: str, shape: Any) -> Shape:
    """The shape that an int or a sequence of ints gives."""
    several = isinstance(shape, Sequence) and not isinstance(shape, str | bytes)
    found = tuple([integer(name, n, "(2, 3)") for n in (shape if several else (shape,))])
    if any(n < 0 for n in found) or math.prod(max(n, 1) for n in found) >= 1 << 60:
        raise ValueError(f"{name} is {shown(found)}; pass sizes of 0 or more, as x.shape has them")
    return found


def shown(value: object) -> str:
    """A value as an error shows it: on one line, and not the whole of a large one."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python prints no int of so many digits
        return f"one {type(value).__name__} of too many digits to show"
    return text if len(text) <= 60 else f"{text[:50]}..."


def choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """One of a few words."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {shown(value)}; pass one of {', '.join(map(repr, choices))}")
    return value


def integers_or_none(name: str, value: Any) -> Any:
    """An int, a tuple of ints, or None."""
    return None if value is None else integers(name, value)


def axes(axis: int | Sequence[int], x: Array, *, name: str = "axis", of: str = "x") -> Shape:
    """Axes of `x`, counted from the front, in increasing order."""
    if x.ndim == 0:
        raise ValueError(
            f"{of} has no axes, but at least one was expected; pass np.reshape({of}, 1)"
        )
    if isinstance(axis, tuple | list):
        found = sorted([_axis(name, a, x, of) for a in axis])
        if not found:
            raise ValueError(f"{name} is empty, but at least one axis was expected; pass {name}=-1")
        if len(set(found)) < len(found):
            raise ValueError(f"{name} is {axis}, which names an axis twice; name each axis once")
        return tuple(found)
    return (_axis(name, axis, x, of),)


def _axis(name: str, axis: Any, x: Array, of: str = "x") -> int:
    i = integer(name, axis)
    if not -x.ndim <= i < x.ndim:
        raise ValueError(
            f"{name} is {shown(i)}, but {of} of shape {x.shape} has axes {-x.ndim} to "
            f"{x.ndim - 1}; pass one of these"
        )
    return i % x.ndim


def mask(where: ArrayLike, x: Array) -> Array:
    """What counts: booleans that broadcast to `x`."""
    if _is_masked(where):
        raise TypeError(
            "where is a masked array, whose own mask says that some of it is not known; pass "
            "where.filled(False), which leaves that out"
        )
    given, where = where, read("where", where)
    if where.dtype != np.bool_:
        name = "where" if isinstance(given, np.ndarray) else "np.asarray(where)"
        cure = "an array of booleans"
        if where.dtype.kind in "iuf":
            lengths = f"np.arange(n) < {name}[:, None] if it holds lengths up to n"
            cure = f"{name} != 0 if all but 0 count, or {lengths}"
        raise TypeError(
            f"where has dtype {where.dtype}, but booleans were expected, True where an element "
            f"counts; pass {cure}"
        )
    try:
        np.broadcast_to(where, x.shape)
    except ValueError:
        raise ValueError(
            f"where has shape {where.shape}, which does not broadcast to that of x, {x.shape}; "
            "pass it with axes of length 1 where it does not vary, where[:, None], say"
        ) from None
    return where


def none_empty(empty: Array | None) -> None:
    """Refuse a channel in which nothing counts; of all channels, whether it is so."""
    if empty is not None:
        channel = ", ".join(map(str, np.argwhere(empty)[0]))
        raise ValueError(
            f"where is False for all of channel {channel}, which leaves it without statistics; "
            "let an element of each channel count, or leave the channel out of x"
        )


def number_of_groups(num_groups: int, channels: int) -> int:
    """A number of groups that divides the channels."""
    groups = integer("num_groups", num_groups, 1)
    if groups < 1 or channels % groups:
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        raise ValueError(
            f"num_groups is {shown(groups)}, which does not divide the {channels} channels of x; "
            f"pass one of {divisors if len(divisors) < 20 else 'its divisors'}"
        )
    return groups


def number(name: str, value: Any, example: object = 1e-5) -> float:
    """A real number as a float; `example` is one that fits."""
    if type(value) is float:
        return value
    # bfloat16's numbers are no Real of Python's; a timedelta64 is one of NumPy's.
    foreign = isinstance(value, np.generic) and is_foreign(value.dtype)
    no_number = isinstance(value, bool | np.timedelta64)
    if no_number or not (foreign or isinstance(value, Real)):
        raise TypeError(
            f"{name} is {shown(value)}, but a real number was expected; pass {name}={example}"
        )
    try:
        return float(value)
    except OverflowError:
        raise ValueError(
            f"{name} is {shown(value)}, beyond the range of float64; pass {name}={example}"
        ) from None


def epsilon(eps: float) -> float:
    """A finite eps of at least 0."""
    if type(eps) is float and 0 <= eps < math.inf:
        return eps
    value = number("eps", eps)
    if not 0 <= value < math.inf:
        raise ValueError(f"eps is {value}, but a finite number >= 0 was expected; pass eps=1e-5")
    return value


def statistic(name: str, a: ArrayLike, shape: Shape) -> Array:
    """A statistic with one number for each channel."""
    a = array(name, a)
    if a.shape != shape:
        channels = shape[0] if len(shape) == 1 else shape
        raise ValueError(
            f"{name} has shape {a.shape}, but there are {channels} channels; "
            f"pass {name} of shape {shape}"
        )
    return a


def variance(name: str, a: ArrayLike, shape: Shape) -> Array:
    """A variance for each channel."""
    return not_negative(name, statistic(name, a, shape))


def not_negative(name: str, a: Array) -> Array:
    """A variance for each channel, none of them negative."""
    with np.errstate(invalid="ignore"):  # of bfloat16's NaN
        negative = a.real < 0
    if negative.any():
        i = int(np.flatnonzero(negative)[0])
        raise ValueError(
            f"{_entry(name, a, i)}, but a variance is at least 0; pass the variance, "
            f"not its logarithm; if eps was subtracted before it was stored, pass {name} + eps, "
            "and eps=0"
        )
    return a


def _entry(name: str, a: Array, i: int) -> str:
    channel = ", ".join(map(str, np.unravel_index(i, a.shape)))
    return f"{name} is {a.flat[i]} for channel {channel}"


def finite(name: str, a: Array) -> Array:
    """A running statistic without NaN or inf, which no inference can use."""
    with np.errstate(invalid="ignore"):  # of bfloat16's NaN
        wrong = np.flatnonzero(~np.isfinite(a))
    if wrong.size:
        i = int(wrong[0])
        cure = "load a checkpoint from before training diverged"
        if a.dtype == np.float16 and np.isinf(a.flat[i]):
            cure = "float16 ends at 65504, and it overflowed: store it as float32"
        raise ValueError(f"{_entry(name, a, i)}, but a finite number was expected; {cure}")
    return a


def output(out: Array, x: Array, **others: Array | None) -> None:
    """An array to write to: of the shape and dtype of `x`, and `x` itself or apart from it."""
    if not isinstance(out, np.ndarray) or _is_masked(out):
        raise TypeError(
            f"out is a {type(out).__name__}, but an ndarray was expected; pass out=np.empty_like(x)"
        )
    dtype = x.dtype.newbyteorder("=")
    if out.dtype != dtype:
        raise TypeError(
            f"out has dtype {out.dtype}, but y has {dtype}; "
            f"pass out=np.empty(x.shape, {dtype.name!r})"
        )
    if out.shape != x.shape:
        raise ValueError(
            f"out has shape {out.shape}, but y has {x.shape}; pass out=np.empty_like(x)"
        )
    if _overlaps_itself(out):
        raise ValueError("out has elements that share memory; pass out=np.empty(x.shape, x.dtype)")
    if not out.flags.writeable:
        raise ValueError("out is read-only, but y is written to it; pass a writeable array")
    if not same_memory(out, x) and _overlap(out, x):
        raise ValueError("out overlaps x in part; pass x itself, or an array apart from it")
    for name, other in others.items():
        if other is not None and _overlap(out, other):
            raise ValueError(f"out overlaps {name}; pass an array apart from it")


def same_memory(a: Array, b: Array) -> bool:
    """Whether two arrays are the same elements, one by one."""
    place = a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
    return place and a.strides == b.strides and a.dtype == b.dtype and a.shape == b.shape


def _overlaps_itself(a: Array) -> bool:
    """Whether two elements share memory, as only strides that somebody sets can have them do."""
    steps = sorted((abs(s), n) for s, n in zip(a.strides, a.shape, strict=True) if n > 1)
    reach = a.itemsize
    for stride, n in steps:
        if stride < reach:
            break
        reach += stride * (n - 1)
    else:
        return False
    if a.size == 0:
        return False
    places = np.zeros((), np.int64)
    for stride, n in steps:
        places = np.add.outer(places, stride * np.arange(n))
    return bool((np.diff(np.sort(places, axis=None)) < a.itemsize).any())


_SEARCH: Any = 10_000  # steps after which two strided views count as overlapping


def _overlap(a: Array, b: Array) -> bool:
    try:
        return np.may_share_memory(a, b) and np.shares_memory(a, b, max_work=_SEARCH)
    except np.exceptions.TooHardError:
        return True


def made_by(norm: str, kind: type, cache: Any) -> None:
    """Refuse what is no cache of the kind that `norm` makes."""
    if not isinstance(cache, kind):
        raise TypeError(
            f"cache is a {type(cache).__name__}, but the cache of {norm}_forward was expected; "
            f"pass dy first and then what {norm}_forward returned second"
        )


def upstream(dy: ArrayLike, cache: Cache, norm: str) -> tuple[Array, Array]:
    """The gradient of y for a cache that `norm` has made, and x."""
    if type(cache) is not Cache:
        made_by(norm, Cache, cache)
    if cache.norm != norm:
        raise ValueError(
            f"cache comes from {cache.norm}_forward, but {norm}_backward was called; "
            f"call {cache.norm}_backward"
        )
    x, plan = cache.x, cache.plan
    if (
        type(dy) is type(x) is np.ndarray
        and dy.shape == x.shape
        and x.size == plan.size
        and dy.dtype == x.dtype == plan.x
        and x.dtype.kind != "c"
    ):
        return dy, x
    x = own_input(cache)
    if x.dtype.kind == "c":
        complex_parameters(cache, x)
    return gradient("dy", dy, x), x


def own_input(cache: Any) -> Array:
    """The x that `cache` refers to."""
    if not isinstance(cache, Cache):
        raise TypeError(
            f"cache is a {type(cache).__name__}, but that of one of the five norms was expected; "
            "pass what batch_norm_forward, say, returned second"
        )
    x, plan = cache.x, cache.plan
    if x is None:
        raise ValueError(
            "x was overwritten by out=, and its gradient needs it; "
            "run the forward pass with an out apart from x"
        )
    if not (type(x) is np.ndarray and x.size == plan.size and x.dtype == plan.x):
        came = f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray) else f"a {type(x).__name__}"
        raise ValueError(
            f"cache.x was replaced by {came}, but {plan.size} numbers of {plan.x} were normalized; "
            f"call {cache.norm}_forward with the new x, and pass the cache that it returns"
        )
    return x


@overload
def like(name: str, a: ArrayLike, of: str, argument: Array) -> Array: ...
@overload
def like(name: str, a: ArrayLike | None, of: str, argument: Array | None) -> Array | None: ...
def like(name: str, a: ArrayLike | None, of: str, argument: Array | None) -> Array | None:
    """A tangent or cotangent of an argument, which has its shape."""
    if a is None:
        return None
    if argument is None:
        raise ValueError(f"{name} was given, but the norm had no {of}; leave {name} out")
    a = array(name, a)
    if a.shape != argument.shape:
        raise ValueError(
            f"{name} has shape {a.shape}, but {of} has {argument.shape}; "
            f"pass an array of the shape of {of}"
        )
    real_for_real(name, a, argument, of, " to the forward pass")
    return a


def complex_parameters(cache: Cache, x: Array) -> None:
    """Refuse real parameters of a complex `x`, whose gradients are complex."""
    names = "gamma", "beta", "running_mean", "running_var"
    for name, a in zip(names, (cache.gamma, cache.beta, *(cache.given or ())), strict=False):
        if a is not None:
            complex_for_complex(name, a, x)


def complex_for_complex(name: str, a: Array, x: Array, of: str = "x") -> None:
    """Refuse a real parameter of a complex `x`, named `of`, whose gradient is complex."""
    if x.dtype.kind == "c" and a.dtype.kind != "c":
        raise TypeError(
            f"{name} is {a.dtype}, but {of} is {x.dtype}, so that its gradient is complex; "
            f"pass {name}.astype(np.complex128) to the forward pass"
        )


def gradient(name: str, d: ArrayLike, x: Array, of: str = "x") -> Array:
    """The gradient of a result that has the shape and dtype of x, which is named `of`."""
    d = array(name, d)
    if d.shape != x.shape:
        y = name[1:]
        raise ValueError(
            f"{name} has shape {d.shape}, but {y} has {x.shape}; pass the gradient of {y}, "
            f"np.broadcast_to({name}, {y}.shape) if it is constant"
        )
    real_for_real(name, d, x, of, " to the forward pass")
    return d

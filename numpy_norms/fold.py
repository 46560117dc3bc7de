"""Batch norm folded into the linear map before or after it, for inference."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import checks
from .engine.parts import Index, parts
from .engine.rounding import native, round_to
from .engine.threads import in_threads
from .fold_layouts import Side, View, fitting, view_of, words_of

Array = NDArray[Any]


def fold_batch_norm(
    weight: ArrayLike,
    bias: ArrayLike | None,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    axis: int | None = None,
    layout: str | None = None,
) -> tuple[Array, Array]:
    """Fold a batch norm into the linear layer or convolution that feeds it.

    At inference batch norm is a factor and a summand per channel, which the parameters take over::

        scale  = gamma / sqrt(running_var + eps)
        weight = weight * scale                        along the output channels
        bias   = (bias - running_mean) * scale + beta

    Computed in float64 (longdouble if `weight` is), rounded once. Exact with any padding.

    Parameters
    ----------
    weight : ndarray of floats
        In the shape that `layout` names, or with its output channels on `axis`.
    bias, running_mean, running_var, gamma, beta : ndarray, shape (C,)
        None stands for a bias of 0, a gamma of 1, a beta of 0.
    eps : float, default 1e-5
        That of the batch norm (Keras: 1e-3).
    axis : int, optional
        Where `weight` has its output channels. Without `axis` and `layout` it is 0, PyTorch's
        linear layers and convolutions, even if another axis has C elements too. With ``axis=1`` the
        weight may be PyTorch's of a transposed convolution in groups, read off the shapes.
    layout : str, optional
        How a framework lays out this weight, in place of `axis`:

        ============================== ====================================================
        pytorch-linear                 ``(C, inputs)``
        pytorch-conv                   ``(C, inputs / groups, *kernel)``
        pytorch-conv-transpose         ``(inputs, C / groups, *kernel)``
        keras-dense                    ``(inputs, C)``
        keras-conv                     ``(*kernel, inputs / groups, C)``
        keras-conv-transpose           ``(*kernel, C, inputs)``
        keras-depthwise-conv           ``(*kernel, inputs, multiplier)``
        flax-dense                     ``(inputs, C)``
        flax-conv                      ``(*kernel, inputs / groups, C)``
        flax-conv-transpose            ``(*kernel, inputs, C)``
        flax-conv-transpose-kernel     ``(*kernel, C, inputs)``, with transpose_kernel=True
        ============================== ====================================================

        Each has been tried against its framework.

    Returns
    -------
    weight, bias : ndarray
        New arrays, each with the dtype of its argument; a new bias has that of `weight`.

    Raises
    ------
    ValueError
        If a shape does not fit, a running statistic is not finite or a variance negative, or a
        folded value exceeds the range of its dtype.
    TypeError
        If a dtype is: integers, booleans, objects and masked arrays are refused.

    Examples
    --------
    >>> import numpy as np
    >>> fold_batch_norm(np.array([[2.0, 4.0]]), None, np.array([1.0]), np.array([3.0]), eps=1.0)
    (array([[1., 2.]]), array([-0.5]))
    """
    weight = checks.array("weight", weight)
    work = checks.working_dtype(weight, None)
    norm = _Norm(weight, running_mean, running_var, gamma, beta, eps)
    view = _view(weight, axis, layout, "o", norm.channels)
    out, b = _bias(bias, weight, (norm.channels,))
    with np.errstate(all="ignore"):
        shift = (b.astype(work) - norm.mean) * norm.scale + norm.beta
        folded = _multiplied(weight, view, view.along("o", norm.scale))
        sound = norm.sound & np.isfinite(b)
        return folded, _rounded("bias", shift, out.dtype, sound, absent=bias is None)


def fold_batch_norm_into_next(
    weight: ArrayLike,
    bias: ArrayLike | None,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    layout: str = "pytorch-conv",
    padding: bool = False,
) -> tuple[Array, Array]:
    """Fold a batch norm into the linear layer or convolution that comes after it.

    At inference batch norm is a factor and a summand per channel, which the next map takes over::

        scale  = gamma / sqrt(running_var + eps)
        shift  = beta - running_mean * scale
        weight = weight * scale                         along the input channels
        bias   = bias + sum of weight * shift           over all but the output channels

    Computed in float64 (longdouble if `weight` is), rounded once. Nothing may stand between the
    two, an activation least of all. **With zeros as padding it is not exact**: at the borders the
    norm's shift is missing where it was not in the sum. So it is with a transposed convolution,
    whose elements are sums of different parts of the kernel.

    Parameters
    ----------
    weight : ndarray of floats
        In the shape that `layout` names.
    bias : ndarray or None
        One number for each output of the map; None stands for 0.
    running_mean, running_var, gamma, beta : ndarray, shape (C,)
        C is the number of inputs of the map. None stands for a gamma of 1, a beta of 0.
    eps : float, default 1e-5
        That of the batch norm (Keras: 1e-3).
    layout : str, default "pytorch-conv"
        How a framework lays out this weight, as in `fold_batch_norm`, with C inputs. The default
        is right for PyTorch's linear layers, too.
    padding : bool, default False
        Whether the convolution pads its input with zeros. True is refused unless all shifts are 0.

    Returns
    -------
    weight, bias : ndarray
        New arrays, each with the dtype of its argument; a new bias has that of `weight`.

    Raises
    ------
    ValueError
        If it would not be exact; and as `fold_batch_norm`.
    TypeError
        If a dtype is: integers, booleans, objects and masked arrays are refused.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_norms import fold_batch_norm_into_next
    >>> weight, mean, var = np.array([[2.0, 4.0]]), np.array([1.0, 0.0]), np.array([3.0, 0.0])
    >>> fold_batch_norm_into_next(weight, None, mean, var, eps=1.0)
    (array([[1., 4.]]), array([-1.]))
    """
    weight = checks.array("weight", weight)
    if not isinstance(padding, int | np.bool_) or padding not in (0, 1):
        raise TypeError(
            f"padding is {checks.shown(padding)}; pass True where zeros are put around, or False"
        )
    words_of(layout)  # None names none
    norm = _Norm(weight, running_mean, running_var, gamma, beta, eps)
    view = _view(weight, None, layout, "i", norm.channels)
    with np.errstate(all="ignore"):
        shift = norm.beta - norm.mean * norm.scale
        _check_exact(shift, layout, padding)
        wide = weight.astype(norm.scale.dtype).reshape(view.shape)
        sums = view.sum_per_output(wide * view.along("i", shift))
        out, b = _bias(bias, weight, sums.shape)
        folded = _multiplied(weight, view, view.along("i", norm.scale))
        sound = norm.sound.all() & np.isfinite(weight).all() & np.isfinite(b)
        sums += b.astype(sums.dtype)
        return folded, _rounded("bias", sums, out.dtype, sound, absent=bias is None)


class _Norm:
    """A trained batch norm: what was given, checked, in the type to compute in."""

    def __init__(
        self,
        weight: Array,
        running_mean: ArrayLike,
        running_var: ArrayLike,
        gamma: ArrayLike | None,
        beta: ArrayLike | None,
        eps: float,
    ):
        work = checks.working_dtype(weight, None)
        shape = _channels(checks.array("running_mean", running_mean).shape)
        self.channels = shape[0]
        mean = checks.finite("running_mean", checks.statistic("running_mean", running_mean, shape))
        var = checks.finite("running_var", checks.variance("running_var", running_var, shape))
        gamma = np.ones(shape) if gamma is None else checks.statistic("gamma", gamma, shape)
        beta = np.zeros(shape) if beta is None else checks.statistic("beta", beta, shape)
        given = {"running_mean": mean, "running_var": var, "gamma": gamma, "beta": beta}
        for name, a in given.items():
            checks.real_for_real(name, a, weight, "weight")
        with np.errstate(all="ignore"):
            wide = var.astype(work) + checks.epsilon(eps)
            _check_divisor(wide)
            self.mean, self.beta = mean.astype(work), beta.astype(work)
            self.scale: Array = gamma.astype(work) / np.sqrt(wide)
            self.sound = np.isfinite(gamma) & np.isfinite(beta)
            if (np.isfinite(gamma) & ~np.isfinite(self.scale)).any():
                raise ValueError(
                    f"gamma / sqrt(running_var + eps) is beyond the range of {work}; "
                    "run the norm by itself"
                )


def _bias(bias: ArrayLike | None, weight: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """What says the dtype of the new bias, and the bias, or zeros."""
    if bias is None:
        return weight, np.zeros(shape)
    a = checks.statistic("bias", bias, shape)
    checks.real_for_real("bias", a, weight, "weight")
    checks.real_for_real("weight", weight, a, "bias")
    return a, a


def _channels(shape: tuple[int, ...]) -> tuple[int]:
    if len(shape) != 1:
        raise ValueError(
            f"running_mean has shape {shape}, but one number for each channel was expected; "
            "pass running_mean of shape (C,)"
        )
    return shape


def _check_divisor(divisor: Array) -> None:
    wrong = np.flatnonzero(divisor == 0)
    if wrong.size:
        raise ValueError(f"running_var + eps is 0 for channel {wrong[0]}; pass eps > 0")


def _check_exact(shift: Array, layout: str, padding: bool) -> None:
    if not shift.any():
        return
    if "transpose" in layout:
        raise ValueError(
            "after a batch norm that shifts, a transposed convolution cannot take it over: its "
            "elements are sums of different parts of the kernel; run the norm by itself"
        )
    if padding:
        raise ValueError(
            "with zeros as padding the result would be wrong at the borders, where the norm's "
            "shift is missing; run the norm by itself, or pad each channel of its input with what "
            "it takes to 0, running_mean - beta / gamma * sqrt(running_var + eps), and pass "
            "padding=False"
        )


def _view(weight: Array, axis: int | None, layout: str | None, side: Side, channels: int) -> View:
    kind = {"o": "output", "i": "input"}[side]
    if layout is not None:
        if axis is not None:
            shown = checks.shown(axis), checks.shown(layout)
            raise ValueError(f"axis is {shown[0]} and layout {shown[1]}; pass one of the two")
        view = view_of(weight, words_of(layout), side, channels)
        said = f"which as {layout!r} has other {kind} channels than running_mean, {channels}"
    else:
        at = 0 if axis is None else checks.integer("axis", axis, 0)
        (at,) = checks.axes(at, weight, of="weight")
        words = ["o" if i == at else "s" for i in range(weight.ndim)]
        view = view_of(weight, words, side, channels)
        if view is None and at == 1:
            view = view_of(weight, words_of("pytorch-conv-transpose"), side, channels)
        here = weight.shape[at]
        said = f"so {here} {kind} channels on axis {at}, but running_mean has {channels}"
    if view is None:
        names = ", ".join(map(repr, fitting(weight, side, channels)))
        cure = f"pass the layout it has: of {names}" if names else "look for a mix-up of layers"
        raise ValueError(f"weight has shape {weight.shape}, {said}; {cure}")
    return view


def _multiplied(weight: Array, view: View, scale: Array) -> Array:
    """`weight`, seen as `view`, times a scale that broadcasts against it."""
    result = np.empty(weight.shape, native(weight.dtype))
    source, target = weight.reshape(view.shape), result.reshape(view.shape)
    scale = np.broadcast_to(scale, view.shape)

    def visit(part: Index) -> None:
        with np.errstate(all="ignore"):
            product = source[part].astype(scale.dtype) * scale[part]
            sound = np.isfinite(source[part]) & np.isfinite(scale[part])
            target[part] = _rounded("weight", product, weight.dtype, sound)

    in_threads(visit, parts(view.shape))
    return result


def _rounded(
    name: str, a: Array, dtype: np.dtype[Any], sound: Any, *, absent: bool = False
) -> Array:
    """Refuse what leaves the range though all that it is made of is `sound`."""
    result = round_to(a, dtype)
    wrong = sound & ~np.isfinite(result)
    if wrong.any():
        size = np.abs(a[wrong]).max()
        holds = [t for t in ("float32", "float64") if size <= np.finfo(t).max]
        given = f"a {name} of np.zeros({a.size})" if absent else name
        cure = f"pass {given}.astype(np.{holds[0]})" if holds else "run the norm by itself"
        raise ValueError(f"the folded {name} reaches {size:.3g}, which {dtype} cannot hold; {cure}")
    return result

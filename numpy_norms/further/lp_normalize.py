"""L_p normalization: every set divided by its p-norm."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import checks
from ..engine.plans import Asked, Plan, Region, nothing, plan_for
from ..engine.threads import in_threads
from ..engine.tiles import Steps, Tile, as_found, run
from ..layer_norm import layout

Array = NDArray[Any]
EpsPlace = Literal["max", "outside", "inside"]

# Powers between these are within range of whatever they are taken, while ratios may have left it.
APART = -0.95, 0.1


class LpCache(NamedTuple):
    """What `lp_normalize_backward` needs; made by the forward pass."""

    x: Array
    p: float
    eps: float
    eps_place: EpsPlace
    plan: Plan

    def __repr__(self) -> str:
        x, p, eps, place, _ = self
        shown = f"x {x.dtype.name} {x.shape}, p {p:g}, eps {eps:g} {place}"
        return f"<cache of lp_normalize: {shown}>"


def lp_normalize_forward(
    x: ArrayLike,
    *,
    p: float = 2.0,
    axis: int | Sequence[int] = -1,
    eps: float = 1e-12,
    eps_place: EpsPlace = "max",
    dtype: DTypeLike | None = None,
) -> tuple[Array, LpCache]:
    """Divide each set by its p-norm, or by eps where the norm is smaller.

    Over A = `axis`, with `eps_place` "max", "outside" or "inside"::

        y = x / max(n, eps)      n = (sum over A of |x|**p) ** (1/p)
        y = x / (n + eps)
        y = x / (sum over A of |x|**p + eps) ** (1/p)

    ``p = inf`` and ``-inf`` are the largest and smallest absolute value, ``p = 0`` the number of
    elements that are not zero. With ``eps=0`` (ONNX) a set whose norm is 0 gives zeros.

    Parameters
    ----------
    x : ndarray
        Of any shape with at least one axis.
    p : float, default 2
        Any real number, inf and -inf included.
    axis : int or sequence of ints, default -1
        The axes that share a norm (PyTorch's default is 1, ONNX' is -1).
    eps : float, default 1e-12
        The smallest divisor, or what is added; in units of x, and inside of x to the power of p.
    eps_place : {"max", "outside", "inside"}, default "max"
        PyTorch has "max", Chainer "outside". For "inside", `p` is finite and not 0.
    dtype : dtype, optional
        The type to compute in; float64 if `x` is narrower, and otherwise that of `x`.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`
    cache : LpCache
        For `lp_normalize_backward`.

    Raises
    ------
    ValueError
        If `p` is NaN, or `axis`, `eps` or `eps_place` is out of range.
    TypeError
        If `x` is no array of floats, or an option no number.

    References
    ----------
    ONNX, operator LpNormalization, opset 22; the (P) equations of ``docs/further_norms.md``.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = lp_normalize_forward(np.array([[3.0, -4.0], [0.0, 0.0]]))
    >>> y
    array([[ 0.6, -0.8],
           [ 0. ,  0. ]])
    """
    x = checks.array("x", x)
    p = checks.number("p", p, 2)
    if np.isnan(p):
        raise ValueError("p is nan; pass a real number, such as 2, 1 or np.inf")
    _check_place(eps_place, p)
    sets = layout(x, None, None, checks.integers("axis", axis))._replace(along=())
    plan = plan_for(sets, checks.working_dtype(x, dtype), x.dtype, Asked(means=False))
    eps, y = checks.epsilon(eps), plan.result_like(x)
    run(_forward, plan, (x, y), (), _extremes(plan, x, p, 2), p, eps, eps_place, slots=2)
    return y, LpCache(x, p, eps, eps_place, plan)


def lp_normalize_backward(dy: ArrayLike, cache: LpCache) -> Array:
    """Return dx for the gradient `dy` of ``y``.

    Over A = the axes of the forward pass, with D what x was divided by and u = dD/dx::

        dx = (dy - u * sum over A of dy * y) / D
        dx = dy / eps                                 where D = eps, so at x = 0
        dx = 0                                        where n = eps = 0

    Where the norm has no derivative, it is PyTorch's choice: u = 0 at an element that is 0, and
    equal shares among the elements that attain the maximum (``p = inf``) or minimum.

    Parameters
    ----------
    dy : ndarray
        Gradient of the loss with respect to ``y``, of its shape.
    cache : LpCache
        From `lp_normalize_forward`.

    Returns
    -------
    dx : ndarray
        Shape and dtype of ``x``.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = lp_normalize_forward(np.array([[3.0, -4.0], [0.0, 0.0]]), eps=0.5)
    >>> lp_normalize_backward(np.array([[1.0, 0.0], [1.0, 0.0]]), cache)
    array([[0.128, 0.096],
           [2.   , 0.   ]])
    """
    checks.made_by("lp_normalize", LpCache, cache)
    dy = checks.gradient("dy", dy, cache.x)
    x, p, eps, eps_place, plan = cache
    dx = plan.result_like(dy)
    run(_backward, plan, (x, dy, dx), (), _extremes(plan, x, p, 3), p, eps, eps_place, slots=3)
    return dx


def _forward(
    tile: Tile, x_view: Array, y_view: Array, p: float, eps: float, place: EpsPlace
) -> Steps:
    plan = tile.plan

    def reduce(extreme: Any) -> Any:
        x = tile.lift(x_view, into=y_view)
        if tile.E is nothing:  # the norms are known
            return (x, extreme), (None,), ()
        powers, extreme = _powers(plan, x.now, np.empty_like(x.now, order="C"), extreme, p)
        return (x, extreme), (tile.E(powers),), ()

    def apply(x: Any, extreme: Any, _: Any, mean_power: Any) -> None:
        divisor = _divisor(plan, extreme, mean_power, p, eps, place)
        x.now = np.divide(x.now, plan.spread(divisor.scale), x.place)
        x.now = np.divide(x.now, plan.spread(divisor.root), x.place)  # (P2)
        tile.store(x, y_view)

    return Steps(reduce, as_found, apply)


def _backward(
    tile: Tile, x_view: Array, dy_view: Array, dx_view: Array, p: float, eps: float, place: EpsPlace
) -> Steps:
    plan = tile.plan

    def reduce(extreme: Any) -> Any:
        z = tile.lift(x_view)
        powers, extreme = _powers(plan, z.now, np.empty_like(z.now, order="C"), extreme, p)
        z.now = np.divide(z.now, plan.spread(_scale(extreme, p)), z.place)
        dy = tile.lift(dy_view, into=dx_view)
        return (dy, powers, extreme), (tile.E(powers), tile.E(dy, z)), ()

    def apply(dx: Any, powers: Any, extreme: Any, *numbers: Any) -> None:
        _, mean_power, mean_dy_z = numbers
        divisor = _divisor(plan, extreme, mean_power, p, eps, place)
        through_n, rest = _slope(plan, tile.lift(x_view).now, powers.now, extreme, p)  # (P3)
        share = mean_dy_z / divisor.mean_power / rest  # (P6)
        root, scale = plan.spread(divisor.root), plan.spread(divisor.scale)
        through_n *= plan.spread(share / divisor.root)
        np.copyto(through_n, 0, where=plan.spread(divisor.constant))
        dx.now = np.divide(dx.now, root, dx.place)
        dx.now = np.subtract(dx.now, through_n, dx.place)  # (P4), (P5)
        dx.now = np.divide(dx.now, scale, dx.place)
        tile.store(dx, dx_view)

    return Steps(reduce, as_found, apply)


def _check_place(eps_place: str, p: float) -> None:
    if not isinstance(eps_place, str) or eps_place not in ("max", "outside", "inside"):
        raise ValueError(
            f"eps_place is {checks.shown(eps_place)}; pass 'max' (PyTorch), 'outside' (Chainer) or "
            "'inside'"
        )
    if eps_place == "inside" and (p == 0 or np.isinf(p)):
        raise ValueError(
            f"p is {p}, whose norm is no root of a sum that eps could be inside; "
            "pass eps_place='outside'"
        )


class _Divisor(NamedTuple):
    """What sets are divided by, ``scale * root``, which may leave the range."""

    scale: Array
    root: Array
    constant: Array  # whether it does not vary with x
    mean_power: Array  # what E[dy z] is divided by


def _divisor(
    plan: Plan, extreme: Array, mean_power: Array, p: float, eps: float, place: EpsPlace
) -> _Divisor:
    m = max(1, plan.m)
    scale = _scale(extreme, p)
    constant = np.full_like(scale, p == 0, bool)
    known = scale != extreme  # an extreme that is 0, infinite or NaN is the norm
    if p == 0:
        root = m * mean_power
    else:
        mean_power = mean_power / _rest(scale, p)
        sum_power = m * mean_power
        if place == "inside" and eps:
            eps_power = eps / scale.astype(plan.few, copy=False) ** p
            mean_power = mean_power + eps_power / m
            # In units of the larger of the two, so that no power leaves the range.
            larger = eps_power.real > 1
            sum_power = np.where(larger, sum_power / eps_power + 1, sum_power + eps_power)  # (P8)
            scale = np.where(larger, plan.number(eps) ** (1 / plan.number(p)), scale)
            known &= (extreme != 0) | (p < 0)
        root = sum_power ** (1 / np.array(p, scale.dtype))  # (P1)
        root = np.where(known, extreme, root)
    if place == "max":
        below = (scale * root).real < eps
        scale, root = np.where(below, eps, scale), np.where(below, 1, root)
        constant = constant | below
    elif place == "outside":
        unit = np.where(scale.real < eps, eps, scale)
        norm = root * (scale / unit)
        scale, root, constant = unit, norm + eps / unit, constant | (norm == 0)  # (P7)
        mean_power = mean_power * (root / norm)
    zero = (extreme == 0) & (root == 0)  # where all is 0; a root may vanish for want of range
    scale, root = np.where(zero, np.inf, scale), np.where(zero, 1, root)
    return _Divisor(scale, root, constant | zero, mean_power)


def _powers(plan: Plan, x: Array, place: Array, extreme: Any, p: float) -> tuple[Any, Array]:
    """|x / e|**p, still to be divided by `_rest`; and e, the extreme of each set."""
    size = _size(x, place)
    if extreme is None:
        choose, first = _choice(p)
        extreme = choose.reduce(size, axis=plan.over, keepdims=True, initial=first)
    if p == 0:
        np.copyto(size, size != 0)
    elif np.isinf(p):
        np.copyto(size, size == plan.spread(extreme))
    else:
        _raise(size, plan.spread(_scale(extreme, p)), p)
    return plan.array(size, size, plan, None), extreme


def _slope(plan: Plan, x: Array, powers: Array, extreme: Array, p: float) -> tuple[Array, Any]:
    """sgn(x) |x / e|**(p - 1), in place of the powers; and what it is still to be divided by."""
    slope, scale = powers, _scale(extreme, p)
    less: Any = np.longdouble(p) - 1 if plan.work == np.longdouble else p - 1
    if np.isfinite(p):
        _raise(_size(x, slope), plan.spread(scale), less)
    np.copyto(slope, 0, where=x == 0)
    np.negative(slope, out=slope, where=x.real < 0)
    return slope, _rest(scale, less)


def _raise(size: Array, scale: Array, power: float) -> None:
    """Raise |x| / e to a power; e is left to `_rest` where x and e are better raised apart."""
    if not APART[0] < power < APART[1]:
        size /= scale
    size **= power


def _rest(scale: Array, power: float) -> Any:
    """What `_raise` has not divided by."""
    return scale**power if APART[0] < power < APART[1] else 1


def _scale(extreme: Array, p: float) -> Array:
    """What sizes are divided by, so that the largest power is that of 1."""
    return np.where(np.isfinite(extreme) & (extreme != 0) & (p != 0), extreme, 1)


def _extremes(plan: Plan, x: Array, p: float, slots: int) -> tuple[Array | None]:
    """The extreme size of each set; None where tiles hold sets whole, and find their own."""
    if plan.cut(slots).whole:
        return (None,)
    choose, first = _choice(p)
    extremes = np.full(plan.set_shape, first, plan.work)
    (view,), lock = plan.views(x), Lock()

    @np.errstate(all="ignore")
    def visit(tile: Region) -> None:
        of_views, of_sets, _ = tile
        now = view[of_views].astype(plan.work)
        found = choose.reduce(_size(now, now), axis=plan.over, keepdims=True)
        with lock:
            choose(extremes[of_sets], found, out=extremes[of_sets])

    cut = plan.cut(slots)
    in_threads(visit, [tile for lane in cut.lanes for tiles in cut.runs(lane) for tile in tiles])
    return (extremes,)


def _choice(p: float) -> tuple[np.ufunc, float]:
    """How to find the size whose power is the largest, and what to begin with."""
    return (np.maximum, 0.0) if p >= 0 else (np.minimum, np.inf)


def _size(x: Array, out: Array) -> Array:
    """|x|, without the conjugate that np.abs would take."""
    if x.dtype.kind != "c":
        return np.abs(x, out)
    return np.multiply(x, np.where(x.real < 0, -1, 1), out)

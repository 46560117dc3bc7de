"""Spectral norm: weights divided by their largest singular value."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .. import checks
from ..engine.plans import Asked, Layout, Plan, plan_for
from ..engine.rounding import round_to
from ..engine.tiles import Steps, Tile, as_found, run
from ..layer_norm import layout
from .lp_normalize import lp_normalize_forward

Array = NDArray[Any]

NEAR = 2.0**-100  # to 1: sigma is lifted where it, or its inverse, is no nearer


class SpectralNormCache(NamedTuple):
    """What `spectral_norm_backward` needs; made by the forward pass."""

    weight: Array
    u: Array
    v: Array
    plan: Plan
    sigma: Array  # times two to the exponent
    exponent: Array | None

    def __repr__(self) -> str:
        w = self.weight
        return f"<cache of spectral_norm: weight {w.dtype.name} {w.shape}>"


def power_iteration(
    weight: ArrayLike,
    u: ArrayLike,
    v: ArrayLike,
    *,
    channel_axis: int = 0,
    iterations: int = 1,
    eps: float = 1e-12,
) -> tuple[Array, Array]:
    """Bring `u` and `v` nearer to the singular vectors of the largest singular value.

    With W the weights as a matrix of C rows, `iterations` times::

        u = W v / max(|W v|, eps)
        v = W' u / max(|W' u|, eps)

    Nothing is kept: the caller hands in what came out before. Start with random normal numbers
    and 15 iterations, then do one in every step of training and none at inference, as PyTorch.

    Parameters
    ----------
    weight : ndarray, shape (C, *K)
        Real; with the output channels at `channel_axis`.
    u, v : ndarray, shapes (C,) and (M,)
        M is the product of K; v goes along the other axes in the order in which they lie.
    channel_axis : int, default 0
        The axis of the rows (PyTorch's ``dim``); 1 for a transposed convolution.
    iterations : int, default 1
        How often; at least 1.
    eps : float, default 1e-12
        The smallest length that is divided by.

    Returns
    -------
    u, v : ndarray
        New arrays of the shapes and dtypes of `u` and `v`; between iterations nothing is rounded.

    Raises
    ------
    ValueError
        If a shape, `channel_axis`, `iterations` or `eps` is wrong.
    TypeError
        If a dtype is, complex numbers included.

    Examples
    --------
    >>> import numpy as np
    >>> weight = np.array([[4.0, 0.0], [0.0, 2.0]])
    >>> u, v = power_iteration(weight, np.ones(2), np.ones(2), iterations=20)
    >>> u.round(6), v.round(6)
    (array([1., 0.]), array([1., 0.]))
    """
    for name, a in (("weight", weight), ("u", u), ("v", v)):
        dtype = checks.array(name, a).dtype
        if dtype.kind == "c":
            raise TypeError(f"{name} is {dtype}, but real numbers were expected; pass {name}.real")
    weight, u, v, c = _checked(weight, u, v, channel_axis)
    iterations = checks.integer("iterations", iterations, 1)
    if not 1 <= iterations < 1 << 31:
        shown = checks.shown(iterations)
        raise ValueError(f"iterations is {shown}, but 1 or more was expected, of 31 bits; pass 1")
    others = tuple([a for a in range(weight.ndim) if a != c])
    wide = np.promote_types(checks.working_dtype(weight, None), np.float64)
    near_u, near_v = u, v.astype(wide)
    for _ in range(iterations):
        near_u, _ = lp_normalize_forward(_product(weight, near_v, others), eps=eps)  # (S1)
        near_v, _ = lp_normalize_forward(_product(weight, near_u, (c,)), eps=eps)  # (S2)
    with np.errstate(all="ignore"):
        return round_to(near_u, u.dtype), round_to(near_v, v.dtype)


def spectral_norm_forward(
    weight: ArrayLike,
    u: ArrayLike,
    v: ArrayLike,
    *,
    channel_axis: int = 0,
    dtype: DTypeLike | None = None,
) -> tuple[Array, SpectralNormCache]:
    """Divide the weights by their largest singular value, as `u` and `v` estimate it.

    With W the weights as a matrix of C rows::

        w = weight / sigma      sigma = u' W v

    `power_iteration` makes `u` and `v`. Where sigma is 0, `w` is.

    Parameters
    ----------
    weight : ndarray, shape (C, *K)
        With the output channels at `channel_axis`.
    u, v : ndarray, shapes (C,) and (M,)
        M is the product of K; v goes along the other axes in the order in which they lie.
    channel_axis : int, default 0
        The axis of the rows (PyTorch's ``dim``); 1 for a transposed convolution.
    dtype : dtype, optional
        The type to compute in; float64 if `weight` is narrower, and otherwise its own.

    Returns
    -------
    w : ndarray, of the shape and dtype of `weight`
    cache : SpectralNormCache
        For `spectral_norm_backward`.

    Raises
    ------
    ValueError
        If a shape or `channel_axis` is wrong.
    TypeError
        If a dtype is: integers, booleans, objects and masked arrays are refused.

    References
    ----------
    Miyato, Kataoka, Koyama and Yoshida 2018, arXiv:1802.05957, algorithm 1; equations (S1) to
    (S5) of ``docs/further_norms.md``.

    Examples
    --------
    >>> import numpy as np
    >>> weight, unit = np.array([[4.0, 0.0], [0.0, 2.0]]), np.array([1.0, 0.0])
    >>> w, cache = spectral_norm_forward(weight, unit, unit)
    >>> w
    array([[1. , 0. ],
           [0. , 0.5]])
    """
    weight, u, v, c = _checked(weight, u, v, channel_axis)
    axes = tuple(range(weight.ndim))
    matrix = Layout(weight.shape, over=axes, along=(c,), sets=())
    plan = plan_for(matrix, checks.working_dtype(weight, dtype), weight.dtype, Asked(means=False))
    sigma, exponent = _sigma(plan, weight, u, v, c)
    w = plan.result_like(weight)
    run(_forward, plan, (weight, w), (), (sigma, exponent), slots=1)
    return w, SpectralNormCache(weight, u, v, plan, sigma, exponent)


def spectral_norm_backward(dw: ArrayLike, cache: SpectralNormCache) -> Array:
    """Return the gradient of `weight` of `spectral_norm_forward`.

    `u` and `v` are constants, sigma is not::

        dweight = (dw - u v' * sum(dw * w)) / sigma

    Parameters
    ----------
    dw : ndarray
        Gradient of the loss with respect to ``w``, of its shape.
    cache : SpectralNormCache
        From `spectral_norm_forward`.

    Returns
    -------
    dweight : ndarray
        Shape and dtype of `weight`.

    Examples
    --------
    >>> import numpy as np
    >>> weight, unit = np.array([[4.0, 0.0], [0.0, 2.0]]), np.array([1.0, 0.0])
    >>> w, cache = spectral_norm_forward(weight, unit, unit)
    >>> spectral_norm_backward(np.array([[1.0, 0.0], [0.0, 1.0]]), cache)
    array([[-0.125,  0.   ],
           [ 0.   ,  0.25 ]])
    """
    checks.made_by("spectral_norm", SpectralNormCache, cache)
    dw = checks.gradient("dw", dw, cache.weight, "weight")
    weight, u, v, plan, *about = cache
    dweight = plan.result_like(dw)
    v = v.reshape([1 if a in plan.along else n for a, n in enumerate(plan.shape)])
    views = weight, dw, np.broadcast_to(v, plan.shape), dweight
    run(_backward, plan, views, (u,), about, slots=2)
    return dweight


def _forward(tile: Tile, weight: Array, w_view: Array) -> Steps:
    def reduce(_: Any, exponent: Any) -> Any:
        return (tile.lift(weight, None, exponent, into=w_view),), (), ()

    def apply(W: Any, sigma: Any, _: Any) -> None:
        W.now = np.divide(W.now, tile.plan.spread(sigma), W.place)  # (S4)
        tile.store(W, w_view)

    return Steps(reduce, None, apply)


def _backward(
    tile: Tile, weight: Array, dw_view: Array, v: Array, dweight_view: Array, u: Array
) -> Steps:
    plan = tile.plan

    def reduce(_: Any, exponent: Any) -> Any:
        dw, W = tile.lift(dw_view, into=dweight_view), tile.lift(weight, None, exponent)
        return (dw, W), (tile.E(dw, W),), ()

    def apply(dw: Any, W: Any, sigma: Any, exponent: Any, mean_dw_W: Any) -> None:
        through_sigma = W.place
        np.copyto(through_sigma, v, casting="unsafe")
        through_sigma *= plan.spread(u * (plan.m * mean_dw_W / sigma))
        dw.now = np.subtract(dw.now, through_sigma, dw.place)
        dw.now = np.divide(dw.now, plan.spread(sigma), dw.place)  # (S5)
        tile.unlift(dw, exponent)
        tile.store(dw, dweight_view)

    return Steps(reduce, as_found, apply)


@np.errstate(all="ignore")
def _sigma(plan: Plan, weight: Array, u: Array, v: Array, c: int) -> tuple[Array, Array | None]:
    """sigma (infinite where it is 0, so that w is 0) of weights lifted, and the exponent."""
    others = tuple([a for a in range(weight.ndim) if a != c])

    def lifted(exponent: int) -> Any:
        product = _product(weight, v, others, plan.work, exponent)
        return np.add.reduce(u.astype(product.dtype) * product)  # (S3)

    sigma, exponent = lifted(0), 0
    if not NEAR < np.abs(sigma) < 1 / NEAR:
        first = plan.limits.up if np.abs(sigma) < 1 else plan.limits.down
        again = lifted(first)
        if np.isfinite(again):
            most = np.finfo(plan.work).maxexp - 2
            exponent = max(-most, min(first - int(np.frexp(np.abs(again))[1]), most))
            sigma = plan.times(again, exponent - first)  # about 1
    sigma = np.full(plan.set_shape, np.inf if sigma == 0 else sigma, plan.few)
    return sigma, np.full(plan.set_shape, exponent) if exponent else None


def _product(
    weight: Array,
    vector: Array,
    over: tuple[int, ...],
    work: np.dtype[Any] | None = None,
    exponent: int = 0,
) -> Array:
    """The sums over axes of the weights, times two to a power, times a vector along these axes."""
    sets = layout(weight, None, None, over)
    plan = plan_for(sets, work or checks.working_dtype(weight, None), weight.dtype, Asked())
    lifted = np.full(plan.set_shape, exponent) if exponent else None
    kept, _ = run(_mean_product, plan, (weight,), (vector,), (lifted,), slots=1)
    (mean,) = kept
    total: Array = plan.m * mean
    return total.reshape(-1)


def _mean_product(tile: Tile, weight: Array, vector: Array) -> Steps:
    def reduce(exponent: Any) -> Any:
        W = tile.lift(weight, None, exponent)
        W *= vector
        return (), (tile.M(W),), ()

    def apply(exponent: Any, mean: Any) -> Any:
        return (mean,)

    return Steps(reduce, as_found, apply)


def _checked(
    weight: ArrayLike, u: ArrayLike, v: ArrayLike, channel_axis: int
) -> tuple[Array, Array, Array, int]:
    weight, u, v = checks.array("weight", weight), checks.array("u", u), checks.array("v", v)
    c = checks.weight_axis("weight", channel_axis, weight, 2)
    rows = weight.shape[c]
    shapes = (rows,), (prod(weight.shape[:c]) * prod(weight.shape[c + 1 :]),)
    for name, a, shape in zip("uv", (u, v), shapes, strict=True):
        if a.shape != shape:
            raise ValueError(
                f"{name} has shape {a.shape}, but weight of shape {weight.shape} is a matrix of "
                f"{rows} rows with channel_axis={c}; pass {name} of shape {shape}"
            )
        checks.real_for_real(name, a, weight, "weight")
    return weight, u, v, c

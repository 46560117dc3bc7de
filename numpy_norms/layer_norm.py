"""Layer norm: each sample over its own features."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike, DTypeLike

from . import checks, normalize, schemes
from .cache import Array, Cache
from .engine.plans import Layout


def layer_norm_forward(
    x: ArrayLike,
    gamma: ArrayLike | None = None,
    beta: ArrayLike | None = None,
    *,
    axis: int | Sequence[int] = -1,
    feature_axis: int | Sequence[int] | None = None,
    eps: float = 1e-5,
    dtype: DTypeLike | None = None,
    out: Array | None = None,
    where: ArrayLike | None = None,
    scheme: schemes.Scheme = "exact",
) -> tuple[Array, Cache]:
    """Normalize each sample over `axis`, then scale and shift each feature.

    Over A, the axes `axis`, for each index of the other axes::

        y = gamma * (x - E_A[x]) / sqrt(Var_A[x] + eps) + beta

    Parameters
    ----------
    x : ndarray
        Of any shape with at least one axis.
    gamma, beta : ndarray, optional
        Scale and shift, of exactly the shape of the axes `axis`, in the order in which they lie in
        `x`. None stands for ones and zeros.
    axis : int or sequence of int, default -1
        The axes averaged over, which hold the features. The last ones are PyTorch's
        ``normalized_shape``; 1 in (N, C, H, W) is a layer norm over channels.
    feature_axis : int or sequence of int, optional
        The axes along which `gamma` and `beta` vary, `axis` by default: (-2, -1) for a scale of
        each head and feature, say, where each head is normalized over the last axis.
    eps : float, default 1e-5
        Added to the variance; in units of `x` squared.
    dtype : dtype, optional
        The type to compute in; float64 if `x` is narrower, and otherwise that of `x`.
    out : ndarray, optional
        Where to write `y`; `x` itself is allowed, but then there is no backward pass.
    where : ndarray of bool, optional
        What counts, True by default; it broadcasts to `x`. Mean and variance are of the elements
        that count, and every element is normalized with them. Where none counts x_hat is 0.
    scheme : {"exact", "llama", "gemma", "onnx"}, default "exact"
        Where to round, as `numpy_norms.schemes` has it: once at the end, or as trained models in
        half precision do (they compute in ``dtype=np.float32``). "gemma" scales by 1 + gamma.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`
    cache : Cache
        For `layer_norm_backward`; ``cache.mean`` and ``cache.rstd`` have the shape of
        ``np.mean(x, axis)``.

    Raises
    ------
    ValueError
        If a shape, `axis`, `eps`, `scheme` or the place of `out` is wrong.
    TypeError
        If a dtype is: integers, booleans, objects and masked arrays are refused.

    References
    ----------
    Ba, Kiros and Hinton 2016, arXiv:1607.06450, equation 3.

    Examples
    --------
    >>> import numpy as np
    >>> y, cache = layer_norm_forward(np.array([[1.0, 3.0], [10.0, 30.0]]), eps=0)
    >>> y
    array([[-1.,  1.],
           [-1.,  1.]])
    >>> cache.mean, 1 / cache.rstd
    (array([ 2., 20.]), array([ 1., 10.]))
    """
    exact = isinstance(scheme, str) and scheme == "exact"
    forward = normalize.forward if exact else schemes.forward_of(scheme)
    axes = checks.integers("axis", axis), checks.integers_or_none("feature_axis", feature_axis)
    return forward(
        "layer_norm", layout, x, gamma, beta, axes, eps=eps, dtype=dtype, out=out, where=where
    )


def layout(
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    axis: int | tuple[int, ...],
    feature_axis: int | tuple[int, ...] | None = None,
) -> Layout:
    """Layer norm shares statistics over the axes of the features, along which gamma varies, too."""
    over = checks.axes(axis, x)
    along = over
    if feature_axis is not None:
        along = checks.axes(feature_axis, x, name="feature_axis")
    checks.per_feature("gamma", gamma, along, x)
    checks.per_feature("beta", beta, along, x)
    sets = tuple([a for a in range(x.ndim) if a not in over])
    return Layout(x.shape, over=over, along=along, sets=sets)


def layer_norm_backward(dy: ArrayLike, cache: Cache) -> tuple[Array, Array | None, Array | None]:
    """Return the gradients of `x`, `gamma` and `beta` of `layer_norm_forward`.

    With dx_hat = gamma * dy and A the normalized axes::

        dx = rstd * (dx_hat - E_A[dx_hat] - x_hat * E_A[dx_hat * x_hat])

    and dgamma, dbeta the sums of ``dy * x_hat`` and ``dy`` over all other axes.

    Parameters
    ----------
    dy : ndarray
        Gradient of `y`, of its shape.
    cache : Cache
        What `layer_norm_forward` returned.

    Returns
    -------
    dx, dgamma, dbeta : ndarray
        Of the shapes and dtypes of `x`, `gamma` and `beta`; None for one that was None.

    Raises
    ------
    ValueError
        If the shape of `dy` is wrong, or `cache` comes from elsewhere.
    TypeError
        If the dtype of `dy` is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> x, gamma = np.array([[1.0, 3.0, 2.0]]), np.array([1.0, 2.0, 1.0])
    >>> y, cache = layer_norm_forward(x, gamma)
    >>> dx, dgamma, dbeta = layer_norm_backward(np.array([[1.0, 0.0, 0.0]]), cache)
    >>> dx.round(4), dgamma.round(4), dbeta
    (array([[ 0.2041,  0.2041, -0.4082]]), array([-1.2247,  0.    ,  0.    ]), None)
    """
    return normalize.backward("layer_norm", dy, cache)

"""The norms as functions of HIPS autograd, with their first and second derivatives by hand.

::

    import autograd.numpy as np
    from autograd import grad
    from numpy_norms.autograd import layer_norm

    steepness = grad(lambda x: np.sum(layer_norm(x, gamma) ** 3))(x)

Every array argument may be traced, in reverse and in forward mode and one within the other. The
backward pass of the backward pass is `numpy_norms.double_backward`. It is that of the forward mode,
too, and the forward mode of the backward pass, since second derivatives are the same in either
order. The forward mode of the forward mode is a complex step of `numpy_norms.jvp`, which a complex
`x` does not allow. A third derivative is refused.
"""

from __future__ import annotations

from typing import Any

from .derivatives import traced

__all__ = [
    "batch_norm",
    "batch_norm_inference",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "rms_norm",
]


def batch_norm(x: Any, gamma: Any = None, beta: Any = None, **options: Any) -> Any:
    """Return y of `numpy_norms.batch_norm_forward`, which autograd can differentiate twice.

    Parameters
    ----------
    x, gamma, beta : ndarray
        As the function of this library takes them; gamma and beta may be None.
    **options
        Its keywords, but for `out`.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`

    Raises
    ------
    NotImplementedError
        In a third derivative, and in forward mode within forward mode where `x` is complex.

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad
    >>> from numpy_norms.autograd import batch_norm
    >>> x = np.array([[1.0], [3.0], [2.0]])
    >>> grad(lambda x: batch_norm(x)[0, 0])(x).ravel().round(4)
    array([ 0.2041,  0.2041, -0.4082])
    """
    return traced("batch_norm", options, x=x, gamma=gamma, beta=beta)


def batch_norm_inference(
    x: Any,
    running_mean: Any,
    running_var: Any,
    gamma: Any = None,
    beta: Any = None,
    **options: Any,
) -> Any:
    """Return y of `numpy_norms.batch_norm_inference_forward`; see `batch_norm`.

    Parameters
    ----------
    x, running_mean, running_var, gamma, beta : ndarray
        As the function of this library takes them; gamma and beta may be None.
    **options
        Its keywords, but for `out`.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad
    >>> from numpy_norms.autograd import batch_norm_inference
    >>> mean, var = np.zeros(1), np.array([4.0])
    >>> grad(lambda x: batch_norm_inference(x, mean, var, eps=0)[0, 0])(np.ones((2, 1))).ravel()
    array([0.5, 0. ])
    """
    given = {"running_mean": running_mean, "running_var": running_var}
    return traced("batch_norm_inference", options, x=x, **given, gamma=gamma, beta=beta)


def layer_norm(x: Any, gamma: Any = None, beta: Any = None, **options: Any) -> Any:
    """Return y of `numpy_norms.layer_norm_forward`; see `batch_norm`.

    Parameters
    ----------
    x, gamma, beta : ndarray
        As the function of this library takes them; gamma and beta may be None.
    **options
        Its keywords, but for `out`.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad
    >>> from numpy_norms.autograd import layer_norm
    >>> grad(lambda x: layer_norm(x)[0, 0])(np.array([[1.0, 3.0, 2.0]])).round(4)
    array([[ 0.2041,  0.2041, -0.4082]])
    """
    return traced("layer_norm", options, x=x, gamma=gamma, beta=beta)


def group_norm(x: Any, num_groups: int, gamma: Any = None, beta: Any = None, **options: Any) -> Any:
    """Return y of `numpy_norms.group_norm_forward`; see `batch_norm`.

    Parameters
    ----------
    x : ndarray
        As the function of this library takes it.
    num_groups : int
        The number of groups.
    gamma, beta : ndarray, optional
        As the function of this library takes them.
    **options
        Its keywords, but for `out`.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad
    >>> from numpy_norms.autograd import group_norm
    >>> grad(lambda x: group_norm(x, 1)[0, 0])(np.array([[1.0, 3.0, 2.0]])).round(4)
    array([[ 0.2041,  0.2041, -0.4082]])
    """
    options["num_groups"] = num_groups
    return traced("group_norm", options, x=x, gamma=gamma, beta=beta)


def instance_norm(x: Any, gamma: Any = None, beta: Any = None, **options: Any) -> Any:
    """Return y of `numpy_norms.instance_norm_forward`; see `batch_norm`.

    Parameters
    ----------
    x, gamma, beta : ndarray
        As the function of this library takes them; gamma and beta may be None.
    **options
        Its keywords, but for `out`.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad
    >>> from numpy_norms.autograd import instance_norm
    >>> grad(lambda x: instance_norm(x)[0, 0, 0])(np.array([[[1.0, 3.0, 2.0]]])).round(4)
    array([[[ 0.2041,  0.2041, -0.4082]]])
    """
    return traced("instance_norm", options, x=x, gamma=gamma, beta=beta)


def rms_norm(x: Any, gamma: Any = None, **options: Any) -> Any:
    """Return y of `numpy_norms.rms_norm_forward`; see `batch_norm`.

    Parameters
    ----------
    x, gamma : ndarray
        As the function of this library takes them; gamma may be None.
    **options
        Its keywords, but for `out`.

    Returns
    -------
    y : ndarray, of the shape and dtype of `x`

    Examples
    --------
    >>> import numpy as np
    >>> from autograd import grad
    >>> from numpy_norms.autograd import rms_norm
    >>> grad(lambda x: rms_norm(x)[0, 0])(np.array([[1.0, 3.0, 2.0]])).round(4)
    array([[ 0.4298, -0.0992, -0.0661]])
    """
    return traced("rms_norm", options, x=x, gamma=gamma)

"""Lab sheet: layer norm over the last axis, forward and backward. Replace every ... by code.

Mark it:  python -m numpy_norms grade sheet.py:forward  --norm layer_norm
          python -m numpy_norms grade sheet.py:staged   --norm layer_norm
          python -m numpy_norms grade sheet.py:backward --norm layer_norm
          python -m numpy_norms grade sheet.py:rms      --norm rms_norm
"""

import numpy as np


def E(a):
    """Average over a row."""
    return np.mean(a, axis=-1, keepdims=True)


def S(a):
    """Sum over a row."""
    return np.sum(a, axis=-1, keepdims=True)


def over_rows(a):
    """Sum over all rows: the axes along which gamma and beta were broadcast."""
    return np.sum(a, axis=tuple(range(a.ndim - 1)))


def forward(x, gamma, beta, eps):
    """Part 1. Equations (1) to (5)."""
    mean = ...  # (1)
    var = ...  # (2)
    rstd = ...  # (3)
    x_hat = ...  # (4)
    y = ...  # (5)
    return y


def staged(dy, x, gamma, beta, eps):
    """Part 2. One arrow at a time."""
    m = x.shape[-1]
    mean = E(x)
    var = E((x - mean) ** 2)
    rstd = (var + eps) ** -0.5
    x_hat = rstd * (x - mean)

    dbeta = ...  # (6)
    dgamma = ...  # (7)
    dx_hat = ...  # (8)
    drstd = ...  # (9)
    dvar = ...  # (10)
    dmean = ...  # (11)
    dx = ...  # (c)
    return dx, dgamma, dbeta


def backward(dy, x, gamma, beta, eps):
    """Part 3. Three terms."""
    mean = E(x)
    rstd = (E((x - mean) ** 2) + eps) ** -0.5
    x_hat = rstd * (x - mean)

    dbeta = ...  # (6)
    dgamma = ...  # (7)
    dx_hat = ...  # (8)
    dx = ...  # (12)
    return dx, dgamma, dbeta


def rms(dy, x, gamma, eps):
    """Part 4. RMS norm: no mean."""
    rstd = ...  # (3)
    x_hat = ...  # (4)

    dgamma = ...  # (7)
    dx_hat = ...  # (8)
    dx = ...  # (13)
    return dx, dgamma

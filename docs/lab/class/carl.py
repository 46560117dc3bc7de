"""Carl's layer norm: not finished."""


def layernorm_backward(dout, x, gamma, beta, eps):
    """Return dx, dgamma, dbeta."""
    return x_hat  # noqa: F821

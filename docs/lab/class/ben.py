"""Ben's layer norm: a backward pass. Gamma is outside the averages."""


def layernorm_backward(dout, x, gamma, beta, eps):
    """Return dx, dgamma, dbeta."""
    rstd = (x.var(axis=-1, keepdims=True) + eps) ** -0.5
    x_hat = rstd * (x - x.mean(-1, keepdims=True))
    along = (dout * x_hat).mean(-1, keepdims=True)
    dx = gamma * rstd * (dout - dout.mean(-1, keepdims=True) - x_hat * along)
    over_rows = tuple(range(dout.ndim - 1))
    return dx, (dout * x_hat).sum(over_rows), dout.sum(over_rows)

"""Anna's layer norm: a class."""

import numpy as np


class LayerNorm:
    """Keeps the gradients of its parameters."""

    def __init__(self, num_features, eps=1e-5):
        self.weight, self.bias = np.ones(num_features), np.zeros(num_features)
        self.eps = eps

    def forward(self, x):
        """Return y."""
        rstd = (x.var(axis=-1, keepdims=True) + self.eps) ** -0.5
        self.rstd, self.x_hat = rstd, rstd * (x - x.mean(-1, keepdims=True))
        return self.weight * self.x_hat + self.bias

    def backward(self, dout):
        """Return dx."""
        over_rows = tuple(range(dout.ndim - 1))
        self.dweight = (dout * self.x_hat).sum(over_rows)
        self.dbias = dout.sum(over_rows)
        g = dout * self.weight
        along = (g * self.x_hat).mean(-1, keepdims=True)
        return self.rstd * (g - g.mean(-1, keepdims=True) - self.x_hat * along)

"""Layer and RMS norm of tokens whose features are spread over the ranks."""

import numpy as np
import numpy_norms as nn
from mpi4py import MPI
from numpy_norms import Moments

comm = MPI.COMM_WORLD


def layer_norm_forward(x, gamma, beta, eps=1e-5):
    m = Moments.merged(comm.allgather(Moments.of(x, axis=-1)))  # (15) to (17)
    mean, var, n = m.mean[:, None], m.var()[:, None], m.count[:, None]
    rstd = 1 / np.sqrt(var + eps)  # (3)
    x_hat = rstd * (x - mean)  # (4)
    return gamma * x_hat + beta, (x_hat, rstd, gamma, n)  # (5)


def layer_norm_backward(dy, cache):
    x_hat, rstd, gamma, n = cache
    dx_hat = gamma * dy  # (8)
    own = np.stack([dx_hat.sum(-1), (dx_hat * x_hat).sum(-1)])
    mean_dx_hat, mean_dx_hat_x_hat = sum(comm.allgather(own))[..., None] / n
    dx = rstd * (dx_hat - mean_dx_hat - x_hat * mean_dx_hat_x_hat)  # (12)
    return dx, np.sum(dy * x_hat, axis=0), np.sum(dy, axis=0)  # (7), (6)


def rms_norm_forward(x, gamma, eps=1e-5):
    m = Moments.merged(comm.allgather(Moments.of(x, axis=-1)))
    mean_square = (m.var() + m.mean**2)[:, None]
    rstd = 1 / np.sqrt(mean_square + eps)
    x_hat = rstd * x
    return gamma * x_hat, (x_hat, rstd, gamma, m.count[:, None])


def rms_norm_backward(dy, cache):
    x_hat, rstd, gamma, n = cache
    dx_hat = gamma * dy
    own = np.sum(dx_hat * x_hat, axis=-1)
    mean_dx_hat_x_hat = sum(comm.allgather(own))[:, None] / n
    dx = rstd * (dx_hat - x_hat * mean_dx_hat_x_hat)  # (13)
    return dx, np.sum(dy * x_hat, axis=0)


def largest_difference(parts, whole):
    """Compare this rank's features with those of the single process."""
    own = [np.array_split(a, comm.size, axis=-1)[comm.rank] for a in whole]
    errors = [np.abs(a - b).max() for a, b in zip(parts, own, strict=True)]
    return comm.allreduce(max(errors), MPI.MAX)


rng = np.random.default_rng(0)  # the same on all, to compare with
x = rng.normal(1e3, 1.0, (6, 100))  # 6 tokens of 100 features
dy, (gamma, beta) = rng.normal(size=x.shape), rng.normal(size=(2, 100))
x_own, dy_own, gamma_own, beta_own = (
    np.array_split(a, comm.size, axis=-1)[comm.rank]
    for a in (x, dy, gamma, beta)
)

y, cache = layer_norm_forward(x_own, gamma_own, beta_own)
y_whole, cache_whole = nn.layer_norm_forward(x, gamma, beta)
layer = largest_difference(
    [y, *layer_norm_backward(dy_own, cache)],
    [y_whole, *nn.layer_norm_backward(dy, cache_whole)],
)
y, cache = rms_norm_forward(x_own, gamma_own)
y_whole, cache_whole = nn.rms_norm_forward(x, gamma)
rms = largest_difference(
    [y, *rms_norm_backward(dy_own, cache)],
    [y_whole, *nn.rms_norm_backward(dy, cache_whole)],
)
assert max(layer, rms) < 1e-11
if comm.rank == 0:
    print(f"differences: layer norm {layer:.0e}, RMS norm {rms:.0e}")

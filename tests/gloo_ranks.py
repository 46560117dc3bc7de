"""Synchronized batch norm by PyTorch's differentiable collectives, and ours over the same ranks.

One of two processes: ``python gloo_ranks.py RANK FILE``. Its parts are ragged; rank 1 is larger.
"""

import sys
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from jobs import SECONDS
from torch.distributed.nn.functional import all_reduce

from numpy_norms import update_running_stats
from numpy_norms.distributed import sync_batch_norm_backward, sync_batch_norm_forward

EPS, MOMENTUM, C = 1e-3, 0.3, 4
TIMEOUT = timedelta(seconds=SECONDS)


class Gloo:
    """PyTorch's process group as a communicator."""

    def allgather(self, sendobj):
        """Return what all ranks send."""
        parts = [None] * dist.get_world_size()
        dist.all_gather_object(parts, sendobj)
        return parts


def by_torch(x, dy, gamma, beta):
    """Return y, the gradients and new running statistics; PyTorch derives the gradients."""
    x, gamma, beta = (torch.tensor(a, requires_grad=True) for a in (x, gamma, beta))
    n = all_reduce(torch.tensor(float(x.numel() // C), dtype=x.dtype))
    mean = all_reduce(x.sum((0, 2))) / n
    var = all_reduce(((x - mean[:, None]) ** 2).sum((0, 2))) / n
    y = (x - mean[:, None]) / torch.sqrt(var + EPS)[:, None] * gamma[:, None] + beta[:, None]
    (y * torch.tensor(dy)).sum().backward()
    running = MOMENTUM * mean, 1 - MOMENTUM + MOMENTUM * var * n / (n - 1)
    return [a.detach().numpy() for a in (y, x.grad, gamma.grad, beta.grad, *running)]


def by_us(x, dy, gamma, beta):
    """Return the same."""
    y, cache = sync_batch_norm_forward(x, gamma, beta, comm=Gloo(), eps=EPS)
    gradients = sync_batch_norm_backward(dy, cache, comm=Gloo())
    running = update_running_stats(np.zeros(C), np.ones(C), cache, momentum=MOMENTUM)
    return [y, *gradients, *running]


def compare(rank, file):
    """Be one of the two ranks, and compare."""
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=2, timeout=TIMEOUT
    )
    same, own = np.random.default_rng(7), np.random.default_rng(rank)
    gamma, beta = same.standard_normal((2, C))
    x, dy = own.normal(5 + rank, 2 + rank, (2, 3 + 4 * rank, C, 6))
    names = ("y", "dx", "dgamma", "dbeta", "running_mean", "running_var")
    for name, a, b in zip(
        names, by_torch(x, dy, gamma, beta), by_us(x, dy, gamma, beta), strict=True
    ):
        assert a.shape == b.shape, name
        assert np.abs(a - b).max() <= 1e-13 * max(1, np.abs(a).max()), name
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    compare(int(sys.argv[1]), sys.argv[2])

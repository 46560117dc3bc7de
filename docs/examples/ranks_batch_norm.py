"""One training step of batch norm, the batch spread over the ranks."""

import numpy as np
from mpi4py import MPI
from numpy_norms import update_running_stats
from numpy_norms.distributed import (
    sync_batch_norm_backward,
    sync_batch_norm_forward,
)

comm = MPI.COMM_WORLD
rng = np.random.default_rng(comm.rank)
samples = 8 + 3 * comm.rank  # they need not be as many on every rank
x, dy = rng.normal(5.0, 2.0, (samples, 4)), rng.normal(size=(samples, 4))
gamma, beta = np.ones(4), np.zeros(4)  # the same on all

y, cache = sync_batch_norm_forward(x, gamma, beta, comm=comm)
running = update_running_stats(np.zeros(4), np.ones(4), cache)

dx, dgamma, dbeta = sync_batch_norm_backward(dy, cache, comm=comm)
dgamma, dbeta = comm.allreduce(np.stack([dgamma, dbeta]))

whole = np.concatenate(comm.allgather(y))
assert np.allclose(whole.mean(axis=0), 0, atol=1e-14)  # of all together
assert abs(y.mean(axis=0)).max() > 0.01  # not of each
same = len({a.tobytes() for a in comm.allgather(np.stack(running))}) == 1
if comm.rank == 0:
    print("values of a channel:", cache.moments.count[0])
    print("running statistics have the same bits on all ranks:", same)

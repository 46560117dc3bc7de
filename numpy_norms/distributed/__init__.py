"""Batch norm over the ranks of an MPI job: statistics of the batch that all ranks have together.

::

    from mpi4py import MPI
    from numpy_norms.distributed import sync_batch_norm_backward, sync_batch_norm_forward

    comm = MPI.COMM_WORLD
    y, cache = sync_batch_norm_forward(x, gamma, beta, comm=comm)
    dx, dgamma, dbeta = sync_batch_norm_backward(dy, cache, comm=comm)

Every rank calls both, with its own samples, in the same order. The extra ``mpi`` brings mpi4py and
an ``mpiexec``. Start with ``mpiexec -n 4 python -m mpi4py script.py``: so a rank that raises ends
the job, where otherwise the others would wait for it.
"""

from .sync_batch_norm import SyncCache, sync_batch_norm_backward, sync_batch_norm_forward

__all__ = ["SyncCache", "sync_batch_norm_backward", "sync_batch_norm_forward"]

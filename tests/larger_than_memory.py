"""Normalize an array that is larger than what this process, or a worker, may take of memory.

``python larger_than_memory.py threads`` or ``... distributed``; prints "done".
"""

import re
import resource
import sys
from pathlib import Path

import dask
import dask.array as da
import numpy as np

from numpy_norms.dask import batch_norm, layer_norm, moments

BLOCKS, ROWS, C = 36, 1024, 512  # 4 MB each in float64, 144 MB in all
MORE = 112 << 20  # bytes
MEAN = 1e6


def block(block_info=None):
    """Make the rows of one chunk of few random numbers; 16,411 is prime, so that columns differ."""
    rng = np.random.default_rng(block_info[None]["chunk-location"][0])
    return np.resize(rng.standard_normal(16_411) + MEAN, (ROWS, C))


def lazy(chunks):
    """Return the whole array, which is made chunk by chunk."""
    return da.map_blocks(block, chunks=((ROWS,) * BLOCKS, (C,)), dtype=float).rechunk(chunks)


def check():
    """Compare moments with those of a loop, and normalized arrays with what they have to be."""
    x = lazy((ROWS, C))
    m = moments(x, axis=0).compute()
    sums = sum(lazy((ROWS, C)).blocks[k].compute() - MEAN for k in range(3)).sum(0)
    first = moments(x[: 3 * ROWS], axis=0).compute()
    assert np.allclose(first.mean - MEAN, sums / (3 * ROWS), rtol=0, atol=1e-9)
    assert (m.count == BLOCKS * ROWS).all()
    assert np.abs(m.var() - 1).max() < 0.03
    for y, axis in (
        (batch_norm(lazy((ROWS, C // 2)), eps=0.0), 0),
        (layer_norm(lazy((ROWS, C // 2)), eps=0.0), 1),
    ):
        of_y = moments(y, axis=axis).compute()
        assert np.abs(of_y.mean).max() < 1e-12
        assert np.abs(of_y.var() - 1).max() < 1e-12


def with_threads():
    """Check under a limit of this process, which the array does not fit into."""
    with dask.config.set(scheduler="threads", num_workers=2):
        da.ones((4, 4), chunks=2).sum().compute()  # starts the threads
        status = Path("/proc/self/status").read_text(encoding="ascii")
        limit = (int(re.search(r"VmData:\s+(\d+)", status)[1]) << 10) + MORE
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        check()
        try:
            lazy((ROWS, C)).compute()
        except MemoryError:
            return
        raise AssertionError("the limit does not hold")


def with_workers():
    """Check on a worker with a limit beyond which it would be ended."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=2,
            memory_limit=MORE + (110 << 20),
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        started = client.run(lambda dask_worker: dask_worker.id)
        check()
        assert client.run(lambda dask_worker: dask_worker.id) == started  # none was ended


if __name__ == "__main__":
    {"threads": with_threads, "distributed": with_workers}[sys.argv[1]]()
    print("done")

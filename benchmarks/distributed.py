"""Batch norm over ranks: time, bytes and the cost of merging. ``python -m benchmarks.distributed``.

Starts itself on 1, 2, ... ranks, as many as there are cores, with a thread each; needs the extra
``mpi``. Writes results/distributed.json, from which docs/past-one-machine.md makes its tables.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from numpy_norms import pieces
from numpy_norms.batch_norm import layout
from numpy_norms.distributed import sync_batch_norm_backward, sync_batch_norm_forward
from numpy_norms.distributed.exchange import Part
from numpy_norms.engine.plans import Asked, plan_for

RESULTS = Path(__file__).parent / "results" / "distributed.json"
BATCH = 64, 64, 56, 56  # of all ranks together, float32
CHANNELS = 64, 1024
RANKS = 2, 16, 128, 1024
REPEATS = 7


def least(call: Callable[[], Any], barrier: Callable[[], Any] = lambda: None) -> float:
    """Return the least time of a call, in milliseconds."""
    times = []
    for _ in range(REPEATS):
        barrier()
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def on_rank() -> None:
    """Time this rank's part of the batch, and a part so small that all is communication."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD

    def timed(shape: tuple[int, ...]) -> float:
        x, dy = np.random.default_rng(comm.rank).standard_normal((2, *shape), np.float32)

        def call() -> None:
            _, cache = sync_batch_norm_forward(x, comm=comm)
            sync_batch_norm_backward(dy, cache, comm=comm)

        return comm.allreduce(least(call, comm.Barrier), MPI.MAX)

    samples, *rest = BATCH
    batch = timed((samples // comm.size, *rest))
    small = {c: timed((2, c)) for c in CHANNELS}
    if comm.rank == 0:
        json.dump({"ranks": comm.size, "batch, ms": batch, "small, ms": small}, sys.stdout)


def sent(channels: int) -> dict[str, int]:
    """Count the bytes that a rank sends in each direction."""
    seen: list[int] = []

    class Counting:
        def allgather(self, sendobj: Part, /) -> list[Any]:
            seen.append(len(pickle.dumps(sendobj, protocol=5)))
            return [sendobj]

    x = np.ones((2, channels), np.float32)
    _, cache = sync_batch_norm_forward(x, comm=Counting())
    sync_batch_norm_backward(x, cache, comm=Counting())
    return dict(zip(("forward", "backward"), seen, strict=True))


def merging(ranks: int, channels: int) -> float:
    """Time how one rank merges the records of all, in milliseconds."""
    x = np.random.default_rng(0).standard_normal((2, channels), np.float32)
    plan = plan_for(layout(x, None, None, 1), np.dtype(float), x.dtype, Asked())
    record = pieces.record(plan, x, 1e-5, None)[0]
    stack = np.stack([record] * ranks)
    return least(partial(pieces.merged, plan, 1e-5, stack, axis=0))


def job(ranks: int) -> Any:
    """Start this file on so many ranks."""
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec") or "mpiexec"
    command = [mpiexec, "-n", str(ranks), sys.executable, "-m", "mpi4py"]
    one_thread = {f"{name}_NUM_THREADS": "1" for name in machine.THREAD_VARIABLES}
    done = subprocess.run(
        [*command, "-m", "benchmarks.distributed", "--rank"],
        env={**os.environ, **one_thread},
        stdout=subprocess.PIPE,
        check=True,
        timeout=300,
    )
    return json.loads(done.stdout)


def main() -> None:
    """Measure all, and write it down."""
    where = machine.setting(["mpi4py", "mpich"])
    found = {
        "machine": where,
        "batch": BATCH,
        "jobs": [job(ranks) for ranks in range(1, machine.cores() + 1)],
        "sent": {c: sent(c) for c in CHANNELS},
        "merging, ms": {c: {p: merging(p, c) for p in RANKS} for c in CHANNELS},
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    machine.warn_if_busy(where)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", action="store_true", help="be one rank of a job")
    on_rank() if parser.parse_args().rank else main()

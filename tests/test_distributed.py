"""Batch norm over ranks: on real ranks, that of the single process that has all samples."""

import json
import subprocess
import sys
from functools import cache

import gloo_ranks
import numpy as np
import pytest
import torch
from each import each
from jobs import SECONDS, TESTS, environment, mpi

import numpy_norms as nn
from numpy_norms.distributed import sync_batch_norm_backward, sync_batch_norm_forward

LAWS = [
    line[4:-3]
    for line in (TESTS / "mpi_laws.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("def law_")
]


@cache
def outcomes(ranks):
    """Run all laws on so many ranks, once."""
    job = mpi(ranks, "-m", "mpi4py", TESTS / "mpi_laws.py")
    assert job.returncode == 0, job.stdout + job.stderr
    return json.loads(job.stdout)


@each("ranks", [1, 3])
@each("law", LAWS)
def test_on_ranks(law, ranks):
    wrong = outcomes(ranks)[law]
    assert not wrong, wrong


PROLOGUE = """
import numpy as np
from mpi4py import MPI
from numpy_norms.distributed import sync_batch_norm_forward
comm = MPI.COMM_WORLD
"""


def test_a_rank_that_raises_on_its_own_ends_the_job_with_its_message():
    code = PROLOGUE + (
        "if comm.rank == 1: raise OSError('no such shard')\n"
        "sync_batch_norm_forward(np.ones((2, 3)), comm=comm)\n"
    )
    job = mpi(2, "-m", "mpi4py", "-c", code, seconds=30)
    assert job.returncode != 0
    assert "no such shard" in job.stderr


@each("how", [(), ("-m", "mpi4py")])
def test_what_one_rank_is_refused_ends_the_job_however_it_was_started(how):
    code = PROLOGUE + (
        "x = np.ones((2, 3)) if comm.rank else np.ones(3)\nsync_batch_norm_forward(x, comm=comm)\n"
    )
    job = mpi(2, *how, "-c", code, seconds=30)
    assert job.returncode != 0
    assert "at least 2 axes" in job.stderr


@pytest.mark.filterwarnings("ignore:torch.distributed.nn.functional:FutureWarning")
def test_as_pytorch_derives_it_over_gloo(tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    store = str(tmp_path / "store")
    command = [sys.executable, TESTS / "gloo_ranks.py", "1", store]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as other:
        try:
            gloo_ranks.compare(0, store)
            _, err = other.communicate(timeout=SECONDS)
            assert other.returncode == 0, err
        finally:
            other.kill()


def test_pytorchs_own_layer_does_not_run_on_processors():
    """So its semantics are tested in place of it; this fails when it can be."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        with pytest.raises(ValueError, match="GPU"):
            torch.nn.SyncBatchNorm(3)(torch.ones(2, 3))
    finally:
        torch.distributed.destroy_process_group()


class Alone:
    """The communicator of a job of one rank."""

    def allgather(self, sendobj):
        """Return what all ranks send."""
        return [sendobj]


@each("size", [1, 1e38])
def test_one_rank_needs_no_mpi_and_has_the_single_process_results(size):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 7, 3, 5)).astype(np.float32)
    x, dy = x * np.float32(1e5), dy * np.float32(1e3)  # gamma * dy overflows, and rstd mends it
    gamma, beta = size * rng.standard_normal((2, 3)).astype(np.float32)
    options = {"dtype": np.float32 if size > 1 else None}
    y, cache = sync_batch_norm_forward(x, gamma, beta, comm=Alone(), **options)
    y_alone, cache_alone = nn.batch_norm_forward(x, gamma, beta, **options)
    assert np.array_equal(y, y_alone)
    both = (
        sync_batch_norm_backward(dy, cache, comm=Alone()),
        nn.batch_norm_backward(dy, cache_alone),
    )
    for a, b in zip(*both, strict=True):
        assert a.dtype == np.float32
        assert np.isfinite(a).all()
        assert np.array_equal(a, b)


def test_a_part_of_a_batch_is_no_batch():
    _, cache = sync_batch_norm_forward(np.ones((2, 3)), comm=Alone())
    assert "part of a batch" in repr(cache)
    for call in (
        lambda: nn.batch_norm_backward(np.ones((2, 3)), cache),
        lambda: nn.jvp(cache, x_dot=np.ones((2, 3))),
        lambda: nn.double_backward(np.ones((2, 3)), cache, ddx=np.ones((2, 3))),
    ):
        with pytest.raises(TypeError, match="SyncCache"):
            call()


def test_the_module_needs_nothing_but_numpy():
    code = "import sys, numpy_norms.distributed; sys.exit('mpi4py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 0

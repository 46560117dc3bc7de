"""Jobs of several processes: MPI ranks, bounded in time, with all their output."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from extras import need

TESTS = Path(__file__).parent
SECONDS = 120


def environment(**more):
    """Return the environment of a process that imports this checkout and has one thread."""
    threads = dict.fromkeys(["NUMPY_NORMS_NUM_THREADS", "OMP_NUM_THREADS"], "1")
    paths = [str(TESTS.parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}


def mpi(n, *command, seconds=SECONDS):
    """Run Python on n ranks; return what came of it. A job that hangs is ended, and fails."""
    need("mpi4py")
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip("needs mpiexec: pip install '.[test-all]'")
    arguments = [mpiexec, "-n", str(n), sys.executable, *map(str, command)]
    process = subprocess.Popen(
        arguments,
        env=environment(MPIEXEC_TIMEOUT=str(seconds)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = process.communicate(timeout=seconds + 30)
    except subprocess.TimeoutExpired:
        process.terminate()  # mpiexec ends its ranks
        out, err = process.communicate(timeout=30)
        pytest.fail(f"the job hangs:\n{out}\n{err}")
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)

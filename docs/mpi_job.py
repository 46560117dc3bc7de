"""Runs an example on several ranks, as a terminal in docs/ would show it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent


def mpiexec(ranks: int, script: str) -> None:
    """Print the command line and what the job prints; raise if it fails, or takes minutes."""
    print(f"$ mpiexec -n {ranks} python -m mpi4py {script}")
    beside = Path(sys.executable).with_name("mpiexec")
    command = str(beside) if beside.exists() else shutil.which("mpiexec")
    assert command, "needs mpiexec: pip install '.[mpi]'"
    paths = [str(DOCS.parent), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [command, "-n", str(ranks), sys.executable, "-m", "mpi4py", script],
        cwd=DOCS,
        env={
            **os.environ,
            "MPIEXEC_TIMEOUT": "120",
            "NUMPY_NORMS_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
    )
    print(done.stdout, end="")
    done.check_returncode()

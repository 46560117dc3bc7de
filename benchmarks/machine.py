"""Where and with what a benchmark ran."""

from __future__ import annotations

import datetime
import os
import platform
import time
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import numpy_norms

THREAD_VARIABLES = ("OMP", "OPENBLAS", "MKL", "NUMPY_NORMS")
IDLE = 0.5  # load average above which something else is running


def cores() -> int:
    """Return the number of cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def setting(packages: Iterable[str] = ()) -> dict[str, Any]:
    """Describe the machine, the versions and the settings of a run."""
    names = [f"{name}_NUM_THREADS" for name in THREAD_VARIABLES]
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": processor(),
        "cores": cores(),
        "memory, GB": round(memory_bytes() / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "numpy_norms": numpy_norms.__version__,
        "numpy_norms threads": numpy_norms.get_num_threads(),
        "versions": {name: version_of(name) for name in ("numpy", *packages)},
        "blas": f"{blas['name']} {blas['version']}",
        "thread variables": {name: os.environ[name] for name in names if name in os.environ},
        "load average at the start": round(os.getloadavg()[0], 2),
    }


def warn_if_busy(where: dict[str, Any]) -> None:
    """Say so if something else was running."""
    load = where["load average at the start"]
    if load > IDLE:
        print(f"\nTHE MACHINE IS BUSY (load average {load:g}): these times say little.")


def version_of(package: str) -> str:
    """Return the version of an installed package, or "not installed"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def processor() -> str:
    """Return the name of the processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def memory_bytes() -> int:
    """Return the size of the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def best(run: Callable[[], object], repeats: int) -> float:
    """Return the shortest of several times of a call, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)

"""Measure memory: what is allocated beside the outputs, and files larger than memory.

    python -m benchmarks.memory            some minutes; 6 GB of memory and 2 GB of disk
    python -m benchmarks.memory --smoke    small arrays, to see that everything runs

Every measurement has a process of its own. Two parts:

allocations   what forward and backward allocate beside their outputs: the peak that `tracemalloc`
              sees, and the peak of resident memory; on the grid, and on 1 GiB
file          a file larger than the memory that the process may allocate (RLIMIT_DATA), by
              `np.memmap` into `out=`, also a `np.memmap`
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .command_line import keep, measuring, parsed
from .grid import DIRECTIONS, GRID, SMOKE, Entry
from .machine import setting
from .memory_cases import FAMILIES, MIB, entry_of

RESULTS = Path(__file__).parent / "results" / "memory.json"
ROOT = Path(__file__).parents[1]
PER_THREAD = 4 * MIB
MODES = ("float32", None)
WIDTH = 1024


def child(kind: str, **options: Any) -> Any:
    """Run one measurement in a fresh process and return its result."""
    command = [sys.executable, "-m", "benchmarks.memory_child"]
    asked = json.dumps({"kind": kind} | options)
    done = subprocess.run([*command, asked], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{asked} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def allocations(grid: Mapping[str, Sequence[Entry]]) -> Iterator[dict[str, Any]]:
    """Yield what both passes allocate, for every entry and mode."""
    print("\nallocated beside the outputs, MiB (in parentheses: resident)")
    for size, entries in grid.items():
        for entry in entries:
            for dtype in MODES:
                found = child("allocation", norm=entry.norm, shape=entry.shape, dtype=dtype)
                row = {"size": size, "norm": entry.norm, "dtype": dtype or "default"} | found
                cells = [
                    f"{d} {row[d]['traced'] / MIB:.2f} ({(row[d]['resident'] or 0) / MIB:.2f})"
                    for d in DIRECTIONS
                ]
                print(f"{size:8}{entry!s:28}{row['dtype']:8}", *cells, sep="  ", flush=True)
                yield row


def file(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield how it went to normalize a file under a memory limit that is smaller."""
    size, limit = int(options.file * MIB), int(options.limit * MIB)
    print(f"\na file of {options.file:g} MiB, by a process that may allocate {options.limit:g} MiB")
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        path = Path(folder) / "x.bin"
        write_file(path, size)
        for norm in ("layer", "batch"):
            for dtype in MODES[1:] if options.smoke else MODES:
                row = {"norm": norm, "dtype": dtype or "default", "limit": limit} | child(
                    "capped", path=str(path), norm=norm, width=WIDTH, dtype=dtype, limit=limit
                )
                print(norm, row["dtype"], row["seconds"], row["refused"], row["right"], sep="; ")
                yield row


def write_file(path: Path, size: int) -> None:
    """Write random float32 numbers, their mean and scale changing along the file."""
    piece = np.random.default_rng(0).standard_normal(min(size, 16 * MIB) // 4, dtype=np.float32)
    with path.open("wb") as stream:
        for i in range(size // piece.nbytes):
            (piece * np.float32(1 + i % 5) + np.float32(i % 7)).tofile(stream)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = measuring("memory", __doc__, RESULTS, smoke="small arrays")
    parser.add_argument("--scratch", help="folder for the two files (default: the system's)")
    parser.add_argument("--file", type=float, default=1024, help="MiB (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=256, help="MiB (default: %(default)s)")
    options = parsed(parser, arguments)
    grid = GRID | {"1 GiB": tuple(entry_of(family, 1024) for family in FAMILIES)}
    if options.smoke:
        grid, options.file = {"small": SMOKE["small"]}, options.limit + 32
    found = {"allocations": list(allocations(grid)), "file": list(file(options))}
    keep(options, setting(), **found)


if __name__ == "__main__":
    main()

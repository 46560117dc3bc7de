"""Measure memory: what is allocated, files larger than memory, and cost against size.

    python -m benchmarks.memory            some minutes; 13 GB of memory and 8 GB of disk for 4 GiB
    python -m benchmarks.memory --smoke    small arrays, to see that everything runs

Every measurement has a process of its own. Three parts:

allocations   what forward and backward allocate beside their outputs: the peak that `tracemalloc`
              sees, and the peak of resident memory. The aim is 4 MiB for each thread.
file          a file larger than the memory that the process may allocate (RLIMIT_DATA), by
              `np.memmap` into `out=`, also a `np.memmap`
cost          time against size, from 1 MiB to 4 GiB
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .command_line import keep, measuring, parsed
from .machine import setting
from .memory_cases import FAMILIES, MIB

RESULTS = Path(__file__).parent / "results" / "memory.json"
ROOT = Path(__file__).parents[1]
PER_THREAD = 4 * MIB
MODES = ("float32", None)
PARTS = ("allocations", "file", "cost")
GROWING = ("layer (n, 1024)", "batch (n, 64, 28, 28)")
WIDTH = 1024


def child(kind: str, **options: Any) -> Any:
    """Run one measurement in a fresh process and return its result."""
    command = [sys.executable, "-m", "benchmarks.memory_child"]
    asked = json.dumps({"kind": kind} | options)
    done = subprocess.run([*command, asked], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{asked} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def allocations(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield what both passes allocate, for every family, size and mode."""
    print(f"\nallocated beside the outputs, MiB for each thread (aim {PER_THREAD / MIB:g})")
    print(f"{'':24}{'x, MiB':>8} {'dtype':8}{'forward: traced':>17}{'resident':>10}", end="")
    print(f"{'backward: traced':>18}{'resident':>10}")
    for family in options.families:
        for size in options.sizes:
            for dtype in options.modes:
                found = child("allocation", family=family, mebibytes=size, dtype=dtype)
                row = {"family": family, "MiB": size, "dtype": dtype or "default"} | found
                cells = [
                    None if row[d][k] is None else row[d][k] / MIB / row["threads"]
                    for d in ("forward", "backward")
                    for k in ("traced", "resident")
                ]
                text = [" -" if c is None else f"{c:.2f}" for c in cells]
                print(f"{family:24}{size:8g} {row['dtype']:8}", end="")
                print("".join(f"{t:>{w}}" for t, w in zip(text, (17, 10, 18, 10), strict=True)))
                yield row


def file(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield how it went to normalize a file under a memory limit that is smaller."""
    size, limit = int(options.file * MIB), int(options.limit * MIB)
    print(f"\na file of {options.file:g} MiB, by a process that may allocate {options.limit:g} MiB")
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        path = Path(folder) / "x.bin"
        write_file(path, size)
        for norm in ("layer", "batch"):
            for dtype in options.modes:
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


def cost(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the time of both passes at growing sizes."""
    print("\nns for each element of x")
    for family in GROWING:
        for dtype in options.modes:
            asked = {"family": family, "mebibytes": options.growing, "dtype": dtype}
            rows = child("cost", **asked, repeats=3)
            for direction in ("forward", "backward"):
                cells = [
                    f"{r['bytes'] / MIB:.0f} MiB: {4e9 * r['seconds'] / r['bytes']:.2f}"
                    for r in rows
                    if r["direction"] == direction
                ]
                print(f"{family} {dtype or 'default'} {direction}: " + ", ".join(cells))
            yield from rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = measuring("memory", __doc__, RESULTS, smoke="small arrays")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--sizes", nargs="+", type=float, default=[16, 256, 1024], help="MiB")
    parser.add_argument("--largest", type=float, default=4096, help="MiB, of the cost's arrays")
    parser.add_argument("--scratch", help="folder for the two files (default: the system's)")
    parser.add_argument("--file", type=float, default=4096, help="MiB (default: %(default)s)")
    parser.add_argument("--limit", type=float, default=256, help="MiB (default: %(default)s)")
    options = parsed(parser, arguments)
    options.families, options.modes = list(FAMILIES), MODES
    options.growing = [4.0**i for i in range(7) if 4.0**i <= options.largest]
    if options.smoke:
        options.families, options.modes = list(GROWING), (None,)
        options.sizes, options.growing, options.file, options.limit = [1], [0.25, 1], 144, 128
    where = setting()
    keep(options, where, **{part: list(globals()[part](options)) for part in options.parts})


if __name__ == "__main__":
    main()

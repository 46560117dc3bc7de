"""One measurement of memory in a process of its own: `python -m benchmarks.memory_child JSON`.

The argument names the function and its options; the result goes to standard output as JSON.
"""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import numpy_norms

from .grid import Array, Entry
from .memory_cases import data, passes
from .memory_file import capped


def allocation(norm: str, shape: list[int], dtype: str | None) -> dict[str, Any]:
    """Measure what both passes allocate beside their outputs, scratch that is kept included."""
    entry = Entry(norm, tuple(shape))
    forward, backward = passes(entry, dtype)
    problem, small = data(entry), data(Entry(norm, (2, 16, 3, 3)[: len(shape)]))
    backward(small.dy, forward(*small.arguments)[1])  # modules that are imported when needed
    report: dict[str, Any] = {"shape": shape, "bytes": problem.x.nbytes}

    tracemalloc.start()
    before = _resident_from_here()
    y, cache = forward(*problem.arguments)
    held = _total([y, *_arrays(cache)])
    report["forward"] = _extra(held, before)

    tracemalloc.reset_peak()
    resident = _resident_from_here()
    gradients = backward(problem.dy, cache)
    made = _total(a for a in gradients if a is not None)
    report["backward"] = _extra(held + made, resident and resident - held)
    report["threads"] = numpy_norms.get_num_threads()
    return report


def _extra(outputs: int, before: int | None) -> dict[str, int | None]:
    peak = _status("VmHWM")
    return {
        "outputs": outputs,
        "traced": tracemalloc.get_traced_memory()[1] - outputs,
        "resident": None if before is None or peak is None else peak - before - outputs,
    }


def _arrays(value: Any) -> Iterable[Array]:
    """Yield the arrays that a cache holds beside the caller's own."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, tuple):
        fields: dict[str, Any] = getattr(value, "_asdict", dict)()
        for name, part in fields.items():
            if name not in ("x", "gamma", "beta"):
                yield from _arrays(part)


def _total(arrays: Iterable[Array]) -> int:
    """Return the bytes of the memory that arrays lie in, each counted once."""
    roots = {}
    for a in arrays:
        while isinstance(a.base, np.ndarray):
            a = a.base
        roots[id(a)] = a.nbytes
    return sum(roots.values())


def _resident_from_here() -> int | None:
    """Forget the peak of resident memory so far; return what is resident now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _status(name: str) -> int | None:
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.exists() else []
    found = [line.split()[1] for line in lines if line.startswith(f"{name}:")]
    return int(found[0]) * 1024 if found else None


KINDS: dict[str, Callable[..., Any]] = {"allocation": allocation, "capped": capped}

if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps(KINDS[asked.pop("kind")](**asked)))

"""``info``: what a bug report should say about the machine: versions, dtypes, threads, extras."""

from __future__ import annotations

import argparse
import json
import os
import platform
from decimal import Decimal
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

import numpy_norms
from numpy_norms.cli import OK, UsageError
from numpy_norms.commands.table import print_table, print_text
from numpy_norms.engine.threads import VARIABLE, get_num_threads

HELP = "show versions, facts about the dtypes, threads, the BLAS, and which extras are installed"
MISSING = "not installed"
# Distribution name and what this package does with it.
EXTRAS = {
    "torch": "check, judge, numpy_norms.verify.adapters",
    "jax": "numpy_norms.verify.adapters",
    "autograd": "numpy_norms.autograd",
    "ml_dtypes": "bfloat16 arrays",
    "mpmath": "golden export",
    "matplotlib": "sweep --png",
    "hypothesis": "numpy_norms.verify.strategies",
    "onnx": "numpy_norms.onnx",
    "safetensors": "reading a network's weights",
    "h5py": "reading those of Keras",
    "gguf": "reading .gguf",
    "dask": "numpy_norms.dask",
    "mpi4py": "numpy_norms.distributed",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `info`."""
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Print what is known, and return 0."""
    try:
        facts = gather()
    except ValueError as error:  # the environment variable for threads holds no number
        raise UsageError(str(error)) from None
    if args.json:
        print(json.dumps(facts, indent=1))
        return OK
    width = max(map(len, facts["versions"]))
    for name, value in facts["versions"].items():
        print_text(f"{name:<{width}}  {value}")
    print_text("")
    print_table(
        ["dtype", "roundoff", "largest", "smallest normal", "smallest"],
        [[row["dtype"], *(_short(row[key]) for key in NUMBERS)] for row in facts["dtypes"]],
    )
    print_text("")
    rows = [[extra["name"], extra["version"] or MISSING, extra["use"]] for extra in facts["extras"]]
    print_table(["extra", "version", "used by"], rows, align="lll")
    return OK


NUMBERS = ("roundoff", "largest", "smallest_normal", "smallest")


def gather() -> dict[str, Any]:
    """Return everything that `info` shows, as plain Python."""
    return {
        "versions": {
            "numpy_norms": numpy_norms.__version__,
            "Python": platform.python_version(),
            "NumPy": np.__version__,
            "BLAS": _blas(),
            "SIMD": _simd(),
            "machine": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count() or 1,
            "threads": get_num_threads(),
            VARIABLE: os.environ.get(VARIABLE, "not set"),
        },
        "dtypes": [_facts(dtype) for dtype in _dtypes()],
        "extras": [
            {"name": name, "version": _version(name), "use": use} for name, use in EXTRAS.items()
        ],
    }


def _dtypes() -> list[tuple[str, Any]]:
    own = [("float16", np.finfo(np.float16)), ("float32", np.finfo(np.float32))]
    own += [("float64", np.finfo(np.float64)), ("longdouble", np.finfo(np.longdouble))]
    try:
        ml_dtypes = import_module("ml_dtypes")
    except ImportError:
        return own
    return [own[0], ("bfloat16", ml_dtypes.finfo(ml_dtypes.bfloat16)), *own[1:]]


def _facts(dtype: tuple[str, Any]) -> dict[str, Any]:
    name, info = dtype
    numbers = (info.eps / 2, info.max, info.smallest_normal, info.smallest_subnormal)
    # As text: the numbers of longdouble are beyond what JSON and float64 hold.
    text = [str(n) if name == "longdouble" else repr(float(n)) for n in numbers]
    return {"dtype": name, **dict(zip(NUMBERS, text, strict=True))}


def _short(text: str) -> str:
    return f"{Decimal(text):.2e}"


def _blas() -> str:
    blas = _config().get("Build Dependencies", {}).get("blas", {})
    return " ".join(str(blas.get(key, "")) for key in ("name", "version")).strip() or "unknown"


def _simd() -> str:
    found = _config().get("SIMD Extensions", {})
    return " ".join([*found.get("baseline", []), *found.get("found", [])]) or "none found"


def _config() -> dict[str, Any]:
    config: Any = np.show_config(mode="dicts")
    return dict(config or {})


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None

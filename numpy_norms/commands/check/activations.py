"""Reads a user's own activations from a ``.npy`` or ``.npz`` file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numpy_norms.cli import UsageError

Array = NDArray[Any]
DTYPES = ("float16", "float32", "float64")
MAGIC = {b"\x93NUMPY": "npy", b"PK": "npz"}


def load_activations(path: str) -> dict[str, Array]:
    """Return the float arrays in the file at `path` by name; the array of an ``.npy`` is ``x``.

    Raises UsageError where the file cannot be read, is no NumPy file, holds pickled objects, has
    no float array, or has one with values that are not finite.
    """
    try:
        arrays = _read(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, MemoryError) as error:
        raise UsageError(f"cannot read {path}: {_reason(error)}") from error
    floats = {name: array for name, array in arrays.items() if _is_usable(array)}
    if not floats:
        raise UsageError(_nothing_usable(path, arrays))
    for name, array in floats.items():
        _refuse_non_finite(name, array)
    return {name: array.astype(array.dtype.newbyteorder("=")) for name, array in floats.items()}


def _read(path: str) -> dict[str, Array]:
    with Path(path).open("rb") as file:
        start = file.read(6)
    kind = next((kind for magic, kind in MAGIC.items() if start.startswith(magic)), None)
    if kind is None:
        raise UsageError(f"{path} is not a NumPy file; save the array with np.save or np.savez")
    loaded = np.load(path, allow_pickle=False)
    if kind == "npy":
        return {"x": loaded}
    with loaded:
        return {
            name: loaded[name] for name in loaded.files if f"{name}.npy" in loaded.zip.namelist()
        }


def _reason(error: Exception) -> str:
    if "allow_pickle" in str(error):
        return "it holds pickled Python objects, which are never loaded; save a float array"
    return f"the file is damaged or too large ({type(error).__name__}: {error})"


def _is_usable(array: Array) -> bool:
    return array.dtype.name in DTYPES and array.ndim > 0 and array.size > 0


def _nothing_usable(path: str, arrays: dict[str, Array]) -> str:
    found = ", ".join(f"{name} {a.dtype} {a.shape}" for name, a in arrays.items()) or "no array"
    cure = f"expected an array of {', '.join(DTYPES)} with at least one axis and one element"
    if any(array.dtype.kind == "V" for array in arrays.values()):
        cure += "; np.save drops the type of bfloat16 arrays: save x.astype(np.float32)"
    return f"{path} has no float array: found {found}; {cure}"


def _refuse_non_finite(name: str, array: Array) -> None:
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        raise UsageError(
            f"{name} has NaN or infinity at {len(bad)} of {array.size} indices, the first is "
            f"{tuple(map(int, bad[0]))}; pass finite activations"
        )

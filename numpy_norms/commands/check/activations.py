"""Reads a user's own activations from a ``.npy`` or ``.npz`` file."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numpy_norms.cli import UsageError
from numpy_norms.files import MAGIC, opened, read_npy, read_npz

Array = NDArray[Any]
DTYPES = ("float16", "float32", "float64")
LEAST, MOST = 1e-270, 1e90  # sizes that the routes to compare with, which cube them, can judge


def load_activations(path: str) -> dict[str, Array]:
    """Return the float arrays in the file at `path` by name; the array of an ``.npy`` is ``x``.

    Raises UsageError where the file cannot be read, is no NumPy file, holds pickled objects, has
    no float array, or has one with values that are not finite, or all too small or too large.
    """
    try:
        arrays = _read(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    arrays = {name if name.isprintable() else repr(name): a for name, a in arrays.items()}
    floats = {name: array for name, array in arrays.items() if _is_usable(array)}
    if not floats:
        raise UsageError(_nothing_usable(path, arrays))
    for name, array in floats.items():
        _refuse_non_finite(f"{name} in {path}", array)
        _refuse_extreme(f"{name} in {path}", array)
    return {name: array.astype(array.dtype.newbyteorder("=")) for name, array in floats.items()}


def _read(path: str) -> dict[str, Array]:
    with opened(path) as file:
        start = file.read(6)
    if start == MAGIC:
        return {"x": read_npy(path)}
    if start.startswith(b"PK"):
        return read_npz(path)
    raise UsageError(f"{path} is not a NumPy file; save the array with np.save or np.savez")


def _is_usable(array: Array) -> bool:
    return array.dtype.name in DTYPES and array.ndim > 0 and array.size > 0


def _nothing_usable(path: str, arrays: dict[str, Array]) -> str:
    found = ", ".join(f"{name} {a.dtype} {a.shape}" for name, a in arrays.items()) or "no array"
    cure = f"expected an array of {', '.join(DTYPES)} with at least one axis and one element"
    if any(array.dtype == "V2" for array in arrays.values()):
        cure += "; np.save drops the type of bfloat16 arrays: save x.astype(np.float32)"
    return f"{path} has no float array: found {found}; {cure}"


def _refuse_non_finite(name: str, array: Array) -> None:
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        raise UsageError(
            f"{name} has NaN or infinity at {len(bad)} of {array.size} indices, the first is "
            f"{tuple(map(int, bad[0]))}; pass finite activations"
        )


def _refuse_extreme(name: str, array: Array) -> None:
    size = float(np.abs(array).max())
    if size and not LEAST <= size <= MOST:
        raise UsageError(
            f"{name} has values up to {size:.2g}, but there is nothing to compare with beyond "
            f"{LEAST} to {MOST}; pass {name.split()[0]} / {size:.0e}"
        )

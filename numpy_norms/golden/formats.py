"""The number formats of the vectors: rounding to them, and how an array of each is stored."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class MissingExtra(ImportError):
    """A package that is needed beside NumPy is not installed; the message says which."""


@dataclass(frozen=True)
class Format:
    """A binary floating-point format, and the magnitudes that make trouble in it."""

    name: str
    digits: int  # binary digits of a significand, the hidden one included
    least: int  # exponent of the smallest subnormal number
    greatest: int  # every finite number is below 2^greatest
    mean: float  # mean/std ratio that a one-pass variance does not survive
    spike: float  # one outlier among values near 1
    large: float  # the square of this overflows the format
    small: float  # the square of this is far below any usual eps


FORMATS = {
    form.name: form
    for form in (
        Format("float16", 11, -24, 16, mean=500.0, spike=2e3, large=2.0**14, small=2.0**-12),
        Format("bfloat16", 8, -133, 128, mean=100.0, spike=1e8, large=2.0**100, small=2.0**-100),
        Format("float32", 24, -149, 128, mean=1e4, spike=1e8, large=2.0**100, small=2.0**-100),
        Format("float64", 53, -1074, 1024, mean=1e8, spike=1e8, large=2.0**660, small=2.0**-660),
    )
}


def representable(values: Array, form: Format) -> Array:
    """Round float64 `values` to numbers of the format, and return them as float64.

    For choosing inputs: a bfloat16 input is rounded twice, by way of float32.
    """
    if form.name == "bfloat16":
        return _from_bits(_bfloat16_bits(values.astype(np.float32)))
    return values.astype(form.name).astype(np.float64)


def encode(values: Array, form: Format) -> Array:
    """Return float64 `values`, all of them numbers of the format, as the array that is stored.

    Little-endian whatever the machine; bfloat16 as the 16 bits of each number, in uint16.
    """
    if form.name == "bfloat16":
        return _bfloat16_bits(values.astype(np.float32)).astype("<u2")
    return values.astype(np.dtype(form.name).newbyteorder("<"))


def decode(stored: Array, form: Format) -> Array:
    """Return what `encode` stored, as float64."""
    if form.name == "bfloat16":
        return _from_bits(stored.astype(np.uint16))
    return stored.astype(np.float64)


def dtype_of(form: Format) -> np.dtype[Any]:
    """Return the NumPy dtype of the format; bfloat16 is that of the package ml_dtypes.

    Raises
    ------
    MissingExtra
        If that package is needed and not installed.
    """
    return np.dtype(extra("ml_dtypes").bfloat16 if form.name == "bfloat16" else form.name)


def extra(package: str) -> Any:
    """Import a package that writing the vectors needs beside NumPy; MissingExtra without it."""
    try:
        return import_module(package)
    except ImportError:
        raise MissingExtra(
            f"this needs {package}, which is not installed; pip install mpmath ml_dtypes"
        ) from None


def _bfloat16_bits(values: Array) -> Array:
    bits = values.view(np.uint32)
    nearest_even = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    # Rounding carries a NaN's payload into the sign; any quiet NaN will do.
    nearest_even = np.where(np.isnan(values), np.uint32(0x7FC00000), nearest_even)
    return (nearest_even >> np.uint32(16)).astype(np.uint16)


def _from_bits(bits: Array) -> Array:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)

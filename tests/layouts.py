"""The same numbers in other memory: what a caller's arrays may look like."""

import numpy as np


def fortran(a):
    """First axis fastest."""
    return np.asfortranarray(a)


def strided(a):
    """Every third number of a wider array."""
    wide = np.full((*a.shape[:-1], 3 * a.shape[-1]), 7, dtype=a.dtype)
    wide[..., ::3] = a
    return wide[..., ::3]


def reversed_in_memory(a):
    """Negative strides on all axes."""
    back = (slice(None, None, -1),) * a.ndim
    return a[back].copy()[back]


def transposed(a):
    """The axes of memory turned round by one."""
    return np.moveaxis(np.moveaxis(a, 0, -1).copy(), -1, 0)


def window(a):
    """A part of a larger array."""
    large = np.pad(a, 2, constant_values=7)
    return large[(slice(2, -2),) * a.ndim]


def big_endian(a):
    """Bytes in the other order."""
    return a.astype(a.dtype.newbyteorder(">"))


def read_only(a):
    """Not to be written to."""
    a = a.copy()
    a.flags.writeable = False
    return a


def unaligned(a):
    """At an odd address."""
    raw = np.zeros(a.nbytes + 1, dtype=np.uint8)
    view = np.frombuffer(raw.data, dtype=a.dtype, offset=1, count=a.size).reshape(a.shape)
    view[...] = a
    return view


LAYOUTS = [
    fortran,
    strided,
    reversed_in_memory,
    transposed,
    window,
    big_endian,
    read_only,
    unaligned,
]

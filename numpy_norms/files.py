"""Files that somebody else wrote: what they say of their size is checked before it is believed.

Whatever is wrong with a file is a ValueError that names it; an OSError says that it cannot be
opened. Nothing in a file is executed, and no pipe or device is waited for.
"""

from __future__ import annotations

import math
import os
import stat
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from os import PathLike
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .checks import one_line

Array = NDArray[Any]
Path = str | PathLike[str]

MAGIC = b"\x93NUMPY"
SMALL = 256 << 20  # bytes that a file may unpack to, however small it is
RATIO = 100  # beyond that, bytes for each byte of the file
UNPACKED = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}  # the most bytes made of one
CURE = "save it again with np.savez"


@contextmanager
def opened(path: Path, *, follow: bool = True) -> Iterator[BufferedReader]:
    """Open an ordinary file; a ValueError raised in the block is told with the file's name.

    Parameters
    ----------
    path : path
    follow : bool, default True
        Whether it may be a symbolic link.

    Raises
    ------
    ValueError
        If it is a pipe, a device or a directory, or whatever goes wrong in reading it.
    OSError
        If it cannot be opened.
    """
    name = os.fsdecode(path)
    if "\0" in name:
        raise ValueError(f"{name!r} is no name of a file")
    if not follow and os.path.islink(name):
        raise ValueError(f"{name} is a symbolic link, which is not followed here")

    def opener(path: str, flags: int) -> int:
        more = 0 if follow else getattr(os, "O_NOFOLLOW", 0)
        return os.open(path, flags | more | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait

    with open(name, "rb", opener=opener) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError(f"{name} is a pipe or a device; save it to an ordinary file")
        try:
            yield file
        except Damage as damage:
            raise ValueError(f"{name} {damage}") from None
        except MemoryError:
            raise ValueError(f"{name} needs more memory than there is") from None
        except Exception as error:  # of every kind that readers raise for bytes of any kind
            says = f"{type(error).__name__}: {one_line(error)}"
            raise ValueError(f"{name} is damaged ({says})") from None


class Damage(Exception):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


def size_of(file: IO[bytes]) -> int:
    """Return the bytes in an open file."""
    return os.fstat(file.fileno()).st_size


def read_bytes(path: Path, most: int, *, follow: bool = True) -> bytes:
    """Return what a file holds, if that is `most` bytes or fewer."""
    with opened(path, follow=follow) as file:
        if size_of(file) > most:
            raise Damage(f"holds {size_of(file)} bytes; at most {most} were expected")
        return file.read(most)


def read_npy(path: Path) -> Array:
    """Read the array of an ``.npy`` file."""
    with opened(path) as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise Damage("is not an .npy file; save the array with np.save")
        file.seek(0)
        return _array(file, size_of(file))


def read_npz(path: Path, *, follow: bool = True) -> dict[str, Array]:
    """Read the arrays of an ``.npz`` file by name."""
    with opened(path, follow=follow) as file:
        if not zipfile.is_zipfile(file):
            start = file.seek(0) or file.read(len(MAGIC))
            held = "a single array, as np.save writes it" if start == MAGIC else "no whole archive"
            raise Damage(f"is not an .npz file: it is {held}; {CURE}")
        with zipfile.ZipFile(file) as archive:
            members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
            if archive.infolist() and not members:
                raise Damage(f"is not an .npz file: it has no array, but {archive.namelist()[0]!r}")
            _check(members, size_of(file))
            found = {}
            for member in members:
                with archive.open(member) as stored:
                    found[member.filename.removesuffix(".npy")] = _array(stored, member.file_size)
                    if stored.read(1):  # reads to the end, so that the checksum is compared
                        raise Damage(f"has more in {member.filename!r} than its array")
            return found


def _check(members: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse members that are not to be read, before any of them is."""
    names = set()
    for member in members:
        name, packed = repr(member.filename), member.compress_size
        if member.flag_bits & 1:
            raise Damage(f"has the encrypted member {name}; {CURE}")
        if member.compress_type not in UNPACKED:
            raise Damage(f"has {name} compressed by method {member.compress_type}; {CURE}")
        if packed > size or member.file_size > packed * UNPACKED[member.compress_type]:
            raise Damage(f"is damaged: the size of {name} cannot be {member.file_size}")
        if name in names:
            raise Damage(f"has {name} twice; {CURE}")
        names.add(name)
    total = sum(member.file_size for member in members)
    if total > max(SMALL, RATIO * size):
        raise Damage(
            f"would take {total} bytes of memory, but has {size} itself; if that is meant, {CURE}, "
            "which packs nothing"
        )


def _array(file: IO[bytes], size: int) -> Array:
    """Read the one array in `file`, which has `size` bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise Damage(f"has version {version} of the .npy format, or names of fields; {CURE}")
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        shape, fortran_order, dtype = read[version[0]](file)
    if dtype.hasobject:
        raise Damage("holds pickled Python objects, which are never loaded; save arrays of numbers")
    if any(n < 0 for n in shape):
        raise Damage(f"is damaged: it has an array of shape {shape}")
    needed = math.prod(shape) * dtype.itemsize
    there = size - file.tell()
    if needed > there:
        raise Damage(f"is damaged: an array of {needed} bytes is said to be in {there}")
    if needed > _memory():
        raise Damage(f"has an array of {needed} bytes, more than the memory of this machine")
    array = np.empty(shape[::-1] if fortran_order else shape, dtype)
    rest = memoryview(array.reshape(-1).view(np.uint8) if needed else b"")  # type: ignore[arg-type]
    while rest:
        count = file.readinto(rest)  # type: ignore[attr-defined]
        if not count:
            raise Damage(f"is damaged: it ends {len(rest)} bytes early")
        rest = rest[count:]
    return array.T if fortran_order else array


def _memory() -> float:
    """Return the bytes of memory of this machine; infinity where that is not known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf

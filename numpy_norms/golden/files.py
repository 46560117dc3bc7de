"""The files of a set of vectors: archives that are the same byte for byte, JSON, and a manifest."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import file_digest
from pathlib import Path
from typing import IO, Any

import numpy as np

from numpy_norms.files import opened, read_bytes
from numpy_norms.golden.formats import Array

MANIFEST = "SHA256SUMS"
LINE = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)")
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays so that the file depends on nothing but their names and values.

    Sorted by name and stored uncompressed, the size of each in front of it: a program without a
    zip library reads the file from its first byte to the last.
    """
    with replaced(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", EPOCH)
            member.create_system = 3  # as on Unix, wherever it was written
            archive.writestr(member, _npy(arrays[name]))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with sorted keys, and no NaN in it."""
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    with replaced(path) as file:
        file.write(f"{text}\n".encode("ascii"))


def write_manifest(folder: Path, names: list[str]) -> None:
    """Write the SHA-256 of each file, in the form that ``sha256sum --check`` reads."""
    lines = [f"{digest(folder / name)}  {name}\n" for name in sorted(names)]
    with replaced(folder / MANIFEST) as file:
        file.write("".join(lines).encode("ascii"))


def read_manifest(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of the manifest.

    Raises
    ------
    ValueError
        If a line is no digest and name, a name leads out of the folder, or is there twice.
    """
    found: dict[str, str] = {}
    for line in read_bytes(folder / MANIFEST, 1 << 20, follow=False).decode("ascii").splitlines():
        parts = LINE.fullmatch(line)
        if not parts or parts["name"] in found:
            what = "is there twice" if parts else "is no digest and the name of a file beside it"
            raise ValueError(f"{line[:100]!r} {what}")
        found[parts["name"]] = parts["digest"]
    return found


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with opened(path, follow=False) as file:
        return file_digest(file, "sha256").hexdigest()


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that is to stand at `path` once it is whole; a link there is not followed."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        with part.open("xb") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array, order="C"), version=(1, 0))
    return buffer.getvalue()

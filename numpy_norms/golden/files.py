"""The files of a set of vectors: archives that are the same byte for byte, JSON, and a manifest."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from numpy_norms.golden.formats import Array

MANIFEST = "SHA256SUMS"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can hold


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays so that the file depends on nothing but their names and values.

    Sorted by name and stored uncompressed, the size of each in front of it: a program without a
    zip library reads the file from its first byte to the last.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", EPOCH)
            member.create_system = 3  # as on Unix, wherever it was written
            archive.writestr(member, _npy(arrays[name]))


def read_npz(path: Path) -> dict[str, Array]:
    """Return every array of an archive."""
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with sorted keys, and no NaN in it."""
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    path.write_bytes(f"{text}\n".encode("ascii"))


def write_manifest(folder: Path, names: list[str]) -> None:
    """Write the SHA-256 of each file, in the form that ``sha256sum --check`` reads."""
    lines = [f"{_digest(folder / name)}  {name}\n" for name in sorted(names)]
    (folder / MANIFEST).write_bytes("".join(lines).encode("ascii"))


def read_manifest(folder: Path) -> dict[str, bool]:
    """Return, for each file of the manifest, whether it is there and unchanged."""
    lines = (folder / MANIFEST).read_text("ascii").splitlines()
    expected = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    return {
        name: (folder / name).is_file() and _digest(folder / name) == digest
        for name, digest in expected.items()
    }


def _npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array, order="C"), version=(1, 0))
    return buffer.getvalue()


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()

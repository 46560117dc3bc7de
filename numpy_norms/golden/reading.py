"""Reading a folder of vectors: nothing in it is believed before it is compared with what it says.

The manifest says what the files are, `cases.json` which vectors they hold, and `cases` which there
must be: a case that is missing, unknown, or told otherwise is found, whoever wrote the manifest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from numpy_norms.files import read_bytes, read_npz
from numpy_norms.golden.cases import CASES_VERSION, Case, cases
from numpy_norms.golden.export import description, output_shapes
from numpy_norms.golden.files import MANIFEST, digest, read_manifest
from numpy_norms.golden.formats import Array, encode
from numpy_norms.golden.schema import SCHEMA_VERSION

CONTENTS, SCHEMA_FILE = "cases.json", "cases.schema.json"
MOST = 16 << 20  # bytes of cases.json


class BadVectors(ValueError):
    """The folder does not hold vectors that this version can read; the message says why."""


@cache
def known() -> dict[str, list[Case]]:
    """Return the cases that this version makes, by the file that they are in."""
    groups = groupby(cases(), key=lambda case: f"{case.norm}-{case.form.name}.npz")
    return {file: list(members) for file, members in groups}


def manifest(folder: Path) -> dict[str, str]:
    """Return what each file must be."""
    if not folder.is_dir():
        cure = "pass a folder" if folder.exists() else f"write one with golden export {folder}"
        raise BadVectors(f"{folder} is not a folder; {cure}")
    try:
        return read_manifest(folder)
    except FileNotFoundError:
        raise BadVectors(
            f"{folder} has no {MANIFEST}; write the vectors with golden export {folder}"
        ) from None
    except (ValueError, OSError) as error:
        raise BadVectors(f"{folder / MANIFEST} cannot be read: {error}") from None


def groups(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the groups of `cases.json` by file."""
    path = folder / CONTENTS
    try:
        contents = json.loads(read_bytes(path, MOST, follow=False))
        if not isinstance(contents, dict):
            raise ValueError("it holds no object; write the vectors again with golden export")
        _check_version(path, "schema", contents["schema_version"], SCHEMA_VERSION)
        _check_version(path, "cases", contents["generator"]["version"], CASES_VERSION)
        found = {group["file"]: group for group in contents["groups"]}
        if len(found) < len(contents["groups"]):
            raise ValueError("two groups are of one file")
        for file, group in found.items():
            if not isinstance(file, str) or not file.isprintable():
                raise ValueError(f"{file!r:.80} is the file of a group; a name was expected")
            if len({case["name"] for case in group["cases"]}) < len(group["cases"]):
                raise ValueError(f"two cases of {file} have one name")
    except BadVectors:
        raise
    except KeyError as error:
        raise BadVectors(f"{path} cannot be read: {error} is missing") from None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise BadVectors(f"{path} cannot be read: {_one_line(error)}") from None
    return found


def _check_version(path: Path, what: str, found: Any, ours: str) -> None:
    if str(found).split(".")[0] != ours.split(".")[0]:
        raise BadVectors(
            f"{path} has {what} version {found!s:.20}, but this version reads {ours}; "
            "write the vectors again with golden export"
        )


def problems(folder: Path, listed: Mapping[str, str], named: set[str]) -> dict[str, str]:
    """Return the files of the set that are not as the manifest and `cases.json` have them."""
    there = {p.name for p in folder.iterdir() if p.suffix == ".npz" or p.name == SCHEMA_FILE}
    found = {}
    for name in sorted({CONTENTS, *there, *named, *listed}):
        if name not in listed:
            found[name] = f"{name} is not in {MANIFEST}"
        elif change := _change(folder / name, listed[name]):
            found[name] = f"{name} {change}"
        elif name.endswith(".npz") and name not in named:
            found[name] = f"{name} is in no group of {CONTENTS}"
    return found


def differences(group: Mapping[str, Any], members: list[Case]) -> Iterator[str]:
    """Tell how a group of `cases.json` differs from the one that this version makes."""
    expected = description(group["file"], members)
    ours, theirs = ({case["name"]: case for case in g["cases"]} for g in (expected, group))
    for name in ours.keys() - theirs.keys():
        yield f"the case {name} is missing"
    for name in theirs.keys() - ours.keys():
        yield f"the case {name!r:.80} is none that this version makes"
    for name in ours.keys() & theirs.keys():
        if ours[name] != theirs[name]:
            yield f"the case {name} is not told as this version makes it"
    for key in expected.keys() | group.keys():
        if key != "cases" and expected.get(key) != group.get(key):
            yield f"{key!r:.80} is {group.get(key)!r:.80}, but {expected.get(key)!r} was expected"


def arrays(folder: Path, file: str, members: list[Case]) -> dict[str, Array]:
    """Return the arrays of a file, among which all of its cases are, with the right inputs."""
    try:
        found = read_npz(folder / file, follow=False)
    except (ValueError, OSError) as error:
        raise BadVectors(_one_line(error)) from None
    for case in members:
        inputs = {"eps": np.array(case.eps, "<f8")}
        inputs |= {name: encode(values, case.form) for name, values in case.arrays.items()}
        stored = encode(np.zeros(1), case.form).dtype
        wanted: dict[str, tuple[Any, Any]] = {n: (a.shape, a.dtype) for n, a in inputs.items()}
        for name, shape in output_shapes(case).items():
            wanted |= {name: (shape, stored), f"{name}.float64": (shape, np.dtype("<f8"))}
            wanted[f"{name}.tolerance"] = wanted[f"{name}.float64"]
        for name, kind in wanted.items():
            array = found.get(f"{case.name}/{name}")
            if array is None or (array.shape, array.dtype) != kind:
                raise BadVectors(f"{file} has no {case.name}/{name} of shape {kind[0]}, {kind[1]}")
            if name in inputs and array.tobytes() != inputs[name].tobytes():
                raise BadVectors(f"{file} has another {case.name}/{name} than this version makes")
    return found


def _change(path: Path, expected: str) -> str:
    """Return what is wrong with a file, or nothing."""
    try:
        return "" if digest(path) == expected else "was changed"
    except FileNotFoundError:
        return "is missing"
    except (OSError, ValueError) as error:
        return f"cannot be read: {_one_line(error)}"


def _one_line(error: Exception) -> str:
    return " ".join(f"{error}".split())[:300] or type(error).__name__

"""Checking a folder of vectors, and this library against them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import numpy_norms
from numpy_norms.golden.files import MANIFEST, read_manifest, read_npz
from numpy_norms.golden.formats import FORMATS, Array, MissingExtra, dtype_of
from numpy_norms.golden.schema import SCHEMA_VERSION

Progress = Callable[[str], None]


class BadVectors(ValueError):
    """The folder does not hold vectors that this version can read; the message says why."""


@dataclass(frozen=True)
class Verdict:
    """What the check of one group came to.

    `rounded` of `values` elements of y and of the gradients are the correctly rounded numbers, and
    `worst` is the largest error in units of its tolerance; `failures` has a line for each array
    that is out of tolerance. `skipped` says why nothing was computed.
    """

    file: str
    cases: int = 0
    values: int = 0
    rounded: int = 0
    worst: float = 0.0
    failures: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing was out of tolerance."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as plain Python."""
        return {"passed": self.passed, **asdict(self)}


def verify(folder: Path, *, progress: Progress = lambda line: None) -> Iterator[Verdict]:
    """Check every file against the manifest, and this library against every group.

    Raises
    ------
    BadVectors
        If the manifest or `cases.json` is missing, unreadable, or of another schema.
    """
    unchanged = _manifest(folder)
    contents = _contents(folder)
    listed = {group["file"] for group in contents["groups"]}
    for name in sorted(unchanged.keys() - listed):
        if not unchanged[name]:
            yield Verdict(name, failures=(f"{name} is missing or was changed",))
    for group in contents["groups"]:
        progress(group["file"])
        if not unchanged.get(group["file"], False):
            reason = f"{group['file']} is missing, was changed, or is not in {MANIFEST}"
            yield Verdict(group["file"], failures=(reason,))
            continue
        try:
            dtype = dtype_of(FORMATS[group["dtype"]])
        except MissingExtra:
            yield Verdict(group["file"], skipped="ml_dtypes not installed")
            continue
        yield _judge_group(group, read_npz(folder / group["file"]), dtype)


def _judge_group(group: dict[str, Any], arrays: dict[str, Array], dtype: np.dtype[Any]) -> Verdict:
    rounded = values = 0
    worst, failures = 0.0, []
    for case in group["cases"]:
        got = _run(group, case, arrays, dtype)
        for name in case["outputs"]:
            path = f"{case['name']}/{name}"
            target, expected = arrays[path], arrays[f"{path}.float64"]
            allowed = arrays[f"{path}.tolerance"]
            if name not in ("mean", "rstd"):  # those stay in the working dtype
                values += target.size
                rounded += int(np.sum(_same(got[name], target)))
            ratio = _ratio(got[name].astype(np.float64), expected, allowed)
            worst = max(worst, float(ratio.max(initial=0)))
            if np.any(ratio > 1):
                failures.append(_failure(path, case, got[name], expected, allowed, ratio))
    return Verdict(group["file"], len(group["cases"]), values, rounded, worst, tuple(failures))


def _run(
    group: dict[str, Any], case: dict[str, Any], arrays: dict[str, Array], dtype: np.dtype[Any]
) -> dict[str, Array]:
    """Return every output of this library for one case."""
    inputs = {name: arrays[f"{case['name']}/{name}"] for name in case["inputs"]}
    eps = float(inputs.pop("eps"))
    if group["dtype"] == "bfloat16":  # stored as bits
        inputs = {name: bits.view(dtype) for name, bits in inputs.items()}
    dy = inputs.pop("dy")
    options = {k: tuple(v) if k == "axis" else v for k, v in case["options"].items()}
    forward = getattr(numpy_norms, f"{group['norm']}_forward")
    y, cache = forward(**inputs, **options, eps=eps)
    names = ["x", "running_mean", "running_var", "gamma", "beta"]
    gradients = getattr(numpy_norms, f"{group['norm']}_backward")(dy, cache)
    order = [f"d{name}" for name in names if name in inputs]
    return {"y": y, "mean": cache.mean, "rstd": cache.rstd} | dict(
        zip(order, gradients, strict=True)
    )


def _ratio(got: Array, expected: Array, allowed: Array) -> Array:
    """Return the error in units of the tolerance; infinite where there is no tolerance for it."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        error = np.abs(got - expected)
        ratio = np.where(error == 0, 0.0, error / allowed)
    ratio = np.where(np.isnan(ratio), np.inf, ratio)
    return np.where(np.isnan(expected), np.where(np.isnan(got), 0.0, np.inf), ratio)


def _same(got: Array, target: Array) -> Array:
    """Return where the numbers are the same, or both are NaN."""
    if target.dtype == np.uint16:  # the bits of bfloat16
        bits = target.astype(np.uint32) << np.uint32(16)
        target, got = bits.view(np.float32), got.astype(np.float32)
    same: Array = (got == target) | (np.isnan(got) & np.isnan(target))
    return same


def _failure(
    path: str, case: dict[str, Any], got: Array, expected: Array, allowed: Array, ratio: Array
) -> str:
    at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    index = ", ".join(str(int(i)) for i in at)
    numbers = f"{float(got[at]):.9g}, expected {expected[at]:.9g} +- {allowed[at]:.2g}"
    return f"{path}[{index}] is {numbers} (flags {', '.join(case['flags'])})"


def _manifest(folder: Path) -> dict[str, bool]:
    if not folder.is_dir():
        raise BadVectors(f"{folder} is not a folder; write one with golden export --out {folder}")
    try:
        return read_manifest(folder)
    except FileNotFoundError:
        raise BadVectors(
            f"{folder} has no {MANIFEST}; write the vectors with golden export --out {folder}"
        ) from None
    except (ValueError, OSError) as error:
        raise BadVectors(f"{folder / MANIFEST} cannot be read: {error}") from None


def _contents(folder: Path) -> dict[str, Any]:
    path = folder / "cases.json"
    try:
        contents: dict[str, Any] = json.loads(path.read_bytes())
        found = str(contents["schema_version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadVectors(f"{path} cannot be read: {error!r}") from None
    if found.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise BadVectors(
            f"{path} has schema version {found}, but this version reads {SCHEMA_VERSION}; "
            "write the vectors again with golden export"
        )
    return contents

"""Checking a folder of vectors, and this library against them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import numpy_norms
from numpy_norms.golden import reading
from numpy_norms.golden.formats import Array, MissingExtra, dtype_of

Progress = Callable[[str], None]


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

    What was checked is never nothing: a folder without a single case is a failure.

    Raises
    ------
    BadVectors
        If the manifest, `cases.json` or an archive cannot be read, or is of another version.
    """
    listed, groups = reading.manifest(folder), reading.groups(folder)
    wrong, known = reading.problems(folder, listed, set(groups)), reading.known()
    for name in wrong.keys() - groups.keys():
        yield Verdict(name, failures=(wrong[name],))
    checked, told = 0, bool(wrong)
    for file, group in groups.items():
        progress(file)
        members = known.get(file, [])
        failures = [wrong[file]] if file in wrong else []
        if not members:
            failures.append(f"{file} is none of the files that this version makes")
        elif not failures:
            failures += [f"{file}: {line}" for line in sorted(reading.differences(group, members))]
        if failures:
            told = True
            yield Verdict(file, failures=tuple(failures))
            continue
        try:
            dtype = dtype_of(members[0].form)
        except MissingExtra:
            yield Verdict(file, skipped="ml_dtypes not installed")
            continue
        checked += len(members)
        yield _judge_group(group, reading.arrays(folder, file, members), dtype)
    if not checked and not told:
        yield Verdict(reading.CONTENTS, failures=("no case was checked",))


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

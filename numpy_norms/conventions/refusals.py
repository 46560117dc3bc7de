"""What `load` refuses: words, names, shapes and numbers that cannot be meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from .table import Convention, convention

Array = NDArray[Any]

OURS = ("gamma", "beta", "running_mean", "running_var")
STATISTICS = OURS[2:]
FACTOR = "factor"  # Caffe's third blob


def check_kinds(prefix: Any, names: Any, without: Any, fix_gamma: Any) -> None:
    """Refuse what is no text, and one word where several are expected."""
    if not isinstance(prefix, str):
        raise TypeError(
            f"prefix is {checks.shown(prefix)}, but text was expected; pass prefix='bn1', say"
        )
    if not (names is None or isinstance(names, Mapping)) or not all(
        isinstance(name, str) for name in (names or {}).values()
    ):
        raise TypeError(
            f"names is {checks.shown(names)}, but our names with those of the state were expected; "
            "pass names={'gamma': 'g'}, say"
        )
    if isinstance(without, str) or not np.iterable(without):
        cure = f"[{without!r}]" if isinstance(without, str) else "without=['beta'], say"
        raise TypeError(
            f"without is {checks.shown(without)}, but several names were expected; pass {cure}"
        )
    if not isinstance(fix_gamma, bool | np.bool_ | None):
        raise TypeError(f"fix_gamma is {checks.shown(fix_gamma)}; pass True or False")


def check_words(row: Convention, given: Collection[str], without: Collection[str]) -> None:
    """Refuse names of parameters that we do not have."""
    known = (*OURS, *((FACTOR,) if row.framework == "caffe" else ()))
    for argument, words in (("without", without), ("names", given)):
        unknown = [word for word in words if not isinstance(word, str) or word not in known]
        if unknown:
            raise ValueError(
                f"{argument} names {checks.shown(unknown[0])}; pass some of "
                f"{', '.join(map(repr, row.names))}, which {row.norm} has"
            )


def cure(arrays: Mapping[str, Any], path: str, names: Mapping[str, str]) -> str:
    """What to do about a name that is missing."""
    if not arrays:
        return "the state is empty"
    here = [n for n in arrays if n.startswith(path) and (path or not {".", "/"} & {*n})]
    if here:
        return (
            f"under {path!r} there are {', '.join(sorted(here)[:8])}; name the parameters that the "
            "layer was built without in without=, those with other names in names=, or pass norm="
        )
    last = next(iter(names.values())).removeprefix(path)
    others = sorted(name.removesuffix(last)[:-1] for name in arrays if name.endswith(last))
    if others:
        wrong = f"no name begins with {path!r}" if path else "no prefix was given"
        return f"{wrong}; prefixes that do exist: {', '.join(others[:8])}"
    return (
        f"no name begins with {path!r}, and none ends in {last!r}; there are "
        f"{', '.join(sorted(arrays)[:8])}; pass the framework and prefix that norms_in(state) lists"
    )


def check_unused(
    arrays: Mapping[str, Any],
    path: str,
    places: Mapping[str, str],
    row: Convention,
    without: Collection[str],
) -> None:
    """Refuse to leave out what changes the framework's results."""
    of_batch = convention(row.framework, "batch_norm").names
    for ours, theirs in of_batch.items():
        name = path + theirs
        if name not in arrays or ours in without or name in places.values():
            continue
        if ours in STATISTICS:
            raise ValueError(
                f"{name!r} is a running statistic, which {row.framework} uses in evaluation and "
                f"{row.norm} does not; pass norm='batch_norm', for batch_norm_inference_forward, "
                "or, to normalize with the statistics of the input, "
                f"without=('running_mean', 'running_var')"
            )
        raise ValueError(
            f"{name!r} is there, and {row.framework}'s {row.norm} has no {ours}; pass another "
            f"norm=, or without=({ours!r},) to leave it out"
        )


def check_shapes(found: Mapping[str, Array], names: Mapping[str, str], row: Convention) -> None:
    """Refuse arrays that cannot be one norm's."""
    shapes = {names[ours]: a.shape for ours, a in found.items()}
    for name, shape in shapes.items():
        first = next(iter(shapes))
        if row.shape == "C" and len(shape) != 1:
            raise ValueError(
                f"{name} has shape {shape}, but one number for each channel is expected; pass "
                f"{name}.reshape(-1)"
            )
        if shape != shapes[first]:
            raise ValueError(
                f"{name} has shape {shape}, but {first} has {shapes[first]}; "
                "the arrays of one norm have one shape: look for a mix-up of layers"
            )


def check_statistics(found: Mapping[str, Array], names: Mapping[str, str]) -> None:
    """Refuse statistics that no training leaves behind."""
    for ours in STATISTICS:
        if ours in found:
            checks.finite(names[ours], found[ours])
    if "running_var" in found:
        checks.variance(names["running_var"], found["running_var"], found["running_var"].shape)

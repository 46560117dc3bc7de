"""Tables that are made from the package's own data, so that a page cannot disagree with it."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy_norms
from numpy_norms.conventions import CONVENTIONS


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_text, line))} |" for line in lines)


def _text(value: Any) -> str:
    return (
        ""
        if value is None
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def convention_table(norm: str) -> str:
    """Show what every framework means by `norm`."""
    fields = (
        "eps", "momentum", "momentum_weighs", "estimator", "channel_axis", "eps_place",
        "gamma", "beta", "running_mean", "running_var", "shape",
    )  # fmt: skip
    every = [c for c in CONVENTIONS if c.norm == norm]
    used = [f for f in fields if any(getattr(c, f) is not None for c in every)]
    header = ["", *[field.replace("_", " ") for field in used]]
    return table(
        header, [[c.framework, *[getattr(c, f) for f in used]] for c in every]
    )


def eps_table() -> str:
    """Show every framework's default eps for each norm, and this library's."""
    norms = [
        "batch_norm",
        "layer_norm",
        "group_norm",
        "instance_norm",
        "rms_norm",
    ]
    defaults = {(c.framework, c.norm): c.eps for c in CONVENTIONS}
    frameworks = [f for f, n in defaults if n == norms[0] and defaults[f, n]]
    ours = [
        signature(getattr(numpy_norms, f"{norm}_forward"))
        .parameters["eps"]
        .default
        for norm in norms
    ]
    rows = [[f, *[defaults.get((f, n)) for n in norms]] for f in frameworks]
    header = ["", *[norm.replace("_", " ") for norm in norms]]
    return table(header, [*rows, ["numpy_norms", *ours]])

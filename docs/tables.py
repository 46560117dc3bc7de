"""Tables that are made from the package's own data, so that a page cannot disagree with it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from inspect import signature
from typing import Any

import numpy_norms
from numpy_norms.conventions import CONVENTIONS


class Table:
    """Rows under a header, as the pages show them."""

    def __init__(
        self, header: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        self.header = header
        self.rows = rows

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(name)}</th>" for name in self.header)
        body = "".join(
            "<tr>"
            + "".join(f"<td>{escape(_text(value))}</td>" for value in row)
            + "</tr>"
            for row in self.rows
        )
        return (
            f'<table class="dataframe table"><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table>"
        )


def _text(value: Any) -> str:
    return (
        ""
        if value is None
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def convention_table(norm: str) -> Table:
    """Show what every framework means by `norm`."""
    fields = (
        "eps", "eps_place", "gamma", "beta", "shape", "channel_axis",
        "momentum", "momentum_weighs", "estimator", "running_mean", "running_var",
    )  # fmt: skip
    every = [c for c in CONVENTIONS if c.norm == norm]
    used = [f for f in fields if any(getattr(c, f) is not None for c in every)]
    header = ["", *[field.replace("_", " ") for field in used]]
    return Table(
        header, [[c.framework, *[getattr(c, f) for f in used]] for c in every]
    )


def eps_table() -> Table:
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
    return Table(header, [*rows, ["numpy_norms", *ours]])

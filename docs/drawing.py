"""Pictures that take the colours of the page they stand on, light or dark.

A `Picture` is inline SVG with text and frames in `currentColor` and with a transparent
background. The other colours are of middle lightness, so that both backgrounds carry them.
"""

from __future__ import annotations

import io
import re
from hashlib import sha256
from html import escape
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

# Told apart by readers with any common colour blindness, and by lightness where they touch.
BLUE, RED, GREEN, OCHRE, PURPLE, GRAY, PINK = (
    "#2b7fd4", "#dd5a2b", "#159a72", "#bd8a0e", "#9a63c4", "#7d8790", "#d6508f",
)  # fmt: skip
COLOURS = (BLUE, RED, GREEN, OCHRE, PURPLE, GRAY, PINK)
INK = "#010203"  # stands for the page's text colour until the SVG is written

STYLE: dict[str, Any] = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 10,
    "axes.titlesize": 10,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "path.simplify": False,  # which points it drops depends on roundings
    "savefig.facecolor": "none",
    "svg.fonttype": "path",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}

# What matplotlib writes for a cell of `pcolormesh`.
CELL = re.compile(
    r'<path d="M (\S+) (\S+) L (\S+) \2 L \3 (\S+) L \1 \4 L \1 \2 z?\s*"[^>]*?'
    r'style="fill: (#\w+|none)(?:; fill-opacity: ([\d.]+))?; stroke: [^"]*"/>'
)

# Zero is transparent: the page shows through, and only what is not zero has a colour.
SIGNED = LinearSegmentedColormap.from_list(
    "signed",
    [(0, RED + "e0"), (0.5, RED + "00"), (0.5, BLUE + "00"), (1, BLUE + "e0")],
)


class Picture:
    """A drawing with a description for readers who do not see it."""

    def __init__(self, figure: Figure, alt: str) -> None:
        self.svg = _svg(figure, alt)
        self.alt = alt

    def __repr__(self) -> str:
        return f"Picture({self.alt!r})"

    def _repr_html_(self) -> str:
        return f'<figure class="drawing">{self.svg}</figure>'

    def file_text(self, ink: str) -> str:
        """Return the SVG for a file of its own, its text in the colour `ink`."""
        return self.svg.replace("currentColor", ink)


def canvas(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> Any:
    """Return (figure, axes) as `pyplot.subplots` does, but with no global state."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, **options)


def blank(ax: Axes) -> Axes:
    """Take the frame and the ticks away and keep the axes' aspect."""
    ax.set_axis_off()
    ax.set_aspect("equal")
    return ax


def _svg(figure: Figure, alt: str) -> str:
    salt = sha256(f"{alt}{figure.get_size_inches()}".encode()).hexdigest()[:8]
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": salt}):
        stream = io.StringIO()
        figure.savefig(
            stream, format="svg", metadata={"Date": None, "Creator": None}
        )
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Ids must differ between the pictures of one page.
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>p{salt}-", text)
    text = re.sub(r"\s+", " ", text).replace("> <", "><")
    text = re.sub(r' d="[^"]*"', _hundredths, text)
    text = CELL.sub(_short_cell, text)
    return text.replace(
        "<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1
    )


def _short_cell(cell: re.Match[str]) -> str:
    """Write one cell of a table in a fourth of the characters."""
    x, y, right, bottom, fill, opacity = cell.groups()
    faint = f' fill-opacity="{float(opacity):.2f}"' if opacity else ""
    return (
        f'<path d="M{x} {y}H{right}V{bottom}H{x}z" fill="{fill}"{faint}'
        f' stroke="{GRAY}" stroke-opacity=".25" stroke-width=".3"/>'
    )


def _hundredths(path: re.Match[str]) -> str:
    """Drop the digits that a drawing of this size does not need."""
    return re.sub(r"(?<=\d\.\d\d)\d+", "", path[0])


def lines(
    series: dict[str, tuple[Any, Any]],
    *,
    xlabel: str,
    ylabel: str,
    alt: str,
    log: str = "",
    size: tuple[float, float] = (5.4, 3.6),
    marker: str = "o",
) -> Picture:
    """Draw one line for each name -> (x, y); `log` names the logarithmic axes, "x", "y" or "xy"."""
    figure, ax = canvas(*size)
    with matplotlib.rc_context(STYLE):
        for (name, (x, y)), style in zip(
            series.items(),
            ("-", "--", "-.", ":", "-", "--", "-."),
            strict=False,
        ):
            ax.plot(x, y, style, marker=marker, markersize=3.5, label=name)
        if "x" in log:
            ax.set_xscale("log")
        if "y" in log:
            ax.set_yscale("log")
        ax.set(xlabel=xlabel, ylabel=ylabel)
        ax.grid(True)
        if len(series) > 1:
            columns = 2 if len(series) > 3 else len(series)
            ax.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=columns
            )
    return Picture(figure, alt)


def bars(
    groups: dict[str, Any],
    labels: list[str],
    *,
    ylabel: str,
    alt: str,
    total: tuple[str, Any] | None = None,
    size: tuple[float, float] = (5.4, 3.2),
    log: bool = False,
) -> Picture:
    """Draw a bar per name for each label, and `total` as a mark over them."""
    figure, ax = canvas(*size)
    with matplotlib.rc_context(STYLE):
        place, width = np.arange(len(labels)), 0.8 / len(groups)
        for k, (name, values) in enumerate(groups.items()):
            shift = (k - (len(groups) - 1) / 2) * width
            ax.bar(place + shift, values, width * 0.92, label=name)
        if total is not None:
            ax.plot(
                place, total[1], "D", color=INK, markersize=5, label=total[0]
            )
        if log:
            ax.set_yscale("log")
        ax.axhline(0, color=INK, linewidth=0.8)
        ax.set_xticks(place, labels)
        ax.set_ylabel(ylabel)
        if len(groups) > 1 or total is not None:
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncol=2)
    return Picture(figure, alt)


def matrices(
    tables: dict[str, Any],
    *,
    alt: str,
    numbers: bool = False,
    columns: int = 3,
    cell: float = 0.1,
    scale: float | None = None,
) -> Picture:
    """Draw each matrix as cells, blue above zero and red below, on one scale about zero.

    `scale` is the value of the fullest colour; without it each matrix has its own.
    """
    rows = -(-len(tables) // columns)
    widest = max(np.shape(t)[1] for t in tables.values())
    tallest = max(np.shape(t)[0] for t in tables.values())
    size = (columns * (widest * cell + 0.35), rows * (tallest * cell + 0.5))
    figure, axes = canvas(*size, rows, columns, squeeze=False)
    with matplotlib.rc_context(STYLE):
        for ax, (name, table) in zip(axes.flat, tables.items(), strict=False):
            _matrix(ax, np.asarray(table), name, numbers, scale)
        for ax in axes.flat[len(tables) :]:
            blank(ax)
    return Picture(figure, alt)


def _matrix(
    ax: Axes, table: Any, name: str, numbers: bool, scale: float | None
) -> None:
    top = scale or np.max(np.abs(table)) or 1.0
    ax.pcolormesh(
        table,
        cmap=SIGNED,
        vmin=-top,
        vmax=top,
        edgecolors=GRAY + "40",
        linewidth=0.3,
    )
    if numbers:
        for (i, j), value in np.ndenumerate(table):
            ax.text(
                j + 0.5,
                i + 0.5,
                f"{round(value, 2) + 0.0:.2f}",
                ha="center",
                va="center",
                fontsize=9,
            )
    ax.set_aspect("equal")
    ax.invert_yaxis()
    ax.set_title(name)
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(True)

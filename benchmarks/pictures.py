"""The plots of the measurements, from their JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib

from .contenders import CONTENDERS, DEFAULT, FLOAT32, PLAIN, TORCH
from .grid import DIRECTIONS

sys.path.append(str(Path(__file__).parents[1] / "docs"))

from drawing import BLUE, GREEN, INK, PURPLE, RED, STYLE, Picture, canvas

MARKS = {FLOAT32: (BLUE, "o"), DEFAULT: (GREEN, "s"), TORCH: (PURPLE, "P"), PLAIN: (RED, "^")}


def side_by_side(report: dict[str, Any]) -> Picture:
    """Draw every contender's time as a multiple of PyTorch's, one line for each entry."""
    results = [r for r in report["results"] if TORCH in r["times"]]
    entries = list(dict.fromkeys(map(_entry, results)))
    places = {entry: -i - sizes_before(entries, i) for i, entry in enumerate(entries)}
    figure, axes = canvas(8.6, 1.4 + 0.24 * len(entries), 1, 2, sharey=True, squeeze=False)
    with matplotlib.rc_context(STYLE):
        for ax, direction in zip(axes.flat, DIRECTIONS, strict=True):
            rows = [r for r in results if r["direction"] == direction]
            for name in [c.name for c in CONTENDERS if c.name != TORCH]:
                colour, marker = MARKS[name]
                x = [r["times"][name]["min"] / r["times"][TORCH]["min"] for r in rows]
                y = [places[_entry(r)] for r in rows]
                ax.plot(x, y, marker, color=colour, markersize=5, label=name)
            ax.axvline(1, color=INK, linewidth=0.8)
            ax.set(xscale="log", title=direction, xlabel=f"time / {TORCH}'s time")
            ax.grid(True, axis="x")
        axes.flat[0].set_yticks(list(places.values()), [name for _, name in places])
        figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncol=3)
    alt = (
        "For every entry of the grid, forward and backward, the times of this library in both "
        "modes and of the textbook formula in NumPy, as multiples of PyTorch's."
    )
    return Picture(figure, alt)


def sizes_before(entries: list[tuple[str, str]], i: int) -> int:
    """Return how many sizes come before that of entry `i`: so many gaps lie above its line."""
    return len({size for size, _ in entries[: i + 1]}) - 1


def correctly_rounded(report: dict[str, Any]) -> Picture:
    """Draw the share of correctly rounded results of layer norm against mean / std."""
    rows = [r for r in report["rows"] if r["norm"] == "layer"]
    figure, axes = canvas(8.6, 3.6, 1, 2, sharey=True, squeeze=False)
    with matplotlib.rc_context(STYLE):
        for ax, key in zip(axes.flat, ("y", "dx"), strict=True):
            for name in dict.fromkeys(r["contender"] for r in rows):
                colour, marker = MARKS[name]
                own = [r for r in rows if r["contender"] == name]
                x = [max(r["ratio"], 0.1) for r in own]
                y = [100 * r[key]["share"] for r in own]
                ax.plot(x, y, "-", marker=marker, color=colour, markersize=4, label=name)
            ax.set(xscale="log", title=key, xlabel="mean / standard deviation (at the left: 0)")
            ax.grid(True)
        axes.flat[0].set_ylabel("correctly rounded, %")
        figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncol=4)
    alt = (
        "Share of correctly rounded y and dx of layer norm against mean / standard deviation. "
        "numpy_norms stays at 100 %, its float32 mode near half, the others fall to zero."
    )
    return Picture(figure, alt)


def _entry(result: dict[str, Any]) -> tuple[str, str]:
    shape = "×".join(map(str, result["shape"]))
    return result["size"], f"{result['norm']} {shape}"

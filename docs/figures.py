"""The pictures of the pages, by name; what they share is in drawing.py."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from cubes import axis_cubes, sets_and_gradients
from diagrams import plane_of_three, staged_graph
from drawing import (
    BLUE,
    GREEN,
    OCHRE,
    RED,
    STYLE,
    Picture,
    bars,
    canvas,
    lines,
    matrices,
)
from padded import padded_batch

__all__ = [
    "axis_cubes", "cache_bytes", "jacobians", "max_differences", "offset_errors",
    "padded_batch", "plane_of_three", "running_variance", "sets_and_gradients", "staged_graph",
    "step_errors", "table_of_catches", "three_terms", "toy", "train_and_inference",
    "variance_and_eps",
]  # fmt: skip

Array = NDArray[Any]


def toy(**tables: Array) -> Picture:
    """Draw small tables with their numbers."""
    names = ", ".join(tables)
    return matrices(
        tables, numbers=True, columns=2, cell=0.75, alt=f"Tables of {names}."
    )


def cache_bytes(x_hat: int, statistics: int) -> Picture:
    """Draw what a norm adds to memory between its two passes."""
    return bars(
        {"bytes that the norm adds": [x_hat, statistics]},
        ["keep x_hat", "keep mean, rstd"],
        ylabel="bytes",
        log=True,
        alt=f"Bytes kept for the backward pass: {x_hat} for x_hat, {statistics} for statistics.",
    )


def jacobians(tables: dict[str, Array]) -> Picture:
    """Draw each Jacobian, coloured by the root of its values over the row's largest."""
    return matrices(
        {
            name: np.sign(J)
            * np.sqrt(np.abs(J) / np.max(np.abs(J), axis=1, keepdims=True))
            for name, J in tables.items()
        },
        cell=0.085,
        alt="Jacobians as tables of cells. The coloured blocks are the sets that share statistics: "
        "stripes for batch norm, blocks along the diagonal for the others.",
    )


def train_and_inference(train: Array, inference: Array) -> Picture:
    """Draw the two gradients of one batch side by side, on one scale."""
    return matrices(
        {"dx, training": train, "dx, inference": inference},
        columns=2,
        cell=0.34,
        scale=float(np.max(np.abs(inference))),
        alt="The gradients of one batch in training and at inference. They differ in many places.",
    )


def running_variance(histories: dict[str, Any], truth: float) -> Picture:
    """Draw each estimator's running variance, and the variance of the data."""
    steps = np.arange(len(next(iter(histories.values()))))
    return lines(
        {name: (steps, history) for name, history in histories.items()}
        | {"variance of the data": (steps, np.full(len(steps), truth))},
        xlabel="training step",
        ylabel="running variance",
        marker="",
        alt="Running variance over the training steps. The unbiased estimator settles at the "
        "variance of the data, the biased one below it.",
    )


def offset_errors(ratios: Array, errors: dict[str, Any]) -> Picture:
    """Draw the error of each way to compute x_hat against mean over standard deviation."""
    return lines(
        {name: (ratios, values) for name, values in errors.items()},
        xlabel="mean / standard deviation",
        ylabel="largest error of x_hat, in units of 2^-23",
        log="xy",
        size=(5.8, 4.8),
        alt="Error against the ratio of mean to standard deviation. One pass rises steeply, two "
        "passes rise in proportion, one pass about a pivot and this library stay flat.",
    )


def variance_and_eps(ratios: Array, mean_squares: Any) -> Picture:
    """Draw the mean square of x_hat against variance over eps."""
    return lines(
        {"mean of x_hat squared": (ratios, mean_squares)},
        xlabel="variance / eps",
        ylabel="mean of x_hat squared",
        log="xy",
        size=(5.4, 2.9),
        alt="The mean square of x_hat rises in proportion to variance over eps, and levels off "
        "at 1 where the variance is larger than eps.",
    )


def step_errors(steps: Array, curves: dict[str, Any]) -> Picture:
    """Draw the error of each gradient check against its step."""
    return lines(
        {name: (steps, values) for name, values in curves.items()},
        xlabel="step",
        ylabel="relative error of dx",
        log="xy",
        alt="Error against the step. Each curve of differences is a V; the complex step is flat "
        "and lies far below.",
    )


def terms(x: Array, gamma: Array, dy: Array, eps: float) -> dict[str, Array]:
    """Return the three terms of (12) for one set, each with its sign and its factor rstd."""
    xc = x - x.mean()
    rstd = (np.mean(xc * xc) + eps) ** -0.5
    x_hat, dx_hat = rstd * xc, gamma * dy
    return {
        "direct: r dx_hat": rstd * dx_hat,
        "mean: -r E[dx_hat]": np.full(x.shape, -rstd * dx_hat.mean()),
        "variance: -r x_hat E[dx_hat x_hat]": -rstd
        * x_hat
        * np.mean(dx_hat * x_hat),
    }


def three_terms(x: Array, gamma: Array, dy: Array, eps: float) -> Picture:
    """Draw the three terms of (12) side by side, and their sum as a mark."""
    parts = terms(x, gamma, dy, eps)
    labels = [f"x = {value:g}" for value in x]
    return bars(
        parts,
        labels,
        ylabel="contribution to dx",
        total=("dx", sum(parts.values())),
        size=(5.4, 3.6),
        alt="For each element, bars of the direct, the mean and the variance term; "
        "a mark shows their sum, dx.",
    )


def max_differences(rows: dict[str, dict[str, float]]) -> Picture | None:
    """Draw a dot for every difference from another library, one line per norm."""
    if not rows:
        return None
    figure, ax = canvas(5.6, 1.3 + 0.36 * len(rows))
    with matplotlib.rc_context(STYLE):
        places = np.arange(len(rows))[::-1]
        for kind, colour, marker in zip(
            next(iter(rows.values())),
            (BLUE, RED, GREEN, OCHRE),
            "os^D",
            strict=False,
        ):
            values = [row[kind] for row in rows.values()]
            ax.plot(values, places, marker, color=colour, label=kind)
        ax.set_xscale("log")
        ax.set_yticks(places, list(rows))
        ax.set_xlabel("largest difference / largest value, float64")
        ax.grid(True, axis="x")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), ncol=4)
    return Picture(
        figure,
        "For every norm the largest relative difference of y and of each gradient.",
    )


def table_of_catches(
    found: dict[str, list[float]], columns: list[str], tolerance: float
) -> Picture:
    """Draw a row per mistake and a column per check; empty is a mistake that survives."""
    height, width = len(found), len(columns)
    figure, ax = canvas(7.4, 0.6 + 0.34 * height)
    with matplotlib.rc_context(STYLE):
        for i, errors in enumerate(found.values()):
            for j, value in enumerate(errors):
                caught = value > tolerance
                face = GREEN + "59" if caught else RED + "59"
                ax.fill_between(
                    [j + 0.03, j + 0.97],
                    i + 0.06,
                    i + 0.94,
                    color=face,
                    linewidth=0,
                )
                text = f"{value:.0e}" if caught else "survives"
                ax.text(
                    j + 0.5, i + 0.5, text, ha="center", va="center", fontsize=9
                )
        titles = [column.replace(", ", ",\n") for column in columns]
        ax.set_xticks(np.arange(width) + 0.5, titles)
        ax.set_yticks(np.arange(height) + 0.5, list(found))
        ax.tick_params(
            length=0, top=True, labeltop=True, bottom=False, labelbottom=False
        )
        ax.set(xlim=(0, width), ylim=(height, 0))
        for spine in ax.spines.values():
            spine.set_visible(False)
    alt = "; ".join(
        f"{name}: caught by {[c for c, e in zip(columns, row, strict=True) if e > tolerance]}"
        for name, row in found.items()
    )
    return Picture(figure, alt, wide=True)

"""Diagrams that are drawn by hand: the graph of a norm, and a set of three in its plane."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from drawing import (
    BLUE,
    GRAY,
    GREEN,
    INK,
    OCHRE,
    RED,
    STYLE,
    Picture,
    blank,
    canvas,
)

Array = NDArray[Any]


def staged_graph(
    x: Array,
    gamma: Array,
    beta: Array,
    dy: Array,
    eps: float,
    width: float,
) -> Picture:
    """Draw the graph of (1)-(5) for the first row: values, gradients and the arrows into x."""
    x, dy = x[0], dy[0]
    mean, m = x.mean(), x.size
    xc = x - mean
    var = np.mean(xc * xc)
    rstd = (var + eps) ** -0.5
    x_hat, dx_hat = rstd * xc, gamma * dy
    drstd = np.sum(dx_hat * xc)
    dvar = -0.5 * rstd**3 * drstd
    dmean = -rstd * np.sum(dx_hat)
    back = {
        "direct": rstd * dx_hat,
        "variance": 2 / m * xc * dvar,
        "mean": np.full(m, dmean / m),
    }
    figure, ax = canvas(width, 4.2)
    with matplotlib.rc_context(STYLE):
        ax.set_xlim(-0.9, 10.0)
        ax.set_ylim(-3.2, 3.2)
        _node(ax, 0.6, 0, "x", x, sum(back.values()))
        _node(ax, 4.7, 2.5, "var  (2)", var, dvar)
        _node(ax, 8.5, 2.5, "rstd  (3)", rstd, drstd)
        _node(ax, 4.7, -2.5, "mean  (1)", mean, dmean)
        _node(ax, 8.5, 0, "x_hat  (4)", x_hat, dx_hat)
        _node(ax, 8.5, -2.5, "y  (5)", gamma * x_hat + beta, dy)
        _arrow(
            ax,
            (1.2, 0.85),
            (3.7, 2.35),
            back["variance"],
            "2(x - mean)/m dvar",
            (1.5, 2.4),
        )
        _arrow(
            ax, (1.95, 0.0), (7.05, 0.0), back["direct"], "r dx_hat", (3.1, 0.5)
        )
        _arrow(
            ax, (1.2, -0.85), (3.7, -2.35), back["mean"], "dmean/m", (1.4, -2.3)
        )
        _arrow(ax, (5.7, 2.5), (7.5, 2.5))
        _arrow(ax, (8.5, 1.65), (8.5, 0.85))
        _arrow(ax, (5.7, -2.3), (7.9, -0.85))
        _arrow(ax, (8.5, -0.85), (8.5, -1.65))
        _arrow(ax, (4.7, -1.65), (4.7, 1.65), dashed=True)
        ax.text(4.85, -1.2, "0", color=RED, fontsize=10.5)
        ax.set_axis_off()
    alt = (
        "Graph from x to y. Black: values, computed from left to right. Red: gradients, computed "
        "from right to left. Three arrows leave x, to the variance, to x_hat and to the mean; "
        "three gradients come back and are added. The arrow from mean to variance carries zero."
    )
    return Picture(figure, alt)


def batch_norm_graph(width: float) -> Picture:
    """Draw the graph of batch norm by hand: a node a line, with its shape and its gradient."""
    places = {
        "x": (0.7, 0.0, "(N, D)"),
        "mean  (1)": (3.9, -1.9, "(D,)"),
        "xc": (3.9, 0.0, "(N, D)"),
        "square": (3.9, 1.9, "(N, D)"),
        "var  (2)": (6.8, 1.9, "(D,)"),
        "rstd  (3)": (10.1, 1.9, "(D,)"),
        "x_hat  (4)": (10.1, 0.0, "(N, D)"),
        "y  (5)": (10.1, -1.9, "(N, D)"),
    }
    arrows = {
        ("x", "mean  (1)"): "dmean / N",
        ("x", "xc"): "dxc",
        ("mean  (1)", "xc"): "-sum dxc",
        ("xc", "square"): "2 xc dsquare",
        ("xc", "x_hat  (4)"): "rstd dx_hat",
        ("square", "var  (2)"): "dvar / N",
        ("var  (2)", "rstd  (3)"): "-rstd³ drstd / 2",
        ("rstd  (3)", "x_hat  (4)"): "sum dx_hat xc",
        ("x_hat  (4)", "y  (5)"): "gamma dy",
    }
    figure, ax = canvas(width, 3.4)
    with matplotlib.rc_context(STYLE):
        ax.set_xlim(-0.2, 12.4)
        ax.set_ylim(-2.4, 2.5)
        middle = {"ha": "center", "va": "center"}
        for name, (x, y, shape) in places.items():
            ax.text(x, y + 0.17, name, **middle, fontsize=11, weight="bold")
            ax.text(x, y - 0.2, shape, **middle, fontsize=9.5)
        for (start, end), gradient in arrows.items():
            a, b = (np.array(places[name][:2]) for name in (start, end))
            along = (b - a) / np.hypot(*(b - a))
            room = np.abs(along) @ [0.9, 0.5]
            _arrow(ax, tuple(a + room * along), tuple(b - room * along))
            shift, side = (0.15, 0.0), "left"
            if abs(along[1]) < 0.1:
                shift, side = (0.0, -0.27), "center"
            elif abs(along[0]) > 0.1:
                shift, side = (-0.4, -0.2), "right"
            place = (a + b) / 2 + shift
            note = {"color": RED, "fontsize": 9.5, "va": "center", "ha": side}
            ax.text(*place, gradient, **note)
        ax.set_axis_off()
    return Picture(
        figure,
        "Graph of batch norm from x to y, a node for each line of code, with its shape. In red, at "
        "each arrow, what comes back along it. Two arrows leave x and two leave xc.",
    )


def _numbers(value: Any) -> str:
    return (
        "["
        + " ".join(f"{v + 0.0:.2f}" for v in np.round(np.ravel(value), 2))
        + "]"
    )


def _node(
    ax: Axes, x: float, y: float, name: str, value: Any, gradient: Any
) -> None:
    place = {"ha": "center", "va": "center"}
    ax.text(x, y + 0.48, name, **place, fontsize=11.5, fontweight="bold")
    ax.text(x, y, _numbers(value), **place, fontsize=10.5)
    ax.text(x, y - 0.45, _numbers(gradient), **place, fontsize=10.5, color=RED)


def _arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    gradient: Any = None,
    label: str = "",
    place: tuple[float, float] = (0.0, 0.0),
    *,
    dashed: bool = False,
) -> None:
    line = {
        "arrowstyle": "-|>",
        "color": GRAY,
        "linewidth": 1.2,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    ax.annotate(
        "",
        end,
        start,
        arrowprops=line | ({"linestyle": "--"} if dashed else {}),
    )
    if gradient is not None:
        note = {"ha": "center", "va": "center", "fontsize": 10, "color": RED}
        ax.text(*place, f"{label}\n{_numbers(gradient)}", **note)


def plane_of_three(x: Array, dx_hat: Array) -> Picture:
    """Draw a set of three seen along (1, 1, 1): x_hat on its circle, dx_hat and dx."""
    across = np.array([1.0, -1.0, 0.0]) / 2**0.5
    upward = np.array([-1.0, -1.0, 2.0]) / 6**0.5
    flat = np.array([across, upward])
    xc = x - x.mean()
    x_hat = xc * np.mean(xc * xc) ** -0.5
    centred = dx_hat - dx_hat.mean()
    tangent = centred - x_hat * np.mean(dx_hat * x_hat)
    tip, step, full = flat @ x_hat, flat @ tangent, flat @ centred
    figure, ax = canvas(4.6, 4.2)
    with matplotlib.rc_context(STYLE):
        angle = np.linspace(0, 2 * np.pi, 200)
        ax.plot(
            3**0.5 * np.cos(angle),
            3**0.5 * np.sin(angle),
            color=GRAY,
            linewidth=1,
        )
        for end, start, colour, name in (
            (tip, np.zeros(2), BLUE, "x_hat"),
            (tip + full, tip, OCHRE, "dx_hat less its mean"),
            (tip + step, tip, GREEN, "dx / rstd"),
        ):
            ax.annotate(
                "",
                end,
                start,
                arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2},
            )
            ax.plot([], [], color=colour, linewidth=2, label=name)
        ax.plot(
            *zip(tip + full, tip + step, strict=True),
            ":",
            color=INK,
            linewidth=1,
        )
        ax.legend(
            loc="upper center", bbox_to_anchor=(0.5, 0.0), ncol=3, fontsize=10.5
        )
        blank(ax)
    return Picture(
        figure,
        "A circle of radius root three. The arrow x_hat ends on it. From there dx_hat, less its "
        "mean, points away; dx is what is left of it along the tangent.",
    )

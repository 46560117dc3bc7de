"""Axis cubes: which positions share statistics, and where the gradient of one output goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy_norms as nn
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from drawing import BLUE, GRAY, SIGNED, STYLE, Picture, blank, canvas

SHAPE = (3, 6, 4)  # depth, width, height
GROUPS = 3
RIGHT, UP, BACK = (
    np.array([1.0, 0.0]),
    np.array([0.0, 1.0]),
    np.array([0.52, 0.38]),
)
CORNER = (0, SHAPE[1] - 1, 0)  # on all three faces that show


class Norm(NamedTuple):
    """One cube: the names of its three axes, what is averaged, and the pair of functions."""

    title: str
    averaged: str
    axes: tuple[str, str, str]
    member: Callable[
        [Any, Any, Any], Any
    ]  # True where (n, c, s) is in the set of CORNER
    forward: Callable[[NDArray[Any]], tuple[Any, Any]]
    backward: Callable[..., tuple[Any, ...]]


N0, C0, S0 = CORNER
PER = SHAPE[1] // GROUPS
IMAGE, TEXT = ("N", "C", "H, W"), ("B", "D", "T")
NORMS = {
    "batch_norm": Norm(
        "batch norm", "mean over N, H, W", IMAGE,
        lambda n, c, s: c == C0, nn.batch_norm_forward, nn.batch_norm_backward,
    ),
    "layer_norm_sample": Norm(
        "layer norm, all features", "mean over C, H, W", IMAGE,
        lambda n, c, s: n == N0,
        lambda x: nn.layer_norm_forward(x, axis=(1, 2)), nn.layer_norm_backward,
    ),
    "group_norm": Norm(
        "group norm", "mean over a group of C, H, W", IMAGE,
        lambda n, c, s: (n == N0) & (c // PER == C0 // PER),
        lambda x: nn.group_norm_forward(x, GROUPS), nn.group_norm_backward,
    ),
    "instance_norm": Norm(
        "instance norm", "mean over H, W", IMAGE,
        lambda n, c, s: (n == N0) & (c == C0), nn.instance_norm_forward, nn.instance_norm_backward,
    ),
    "layer_norm": Norm(
        "layer norm, last axis", "mean over D", TEXT,
        lambda n, c, s: (n == N0) & (s == S0),
        lambda x: nn.layer_norm_forward(x, axis=1), nn.layer_norm_backward,
    ),
    "rms_norm": Norm(
        "RMS norm", "mean square over D", TEXT,
        lambda n, c, s: (n == N0) & (s == S0),
        lambda x: nn.rms_norm_forward(x, axis=1), nn.rms_norm_backward,
    ),
}  # fmt: skip


def one_hot_gradient(norm: Norm, seed: int = 1) -> NDArray[Any]:
    """Return dx for a dy that is 1 at one output and 0 at all others."""
    x = np.random.default_rng(seed).normal(size=SHAPE)
    dy = np.zeros(SHAPE)
    dy[CORNER] = 1.0
    _, cache = norm.forward(x)
    dx: NDArray[Any] = norm.backward(dy, cache)[0]
    return dx


def set_colours(norm: Norm) -> NDArray[Any]:
    """Colour the set of one position, and leave the others nearly empty."""
    member = norm.member(*np.indices(SHAPE))
    return np.where(member[..., None], to_rgba(BLUE, 0.85), to_rgba(GRAY, 0.08))


def gradient_colours(norm: Norm) -> NDArray[Any]:
    """Colour dx by the root of its size, so that the small values of a large set still show."""
    dx = one_hot_gradient(norm)
    root = np.sqrt(np.abs(dx) / np.max(np.abs(dx)))
    visible = np.sign(dx) * np.where(root > 0, 0.2 + 0.8 * root, 0.0)
    return np.asarray(SIGNED((visible + 1) / 2))


def draw_cube(
    ax: Axes, colours: NDArray[Any], names: tuple[str, str, str]
) -> None:
    """Draw the three faces that show of a (depth, width, height) block of coloured cells."""
    depth, width, height = colours.shape[:3]
    origin = np.zeros(2)
    top, side = origin + height * UP, origin + width * RIGHT
    cells: dict[
        tuple[float, ...], list[Path]
    ] = {}  # of one colour, drawn as one shape

    def add(
        place: tuple[int, int, int], corner: NDArray[Any], a: Any, b: Any
    ) -> None:
        outline = np.array(
            [corner, corner + a, corner + a + b, corner + b, corner]
        )
        cells.setdefault(tuple(colours[place]), []).append(
            Path(outline, closed=True)
        )

    for c in range(width):
        for s in range(height):
            add(
                (0, c, s), origin + c * RIGHT + (height - 1 - s) * UP, RIGHT, UP
            )
    for n in range(depth):
        for c in range(width):
            add((n, c, 0), top + c * RIGHT + n * BACK, RIGHT, BACK)
        for s in range(height):
            add(
                (n, width - 1, s),
                side + n * BACK + (height - 1 - s) * UP,
                BACK,
                UP,
            )
    for colour, paths in cells.items():
        shape = Path.make_compound_path(*paths)
        patch = PathPatch(
            shape,
            facecolor=colour,
            edgecolor=GRAY,
            linewidth=0.6,
            clip_on=False,
        )
        ax.add_patch(patch)
    middle = {"ha": "center", "va": "center", "fontsize": 9}
    ax.text(width / 2, -0.55, names[1], **middle)
    ax.text(-0.3, height / 2, names[2], ha="right", va="center", fontsize=9)
    ax.text(*(side + depth / 2 * BACK + [0.45, -0.45]), names[0], **middle)
    ax.set_xlim(-1.9, width + depth * BACK[0] + 0.5)
    ax.set_ylim(-1.0, height + depth * BACK[1] + 0.2)
    blank(ax)


def axis_cubes(*names: str, columns: int = 3) -> Picture:
    """Draw the set of one position for each norm, all norms without names."""
    norms = [NORMS[name] for name in names or NORMS]
    columns = min(columns, len(norms))
    rows = -(-len(norms) // columns)
    figure, axes = canvas(
        2.35 * columns, 1.75 * rows, rows, columns, squeeze=False
    )
    with matplotlib.rc_context(STYLE):
        for ax, norm in zip(axes.flat, norms, strict=False):
            draw_cube(ax, set_colours(norm), norm.axes)
            ax.set_title(f"{norm.title}\n{norm.averaged}", fontsize=9)
        for ax in axes.flat[len(norms) :]:
            blank(ax)
    alt = "Cubes of positions; the blue ones share statistics. " + _described(
        norms
    )
    return Picture(figure, alt)


def sets_and_gradients(pairs: int) -> Picture:
    """Draw for every norm one set, and beside it the gradient of one output of this set."""
    norms = list(NORMS.values())
    rows = -(-len(norms) // pairs)
    figure, axes = canvas(4.4 * pairs, 1.8 * rows, rows, 2 * pairs)
    with matplotlib.rc_context(STYLE):
        for k, norm in enumerate(norms):
            left, right = axes.flat[2 * k], axes.flat[2 * k + 1]
            draw_cube(left, set_colours(norm), norm.axes)
            left.set_title(f"{norm.title}\n{norm.averaged}", fontsize=9)
            draw_cube(right, gradient_colours(norm), norm.axes)
            right.set_title("dx of one output", fontsize=9)
    alt = (
        "Pairs of cubes. Left, in blue, positions that share statistics; right, the gradient of "
        "one output, which reaches exactly these. " + _described(norms)
    )
    return Picture(figure, alt)


def _described(norms: list[Norm]) -> str:
    return "; ".join(f"{norm.title}: {norm.averaged}" for norm in norms) + "."

"""The pictures of the pages, by name: each drawn from the numbers of the page that shows it.

A page shows one by `<picture>` and the two files of that name in docs/pictures/, for light and for
dark pages; `make_pages.py` writes them, and the build of the pages holds that they are current.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import pictures as measured

import figures
from drawing import Picture

DOCS = Path(__file__).parent
FOLDER = DOCS / "pictures"
INKS = {"light": "#1f2328", "dark": "#e6edf3"}
SHOWN = re.compile(r'<img [^>]*src="(?:docs/)?pictures/([\w-]+)-light\.svg"')
NARROW = re.compile(r'srcset="(?:docs/)?pictures/([\w-]+)-light\.svg"')
NUMBER = re.compile(
    r"-?\d+\.\d+(?:e[+-]\d+)?|-?\d+e[+-]\d+|(?<=[ HVML])-?\d+(?=[ HVMLz])"
)
CLIP = re.compile(r"(?<=-p)[0-9a-f]{10}\b")  # made of all digits of its bounds
PARTS = re.compile(
    r"^```python\n(.*?)^```$|^<picture>\n.*?^</picture>$", re.M | re.S
)


def board(page: dict[str, Any], columns: int) -> Picture:
    """Draw the board's arrays as tables."""
    names = ("x", "x_hat", "y", "dy", "dx")
    return figures.toy(columns, **{name: page[name] for name in names})


def graph(page: dict[str, Any], width: float) -> Picture:
    """Draw the graph of the board's first row."""
    arrays = (page[name] for name in ("x", "gamma", "beta", "dy", "eps"))
    return figures.staged_graph(*arrays, width)


# Name: what draws it, from the variables that the page has at that place.
PICTURES: dict[str, Callable[[dict[str, Any]], Picture | None]] = {
    "sets-and-gradients": lambda page: figures.sets_and_gradients(pairs=2),
    "sets-and-gradients-narrow": lambda page: figures.sets_and_gradients(
        pairs=1
    ),
    "axis-cubes": lambda page: figures.axis_cubes(columns=3),
    "axis-cubes-narrow": lambda page: figures.axis_cubes(columns=2),
    "board": lambda page: board(page, columns=3),
    "board-narrow": lambda page: board(page, columns=2),
    "graph": lambda page: graph(page, width=5.7),
    "graph-narrow": lambda page: graph(page, width=5.0),
    "three-terms": lambda page: figures.three_terms(
        page["x"][1], page["gamma"], page["dy"][1], page["eps"]
    ),
    "batch-norm-graph": lambda page: figures.batch_norm_graph(6.4),
    "batch-norm-graph-narrow": lambda page: figures.batch_norm_graph(5.4),
    "cache-bytes": lambda page: figures.cache_bytes(
        x_hat=page["x"].nbytes, statistics=page["small"]
    ),
    "plane-of-three": lambda page: figures.plane_of_three(
        page["board_x"], page["board_dx_hat"]
    ),
    "jacobians": lambda page: figures.jacobians(page["J_of"]),
    "train-and-inference": lambda page: figures.train_and_inference(
        page["dx_train"], page["dx_eval"]
    ),
    "running-variance": lambda page: figures.running_variance(
        {
            "correction=1 (PyTorch)": page["history"][1],
            "correction=0 (ONNX)": page["history"][0],
        },
        page["truth"],
    ),
    "offset-errors": lambda page: figures.offset_errors(
        page["ratios"], page["errors"]
    ),
    "variance-and-eps": lambda page: figures.variance_and_eps(
        page["v"] / 1e-5, page["measured"]
    ),
    "step-errors": lambda page: figures.step_errors(
        page["steps"],
        page["curves"]
        | {
            "complex step": np.full(
                len(page["steps"]), page["error"](page["by_complex"]) + 1e-17
            )
        },
    ),
    "table-of-catches": lambda page: figures.table_of_catches(
        page["found"], list(page["checks"]), page["tolerance"]
    ),
    "digits": lambda page: figures.matrices(
        page["first"], columns=5, cell=0.1, alt="One image of every digit."
    ),
    "losses": lambda page: (
        figures.losses(page["losses"]) if "losses" in page else None
    ),  # shown once more where nothing is trained
    "gan-distance": lambda page: figures.lines(
        {
            "distance": (
                np.arange(len(page["trained"].distances)),
                page["trained"].distances,
            )
        },
        xlabel="step",
        ylabel="mean score of digits less that of images",
        marker="",
        alt="The critic's estimate of the distance. It falls steeply in the "
        "first 20 steps, rises a little as the critic learns, and stays.",
    ),
    "gan-digits": lambda page: figures.matrices(
        {
            "before training": page["sheet"](page["before"]),
            "after": page["sheet"](page["after"]),
            "digits of the data": page["sheet"](page["data"]),
        },
        cell=0.055,
        alt="Three sheets of 25 images. Before training they are noise; "
        "after it most are digits, a little rougher than the data's.",
    ),
    "padded-batch": lambda page: figures.padded_batch(),
    "similarity": lambda page: figures.matrices(
        {"cosine similarity": page["similarity"]},
        columns=1,
        cell=0.42,
        scale=1.0,
        alt="Similarity of ten sentences: five blocks of two along the diagonal.",
    ),
    "side-by-side": lambda page: measured.side_by_side(results("side_by_side")),
    "correctly-rounded": lambda page: measured.correctly_rounded(
        results("accuracy")
    ),
}


def results(name: str) -> Any:
    """Return what a benchmark measured."""
    path = DOCS.parent / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text("utf-8"))


def shown(text: str) -> list[str]:
    """Return the names of the pictures that a page shows."""
    return SHOWN.findall(text)


def drawn(text: str) -> Iterator[tuple[str, Picture]]:
    """Run the page up to its last picture, and yield (name, picture) in order."""
    page: dict[str, Any] = {"__name__": "page"}
    parts = list(PARTS.finditer(text))
    last = max((k for k, part in enumerate(parts) if not part[1]), default=-1)
    for part in parts[: last + 1]:
        if part[1]:
            exec(compile(part[1], "page", "exec"), page)
        yield from drawn_at(part[0], page)


def drawn_at(
    element: str, page: dict[str, Any]
) -> Iterator[tuple[str, Picture]]:
    """Yield (name, picture) of what a <picture> shows, from the variables of its page."""
    for name in dict.fromkeys(SHOWN.findall(element) + NARROW.findall(element)):
        if (picture := PICTURES[name](page)) is not None:
            yield name, picture


def hold(text: str, page: dict[str, Any]) -> None:
    """Raise if the files of the pictures in a text are not what its page's variables give."""
    for name, picture in drawn_at(text, page):
        for kind, ink in INKS.items():
            committed = file_of(name, kind).read_text("utf-8")
            if not alike(committed, picture.file_text(ink)):
                raise AssertionError(
                    f"{name} is not current: run docs/make_pages.py"
                )


def alike(mine: str, theirs: str) -> bool:
    """Whether two drawings are one; what they show of rounding depends on the processor."""
    shapes = [NUMBER.sub("#", CLIP.sub("", a)).split() for a in (mine, theirs)]
    if shapes[0] != shapes[1]:
        return False
    a, b = (np.array(NUMBER.findall(text), float) for text in (mine, theirs))
    moved = np.abs(a - b)
    return bool(np.quantile(moved, 0.75) <= 0.06 and moved.max() <= 25)


def on_page(element: str) -> str:
    """Return what a <picture> names as drawings inside the page, in its text colour."""
    wide, narrow = SHOWN.findall(element), set(NARROW.findall(element))
    kinds = dict.fromkeys(wide, " laptop" if narrow else "")
    kinds |= dict.fromkeys(narrow, " phone")
    return "".join(
        f'<figure class="drawing{kind}">'
        f"{file_of(name, 'light').read_text('utf-8').replace(INKS['light'], 'currentColor')}"
        "</figure>"
        for name, kind in kinds.items()
    )


def file_of(name: str, kind: str) -> Path:
    """Return the path of a picture for "light" or "dark" pages."""
    return FOLDER / f"{name}-{kind}.svg"

"""``show``: which elements share statistics, as letters."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numpy_norms import checks
from numpy_norms.cli import OK, UsageError
from numpy_norms.commands.arguments import integers, norm_among
from numpy_norms.commands.table import paint, print_table, print_text
from numpy_norms.groups import groups
from numpy_norms.oracle.sets import FEATURE_NORMS, NORMS, sharing

HELP = "show which elements share a mean and a variance"
LARGEST = 2048
HUES = ("blue", "yellow", "bold")  # neighbours differ without red against green


@dataclass(frozen=True)
class Sets:
    """The sets of a norm on an input of some shape, and the axes to print as rows and columns."""

    norm: str
    labels: NDArray[np.int64]
    statistics_shape: tuple[int, ...]
    gamma_shape: tuple[int, ...]
    row_axis: int
    column_axis: int

    @property
    def count(self) -> int:
        """How many sets there are."""
        return int(self.labels.max()) + 1

    @property
    def m(self) -> int:
        """How many elements share one set of statistics."""
        return self.labels.size // self.count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `show`."""
    names = ", ".join(NORMS)
    parser.add_argument("norm", type=norm_among(NORMS), metavar="NORM", help=f"one of: {names}")
    parser.add_argument("--shape", type=integers, metavar="N,C,...", help="shape of x; small")
    parser.add_argument(
        "--groups", type=int, metavar="G", help="group norm's num_groups; 3, or what divides"
    )
    parser.add_argument(
        "--axis", type=integers, metavar="A,...", help="axes of layer and RMS norm; --axis=-1"
    )
    parser.add_argument(
        "--channel-axis", type=integers, metavar="C,...", help="axes of the other norms; 1"
    )
    parser.add_argument(
        "--feature-axis", type=integers, metavar="F,...", help="axes of gamma, if not --axis"
    )
    parser.add_argument("--json", action="store_true", help="print every set's number, as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the sets."""
    sets = _sets(args)
    if args.json:
        print(json.dumps(_as_json(sets)))
        return OK
    header, *rows = _table(sets)
    print_table(header, rows, align="l" * len(header))
    print_text(
        f"{sets.count} {'set' if sets.count == 1 else 'sets'} of m = {sets.m}; "
        f"statistics shape {sets.statistics_shape}; gamma shape {sets.gamma_shape}"
    )
    return OK


def _some_groups(channels: int) -> int:
    return next((g for g in (3, *range(2, channels + 1)) if channels % g == 0), 1)


def _sets(args: argparse.Namespace) -> Sets:
    shape = args.shape or ((2, 3, 4) if args.norm in FEATURE_NORMS else (2, 6, 2, 2))
    _refuse_what_cannot_be_shown(args, shape)
    axis = args.axis or (-1,)
    channel_axis = args.channel_axis or (1,)
    if len(channel_axis) == 1:  # group norm has one
        (channel_axis,) = channel_axis
    num_groups = args.groups
    if num_groups is None and args.norm == "group_norm":
        c = channel_axis if isinstance(channel_axis, int) else 1
        num_groups = _some_groups(shape[c] if -len(shape) <= c < len(shape) else 3)
    try:
        if args.feature_axis is not None:
            checks.axes(args.feature_axis, np.broadcast_to(0.0, shape), name="feature_axis")
        labels = groups(
            args.norm, shape, num_groups=num_groups, axis=axis, channel_axis=channel_axis
        )
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None
    share = sharing(
        args.norm,
        shape,
        axis=axis,
        feature_axis=args.feature_axis,
        channel_axis=channel_axis,
        num_groups=num_groups or 1,
    )
    channels = (channel_axis,) if isinstance(channel_axis, int) else channel_axis
    c = 1 if args.norm in FEATURE_NORMS else channels[0] % len(shape)
    n = 1 if c == 0 else 0
    return Sets(args.norm, labels, share.set_shape, share.parameter_shape, n, c)


def _refuse_what_cannot_be_shown(args: argparse.Namespace, shape: tuple[int, ...]) -> None:
    given = f"--shape {','.join(map(str, shape))}"
    if min(shape) < 1 or prod(shape) > LARGEST:
        raise UsageError(
            f"{given} has no element or more than {LARGEST}; "
            "choose small sizes, the pattern is the same"
        )
    if len(shape) == 1 and args.norm not in FEATURE_NORMS:
        raise UsageError(
            f"{given} has one axis, but {args.norm} takes two or more, N,C; "
            f"pass --shape 2,{shape[0]}, say"
        )
    wrong, cure = ["axis", "feature_axis"], "--channel-axis"
    if args.norm in FEATURE_NORMS:
        wrong, cure = ["channel_axis"], "--axis"
    for name in wrong:
        if getattr(args, name) is not None:
            raise UsageError(f"{args.norm} has no --{name.replace('_', '-')}; use {cure}")


def _table(sets: Sets) -> Iterator[list[str]]:
    """The header, then the rows: each cell has the letters of all elements at a row and column."""
    labels = np.atleast_2d(sets.labels)
    labels = np.moveaxis(labels, (sets.row_axis, sets.column_axis), (0, 1))
    labels = labels.reshape(*labels.shape[:2], -1)
    row, column = ("x[{}]", "x[:, {}]") if sets.norm in FEATURE_NORMS else ("n={}", "c={}")
    width = len(letters(sets.count - 1))
    yield ["", *(column.format(k) for k in range(labels.shape[1]))]
    for k, line in enumerate(labels):
        yield [row.format(k), *(_cell(cell, width) for cell in line)]


def _cell(labels: NDArray[np.int64], width: int) -> str:
    gap = " " if width > 1 else ""
    words = (paint(f"{letters(k):<{width}}", HUES[k % len(HUES)]) for k in labels.tolist())
    return gap.join(words)


def letters(k: int) -> str:
    """Name set `k`: A to Z, then AA, AB, ..."""
    return (letters(k // 26 - 1) if k >= 26 else "") + chr(ord("A") + k % 26)


def _as_json(sets: Sets) -> dict[str, Any]:
    return {
        "norm": sets.norm,
        "shape": sets.labels.shape,
        "sets": sets.count,
        "m": sets.m,
        "statistics_shape": sets.statistics_shape,
        "gamma_shape": sets.gamma_shape,
        "labels": sets.labels.tolist(),
    }

"""All sentences of the grammar that the diagnosis tries, simple ones first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np

from numpy_norms.verify.plain import Array, Edit, Work

from .factors import QUANTITIES, SIZES
from .formulas import Change, formulas, to_bits
from .grammar import (
    CENTRED,
    INSIDE,
    TERMS,
    Fault,
    averaged,
    cast,
    factor,
    in_half,
    left_out,
    replaced,
    sign,
)
from .memory import as_if_channels_were_last, by_address, width_for_number
from .regions import (
    BLOCKS,
    PERIODS,
    TWICE,
    axes_by_name,
    blocks,
    over_axes,
    over_blocks,
    over_equal_blocks,
    over_memory,
    over_tiles,
    over_view,
    within_set,
    within_sum,
)

__all__ = ["sentences"]

GRADIENT_MEANS = ("centre", "projection")
STATISTICS = ("mean", "var")
GROUPS = (
    ("projection",),
    ("centre",),
    GRADIENT_MEANS,
    ("mean",),
    ("var",),
    STATISTICS,
    (*STATISTICS, *GRADIENT_MEANS),
)
# Axes that only group norm's view has: samples, groups, channels of a group, positions.
OF_GROUPS = {
    "the channels of a group alone": (2,),
    "S and the same channel of all groups": (1, 3),
    "N, too: a group in all samples": (0, 2, 3),
}

MEMORY = {
    True: "the sets of x read as (N, S, C), as if channels were last",
    False: "the sets of x read as (N, C, S), as if channels were second",
}

# Products of numbers that are short, added up in more.
PRODUCTS: dict[str, dict[str, Callable[[Work, Change], Any]]] = {
    "y": {"y": lambda w, short: short(w.scale) * short(w.x_hat) + w.beta},
    "the variance": {"var": lambda w, short: w.average(short(w.x - w.mean) ** 2)},
    "the mean and the variance": {
        "mean": lambda w, short: w.average(short(w.x)),
        "var": lambda w, short: w.average(short(w.x - w.mean) ** 2),
    },
    "E[x] and E[x^2]": {
        "mean": lambda w, short: w.average(short(w.x)),
        "var": lambda w, short: w.average(short(w.x) ** 2) - w.mean**2,
    },
    "dgamma": {"dgamma": lambda w, short: w.total(short(w.dy) * short(w.x_hat))},
    "E[dx_hat x_hat]": {
        "projection": lambda w, short: w.x_hat * w.average(short(w.dx_hat) * short(w.x_hat))
    },
}


@cache
def sentences(
    norm: str, rank: int, features: int, set_size: int, sum_size: int
) -> tuple[Fault, ...]:
    """Return the sentences about a norm on an `x` of this rank, with sets and sums so long."""
    axes = tuple(axes_by_name(norm, rank, features))
    found = [
        *_terms(),
        *_factors(),
        *_casts(),
        *_products(),
        *formulas(),
        *_axes(axes),
        *_counts(),
        *_blocks(set_size),
        *_own_blocks(set_size),
        *_lost_sums(sum_size),
        *(by_address(name) for name in ("x", "dy", "gamma", "beta")),
        width_for_number(),
        as_if_channels_were_last(),
    ]
    return tuple(fault for fault in found if norm in fault.norms)


def _terms() -> Iterator[Fault]:
    nothing = {step: (lambda w, value: 0 * w.dx_hat) for step in GRADIENT_MEANS}
    what = "the mean and the variance are held constant: both mean terms are left out"
    yield Fault("term left out", what, "dx = r dx_hat", edits=nothing)
    for step in ("projection", "centre", "mean", "scale", "x_hat", "rstd", "y", "dx"):
        yield left_out(step)
    for step in ("dgamma", "dbeta"):
        yield left_out(step)
    yield replaced("term left out", "gamma and beta are ignored", "y = x_hat", y=lambda w: w.x_hat)
    yield replaced(
        "term left out", "beta is not added", "y = gamma x_hat", y=lambda w: w.scale * w.x_hat
    )
    yield replaced(
        "term left out",
        "x is not centred: the mean is in the variance alone",
        "x_hat = r x",
        x_hat=lambda w: w.x * w.rstd,
    )
    yield replaced("term left out", "eps is ignored", "r = var^(-1/2)", rstd=lambda w: w.var**-0.5)
    yield replaced(
        "term left out",
        "gamma is forgotten: dx_hat is dy",
        "dx_hat = dy",
        dx_hat=lambda w: w.dy,
    )
    for step in ("projection", "centre", "dx", "dgamma", "dbeta", "y", "x_hat", "mean", "scale"):
        yield sign(step)
    yield replaced(
        "sign",
        "beta has the wrong sign",
        "y = gamma x_hat - beta",
        y=lambda w: w.scale * w.x_hat - w.beta,
    )
    yield replaced(
        "sign",
        "eps has the wrong sign",
        "r = (var - eps)^(-1/2)",
        rstd=lambda w: (w.var - w.eps) ** -0.5,
    )
    yield Fault(
        "term left out",
        "the scale lacks its + 1",
        "y = gamma x_hat",
        edits={"scale": lambda w, scale: scale - 1},
    )


def _factors() -> Iterator[Fault]:
    steps = ("projection", "centre", "dx", "dgamma", "dbeta", "var", "rstd", "mean", "y", "x_hat")
    for name, by in SIZES.items():
        for step in steps if name not in ("0", "-1") else ():
            yield factor(step, by)
        yield _eps_times(name)
    for by in QUANTITIES.values():
        for step in ("projection", "centre"):
            yield factor(step, by, inside=True)
        for step in ("projection", "centre", "dx", "dgamma", "dbeta", "dx_hat", "y", "x_hat"):
            yield factor(step, by)


def _eps_times(name: str) -> Fault:
    value = SIZES[name].value
    what, formula = f"eps is multiplied by {name}", f"r = (var + {name} eps)^(-1/2)"
    return replaced("factor", what, formula, rstd=lambda w: (w.var + value(w) * w.eps) ** -0.5)


def _axes(axes: tuple[str, ...]) -> Iterator[Fault]:
    for name in axes:
        for steps in GROUPS:
            yield averaged(steps, over_axes(name), "axis", name)
    for name, over in OF_GROUPS.items():
        for steps in GROUPS:
            yield averaged(steps, over_view(over), "axis", name).of("group_norm")
    for last, words in MEMORY.items():
        for steps in (STATISTICS, GRADIENT_MEANS, (*STATISTICS, *GRADIENT_MEANS)):
            fault = averaged(steps, over_memory(last=last), "axis", words)
            yield fault.of("batch_norm", "group_norm", "instance_norm")
    for size in (2, 4, 8, 16, 32):
        for steps in GROUPS:
            yield averaged(steps, over_tiles(size), "axis", f"tiles of {size} sets at once")


def _counts() -> Iterator[Fault]:
    for name, by in SIZES.items():
        if by.kind == "count wrong" or name in ("m", "1/m"):
            for steps in (GRADIENT_MEANS, STATISTICS, (*STATISTICS, *GRADIENT_MEANS)):
                edits = {step: (lambda w, value, by=by: by.value(w) * value) for step in steps}
                words = "the averages of dx" if steps == GRADIENT_MEANS else "the statistics"
                words = "all averages" if len(steps) == 4 else words
                phrase = by.phrase("", words).replace(" is ", " are ", 1)
                yield Fault(by.kind, phrase, edits=edits)


def _casts() -> Iterator[Fault]:
    for step in ("y", "dx", "x_hat", "mean", "rstd", "var", "scale", "dx_hat", "centre"):
        yield cast(step)
    for step in ("projection", "dgamma", "dbeta"):
        yield cast(step)
    single: Edit = lambda _, a: np.asarray(np.real(a), np.float32).astype(a.dtype)  # noqa: E731
    for step in ("mean", "rstd"):
        what = f"{TERMS[step][0]} is rounded to float32"
        yield Fault("cast too early", what, f"float32({TERMS[step][1]})", edits={step: single})
    yield replaced(
        "cast too early",
        "eps is rounded to float32",
        "r = (var + float32(eps))^(-1/2)",
        rstd=lambda w: (w.var + np.float32(w.eps)) ** -0.5,
    )
    for step in ("dgamma", "dbeta"):
        what = f"{step} is added up in half precision"
        yield Fault("cast too early", what, edits={step: partial(_added_in_half, INSIDE[step])})
    yield replaced(
        "cast too early",
        "x is rounded to half precision",
        "half(x)",
        x_hat=lambda w: (in_half(w, w.x) - w.mean) * w.rstd,
    )


def _products() -> Iterator[Fault]:
    for words, made in PRODUCTS.items():
        for way, cut in ((np.rint, "rounded"), (np.trunc, "cut")):
            short = partial(to_bits, way, 11)
            what = f"the factors of {words} are {cut} to 11 bits, as in TF32"
            edits = {step: partial(_of_short, formula, short) for step, formula in made.items()}
            fault = Fault("cast too early", what, edits=edits)
            yield fault.of(*CENTRED) if "mean" in made else fault


def _of_short(formula: Callable[..., Any], short: Change, w: Work, _: Any) -> Any:
    return formula(w, short)


def _added_in_half(inside: Callable[[Work], Any], w: Work, _: Any) -> Array:
    """Add up one after the other, rounding each sum."""
    terms = inside(w)
    kept = [axis for axis in range(4) if axis not in w.view.summed]
    rows = np.moveaxis(terms, kept, range(-len(kept), 0)).reshape(w.view.sum_size, -1)
    total = np.add.accumulate(rows.astype(w.half), axis=0)[-1]
    return np.asarray(total.astype(terms.dtype).reshape(w.view.params))


def _blocks(longest: int) -> Iterator[Fault]:
    for name, size, words in blocks(longest):
        kind = _kind(name)
        for steps in GROUPS:
            yield averaged(steps, within_set(name, size), kind, f"{words}, of each set")
            if name not in PERIODS and (name != "first" or size < longest):
                own = within_set(name, size, own_count=True)
                where = f"{words}, of each set, and divided by their number"
                yield averaged(steps, own, kind, where)


def _kind(name: str) -> str:
    """What is wrong where a region is summed."""
    return "count wrong" if name in TWICE else "block lost"


def _own_blocks(longest: int) -> Iterator[Fault]:
    for size in BLOCKS:
        if size < longest:
            where = f"each block of {size} of a set alone"
            yield averaged(STATISTICS, over_blocks(size), "block lost", where)
            yield averaged(GRADIENT_MEANS, over_blocks(size), "block lost", where)
            where = f"blocks of {size}, the last of which counts as much if it is shorter"
            for steps in (STATISTICS, GRADIENT_MEANS):
                yield averaged(steps, over_equal_blocks(size), "count wrong", where)


def _lost_sums(longest: int) -> Iterator[Fault]:
    for name, size, words in blocks(longest):
        for samples in (False, True):
            of = "samples" if samples else "terms"
            for step in ("dgamma", "dbeta"):
                by = within_sum(name, size, samples=samples)
                yield averaged((step,), by, _kind(name), f"{words}, of the {of}")

"""Sentences about steps that are computed by another formula."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from numpy_norms.oracle.sets import FEATURE_NORMS, NORMS
from numpy_norms.verify.plain import STEPS, Array, Edit, View, Work

from .activations import ACTIVATIONS
from .grammar import CENTRED, TERMS, Average, Fault, replaced
from .regions import BLOCKS, in_rows, over_blocks

__all__ = ["Change", "formulas", "to_bits"]

Change = Callable[[Array], Array]

# Of eps; 1e-6 is in the catalogue.
FIXED = ("1e-12", "1e-10", "1e-8", "1e-7", "1e-5", "1e-4", "1e-3", "1e-2", "0.1")
HELD = ("1e-8", "1e-7", "1e-6", "1e-5", "1e-4", "1e-3", "1e-2", "0.1", "1")


def _gamma_outside(w: Work, inside: Array) -> Array:
    return np.asarray(w.scale * w.average(inside))


def _with_eps(eps: float, w: Work) -> Array:
    return np.asarray((w.var + type(w.eps)(eps)) ** -0.5)


def _held() -> Iterator[Fault]:
    """Yield the variances, and roots, that are kept from being small."""
    for bound in HELD:
        least = float(bound)
        yield replaced(
            "formula",
            f"the variance is held at {bound} at least",
            f"r = (max(var, {bound}) + eps)^(-1/2)",
            rstd=partial(_of_held_var, least),
        )
        most = f"{least**-0.5:.6g}"
        yield replaced(
            "formula",
            f"the reciprocal root is held at {most} at most",
            f"r = max(var + eps, {bound})^(-1/2)",
            rstd=partial(_held_rstd, least),
        )


def _of_held_var(least: float, w: Work) -> Array:
    return np.asarray((np.maximum(w.var, least) + w.eps) ** -0.5)


def _held_rstd(least: float, w: Work) -> Array:
    return np.asarray(np.maximum(w.var + w.eps, least) ** -0.5)


def _statistics() -> Iterator[Fault]:
    """Yield what is normalized with statistics that are another set's, or nobody's."""
    yield Fault(
        "formula",
        "the statistics are those that running ones start from, 0 and 1, not those of x",
        "y = gamma x / sqrt(1 + eps) + beta",
        norms=("batch_norm", "instance_norm"),
        edits={"mean": lambda w, mean: 0 * mean, "var": lambda w, var: 0 * var + 1},
    )
    for steps, words in (
        (("rstd",), "the reciprocal root of the first set is"),
        (("mean",), "the mean of the first set is"),
        (("mean", "rstd"), "the mean and the reciprocal root of the first set are"),
    ):
        fault = Fault("axis", f"{words} used for all", edits=dict.fromkeys(steps, _of_the_first))
        yield fault if "mean" not in steps else fault.of(*CENTRED)
    for by, neighbour in ((1, "before"), (-1, "behind")):
        centred = partial(_centred_by, by)
        rstd = partial(_made, partial(_rolled, by=by))
        words = f"of the set {neighbour}"
        yield Fault("axis", f"the reciprocal root is that {words}", edits={"rstd": rstd})
        yield Fault("axis", f"the mean is that {words}", edits={"x_hat": centred}).of(*CENTRED)
        both = {"rstd": rstd, "x_hat": centred}
        words = f"the mean and the reciprocal root are those {words}"
        yield Fault("axis", words, edits=both).of(*CENTRED)


def _centred_by(by: int, w: Work, _: Any) -> Array:
    return np.asarray((w.x - _rolled(w.mean, by)) * w.rstd)


def _of_the_first(_: Work, value: Array) -> Array:
    return np.full_like(value, value.flat[0])


def _changed() -> Iterator[Fault]:
    """Yield arrays whose numbers are rounded, or of a neighbour."""
    for words, (kind, change) in CHANGES.items():
        every = ("mean", "x_hat", "scale", "y", "dx", "dgamma", "dbeta")
        for step in every if kind != "axis" else every[2:]:
            yield Fault(kind, f"{TERMS[step][0]} is {words}", edits={step: partial(_made, change)})
        yield Fault(kind, f"x is {words}", edits=_of_x(change))
        yield Fault(kind, f"dy is {words}", edits=_of_dy(change))
    for step in ("scale", "dgamma", "dbeta"):
        yield Fault("axis", f"{TERMS[step][0]} is transposed", edits={step: _transposed})


def _made(change: Change, _: Work, value: Any) -> Array:
    return change(np.asarray(value))


def _in_rows() -> Iterator[Fault]:
    """Yield arrays whose rows, or samples, are those of a neighbour."""
    channels = tuple(norm for norm in NORMS if norm not in FEATURE_NORMS)
    for word, norms in (("row", FEATURE_NORMS), ("sample", channels)):
        for change, words in (
            (partial(np.roll, shift=1, axis=0), f"that of the {word} before"),
            (partial(np.roll, shift=-1, axis=0), f"that of the {word} behind"),
            (_first_for_all, f"that of the first {word}, for all"),
        ):
            for step in ("y", "x_hat", "dx"):
                edits = {step: partial(_made, change)}
                yield Fault("axis", f"{TERMS[step][0]} is {words}", edits=edits).of(*norms)
            yield Fault("axis", f"dy is {words}", edits=_of_dy(change)).of(*norms)


def _first_for_all(a: Array) -> Array:
    return np.broadcast_to(a[:1], a.shape)


def _of_x(change: Change) -> dict[str, Edit]:
    return {
        "mean": lambda w, mean: w.average(change(w.x)) if w.centred else mean,
        "var": lambda w, _: w.average((change(w.x) - w.mean) ** 2),
        "x_hat": lambda w, _: (change(w.x) - w.mean) * w.rstd,
    }


def _of_dy(change: Change) -> dict[str, Edit]:
    return {
        "dx_hat": lambda w, _: w.scale * change(w.dy),
        "dgamma": lambda w, _: w.total(change(w.dy) * w.x_hat),
        "dbeta": lambda w, _: w.total(change(w.dy)),
    }


def _transposed(w: Work, value: Array) -> Array:
    """Return a parameter as if its axes, or groups and their channels, were the other way round."""
    shape = w.view.shape[1:3] if w.norm == "group_norm" else w.shape[-w.features :]
    return np.asarray(value.reshape(shape).T.reshape(value.shape))


def formulas() -> Iterator[Fault]:
    """Yield the sentences about a step that is computed as something else."""
    for eps in FIXED:
        formula = f"r = (var + {eps})^(-1/2)"
        rstd = partial(_with_eps, float(eps))
        yield replaced("formula", f"eps is always {eps}", formula, rstd=rstd)

    def centre(w: Work) -> Any:
        return _gamma_outside(w, w.dy) if w.centred else 0

    def projection(w: Work) -> Array:
        return np.asarray(w.x_hat * _gamma_outside(w, w.dy * w.x_hat))

    outside = "gamma is outside of the averages, where it belongs inside"
    formula = "gamma r (dy - E[dy] - x_hat E[dy x_hat])"
    yield replaced("factor", outside, formula, centre=centre, projection=projection)
    yield replaced("factor", f"{outside}, in the mean term", "gamma E[dy]", centre=centre)
    formula = "gamma x_hat E[dy x_hat]"
    yield replaced("factor", f"{outside}, in the variance term", formula, projection=projection)
    yield replaced(
        "term left out",
        "gamma is forgotten in the averages",
        "r (dx_hat - E[dy] - x_hat E[dy x_hat])",
        centre=lambda w: w.average(w.dy) if w.centred else 0,
        projection=lambda w: w.x_hat * w.average(w.dy * w.x_hat),
    )
    yield from _statistics()
    yield from _held()
    yield from _changed()
    yield from _in_rows()
    others = {
        "var": {
            "the variance of all of x": lambda w: w.x.var(),
            "E|x - mu|, not squared": lambda w: w.average(abs(w.x - w.mean)),
            "E[(x - x[0])^2], about the first value: the shift is not made up for": lambda w: (
                w.average((w.x - _first_value(w)) ** 2)
            ),
            "E[(x - mean so far)^2], which counts the first delta of Welford twice": lambda w: (
                w.average((w.x - in_rows(w, w.x, _means_before)) ** 2)
            ),
            "E[(x - mean with x)^2], which counts the second delta of Welford twice": lambda w: (
                w.average((w.x - in_rows(w, w.x, _means_so_far)) ** 2)
            ),
            "(E|x - mu|)^2, the square of a mean": lambda w: w.average(abs(w.x - w.mean)) ** 2,
        },
        "rstd": {
            "var + eps: the root is missing": lambda w: 1 / (w.var + w.eps),
            "1 / (sqrt(var) + sqrt(eps))": lambda w: 1 / (w.var**0.5 + w.eps**0.5),
            "1 / max(sqrt(var), eps)": lambda w: 1 / np.maximum(w.var**0.5, w.eps),
            "var^(-1/2) + eps": lambda w: w.var**-0.5 + w.eps,
            "(var + eps^2)^(-1/2)": lambda w: (w.var + w.eps**2) ** -0.5,
            "(var + eps)^(1/2): not its reciprocal": lambda w: (w.var + w.eps) ** 0.5,
            "the standard deviation, not its reciprocal": lambda w: w.var**0.5,
            "1 / (sqrt(var + eps) + eps): eps is added twice": lambda w: (
                1 / ((w.var + w.eps) ** 0.5 + w.eps)
            ),
            "1 / (E|x - mu| + eps), of the mean deviation": lambda w: (
                1 / (w.average(abs(w.x - w.mean)) + w.eps)
            ),
            "1 / (max|x - mu| + eps), of the largest deviation": lambda w: (
                1 / (abs(w.x - w.mean).max(w.view.over, keepdims=True) + w.eps)
            ),
        },
        "x_hat": {
            "(x - median x) r": lambda w: (
                (w.x - np.median(w.x, w.view.over, keepdims=True)) * w.rstd
            ),
            "(x - min x) / (max x - min x + eps)": _between_ends,
            "x / sqrt(sum x^2 + eps)": lambda w: (
                w.x * (w.average(w.x**2) * w.view.set_size + w.eps) ** -0.5
            ),
            "x_hat of x_hat: it is normalized twice": lambda w: _again((w.x - w.mean) * w.rstd, w),
            "x_hat of gamma x: gamma comes first": lambda w: _again(w.gamma * w.x, w) / w.gamma,
            "x": lambda w: w.x,
            "y": lambda w: w.y if w.y is not None else w.x,
            "y - beta = gamma x_hat": lambda w: w.scale * (w.x - w.mean) * w.rstd,
        },
        "dgamma": {
            "sum dy x_hat over the first position of each sample": lambda w: w.total(
                (w.dy * w.x_hat)[..., :1]
            ),
            "sum dy (x - mu)": lambda w: w.total(w.dy * (w.x - w.mean)),
            "sum dy y": lambda w: w.total(w.dy * (w.scale * w.x_hat + w.beta)),
        },
        "dbeta": {
            "sum dy over the first position of each sample": lambda w: w.total(w.dy[..., :1]),
            "sum dy x_hat": lambda w: w.total(w.dy * w.x_hat),
        },
        "dx_hat": {
            "gamma times the sum of dy over the batch": lambda w: w.scale * w.total(w.dy),
            "gamma times the average of dy": lambda w: w.scale * w.average(w.dy),
        },
        "dx": {
            "dy": lambda w: w.dy,
            "gamma dy": lambda w: w.dx_hat,
            "dx + dy: dy is added once more": lambda w: STEPS["dx"](w) + w.dy,
            "dx + gamma dy: dx_hat is added once more": lambda w: STEPS["dx"](w) + w.dx_hat,
        },
        "scale": {
            "|gamma|": lambda w: abs(w.gamma),
            "beta": lambda w: w.beta,
            "gamma[0] for all": lambda w: np.full_like(w.gamma, w.gamma.flat[0]),
            "exp(gamma)": lambda w: np.exp(w.gamma),
        },
        "y": {
            "beta x_hat + gamma": lambda w: w.beta * w.x_hat + w.scale,
            "gamma x_hat + beta[0]": lambda w: w.scale * w.x_hat + w.beta.flat[0],
            "r (gamma (x - mu) + beta)": lambda w: w.rstd * (w.scale * (w.x - w.mean) + w.beta),
            "gamma (x_hat + beta)": lambda w: w.scale * (w.x_hat + w.beta),
            "x + gamma x_hat + beta: x is added once more": lambda w: (
                w.x + w.scale * w.x_hat + w.beta
            ),
        },
    }
    for by, neighbour in ((1, "before"), (-1, "behind")):
        others["y"] |= {
            f"gamma x_hat + beta of the neighbour {neighbour}": partial(_shifted, 0, by),
            f"(gamma x_hat + beta) with gamma and beta of the neighbour {neighbour}": partial(
                _shifted, by, by
            ),
        }
    for size in BLOCKS:
        yield replaced(
            "formula",
            f"variances of blocks of {size} are merged without the distances of their means",
            "var = E[(x - mean of its block)^2]",
            var=partial(_within_blocks, over_blocks(size)),
        ).of(*CENTRED)
    others["y"] |= {
        f"{name}(gamma x_hat + beta)": partial(_activated, function)
        for name, function in ACTIVATIONS.items()
    }
    for block in BLOCKS:
        words = f"zeros that pad a set to a multiple of {block} count as deviations of size mean"
        formula = f"var = (sum (x - mu)^2 + (B - m) mu^2) / m, B a multiple of {block}"
        var = partial(_padded, block)
        yield replaced("count wrong", words, formula, var=var).of(*CENTRED)
    for words, norms, index in INDICES:
        yield replaced("axis", words, "", y=partial(_indexed, index)).of(*norms)
    yield Fault(
        "formula",
        "the mean and the reciprocal root stand for each other",
        "x_hat = (x - r) mu",
        norms=CENTRED,
        edits={
            "x_hat": lambda w, _: (w.x - w.rstd) * w.mean,
            "dx": lambda w, _: w.mean * (w.dx_hat - w.centre - w.projection),
        },
    )
    last = "gamma and beta are read along the last axis, as if channels were last"
    yield replaced("axis", last, "gamma[i mod C] x_hat[i] + beta[i mod C]", y=_channels_last).of(
        "batch_norm", "group_norm", "instance_norm"
    )
    yield replaced(
        "formula",
        "the mean term of layer norm is subtracted, and the mean is no part of this norm",
        "dx = r (dx_hat - E[dx_hat] - x_hat E[dx_hat x_hat])",
        centre=lambda w: w.average(w.dx_hat),
    ).of("rms_norm")
    centred = replaced(
        "formula",
        "the mean is subtracted, and is no part of this norm",
        "y = gamma (x - mu) / sqrt(E[(x - mu)^2] + eps)",
        mean=lambda w: w.average(w.x),
    ).of("rms_norm")
    yield centred
    yield replace(centred, backward={"centre": lambda w, _: w.average(w.dx_hat)})
    for step, ways in others.items():
        for words, way in ways.items():
            edits = {step: lambda w, value, way=way: way(w)}
            yield Fault("formula", f"{step} is computed as {words}", edits=edits)


def _first_value(w: Work) -> Array:
    return in_rows(w, w.x, lambda rows: np.repeat(rows[:, :1], rows.shape[1], axis=1))


def _means_so_far(rows: Array) -> Array:
    sums = np.cumsum(rows, axis=1, dtype=np.result_type(rows, np.float64))
    return np.asarray(sums / np.arange(1, rows.shape[1] + 1)).astype(rows.dtype)


def _means_before(rows: Array) -> Array:
    return np.insert(_means_so_far(rows), 0, 0, axis=1)[:, :-1]


def _between_ends(w: Work) -> Array:
    low, high = (a(w.x, w.view.over, keepdims=True) for a in (np.min, np.max))
    return np.asarray((w.x - low) / (high - low + w.eps))


def _again(a: Array, w: Work) -> Array:
    centred = a - w.average(a) * w.centred
    return np.asarray(centred * (w.average(centred**2) + w.eps) ** -0.5)


def _within_blocks(over: Average, w: Work) -> Array:
    return w.average((w.x - over(w, w.x)) ** 2)


def _activated(function: Change, w: Work) -> Array:
    return function(STEPS["y"](w))


def _shifted(gamma: int, beta: int, w: Work) -> Array:
    return np.asarray(_rolled(w.scale, gamma) * w.x_hat + _rolled(w.beta, beta))


def _padded(block: int, w: Work) -> Array:
    padding = -w.view.set_size % block
    return np.asarray(w.average((w.x - w.mean) ** 2) + padding * w.mean**2 / w.view.set_size)


def _indexed(index: Callable[[Array, Array, View], Array], w: Work) -> Array:
    """Return y with gamma and beta of what is made of the numbers of sample and channel."""
    samples, groups, width, _ = w.view.shape
    sample, channel = np.indices((samples, groups * width))
    found = index(sample, channel, w.view).reshape(samples, groups, width, 1)
    return np.asarray(w.scale.ravel()[found] * w.x_hat + w.beta.ravel()[found])


def _channels_last(w: Work) -> Array:
    channel = np.arange(w.x_hat.size).reshape(w.view.shape) % w.scale.size
    return np.asarray(w.scale.ravel()[channel] * w.x_hat + w.beta.ravel()[channel])


def _rolled(a: Array, by: int) -> Array:
    return np.roll(a.ravel(), by).reshape(a.shape)


def _reversed(a: Array) -> Array:
    return a.ravel()[::-1].reshape(a.shape)


def to_bits(way: Change, bits: int, a: Array) -> Array:
    """Return numbers with so many significant bits."""
    fraction, exponent = np.frexp(np.asarray(a).real)
    return np.asarray(np.ldexp(way(fraction * 2**bits) / 2**bits, exponent).astype(a.dtype))


def _to_multiples(number: int, a: Array) -> Array:
    return np.asarray(np.rint(a * number) / number)


def _to_int8(a: Array) -> Array:
    step = abs(a).max() / 127
    return np.asarray(np.rint(a / step) * step)


# Whose gamma and beta a channel may be given, in norms that have it so.
INDICES: tuple[tuple[str, tuple[str, ...], Callable[[Array, Array, View], Array]], ...] = (
    (
        "gamma and beta are indexed by the group, not by the channel",
        ("group_norm",),
        lambda _, channel, view: channel // view.shape[2],
    ),
    (
        "gamma and beta are indexed by the channel within its group",
        ("group_norm",),
        lambda _, channel, view: channel % view.shape[2],
    ),
    (
        "gamma and beta are those of the first channel of the group",
        ("group_norm",),
        lambda _, channel, view: channel // view.shape[2] * view.shape[2],
    ),
    (
        "gamma and beta are repeated for each sample where they are to be tiled",
        ("group_norm", "instance_norm"),
        lambda sample, channel, view: (
            (sample * view.shape[1] * view.shape[2] + channel) // view.shape[0]
        ),
    ),
)
# What an array may be instead: the kind of the fault, and how it comes of the right one.
CHANGES: dict[str, tuple[str, Change]] = {
    "rounded to bfloat16": ("cast too early", partial(to_bits, np.rint, 8)),
    "cut to bfloat16": ("cast too early", partial(to_bits, np.trunc, 8)),
    "rounded to TF32": ("cast too early", partial(to_bits, np.rint, 11)),
    "cut to TF32": ("cast too early", partial(to_bits, np.trunc, 11)),
    "rounded to multiples of max / 127, as int8": ("cast too early", _to_int8),
    **{
        f"rounded to multiples of 1/{number}": ("cast too early", partial(_to_multiples, number))
        for number in (16, 64, 100, 128, 256, 1000, 1024, 4096, 65536)
    },
    "truncated to whole numbers": ("cast too early", np.trunc),
    "rounded to whole numbers": ("cast too early", np.rint),
    "rounded down to whole numbers": ("cast too early", np.floor),
    "that of the neighbour before": ("axis", partial(_rolled, by=1)),
    "that of the neighbour behind": ("axis", partial(_rolled, by=-1)),
    "in reverse order": ("axis", _reversed),
}

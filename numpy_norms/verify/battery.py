"""The battery: small inputs, each designed to show what ordinary ones hide."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from numpy_norms import checks
from numpy_norms.oracle.sets import FEATURE_NORMS

from .arrangement import Arrangement
from .asked import axes_needed, floating, shaped, whole_number, yes_or_no
from .draft import draw
from .faults.grammar import CENTRED
from .masking import leading, under_masks
from .plain import SCHEMES, Array
from .recipes import EMPTY, RECIPES, Recipe
from .shapes import COUNTS, LENGTHS, Shape, shapes, sized

__all__ = ["Case", "Values", "case_of", "cases"]


@dataclass(frozen=True)
class Case:
    """One input of the battery, in the caller's order of axes.

    Parameters
    ----------
    name, norm : str
    why : str
        What it is there to show.
    x, gamma, beta, dy : ndarray
        `beta` is 0 for RMS norm, which has none.
    eps : float
    num_groups : int or None
        Of a group norm.
    exact_for : tuple of str
        The orders of summation whose results must equal the exact ones to the last bit.
    residual : ndarray or None
        The part of `x` that the kernel is given apart, to be added first.
    where : ndarray of bool, True or None
        What counts, for a kernel that is given it last; True for all. dy is 0 where it is False.
    """

    name: str
    norm: str
    why: str
    x: Array = field(repr=False)
    gamma: Array = field(repr=False)
    beta: Array = field(repr=False)
    dy: Array = field(repr=False)
    eps: float
    num_groups: int | None = None
    exact_for: tuple[str, ...] = ()
    residual: Array | None = field(default=None, repr=False)
    where: Array | bool | None = field(default=None, repr=False)

    @property
    def forward_arguments(self) -> tuple[Any, ...]:
        """What `check_kernel` passes to a forward pass."""
        rest = self.backward_arguments[2:]
        if self.residual is None:
            return (self.x, *rest)
        return (self.x - self.residual, self.residual, *rest)

    @property
    def backward_arguments(self) -> tuple[Any, ...]:
        """What `check_kernel` passes to a backward pass."""
        groups = () if self.num_groups is None else (self.num_groups,)
        beta = () if self.norm == "rms_norm" else (self.beta,)
        where = () if self.where is None else (np.broadcast_to(self.where, self.x.shape).copy(),)
        return (self.dy, self.x, *groups, self.gamma, *beta, self.eps, *where)


@dataclass(frozen=True)
class Values:
    """What the arrays of every case have in common.

    Parameters
    ----------
    dtype : dtype
        Of `x` and `dy`.
    weights : dtype or None
        Of `gamma` and `beta`; that of `x` by default.
    scheme : str
        "gemma" where gamma is stored as its distance from 1.
    eps : float or None
        For all cases; None to let each choose its own.
    residual : bool
        Whether a part of x is given apart.
    where : bool
        Whether a mask is given.
    """

    dtype: np.dtype[Any]
    weights: np.dtype[Any] | None = None
    scheme: str = "exact"
    eps: float | None = None
    residual: bool = False
    where: bool = False


def cases(
    norm: str,
    *,
    dtype: DTypeLike = np.float32,
    seed: int = 0,
    weights: DTypeLike | None = None,
    scheme: str = "exact",
    eps: float | None = None,
    residual: bool = False,
    where: bool = False,
    sizes: str = "usual",
    shapes: Sequence[tuple[int, ...]] | None = None,
    num_groups: int | None = None,
    empty: bool = False,
    most: float = math.inf,
    **options: Any,
) -> tuple[Case, ...]:
    """Return the battery for a norm.

    Sizes are distinct and mostly prime, means are not zero, gamma is signed, dy is random, and eps
    is of the order of the variance unless a case says otherwise.

    Parameters
    ----------
    norm : str
    dtype : dtype, default float32
        The type of the arrays, whose values are thus what it can represent.
    seed : int, default 0
        Other seeds give other values in the same structure.
    weights : dtype, optional
        The type of gamma and beta; `dtype` by default.
    scheme : str, default "exact"
        With ``"gemma"`` gamma is stored as its distance from 1.
    eps : float, optional
        One eps for all cases; with 0 there are no sets without variance.
    residual : bool, default False
        Whether a part of x is given apart, as `Case.residual`.
    where : bool, default False
        Whether a mask is given, as `Case.where`: all counts but in cases ``"mask_..."`` at the end.
    sizes : {"usual", "all"}
        ``"all"`` adds the lengths of sets and numbers of rows at which kernels change their ways,
        from 1 to 65537 and 100,000; the usual battery has at most ten different shapes.
    shapes : sequence of shapes, optional
        The shapes of x that there shall be, and no others.
    num_groups : int, optional
        Of a group norm, with `shapes`.
    empty : bool, default False
        Whether there is a batch of none.
    most : float, optional
        The most elements of x in a case; those with more are left out.
    **options
        `axis` or `channel_axis`, as in this library's functions.

    Raises
    ------
    ValueError
        If there is no such norm, or no such choice of sizes; if the norm has none of `shapes`, or
        one is empty.
    TypeError
        If `dtype` or `weights` is none of float16, bfloat16, float32 and float64.

    Examples
    --------
    >>> battery = {case.name: case for case in cases("layer_norm")}
    >>> battery["long_sets"].x.shape
    (3, 65537)
    >>> battery["long_sets"].why
    'sets longer than 65536, and than any block, whose last value counts most'
    """
    checks.choice("sizes", sizes, ("usual", "all"))
    checks.choice("scheme", scheme, SCHEMES)
    yes_or_no(residual=residual, where=where, empty=empty)
    eps = None if eps is None else checks.epsilon(eps)
    arrangement = Arrangement.of(norm, options)
    shaped(arrangement, shapes, num_groups)
    whole_number("seed", seed)
    most = checks.number("most", most, 1e6)
    own = None if weights is None else floating("weights", weights)
    values = Values(floating("dtype", dtype), own, scheme, eps, residual, where)
    plan = list(planned(arrangement, shapes, num_groups))
    fewest, least = min(len(shape) for _, (shape, _) in plan), axes_needed(arrangement)
    if fewest < least:
        raise ValueError(
            f"{arrangement.options} asks for {least} axes, and x has from {fewest} to 5 here; "
            "count from the end, as -1 does, or pass shapes= that the kernel takes"
        )
    if sizes == "all":
        plan += _sizes(norm, arrangement.features)
    if eps == 0 and norm in CENTRED:
        plan = [(r, shape) for r, shape in plan if r.divides(arrangement.view_of(*shape))]
    if empty:
        plan.append((EMPTY, _emptied(plan[0][1])))
    found = [
        case_of(recipe, arrangement, shape, values, [seed, number])
        for number, (recipe, shape) in enumerate(plan)
        if math.prod(shape[0]) <= most
    ]
    return (*found, *(under_masks(arrangement, found[0], seed) if where and found else ()))


def planned(
    arrangement: Arrangement,
    own: Sequence[tuple[int, ...]] | None = None,
    num_groups: int | None = None,
) -> Iterator[tuple[Recipe, Shape]]:
    """Yield every recipe with its shape: those of the battery, or the caller's own."""
    norm = arrangement.norm
    usable = [recipe for recipe in RECIPES if norm in recipe.norms]
    if own is None:
        kinds = shapes(norm, arrangement.features)
        yield from ((recipe, kinds[recipe.kind]) for recipe in usable if recipe.kind in kinds)
        return
    for number, given in enumerate(own):
        shape = arrangement.inward(np.empty(given, bool)).shape
        for recipe in usable:
            if recipe.fits(arrangement.view_of(shape, num_groups)) and (
                number == 0 or recipe.name in ("ordinary", "large_offset")
            ):
                name = recipe.name if number == 0 else f"{recipe.name} {given}"
                yield replace(recipe, name=name), (shape, num_groups)


def _sizes(norm: str, features: int) -> Iterator[tuple[Recipe, Shape]]:
    plain = RECIPES[0]
    for length in LENGTHS:
        if length > 1 or norm != "batch_norm":
            name = f"sets_of_{length}"
            yield (
                replace(plain, name=name, why=f"sets of {length}"),
                sized(norm, length, 2 if norm == "batch_norm" else 3, features),
            )
    for count in COUNTS:
        name = f"batch_of_{count}"
        yield replace(plain, name=name, why=f"{count} rows"), sized(norm, 8, count, features)


def _emptied(shape: Shape) -> Shape:
    sizes, groups = shape
    return (0, *sizes[1:]), groups


def case_of(
    recipe: Recipe, arrangement: Arrangement, shape: Shape, values: Values, seed: list[int]
) -> Case:
    """Return a recipe's case with x of some shape, channels second or features last."""
    sizes, num_groups = shape
    features = sizes[-arrangement.features :] if arrangement.norm in FEATURE_NORMS else sizes[1:2]
    view = arrangement.view_of(sizes, num_groups)
    draft = draw(
        np.random.default_rng(seed),
        view,
        std=recipe.std,
        mean=recipe.mean(values.dtype),
        eps=recipe.eps,
    )
    recipe.change(draft)
    if arrangement.norm == "rms_norm":
        draft.beta[...] = 0
    stored = draft.gamma - 1 if values.scheme == "gemma" else draft.gamma

    def rounded(a: Array) -> Array:
        made = a.astype(values.dtype).reshape(sizes)
        return np.ascontiguousarray(arrangement.outward(made))

    def parameter(a: Array) -> Array:
        return recipe.parameter_layout(a.astype(values.weights or values.dtype).reshape(features))

    x = recipe.x_layout(rounded(draft.x))
    return Case(
        recipe.name,
        arrangement.norm,
        recipe.why,
        x,
        parameter(stored),
        parameter(draft.beta),
        recipe.dy_layout(rounded(draft.dy)),
        draft.eps if values.eps is None else values.eps,
        num_groups,
        recipe.exact_for if values.eps is None else (),
        leading(x) if values.residual else None,
        True if values.where else None,
    )

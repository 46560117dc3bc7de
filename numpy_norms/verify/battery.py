"""The battery: small inputs, each designed to show what ordinary ones hide."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from numpy_norms.oracle.sets import FEATURE_NORMS

from .arrangement import Arrangement
from .draft import draw
from .plain import Array
from .recipes import RECIPES, Recipe
from .shapes import shapes

__all__ = ["Case", "cases"]


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

    @property
    def forward_arguments(self) -> tuple[Any, ...]:
        """What `check_kernel` passes to a forward pass."""
        groups = () if self.num_groups is None else (self.num_groups,)
        beta = () if self.norm == "rms_norm" else (self.beta,)
        return (self.x, *groups, self.gamma, *beta, self.eps)

    @property
    def backward_arguments(self) -> tuple[Any, ...]:
        """What `check_kernel` passes to a backward pass."""
        return (self.dy, *self.forward_arguments)


def cases(
    norm: str, *, dtype: DTypeLike = np.float32, seed: int = 0, **options: Any
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
    **options
        `axis` or `channel_axis`, as in this library's functions.

    Raises
    ------
    ValueError
        If there is no such norm.

    Examples
    --------
    >>> battery = {case.name: case for case in cases("layer_norm")}
    >>> battery["long_sets"].x.shape
    (3, 1301)
    >>> battery["long_sets"].why
    'sets longer than a block of 1024'
    """
    arrangement = Arrangement.of(norm, options)
    kinds = shapes(norm, arrangement.features)
    return tuple(
        _make(recipe, arrangement, *kinds[recipe.kind], np.dtype(dtype), [seed, number])
        for number, recipe in enumerate(RECIPES)
        if recipe.kind in kinds and norm in recipe.norms
    )


def _make(
    recipe: Recipe,
    arrangement: Arrangement,
    shape: tuple[int, ...],
    num_groups: int | None,
    dtype: np.dtype[Any],
    seed: list[int],
) -> Case:
    features = shape[-arrangement.features :] if arrangement.norm in FEATURE_NORMS else shape[1:2]
    view = arrangement.view(np.empty(shape, bool), np.empty(features, bool), num_groups)
    draft = draw(
        np.random.default_rng(seed),
        view,
        std=recipe.std,
        mean=recipe.mean(dtype),
        eps=recipe.eps,
    )
    recipe.change(draft)
    if arrangement.norm == "rms_norm":
        draft.beta[...] = 0

    def rounded(a: Array, to: tuple[int, ...]) -> Array:
        return a.astype(dtype).reshape(to)

    x, dy = (
        np.ascontiguousarray(arrangement.outward(rounded(a, shape))) for a in (draft.x, draft.dy)
    )
    return Case(
        recipe.name,
        arrangement.norm,
        recipe.why,
        recipe.x_layout(x),
        rounded(draft.gamma, features),
        rounded(draft.beta, features),
        recipe.dy_layout(dy),
        draft.eps,
        num_groups,
        recipe.exact_for,
    )

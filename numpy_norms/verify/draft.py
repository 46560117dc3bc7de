"""A case in the making: float64 values on the four-axis view, and what may be done to them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .plain import Array, View

__all__ = ["Draft", "draw"]


@dataclass
class Draft:
    """The arrays of a case before they are rounded to its type."""

    rng: np.random.Generator
    view: View
    std: float
    eps: float
    x: Array
    gamma: Array
    beta: Array
    dy: Array

    def of_sets(self, values: Array) -> Array:
        """Bring values of shape (number of sets, positions in a set) onto the view."""
        kept = [axis for axis in range(4) if axis not in self.view.over]
        order = [*kept, *self.view.over]
        shaped = values.reshape([self.view.shape[axis] for axis in order])
        return np.asarray(shaped.transpose(np.argsort(order)))

    @property
    def sets(self) -> int:
        """The number of sets."""
        return math.prod(self.view.shape) // self.view.set_size


def draw(rng: np.random.Generator, view: View, *, std: float, mean: float, eps: float) -> Draft:
    """Draw a case: `mean` in units of `std`, `eps` in units of its square."""
    sets = [1 if axis in view.over else size for axis, size in enumerate(view.shape)]
    centre = mean * rng.choice([-1, 1]) * rng.uniform(0.6, 1.4, sets)
    return Draft(
        rng,
        view,
        std,
        eps * std**2,
        x=std * (centre + rng.standard_normal(view.shape)),
        gamma=rng.choice([-1, 1], view.params) * rng.uniform(0.5, 2, view.params),
        beta=rng.standard_normal(view.params),
        dy=rng.standard_normal(view.shape) + 0.3,
    )


def far_set(factor: float, draft: Draft) -> None:
    """Move one set far away."""
    draft.x += draft.of_sets(
        np.where(np.arange(draft.sets)[:, None] == 0, factor * draft.std, 0)
        + np.zeros((1, draft.view.set_size))
    )


def spike(factor: float, draft: Draft) -> None:
    """Raise one position of each set far above the rest."""
    first = np.arange(draft.view.set_size) == draft.view.set_size // 2
    draft.x += draft.of_sets(np.zeros((draft.sets, 1)) + first * factor * draft.std)


def heavy_end(draft: Draft) -> None:
    """Let half of the variance of each set, and much of its gradient, come from its last value."""
    size = draft.view.set_size
    last = draft.of_sets(np.ones((draft.sets, 1)) * (np.arange(size) == size - 1))
    draft.x += last * draft.std * math.sqrt(size)
    draft.dy *= 1 + last * math.sqrt(size) / 16


def heavy_last_rows(draft: Draft) -> None:
    """Let the gradient of the last row weigh as much as hundreds of others."""
    draft.dy[-1:] *= 256


def constant_sets(draft: Draft) -> None:
    """Give all positions of a set the same value."""
    values = draft.rng.uniform(0.1, 2, (draft.sets, 1)) * np.ones(draft.view.set_size)
    draft.x = draft.of_sets(values)


def constant_about_mean(draft: Draft) -> None:
    """Give all positions of a set the value of its mean."""
    draft.x[...] = draft.x.mean(axis=draft.view.over, keepdims=True)


def one_nan(draft: Draft) -> None:
    """Make one value NaN."""
    draft.x.flat[draft.x.size // 2] = np.nan


def zero_gamma(draft: Draft) -> None:
    """Make one gamma 0 and another tiny."""
    draft.gamma.flat[0] = 0
    draft.gamma.flat[-1] = 2.0**-12


def dy_only_in_last_rows(draft: Draft) -> None:
    """Let the last 3 rows alone have a gradient."""
    draft.dy[:-3] = 0


def small_dy(draft: Draft) -> None:
    """Keep dx within the range of float16."""
    draft.dy /= 32


def zero_dy(draft: Draft) -> None:
    """Let no gradient come in."""
    draft.dy[...] = 0


def exact(offset: float, draft: Draft) -> None:
    """Choose values with which sums in any order, the root and the quotients are exact.

    x = offset +- 1 in equal numbers and eps = 3 make var + eps = 4. In each set gamma dy is
    a + b s + e, where s is the sign of x - offset and e = +-c cancels among either sign, so that
    the means in (12) are a and b / 2. y and dx stay well away from 0, so that a mean wrong by a
    fraction of a roundoff, as Welford's recurrence leaves it, does not show.
    """
    rng, size = draft.rng, draft.view.set_size
    signs, rest = np.empty((draft.sets, size)), np.empty((draft.sets, size))
    for row in range(draft.sets):
        order = rng.permutation(size)
        signs[row] = np.resize([1, 1, -1, -1], size)[order]
        rest[row] = np.resize([1, -1], size)[order]
    draft.eps = 3.0
    draft.x = draft.of_sets(offset + signs)
    draft.gamma = rng.choice([-2, -1, -0.5, 0.5, 1, 2], draft.view.params)
    draft.beta = rng.choice([-3.0, -2.0, 2.0, 3.0], draft.view.params)
    a, b, c = rng.choice([1, 2]), rng.choice([1, 2]), rng.integers(8, 12)
    draft.dy = draft.of_sets(a + b * signs + c * rest) / draft.gamma

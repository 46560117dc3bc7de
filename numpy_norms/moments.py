"""Count, mean and squared deviations of data in pieces, and how pieces are merged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import checks
from .engine import lifting
from .engine.plans import Asked, Plan, plan_for
from .layer_norm import layout
from .masks import mask_of
from .passes import Statistics
from .pieces import counts, made_of_sets

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, mean and sum of squared deviations of sets of numbers, which can be merged.

    For data in pieces: on several machines, in a stream, or larger than memory. `of` takes the
    moments of a piece, `merged` those of all pieces from theirs.

    Parameters
    ----------
    count : ndarray of integers
        How many numbers each set has.
    mean : ndarray, of the shape of `count`
        Their mean; 0 where there are none.
    m2 : ndarray, of the shape of `count`
        The sum of ``(x - mean)**2``.

    Raises
    ------
    ValueError
        If the shapes differ, or a count or a sum of squares is negative.
    TypeError
        If the counts are not integers, or the others no numbers.

    References
    ----------
    Chan, Golub and LeVeque 1983; equations (15) to (17) of ``docs/merging-moments.md``.

    Examples
    --------
    >>> import numpy as np
    >>> first, second = np.array([1.0, 2.0, 6.0]), np.array([40.0, -1.0])
    >>> Moments.of(first, axis=0).merge(Moments.of(second, axis=0)).var()
    array(236.24)
    >>> np.concatenate([first, second]).var()
    np.float64(236.24)
    """

    count: NDArray[np.integer[Any]]
    mean: Array
    m2: Array

    def __post_init__(self) -> None:
        """Refuse what does not belong together; hold arrays of int64, and of float64 or wider."""
        given = checks.read("count", self.count)
        if given.dtype.kind not in "iu":
            raise TypeError(
                f"count has dtype {given.dtype}, but integers were expected; "
                "pass np.asarray(count, np.int64)"
            )
        count = given.astype(np.int64, copy=False)  # narrow ones would not hold the sums of a merge
        mean, m2 = (_wide(name, getattr(self, name)) for name in ("mean", "m2"))
        if not count.shape == mean.shape == m2.shape:
            raise ValueError(
                f"count, mean and m2 have shapes {count.shape}, {mean.shape} and {m2.shape}, but "
                "one shape was expected; pass np.full(mean.shape, n) if all counts are n"
            )
        if (count < 0).any():
            raise ValueError("count is negative for a set; pass how many numbers each set has")
        if m2.dtype.kind != "c" and (m2 < 0).any():
            raise ValueError(
                "m2 is negative for a set, but it is a sum of squares; pass count * var if var is "
                "the biased variance"
            )
        if not count.all():  # the mean of nothing is NaN elsewhere
            mean, m2 = (np.where(count == 0, 0, a) for a in (mean, m2))
        self.__dict__.update(count=count, mean=mean, m2=m2)  # the class is frozen

    @classmethod
    def of(
        cls, x: ArrayLike, axis: int | Sequence[int], *, where: ArrayLike | None = None
    ) -> Moments:
        """Return the moments of `x` over some of its axes.

        Parameters
        ----------
        x : ndarray
            Of any shape with at least one axis.
        axis : int or sequence of int
            The axes to take moments over.
        where : ndarray of bool, optional
            What counts, True by default; it broadcasts to `x`. A set in which nothing counts has
            the moments of nothing.

        Returns
        -------
        Moments
            Of the shape of ``np.mean(x, axis)``, in float64, or the dtype of `x` if that is wider.

        Raises
        ------
        ValueError
            If an axis does not exist or is named twice, or `where` has a wrong shape.
        TypeError
            If a dtype is wrong: integers, booleans, objects and masked arrays are refused.

        Examples
        --------
        >>> import numpy as np
        >>> m = Moments.of(np.array([[1.0, 3.0], [10.0, 30.0]]), axis=1)
        >>> m.count, m.mean, m.m2
        (array([2, 2]), array([ 2., 20.]), array([  2., 200.]))
        >>> Moments.of(np.array([1.0, 3.0, np.nan]), axis=0, where=[True, True, False]).mean
        array(2.)
        """
        x = checks.array("x", x)
        sets = layout(x, None, None, checks.integers("axis", axis))._replace(along=())
        plan = plan_for(sets, checks.working_dtype(x, None), x.dtype, Asked())
        mask = None if where is None else mask_of(plan, checks.mask(where, x), x)
        count = counts(plan, mask)
        found = made_of_sets(plan, x, 0.0, mask, count, _in_units_of_x)
        mean, m2 = found or np.zeros((2, *plan.set_shape), plan.few)  # of an empty array
        return Moments(plan.in_order(count), plan.report(mean), plan.report(m2))

    @classmethod
    def empty(cls, shape: int | Sequence[int]) -> Moments:
        """Return the moments of no numbers, with which a merge changes nothing.

        Parameters
        ----------
        shape : int or sequence of int
            One set for each index.

        Returns
        -------
        Moments

        Examples
        --------
        >>> Moments.empty(2).count
        array([0, 0])
        """
        checks.sizes("shape", shape)
        return cls(np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape))

    @classmethod
    def merged(cls, parts: Iterable[Moments]) -> Moments:
        """Return the moments of all parts together.

        Neighbours are merged two by two, then what they give, and so on. So the order depends on
        the number of parts alone, and rounding errors grow with its logarithm, as memory does.

        Parameters
        ----------
        parts : iterable of Moments
            At least one, of one shape.

        Returns
        -------
        Moments

        Raises
        ------
        ValueError
            If there is no part, or shapes differ.
        TypeError
            If a part is of another type.

        Examples
        --------
        >>> import numpy as np
        >>> x = np.arange(12.0)
        >>> m = Moments.merged(Moments.of(piece, axis=0) for piece in np.split(x, 4))
        >>> m.mean, m.var(correction=1)
        (array(5.5), array(13.))
        """
        if hasattr(parts, "compute") or not np.iterable(parts):
            raise TypeError(
                f"parts is a {type(parts).__name__}, but an iterable of Moments was expected; "
                f"pass [{_cure(parts)}], say"
            )
        waiting: list[Moments] = []  # of 2**k parts each, with k falling, as the digits of n are
        for n, part in enumerate(parts, 1):
            whole = _checked(part)
            while n % 2 == 0:
                whole, n = waiting.pop().merge(whole), n // 2
            waiting.append(whole)
        if not waiting:
            raise ValueError("parts is empty; pass at least Moments.empty(shape)")
        whole = waiting.pop()
        while waiting:
            whole = waiting.pop().merge(whole)
        return whole

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both together.

        With d the difference of the means, and n the sum of the counts::

            mean = mean1 + d * n2 / n
            m2 = m2_1 + m2_2 + d**2 * n1 * n2 / n

        Parameters
        ----------
        other : Moments
            Of the same shape.

        Returns
        -------
        Moments

        Raises
        ------
        ValueError
            If the shapes differ.
        TypeError
            If `other` is of another type.

        Examples
        --------
        >>> import numpy as np
        >>> Moments.empty(()).merge(Moments.of(np.array([1.0, 3.0]), axis=0)).mean
        array(2.)
        """
        if _checked(other).mean.shape != self.mean.shape:
            raise ValueError(
                f"moments of shapes {self.mean.shape} and {other.mean.shape} cannot be "
                "merged; take both over the axes that leave the same sets"
            )
        n1, n2 = self.count, other.count
        n = np.asarray(n1 + n2)
        share = np.divide(n2, np.maximum(n, 1), dtype=np.result_type(self.mean, other.mean))
        with np.errstate(all="ignore"):
            d = np.where(n2 == 0, 0, other.mean - self.mean)  # (15); nothing has no mean
            mean = np.asarray(self.mean + d * share)  # (16)
            m2 = np.asarray(self.m2 + other.m2 + d * (n1 * share) * d)  # (17)
        return Moments(n, mean, m2)

    def var(self, correction: int = 0) -> Array:
        """Return the variances ``m2 / (count - correction)``.

        Parameters
        ----------
        correction : int, default 0
            0 gives the biased variance, by which batches are normalized; 1 the unbiased one.

        Returns
        -------
        ndarray

        Raises
        ------
        ValueError
            If a count is not greater than `correction`, or that is negative.
        TypeError
            If `correction` is no integer.

        Examples
        --------
        >>> import numpy as np
        >>> Moments.of(np.array([1.0, 3.0]), axis=0).var(correction=1)
        array(2.)
        """
        n, correction = self.count, checks.integer("correction", correction, 1)
        if correction < 0:
            raise ValueError(f"correction is {checks.shown(correction)}; pass 0, 1 or more")
        if not (n > correction).all():
            raise ValueError(
                f"a set has {n.min()} numbers, and the variance divides by their number less "
                f"the correction, {checks.shown(correction)}; pass a smaller correction, or merge "
                "more data"
            )
        with np.errstate(all="ignore"):
            return np.asarray(self.m2 / (n - correction))


def _wide(name: str, a: ArrayLike) -> Array:
    """Means or sums of squares, in float64 or wider."""
    integers = checks.read(name, a)
    a = integers if integers.dtype.kind in "iu" else checks.array(name, a)
    return a.astype(np.promote_types(a.dtype, np.float64), copy=False)


def _checked(part: Any) -> Moments:
    if not isinstance(part, Moments):
        raise TypeError(
            f"a part is a {type(part).__name__}, but Moments were expected; pass {_cure(part)}"
        )
    return part


def _cure(part: Any) -> str:
    return "what its compute() returns" if hasattr(part, "compute") else "Moments.of(x, axis)"


def of_statistics(plan: Plan, count: Array, of_sets: Statistics) -> Moments:
    """Moments of sets whose counts and statistics are known."""
    mean, m2 = _in_units_of_x(plan, count, *of_sets)
    return Moments(plan.in_order(count), plan.report(mean), plan.report(m2))


def _in_units_of_x(
    plan: Plan, count: Array, pivot: Any, exponent: Any, mean: Any, var: Array
) -> tuple[Array, Array]:
    """Mean and sum of squared deviations of sets, which were lifted."""
    with np.errstate(all="ignore"):
        mean = lifting.mean_of(plan, pivot, exponent, mean)
        m2 = count * lifting.at_least_zero(var)
        return mean, m2 if exponent is None else plan.times(m2, -2 * exponent)

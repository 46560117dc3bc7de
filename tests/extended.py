"""Normalization in about 32 digits, vectorized: the oracle of the large and the exact tests.

Numbers are unevaluated sums ``hi + lo`` of two float64 arrays (Dekker 1971). Sets are found by
sorting positions by ``set_of``, as `longhand` defines it, so no axis is ever reduced. The gradient
takes the staged route, through rstd, variance and mean, without collapsing it.
"""

import math

import numpy as np

SPLITTER = 2.0**27 + 1


def two_sum(a, b):
    """Return the rounded sum of ``a`` and ``b`` and its exact error (Knuth)."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def two_product(a, b):
    """Return the rounded product of ``a`` and ``b`` and its exact error (Veltkamp, Dekker)."""
    product = a * b
    (a_hi, a_lo), (b_hi, b_lo) = split(a), split(b)
    return product, a_lo * b_lo - (((product - a_hi * b_hi) - a_lo * b_hi) - a_hi * b_lo)


def split(a):
    """Cut ``a`` into two halves of 26 bits."""
    hi = SPLITTER * a - (SPLITTER * a - a)
    return hi, a - hi


def normalized(hi, lo):
    """Return the sum of a number and a much smaller one (Dekker)."""
    total = hi + lo
    return Extended(total, lo - (total - hi))


class Extended:
    """An array of numbers ``hi + lo``, ``lo`` below the last place of ``hi``; immutable."""

    __array_ufunc__ = None

    def __init__(self, hi, lo=None):
        self.hi = np.asarray(hi, dtype=np.float64)
        self.lo = np.zeros_like(self.hi) if lo is None else np.asarray(lo, dtype=np.float64)

    def __add__(self, other):
        other = as_extended(other)
        total, error = two_sum(self.hi, other.hi)
        low, low_error = two_sum(self.lo, other.lo)
        rest = normalized(total, error + low)
        return normalized(rest.hi, rest.lo + low_error)

    def __neg__(self):
        return Extended(-self.hi, -self.lo)

    def __sub__(self, other):
        return self + -as_extended(other)

    def __mul__(self, other):
        other = as_extended(other)
        product, error = two_product(self.hi, other.hi)
        return normalized(product, error + (self.hi * other.lo + self.lo * other.hi))

    __rmul__ = __mul__

    def __truediv__(self, other):
        other = as_extended(other)
        first = self.hi / other.hi
        rest = self - other * first
        second = rest.hi / other.hi
        return normalized(first, second) + (rest - other * second).hi / other.hi

    def sqrt(self):
        """Take the root in float64 and add one Newton step."""
        root = np.sqrt(self.hi)
        return Extended(root) + (self - Extended(root) * root) / (2 * root)

    def sum(self):
        """Add up the last axis by halves and keep it as an axis of length 1."""
        if (n := self.hi.shape[-1]) == 1:
            return self
        middle = (n + 1) // 2
        left, right = self[..., :middle], self[..., middle:]
        head = left[..., : n - middle] + right
        if n % 2 == 0:
            return head.sum()
        tail = left[..., -1:]
        hi = np.concatenate([head.hi, tail.hi], axis=-1)
        return Extended(hi, np.concatenate([head.lo, tail.lo], axis=-1)).sum()

    def mean(self):
        """Divide the sum of the last axis by its length."""
        return self.sum() / float(self.hi.shape[-1])

    def __abs__(self):
        return Extended(np.abs(self.hi), np.sign(self.hi) * self.lo)

    def __getitem__(self, index):
        return Extended(self.hi[index], self.lo[index])

    def reshape(self, *shape):
        """Return the same numbers in another shape."""
        return Extended(self.hi.reshape(*shape), self.lo.reshape(*shape))


def as_extended(value):
    """Wrap a number or an array unless it is wrapped already."""
    return value if isinstance(value, Extended) else Extended(value)


class Partition:
    """The positions of an array, sorted into rows of equal ``key``."""

    def __init__(self, shape, key):
        self.shape = shape
        keys = [np.broadcast_to(k, shape).ravel() for k in key(np.indices(shape, sparse=True))]
        size = int(np.prod(shape))
        self.order = np.lexsort(keys[::-1]) if keys else np.arange(size)
        changes = [np.diff(k[self.order]) != 0 for k in keys]
        self.rows = 1 + int(np.any(changes, axis=0).sum()) if keys else 1

    def gather(self, values):
        """Return ``values`` with one set per row."""
        return as_extended(values).reshape(-1)[self.order].reshape(self.rows, -1)

    def scatter(self, rows):
        """Undo `gather`."""
        inverse = np.argsort(self.order)
        return rows.reshape(-1)[inverse].reshape(self.shape)


class Reference:
    """One norm of one input: outputs, gradients and the scales on which errors are judged."""

    def __init__(self, norm, x, gamma=None, beta=None, *, eps=1e-5):
        self.norm, self.shape = norm, np.shape(x)
        self.sets = Partition(self.shape, norm.set_of)
        self.gamma, self.beta = gamma, beta
        x = np.asarray(x, dtype=np.float64)
        # A power of two keeps squares and cubes, and their low parts, within range.
        self.exponent = int(np.frexp(np.abs(x).max())[1])
        rows = self.sets.gather(np.ldexp(x, -self.exponent))
        self.mean = rows.mean() if norm.centered else Extended(np.zeros((self.sets.rows, 1)))
        self.xc = rows - self.mean
        self.var = (self.xc * self.xc).mean()
        self.rstd = Extended(1.0) / (self.var + math.ldexp(eps, -2 * self.exponent)).sqrt()
        self.x_hat = self.xc * self.rstd

    def spread(self, parameter, default):
        """Return the entry of ``parameter`` at every position, one set per row."""
        if parameter is None:
            return Extended(np.full(self.x_hat.hi.shape, default))
        index = tuple(self.norm.parameter_of(np.indices(self.shape, sparse=True)))
        entries = np.asarray(parameter, dtype=np.float64)[index]
        return self.sets.gather(np.broadcast_to(entries, self.shape))

    def y(self):
        """Return the output and its scale |gamma| (|x_hat| + E|x_hat|) + |beta|."""
        gamma, beta = self.spread(self.gamma, 1.0), self.spread(self.beta, 0.0)
        scale = abs(gamma) * self.size_of_x_hat() + abs(beta)
        return self.sets.scatter(gamma * self.x_hat + beta), self.sets.scatter(scale).hi

    def size_of_x_hat(self):
        """Return |x_hat| + E|x_hat|: an average is known no better than its terms."""
        return abs(self.x_hat) + abs(self.x_hat).mean()

    def dx(self, dy):
        """Return the gradient and its scale r (|g| + E|g| + |x_hat| E|g x_hat|)."""
        m = float(self.x_hat.hi.shape[-1])
        g = self.spread(self.gamma, 1.0) * self.sets.gather(np.asarray(dy, dtype=np.float64))
        drstd = (g * self.xc).sum()
        dvar = drstd * self.rstd * self.rstd * self.rstd * -0.5
        dxc = g * self.rstd + dvar * self.xc * 2.0 / m
        dx = dxc - dxc.mean() if self.norm.centered else dxc
        scale = (abs(g) + abs(g).mean() + abs(self.x_hat) * abs(g * self.x_hat).mean()) * self.rstd
        unscale = 2.0**-self.exponent
        return self.sets.scatter(dx) * unscale, self.sets.scatter(scale).hi * unscale

    def dgamma(self, dy):
        """Return the gradient of gamma and its scale, the sum of |dy| (|x_hat| + E|x_hat|)."""
        size = self.sets.scatter(self.size_of_x_hat())
        return self.sum_per_parameter(self.sets.scatter(self.x_hat) * dy, size * dy)

    def dbeta(self, dy):
        """Return the gradient of beta and its scale, the sum of |dy|."""
        return self.sum_per_parameter(as_extended(dy), dy)

    def sum_per_parameter(self, values, sizes):
        """Add up ``values`` and |sizes| over the positions that share a parameter."""
        partition, shape = Partition(self.shape, self.norm.parameter_of), self.norm.parameter_shape
        total = partition.gather(values).sum().reshape(shape)
        return total, abs(partition.gather(sizes)).sum().reshape(shape).hi


def error(got, exact):
    """Return ``got - exact`` elementwise, rounded once to float64."""
    return (as_extended(np.asarray(got, dtype=np.float64)) - exact).hi


def is_nearest(got, exact):
    """Say for each element whether no neighbour of ``got`` in its type lies nearer to ``exact``."""
    offset, wide = error(got, exact), got.astype(np.float64)
    nearest = np.ones(got.shape, dtype=bool)
    for side in (np.inf, -np.inf):
        neighbour = np.nextafter(got, np.asarray(side, dtype=got.dtype)).astype(np.float64)
        nearest &= np.abs(offset) <= np.abs(neighbour - wide + offset)
    return nearest

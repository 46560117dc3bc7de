"""How far a result may lie from the exact one, judged on the scale of its terms."""

import math

import ml_dtypes
import numpy as np

from numpy_norms.oracle.reference import largest_ratio

ROUNDOFF = 2.0**-53


def assert_close(got, expected, tolerance):
    """Compare with ``tolerance`` times the largest expected entry; None equals None only."""
    assert (got is None) == (expected is None)
    if expected is not None:
        expected = np.asarray(expected)
        assert got.shape == expected.shape
        largest = np.abs(expected).max(initial=0)
        assert np.abs(got - expected).max(initial=0) <= tolerance * largest


def assert_rounded_once(got, exact):
    """Allow 0.51 units in the last place: 0.5 of ``got`` itself and 0.01 of the scale."""
    half = np.spacing(np.abs(got)).astype(np.float64) / 2
    unit = float(ml_dtypes.finfo(got.dtype).eps)
    assert (exact.value.error(got) <= half + 0.01 * unit * exact.scale).all()


def assert_within_float64(got, exact, terms):
    """Allow 2 log2(terms) + 8 roundoffs of float64 on the scale."""
    assert units(got, exact) <= 2 * math.log2(max(terms, 1)) + 8


def units(got, exact):
    """Return the largest error in roundoffs of float64 on the scale."""
    return largest_ratio(exact.value.error(got), ROUNDOFF * exact.scale)

"""why_weak: it names what inputs hide, and what they hide passes them."""

from __future__ import annotations

import numpy as np
import pytest

from numpy_norms.oracle.sets import NORMS
from numpy_norms.verify import cases, linter, mutants, why_weak

rng = np.random.default_rng(0)
x, gamma, dy = rng.standard_normal((5, 11)) + 50, rng.standard_normal(11), rng.random((5, 11))
x_hat = (x - x.mean(1, keepdims=True)) / x.std(1, keepdims=True)
ones = np.ones(11)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ((x, ones, 0.5, dy), "gamma is 1 everywhere"),
        ((x, 3 * ones, 0.5, dy), "gamma is the same everywhere"),
        ((x, abs(gamma) + 1, 0.5, dy), "gamma is positive everywhere"),
        ((x, gamma + 9, 0.5, dy), "no gamma is near 0"),
        ((x, gamma, 0.5, 0 * dy), "dy is 0"),
        ((x, ones, 1e-9, x_hat + 3), "lies in the null space"),
        ((x, ones, 0.5, dy - dy.mean(1, keepdims=True)), "the mean term of dx does not show"),
        ((x, gamma, 1e-9, dy), "eps is 1e-09 beside variances of"),
        ((x - 50, gamma, 0.5, dy), "means are near 0"),
        ((x - 45, gamma, 0.5, dy), "means are below 30 deviations"),
        ((x, gamma, 0.5, dy), "x has no negative value"),
        ((x, gamma, 0.5, dy), "no |x| reaches 256"),
        ((x[:, :2], gamma[:2], 0.5, dy[:, :2]), "sets have 2 values"),
        ((x[:, :8], gamma[:8], 0.5, dy[:, :8]), "a power of two"),
        ((x, gamma, 0.5, dy), "no set is longer than 1024"),
        ((x[:, :5], gamma[:5], 0.5, dy[:, :5]), "sizes repeat"),
        ((x.copy(), gamma, 0.5, dy.copy()), "are contiguous"),
    ],
)
def test_every_weakness_is_named(inputs, words):
    assert words in str(why_weak(*inputs))


def test_what_is_undetected_is_what_these_inputs_cannot_tell_from_right():
    weakness = why_weak(x, ones, 1e-5, np.ones_like(x))
    assert {"projection_dropped", "dx_missing", "gamma_forgotten"} <= set(weakness.undetected)
    assert "mean_term_dropped" not in weakness.undetected


@pytest.mark.parametrize("norm", NORMS)
def test_the_battery_as_a_whole_leaves_nothing_undetected(norm, monkeypatch):
    left = mutants(norm)
    monkeypatch.setattr(linter, "mutants", lambda norm: left)
    for case in sorted(cases(norm, dtype=np.float64), key=lambda case: case.x.size):
        if left and case.name != "one_nan":
            options = {"norm": norm, "num_groups": case.num_groups}
            weakness = why_weak(case.x, case.gamma, case.eps, case.dy, **options)
            left = [mutant for mutant in left if mutant.name in weakness.undetected]
    assert left == []


def test_a_weakness_is_false_if_there_is_none_and_prints_line_by_line():
    weakness = why_weak(x, gamma, 0.5, dy)
    assert weakness
    assert len(str(weakness).splitlines()) == len(weakness.reasons) + 1


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm is 'softmax'; pass one of"):
        why_weak(x, gamma, 0.5, dy, norm="softmax")

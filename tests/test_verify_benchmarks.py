"""The measurements of the kit run, and measure what they say."""

from __future__ import annotations

import ast

import numpy as np
import pytest

from benchmarks import calibrate_tolerances, kill_table, random_bugs
from numpy_norms.oracle.sets import NORMS
from numpy_norms.verify import cases, mutants
from numpy_norms.verify.runs import library_kernel


@pytest.mark.parametrize("norm", NORMS)
def test_the_kernel_that_is_broken_at_random_is_right_before(norm):
    forward, backward = random_bugs.compiled(ast.parse(random_bugs.source(norm)))
    ours = library_kernel(norm)
    case = cases(norm, dtype=np.float64)[0]
    assert np.allclose(forward(*case.forward_arguments), ours[0](*case.forward_arguments))
    for got, expected in zip(
        backward(*case.backward_arguments), ours[1](*case.backward_arguments), strict=True
    ):
        assert np.allclose(got, expected)


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])  # the two texts that there are
def test_every_change_is_one_line_and_there_are_hundreds(norm):
    changes = list(random_bugs.broken(norm))
    assert len(changes) > 200
    assert {kind for kind, *_ in changes} >= {"sign", "axis", "constant", "factor"}
    before = ast.unparse(ast.parse(random_bugs.source(norm))).splitlines()
    for _, line, module in changes:
        after = ast.unparse(module).splitlines()
        different = [new for old, new in zip(before, after, strict=True) if old != new]
        assert [text.strip() for text in different] == [line]


def test_the_sweep_stays_within_the_tolerances_and_uses_them(monkeypatch):
    monkeypatch.setattr(calibrate_tolerances, "WIDTHS", (3, 127, 1024))
    rows = list(calibrate_tolerances.sweep_table(1))[2:]
    used = [float(cell) for row in rows for cell in row.split("|")[4:8]]
    assert 0.2 < max(used) < 1


def test_the_kill_table_gives_every_checker_right_and_wrong_kernels(monkeypatch):
    def few(norm, seed):
        (x, gamma), *rest = kill_table.common_inputs(norm, seed)
        return [x[..., :16], gamma[:16]], *rest

    wrong = [m for m in mutants("rms_norm") if m.name == "gamma_forgotten"]
    monkeypatch.setitem(kill_table.INPUTS, "common", few)
    monkeypatch.setattr(kill_table, "NORMS", ("rms_norm",))
    monkeypatch.setattr(kill_table, "mutants", lambda _: wrong)
    caught = kill_table.other_checkers(1)
    columns = {column for _, column in caught}
    assert columns >= {"PyTorch slow, common", "check_gradients, common", "check_gradients, ours"}
    assert {name for name, _ in caught} == {kill_table.RIGHT, "gamma_forgotten"}
    assert not any(caught[kill_table.RIGHT, column][0] for column in columns)
    assert all(caught["gamma_forgotten", column][0] for column in columns)

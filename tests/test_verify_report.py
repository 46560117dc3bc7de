"""The report prints what it knows."""

from __future__ import annotations

import math

from numpy_norms.verify import Report, Row

GOOD = Row("ordinary", "y", 1.5, 1.0, 0.25, True, baseline=2.0, worst=(3,), got=1.0, expected=1.0)
BAD = Row("far", "dx", 2e5, 10.0, 40.0, False, worst=(1, 2), got=0.5, expected=0.25)
LAW = Row("ordinary", "sum dx = 0", 3.0, 3.0, 3.0, False, law=True)


def test_it_passes_if_every_row_does():
    assert Report("t", (GOOD,)).passed
    assert not Report("t", (GOOD, BAD)).passed


def test_the_worst_row_is_the_one_furthest_beyond_its_tolerance():
    report = Report("t", (GOOD, BAD, LAW))
    assert report.worst is BAD
    assert "worst: dx[1, 2] is 0.5, expected 0.25, in far" in str(report)


def test_laws_are_counted_and_the_broken_ones_named():
    text = str(Report("t", (GOOD, LAW)))
    assert "laws that need no expected values: 0 of 1 hold" in text
    assert "broken: sum dx = 0" in text


def test_suspects_are_explained_with_their_source():
    text = str(Report("t", (BAD,), suspects=("gamma_forgotten",)))
    assert "suspect 1: gamma_forgotten - dy is not multiplied by gamma" in text
    assert "denizyuret/Knet.jl#288" in text


def test_more_than_six_failing_cases_are_abbreviated():
    rows = tuple(Row(f"case{i}", "y", 1.0, 1.0, 2.0, False) for i in range(9))
    assert "y fails in case0, case1, case2, case3, case4, case5 and 3 more" in str(
        Report("t", rows)
    )


def test_a_failure_without_numbers_shows_its_note():
    row = Row.failure("ordinary", "y", "ValueError: no")
    report = Report("t", (row,), reproduce="again")
    assert math.isinf(report.worst.ratio)
    assert "y fails in ordinary\n  ValueError: no" in str(report)
    assert "make it again: again" in str(report)


def test_its_short_form_is_short():
    assert len(repr(Report("t", (GOOD,) * 100))) < 200

"""The report prints what it knows."""

from __future__ import annotations

import math
from dataclasses import replace

from numpy_norms.verify import Finding, Report, Row

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


FOUND = Finding(
    "dx",
    "term left out",
    "dy is not multiplied by gamma on its way to dx",
    "odd channels",
    "only for N > 128",
    0.98,
    "dx_hat = dy",
    "gamma_forgotten",
    "denizyuret/Knet.jl#288",
)


def test_a_finding_is_a_sentence():
    assert str(FOUND) == (
        "dx, odd channels, only for N > 128: "
        "dy is not multiplied by gamma on its way to dx: dx_hat = dy"
    )


def test_what_is_wrong_is_said_before_the_table_with_its_share_and_source():
    report = Report("t", (BAD,), diagnosis=(FOUND,))
    lines = str(report).splitlines()
    assert lines[1] == "Wrong: dx in 1 of 1 cases."
    assert lines[2].startswith(str(FOUND))
    assert "explains 98% of what differs; gamma_forgotten, denizyuret/Knet.jl#288" in lines[2]
    assert report.suspects == ("gamma_forgotten",)


def test_the_same_sentence_about_several_outputs_is_said_once():
    report = Report("t", (BAD,), diagnosis=(FOUND, replace(FOUND, output="dgamma", share=0.9)))
    said = [line for line in str(report).splitlines() if "multiplied by gamma" in line]
    assert len(said) == 1
    assert said[0].startswith("dx and dgamma, odd channels")
    assert "explains 90%" in said[0]


def test_what_is_not_known_explains_nothing():
    report = Report("t", (BAD,), diagnosis=(replace(FOUND, kind="unknown", issue=""),))
    assert str(report).splitlines()[2] == str(FOUND)


def test_the_diagnosis_is_plain_data():
    content = Report("t", (BAD,), diagnosis=(FOUND,)).to_dict()["diagnosis"][0]
    assert content["kind"] == "term left out"
    assert content["sentence"] == str(FOUND)


def test_what_is_not_finite_hides_no_other_error():
    spoilt = Row("ordinary", "dx", 12.0, 3.0, 7.0, False, worst=(1,), got=2.0, expected=1.0)
    lost = Row.failure("nothing", "dx", "ValueError: no")
    report = Report("t", (replace(spoilt, not_finite=4), lost))
    text = str(report)
    assert report.worst.max_error == 12.0
    assert "4 not finite" in text
    assert "worst: dx[1] is 2, expected 1, in ordinary" in text


def test_a_note_belongs_to_its_case():
    rows = (BAD, Row("exact", "dx", 0.1, 0.1, 2.0, False, note="not equal to the last bit"))
    assert "  exact: not equal to the last bit" in str(Report("t", rows)).splitlines()


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

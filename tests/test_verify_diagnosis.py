"""The diagnosis says what is wrong, and where, of faults that are in no catalogue."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from trials import small, trial, without_large

from benchmarks.labelled_faults import SAME
from benchmarks.public_faults import public_faults
from numpy_norms.verify.catalogue import KNOWN
from numpy_norms.verify.diagnosis.places import _forms, conditions
from numpy_norms.verify.faults.drawn import confined, drawn
from numpy_norms.verify.faults.factors import QUANTITIES, SIZES
from numpy_norms.verify.faults.grammar import factor, left_out, sign
from numpy_norms.verify.faults.place import CONDITIONS as CONDITIONS_THERE_ARE
from numpy_norms.verify.faults.place import Condition, Place
from numpy_norms.verify.plain import OUTPUTS, STEPS, plain_kernel, worked_again

# Some of those that `benchmarks.labelled_faults` tries.
PUBLIC = ("FlagGems#59", "MIOpen#104", "oneDNN#3543", "pytorch#183861", "quack#88", "llm.c#852")


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_fault_is_caught_and_labelled_first(name):
    public = next(p for p in public_faults() if p.report == name)
    report = without_large(public.norm).of(public.forward, public.backward)
    assert not report.passed
    first = report.diagnosis[0]
    said = first.output, first.kind, first.place, first.condition
    assert said == public.label or (said[:2] == public.label[:2] and first.share >= SAME)


WIDE = ((5, 7, 13), (200, 130), (3, 300))
PLACES = [
    (Place("feature", "each", (32, 63, 64)), "features 32..63 of each 64"),
    (Place("feature", "last", (17,)), "the last 17 features"),
    (Place("row", "from", (192,)), "rows from 192 on"),
    (Place("feature", "each", (1, 1, 2)), "odd features"),
    (Place("feature", "tail", (64,)), "the features after the last whole block of 64"),
    (Place("row", "first", (1,)), "the first row alone"),
]


@pytest.mark.parametrize(("place", "words"), PLACES, ids=lambda value: str(value))
def test_a_place_is_found_and_said(place, words):
    output = "y" if place.axis == "row" else "dx"
    fault = left_out("y") if output == "y" else sign("dx")
    kernel = confined("layer_norm", fault, output, place, None)
    found = trial("layer_norm", threads=0, shapes=WIDE).of(*kernel).diagnosis
    assert str(place) == words
    assert [(f.output, f.kind, f.place, f.condition) for f in found] == [
        (output, fault.kind, words, "")
    ]


GROUPED = [
    (Place("group", "first", (1,)), "the first group alone"),
    (Place("channel", "each", (1, 1, 2)), "odd channels"),
]


@pytest.mark.parametrize(("place", "words"), GROUPED, ids=lambda value: str(value))
def test_groups_and_channels_are_places_too(place, words):
    kernel = confined("group_norm", sign("y"), "y", place, None)
    grouped = trial("group_norm", threads=0, shapes=((5, 6, 13), (4, 12, 9)), num_groups=3)
    (found,) = grouped.of(*kernel).diagnosis
    assert found.place == words


CONDITIONS = [
    (Condition("set size", 2048.0), "only for sets longer than 2048"),
    (Condition("set size", 100.0), "only for sets longer than 100"),
    (Condition("rows", 128.0), "only for more than 128 rows"),
    (Condition("dy strided"), "only when dy is strided"),
    (Condition("calls"), "only when called a second time"),
    (Condition("m odd", above=False), "only for sets of even length"),
    (Condition("m no multiple of 16"), "only for sets whose length is no multiple of 16"),
    (Condition("m no multiple of 8", above=False), "only for sets whose length is a multiple of 8"),
    (Condition("m no power of two"), "only for sets whose length is no power of two"),
]


@pytest.mark.parametrize(("when", "words"), CONDITIONS, ids=lambda value: str(value))
def test_a_condition_is_found_to_its_exact_bound(when, words):
    kernel = confined("layer_norm", left_out("projection"), "dx", None, when)
    (found,) = without_large("layer_norm").of(*kernel).diagnosis
    assert found.condition == words
    assert found.name == "projection_dropped"


@pytest.mark.parametrize("above", [True, False])
def test_a_condition_may_leave_a_tenth_of_the_calls_on_the_wrong_side(above):
    found = [({"N": n}, 1.0 if (n > 19) == above else -1.0) for n in range(40)]
    strange = {"N": 0 if above else 39}
    assert Condition("N", 19, above) in [*conditions([*found, (strange, 1.0)])]


@pytest.mark.parametrize("trait", CONDITIONS_THERE_ARE)
def test_a_condition_and_its_opposite_are_told_apart(trait):
    for bound in (0.5, 3.0):
        assert str(Condition(trait, bound)) != str(Condition(trait, bound, above=False))


def test_a_condition_that_goes_with_the_values_of_the_exact_cases_is_not_told():
    def forward(x, gamma, beta, eps):  # which is right where all reciprocal roots are the same
        distances = x - x.mean(-1, keepdims=True)
        rstd = 1 / np.sqrt((distances**2).mean(-1, keepdims=True) + x.dtype.type(eps))
        return gamma * distances * np.sort(rstd, axis=0) + beta

    (found,) = without_large("layer_norm").of(forward, None).diagnosis
    assert "multiple" not in found.condition


PLACES = [
    (Place("feature", "each", (5, 5, 9)), "features 5 of each 9"),
    (Place("row", "each", (40, 47, 48)), "rows 40..47 of each 48"),
    (Place("row", "tail", (108,)), "the rows after the last whole block of 108"),
    (Place("feature", "half", (1,)), "the second half of the features"),
    (Place("row", "half", (0,)), "the first half of the rows"),
]


@pytest.mark.parametrize(("place", "words"), PLACES, ids=lambda value: str(value))
def test_a_place_may_have_any_period(place, words):
    kernel = confined("layer_norm", left_out("y"), "y", place, None)
    (found,) = without_large("layer_norm").of(*kernel).diagnosis
    assert found.where == words


def test_places_along_an_axis_of_another_are_sentences():
    axis, channel = "index of axis 2", "channel of each group"
    assert str(Place(axis, "range", (5, 5))) == "index 5 of axis 2 alone"
    assert str(Place(channel, "range", (1, 3))) == "channels 1..3 of each group"


def test_a_place_is_never_from_0_on():
    nearly_all = np.delete(np.arange(100), 50)
    assert "from" not in dict(_forms(100, nearly_all))
    assert dict(_forms(100, nearly_all[1:]))["from"] == (1,)


def test_a_place_and_a_condition_are_said_together():
    place, when = Place("feature", "last", (3,)), Condition("dy strided")
    kernel = confined("layer_norm", sign("dx"), "dx", place, when)
    (found,) = without_large("layer_norm").of(*kernel).diagnosis
    assert found.where == "the last 3 features, only when dy is strided"


@pytest.mark.parametrize(
    ("output", "step", "name", "words"),
    [
        ("dx", "projection", "m", "the variance term is summed where the average over m is meant"),
        ("dgamma", "dgamma", "1/n", "dgamma is averaged over its n terms"),
        ("dx", "dx", "1/N", "dx is divided by the batch size N"),
        ("dx", "centre", "m/(m - 1)", "the mean term is divided by m - 1 instead of m"),
    ],
)
def test_a_factor_is_recognised_by_its_name(output, step, name, words):
    kernel = confined("layer_norm", factor(step, SIZES[name]), output, None, None)
    (found,) = without_large("layer_norm").of(*kernel).diagnosis
    said = found.what.replace(" r E[dx_hat]", "").replace(" r x_hat E[dx_hat x_hat]", "")
    assert words in said


def test_gamma_twice_in_the_variance_term():
    kernel = confined(
        "rms_norm", factor("projection", QUANTITIES["gamma"], inside=True), "dx", None, None
    )
    (found,) = without_large("rms_norm").of(*kernel).diagnosis
    assert found.what == "gamma is once more in the variance term"


def test_a_number_without_a_name_is_told():
    forward, backward = plain_kernel("layer_norm")

    def slightly(*arguments):
        dx, dgamma, dbeta = backward(*arguments)
        return dx * np.float32(1.037), dgamma, dbeta

    (found,) = without_large("layer_norm").of(forward, slightly).diagnosis
    assert "dx is multiplied by 1.037" in found.what


def test_two_faults_in_two_outputs_are_two_findings():
    forward, _ = plain_kernel("layer_norm")
    one = confined("layer_norm", left_out("centre"), "dx", None, None)[1]
    two = confined("layer_norm", sign("dgamma"), "dgamma", None, None)[1]

    def both(*arguments):
        return one(*arguments)[0], two(*arguments)[1], one(*arguments)[2]

    found = without_large("layer_norm").of(forward, both).diagnosis
    assert {(f.output, f.kind) for f in found} == {("dx", "term left out"), ("dgamma", "sign")}


def test_sums_in_a_narrower_type_are_said_to_be_that():
    forward, backward = plain_kernel("layer_norm")

    def narrow(*arguments):
        short = [a.astype(np.float32) if isinstance(a, np.ndarray) else a for a in arguments]
        return tuple(a.astype(np.float64) for a in backward(*short))

    found = small("layer_norm", "float64").of(forward, narrow).diagnosis
    assert {(f.output, f.kind) for f in found} == {
        (output, "cast too early") for output in ("dx", "dgamma", "dbeta")
    }


def test_a_right_kernel_has_no_diagnosis():
    assert without_large("layer_norm").of(*plain_kernel("layer_norm")).diagnosis == ()


def test_drawn_faults_are_the_same_for_the_same_seed_and_carry_their_label():
    def labels(seed):
        return [one.label for _, one in zip(range(20), drawn(seed), strict=False)]

    assert labels(3) == labels(3) != labels(4)
    kinds = {kind for _, kind, _, _ in labels(3)}
    assert len(kinds) >= 4
    assert any(place for *_, place, _ in labels(3))
    assert kinds <= {fault.kind for fault in KNOWN} | {"factor", "sign"}


@pytest.mark.parametrize(
    ("place", "size", "held"),
    [
        (Place("row", "from", (2,)), 4, [2, 3]),
        (Place("row", "first", (2,)), 4, [0, 1]),
        (Place("row", "last", (2,)), 5, [3, 4]),
        (Place("row", "range", (1, 2)), 5, [1, 2]),
        (Place("row", "each", (1, 2, 4)), 8, [1, 2, 5, 6]),
        (Place("row", "tail", (4,)), 6, [4, 5]),
        (Place("row", "tail", (4,)), 8, []),
    ],
)
def test_a_place_is_a_set_of_indices(place, size, held):
    assert list(np.flatnonzero(place.holds(size))) == held


@pytest.mark.parametrize("norm", ["batch_norm", "rms_norm"])
def test_a_pass_with_edits_takes_every_step_again_that_they_reach(norm):
    judge = small(norm).judges[0]
    for step, output in product(STEPS, OUTPUTS):
        edits = {step: lambda _, value: 1.5 * value + 1}
        again, whole = (
            worked_again(judge.plain, edits, output),
            judge.worked_on(*judge.arrays(), edits),
        )
        assert np.array_equal(getattr(again, output), getattr(whole, output), equal_nan=True)

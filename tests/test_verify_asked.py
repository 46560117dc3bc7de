"""What check_kernel is asked for and cannot mean is refused, with what is expected instead."""

from __future__ import annotations

import numpy as np
import pytest
from trials import trial

from numpy_norms.oracle.sets import NORMS
from numpy_norms.verify import Accumulator, cases, check_kernel, tolerances, why_weak
from numpy_norms.verify.plain import plain_kernel

forward, backward = plain_kernel("layer_norm")
CENTRED = [norm for norm in NORMS if norm != "rms_norm"]

WRONG = [
    ({"forward": 3}, TypeError, "forward is 3; a function is expected"),
    ({"backward": "f"}, TypeError, "backward is 'f'; a function is expected"),
    ({"dtype": "int32"}, TypeError, "dtype is int32; it must be one of float16, bfloat16"),
    ({"dtype": np.longdouble}, TypeError, "it must be one of float16, bfloat16"),
    ({"dtype": complex}, TypeError, "dtype is complex128; it must be one of"),
    ({"dtype": "float33"}, TypeError, "dtype is 'float33'; it must be one of"),
    ({"weights": "int8"}, TypeError, "weights is int8; it must be one of"),
    ({"accumulate": "int8"}, TypeError, "accumulate is int8; it must be a floating-point"),
    ({"shapes": (5, 7)}, ValueError, r"a list is expected, such as \[\(64, 8192\)\]"),
    ({"shapes": []}, ValueError, "a list is expected"),
    ({"shapes": [()]}, ValueError, "layer_norm needs 1 axes here"),
    ({"shapes": [(-1, 3)]}, ValueError, "is -1; a number of 0 or more is expected"),
    ({"shapes": [(3.0, 4)]}, TypeError, "is 3.0; a whole number is expected"),
    ({"num_groups": 2}, ValueError, "num_groups is for group_norm with shapes"),
    ({"eps": -1}, ValueError, "eps is -1.0, but a finite number >= 0 was expected; pass eps=1e-5"),
    ({"eps": np.nan}, ValueError, "eps is nan, but a finite number >= 0"),
    ({"eps": "1e-5"}, TypeError, "eps is '1e-5', but a real number was expected; pass eps=1e-05"),
    ({"eps": True}, TypeError, "eps is True, but a real number"),
    ({"where": np.ones(3, bool)}, TypeError, "where is a ndarray; True or False is expected"),
    ({"saved": "mean"}, TypeError, "saved is a str; True or False"),
    ({"residual": 1}, TypeError, "residual is a int; True or False"),
    ({"scheme": "foo"}, ValueError, "scheme is 'foo'; pass one of 'exact', 'llama'"),
    ({"axis": (1, 3)}, ValueError, "asks for 4 axes, and x has from 3 to 5 here; count from"),
    ({"in_place": "z"}, ValueError, "in_place has 'z'; it must be of x, residual, gamma, beta, dy"),
    ({"threads": -3}, ValueError, "threads is -3"),
    ({"threads": "2"}, TypeError, "threads is '2'; a whole number"),
    ({"seed": -1}, ValueError, "seed is -1"),
    ({"seed": None}, TypeError, "seed is None; a whole number"),
    ({"axis": "last"}, TypeError, "axis is 'last'; a whole number or a tuple"),
    ({"axis": None}, TypeError, "axis is None"),
    ({"axis": (-1, -1)}, ValueError, "different axes are expected"),
    ({"axis": ()}, ValueError, "different axes are expected"),
]


@pytest.mark.parametrize(("options", "error", "says"), WRONG, ids=[str(o) for o, *_ in WRONG])
def test_what_cannot_be_meant_is_refused(options, error, says):
    with pytest.raises(error, match=says):
        check_kernel("layer_norm", **{"forward": forward, **options})


@pytest.mark.parametrize(
    ("groups", "says"),
    [(None, "pass num_groups too"), (4, r"pass one of \[1, 2, 3, 6\]"), (0, "pass one of")],
)
def test_groups_have_to_divide_the_channels(groups, says):
    with pytest.raises(ValueError, match=says):
        check_kernel("group_norm", shapes=[(2, 6, 3)], num_groups=groups)


@pytest.mark.parametrize("groups", [2.0, True, "2"])
def test_a_number_of_groups_is_a_whole_number(groups):
    with pytest.raises(TypeError, match="a whole number is expected"):
        check_kernel("group_norm", shapes=[(2, 6, 3)], num_groups=groups)


def test_an_axis_that_the_battery_lacks_is_there_where_shapes_have_it():
    for axis in (2, 3):
        with pytest.raises(ValueError, match="from the end, as -1 does, or pass shapes="):
            check_kernel("batch_norm", channel_axis=axis)
        shapes = [(2, 3, 5, 7)]
        assert check_kernel("batch_norm", channel_axis=axis, shapes=shapes, threads=0).passed


def test_shapes_may_come_from_anywhere():
    for shapes in (np.array([[5, 7]]), ((5, n) for n in (7, 8))):
        assert check_kernel("layer_norm", forward, shapes=shapes, threads=0).passed


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"dtype": np.int8}, TypeError, "it must be a floating-point type"),
        ({"order": "sorted"}, ValueError, "order is 'sorted'; pass one of 'any'"),
        ({"rsqrt_ulp": -1}, ValueError, "rsqrt_ulp is -1; a number of 0 or more"),
        ({"rsqrt_ulp": "2"}, ValueError, "rsqrt_ulp is '2'"),
    ],
)
def test_an_accumulator_is_one(options, error, says):
    with pytest.raises(error, match=says):
        Accumulator(**{"dtype": np.float32, **options})


x, ones = np.random.default_rng(0).standard_normal((4, 6)), np.ones(6)
BROUGHT = {
    "integers": ((np.arange(24).reshape(4, 6), ones, x), {}, TypeError, "x holds int64"),
    "no gamma": ((x, None, x), {}, TypeError, "gamma holds object"),
    "complex": ((x + 0j, ones, x), {}, TypeError, "x holds complex128"),
    "gamma of another shape": ((x, np.ones(4), x), {}, ValueError, "gamma"),
    "dy of another shape": ((x, ones, x[:2]), {}, ValueError, "dy"),
    "one number": ((np.float64(1), np.ones(1), np.float64(1)), {}, ValueError, "x has no axes"),
    "eps below 0": ((x, ones, x), {"eps": -1.0}, ValueError, "eps is -1"),
    "groups": ((x, ones, x), {"num_groups": 2}, ValueError, "layer_norm has none; leave it out"),
    "no groups": ((x, ones, x), {"norm": "group_norm"}, ValueError, "group_norm needs num_groups"),
    "too many groups": (
        (x, ones, x),
        {"norm": "group_norm", "num_groups": 4},
        ValueError,
        "num_groups",
    ),
}


@pytest.mark.parametrize("kind", BROUGHT)
def test_inputs_that_no_norm_takes_are_refused_wherever_they_are_brought(kind):
    (a, gamma, dy), options, error, says = BROUGHT[kind]
    options = {"norm": "layer_norm", "eps": 1e-5, **options}
    norm, eps = options.pop("norm"), options.pop("eps")
    with pytest.raises(error, match=says):
        why_weak(a, gamma, eps, dy, norm=norm, **options)
    with pytest.raises(error, match=says):
        tolerances(norm, a, gamma, dy=dy, eps=eps, **options)


def test_a_test_without_numbers_has_no_weakness():
    for a in (x[:0], x * np.nan):
        with pytest.raises(ValueError, match="x holds nothing, NaN or infinity"):
            why_weak(a, ones, 1e-5, a)


def test_what_can_be_meant_is_taken():
    wide = Accumulator(np.float64)
    options = {"shapes": [[5, np.int64(7)], (7,)], "axis": np.int64(-1), "accumulate": wide}
    assert check_kernel("layer_norm", **options, threads=0).passed


@pytest.mark.parametrize("norm", NORMS)
def test_an_eps_of_0_is_an_eps(norm):
    without = trial(norm, threads=0, most=20_000, eps=0.0)
    assert {case.eps for case in cases(norm, eps=0)} == {0}
    right, back = plain_kernel(norm)
    assert without.of(right, back).passed
    fixed = without.of(lambda *a: right(*a[:-1], 1e-5), None)
    assert fixed.diagnosis[0].what == "eps is always 1e-5"


@pytest.mark.parametrize("norm", CENTRED)
def test_without_eps_no_set_is_constant_and_the_report_says_so(norm):
    report = trial(norm, threads=0, most=20_000, eps=0.0).of(*plain_kernel(norm))
    said = "Without variance and eps there is no x_hat. Not run: "
    assert said in report.remark
    assert "constant_sets" in report.remark

"""Numbers of the wrong kind: every scalar argument of every function refuses them in our words."""

import inspect
import re
from decimal import Decimal
from fractions import Fraction
from functools import partial
from operator import attrgetter

import ml_dtypes
import numpy as np
import pytest
from cases import SIX, parametrize
from each import each

import numpy_norms
from numpy_norms import Moments, batch_norm_forward, conventions, verify

X = np.random.default_rng(20150211).normal(size=(4, 6, 3))
ONES = np.ones(6)
_, BATCH = batch_norm_forward(X)
CALLS = {
    "batch_norm_forward": (X,),
    "batch_norm_inference_forward": (X, ONES, ONES),
    "layer_norm_forward": (X,),
    "rms_norm_forward": (X,),
    "group_norm_forward": (X, 3),
    "instance_norm_forward": (X,),
    "add_layer_norm_forward": (X, X),
    "add_rms_norm_forward": (X, X),
    "lp_normalize_forward": (X,),
    "mean_variance_norm_forward": (X,),
    "local_response_norm_forward": (X, 3),
    "weight_norm_forward": (np.ones((6, 6)), ONES),
    "spectral_norm_forward": (np.ones((6, 6)), ONES / 2, ONES / 2),
    "power_iteration": (np.ones((6, 6)), ONES, ONES),
    "batch_renorm_forward": (X, np.zeros(6), np.ones(6)),
    "global_response_norm_forward": (X, np.ones(6), np.ones(6)),
    "update_running_stats": (ONES, ONES, BATCH),
    "fold_batch_norm": (np.ones((6, 4)), None, ONES, ONES),
    "fold_batch_norm_into_next": (np.ones((4, 6)), None, ONES, ONES),
    "groups": ("group_norm", (4, 6)),
    "Moments.of": (X, 0),
    "Moments.empty": (3,),
    "Moments.var": (Moments.of(X, 0),),
    "conventions.convert_momentum": (0.1, "keras", "pytorch"),
    "conventions.convert_running_var": (ONES, 5, "keras", "pytorch"),
    "conventions.update_options": ("keras", 0.1),
    "conventions.load": ({"weight": ONES, "bias": ONES}, "pytorch"),
}
OPTIONS = {"groups": {"num_groups": 3}, "mean_variance_norm_forward": {"axis": (0, 2)}}
WHOLE = {"axis", "channel_axis", "feature_axis", "num_groups", "size", "correction", "n", "shape"}
WHOLE |= {"iterations"}
REAL = {"eps", "momentum", "p", "alpha", "beta", "k", "r_max", "d_max"}
HUGE = 10**5000  # more digits than Python prints
NO_NUMBERS = {
    "complex": 1j,
    "NumPy's complex": np.complex128(1 + 2j),
    "bytes": b"1",
    "NumPy's bytes": np.bytes_(b"1"),
    "text": "1",
    "NumPy's text": np.str_("1"),
    "NumPy's date": np.datetime64("2020"),
    "NumPy's time": np.timedelta64(1, "s"),
    "void": np.void(b"ab"),
    "bool": True,
    "NumPy's bool": np.bool_(True),
    "Decimal": Decimal(1),
    "None": None,
    "dict": {},
    "array": np.array([1.0]),
    "object": object(),
    "slice": slice(3),
    "dots": ...,
}
OUT_OF_RANGE = {"huge": HUGE, "huge and negative": -HUGE, "NaN": np.nan, "inf": -np.inf}
NO_INTEGERS = {
    "float": 1.0,
    "NumPy's float": np.float32(1),
    "Fraction": Fraction(1, 2),
    "bfloat16": ml_dtypes.bfloat16(1),
    "0-d": np.array(1.0),
}


def found(name):
    return attrgetter(name)(numpy_norms)


def arguments():
    """Yield each function with the name of each of its scalar arguments."""
    for name in CALLS:
        for parameter in inspect.signature(found(name)).parameters:
            array = parameter == "beta" and name != "local_response_norm_forward"
            if parameter in WHOLE | REAL and not array:
                yield name, parameter


def call(name, parameter, value):
    names = list(inspect.signature(found(name)).parameters)
    given = list(CALLS[name])
    options = dict(OPTIONS.get(name, {}))
    if parameter in names[: len(given)]:
        given[names.index(parameter)] = value
    else:
        options[parameter] = value
    return found(name)(*given, **options)


def refused(name, parameter, value):
    """Return what is wrong with how a value is refused."""
    try:
        call(name, parameter, value)
    except (TypeError, ValueError) as error:
        message = str(error)
        ours = (
            re.match(rf"{parameter} is |alpha=|r_max is |a set has .* the correction, ", message)
            and "pass " in message
        )
        known = parameter == "momentum" and value is None
        short = len(message) < 300 and "\n" not in message
        return None if (ours or known) and short else message
    return "accepted"


scalars = each(("name", "parameter"), list(arguments()))


def test_every_public_function_that_takes_a_number_is_here():
    takes = {
        name
        for name in numpy_norms.__all__
        if inspect.isfunction(f := getattr(numpy_norms, name))
        and (WHOLE | REAL) & set(inspect.signature(f).parameters) - {"beta"}
    }
    there = {
        f"conventions.{name}"
        for name in conventions.__all__
        if inspect.isfunction(f := getattr(conventions, name))
        and {"momentum", "n", "eps"} & set(inspect.signature(f).parameters)
    }
    assert takes | there <= CALLS.keys() | {"set_num_threads"}


@scalars
def test_what_is_no_number_is_refused_in_our_words(name, parameter):
    kinds = dict(NO_NUMBERS)
    if inspect.signature(found(name)).parameters[parameter].default is None:
        del kinds["None"]
    wrong = {kind: refused(name, parameter, value) for kind, value in kinds.items()}
    assert not any(wrong.values()), {k: says for k, says in wrong.items() if says}


@scalars
def test_what_is_out_of_range_is_refused_in_our_words(name, parameter):
    kinds = dict(OUT_OF_RANGE) | (NO_INTEGERS if parameter in WHOLE else {})
    if parameter == "p":
        del kinds["inf"]
    if (name, parameter) == ("groups", "axis"):
        return  # it is another norm's
    wrong = {kind: refused(name, parameter, value) for kind, value in kinds.items()}
    assert not any(wrong.values()), {k: says for k, says in wrong.items() if says}


@scalars
def test_numbers_of_every_kind_that_fit_are_taken(name, parameter):
    """0 or 1, whichever fits, gives the same whoever made it."""
    one = 0 if parameter in ("axis", "correction") or name == "Moments.empty" else 1
    if parameter == "n":
        one = 2
    kinds = [np.int64, np.uint8]
    if parameter in REAL:
        kinds += [float, np.float16, np.longdouble, ml_dtypes.bfloat16, Fraction]
    if (name, parameter) == ("groups", "shape"):
        return  # a number is a shape of one axis, and group norm needs two
    expected = repr(call(name, parameter, one))
    for kind in kinds:
        assert repr(call(name, parameter, kind(one))) == expected, kind


def test_numbers_of_every_kind_set_the_threads():
    before = numpy_norms.get_num_threads()
    kinds = (1j, b"1", "1", None, 1.5, np.nan, np.complex128(1), True, 0, -1, -(10**5000))
    for wrong in (*kinds, np.array([1]), np.array(1.5)):
        with pytest.raises((TypeError, ValueError), match=r"n is .* pass"):
            numpy_norms.set_num_threads(wrong)
    assert numpy_norms.get_num_threads() == before


def grade_with(**options):
    return verify.grade(np.tanh, **{"norm": "layer_norm", "part": "forward", **options})


def load(**options):
    return conventions.load({"weight": ONES}, **{"framework": "pytorch", **options})


# What takes one of a few words, text, or a number, by the name of the argument.
WORDS = {
    "norm": [
        partial(numpy_norms.groups, shape=(2, 3)),
        partial(conventions.convention, "keras"),
        partial(conventions.eps_from_config, "config.json"),
        load,
        verify.cases,
        verify.mutants,
        grade_with,
    ],
    "framework": [
        partial(conventions.convention, norm="batch_norm"),
        conventions.update_options,
        load,
        partial(conventions.norms_in, {}),
    ],
    "source": [partial(conventions.convert_momentum, 0.1)],
    "target": [partial(conventions.convert_momentum, 0.1, "keras")],
    "scheme": [partial(numpy_norms.rms_norm_forward, X), partial(verify.cases, "rms_norm")],
    "eps_place": [partial(numpy_norms.lp_normalize_forward, X)],
    "layout": [partial(numpy_norms.fold_batch_norm, *CALLS["fold_batch_norm"])],
    "sizes": [partial(verify.cases, "rms_norm")],
    "order": [partial(verify.Accumulator, np.float32)],
    "part": [grade_with],
    "prefix": [load],
    "fix_gamma": [load],
    "without": [load],
    "section": [partial(conventions.eps_from_config, "config.json", "layer_norm")],
    "rank": [grade_with],
    "most": [partial(verify.cases, "rms_norm")],
    "seed": [
        partial(verify.cases, "rms_norm"),
        grade_with,
        partial(
            verify.check_gradients,
            numpy_norms.rms_norm_forward,
            numpy_norms.rms_norm_backward,
            ONES,
        ),
    ],
}
NO_WORDS = {
    "object": object(),
    "huge": HUGE,
    "list": ["rms_norm"],
    "dict": {},
    "array": np.arange(6.0),
    "objects": np.array(["rms_norm", None]),
    "bfloat16": np.ones(3, ml_dtypes.bfloat16),
    "record": np.zeros(2, "i4,f4"),
    "a module": np,
    "a large array": X,
}


@each(("name", "call"), [(name, call) for name, calls in WORDS.items() for call in calls])
def test_what_is_none_of_the_words_is_refused_in_our_words(name, call):
    for kind, value in NO_WORDS.items():
        if (name, kind) in [("without", "dict"), ("most", "huge"), ("seed", "huge")]:
            continue  # those fit
        with pytest.raises((TypeError, ValueError)) as caught:
            call(**{name: value})
        message = str(caught.value)
        assert message.startswith((f"{name} ", "framework is ")), (kind, message)
        assert "pass " in message or "expected" in message or "must be" in message, (kind, message)
        assert len(message) < 400, (kind, message)
        assert "\n" not in message, (kind, message)


@each("dtype", ["float33", 3, object(), [("a", "f4")], "f4,f4"])
def test_a_dtype_that_is_none_is_refused_in_our_words(dtype):
    for forward in (
        partial(numpy_norms.local_response_norm_forward, X, 3),
        partial(numpy_norms.batch_norm_inference_forward, X, ONES, ONES),
        partial(numpy_norms.layer_norm_forward, X),
        partial(numpy_norms.rms_norm_forward, X, scheme="gemma"),
        partial(numpy_norms.batch_norm_forward, X),
    ):
        with pytest.raises(TypeError, match=r"dtype is .*; pass"):
            forward(dtype=dtype)


@parametrize(SIX)
def test_real_parameters_of_a_complex_x_are_refused_by_backward(norm):
    arrays, dy = norm.draw()
    x = arrays["x"].astype(np.complex128)
    wide = {name: a.astype(np.complex128) for name, a in arrays.items()}
    _, cache = norm.forward(wide)
    norm.backward(dy.astype(np.complex128), cache)
    for name in norm.parameters:
        y, cache = norm.forward({**wide, name: arrays[name]})
        assert y.dtype == x.dtype
        with pytest.raises(TypeError, match=f"{name} is float64, but x is complex128") as caught:
            norm.backward(dy.astype(np.complex128), cache)
        assert f"pass {name}.astype(np.complex128)" in str(caught.value)
        with pytest.raises(TypeError, match=f"{name} is float64, but x is complex128"):
            numpy_norms.double_backward(dy.astype(np.complex128), cache, ddx=x)


def test_complex_statistics_are_refused_where_they_would_be_made_real():
    _, cache = batch_norm_forward(X + 1j)
    for old in ((ONES, ONES + 0j), (ONES + 0j, ONES)):
        with pytest.raises(TypeError, match=r"running_(mean|var) is float64.*pass running_"):
            numpy_norms.update_running_stats(*old, cache)
    numpy_norms.update_running_stats(ONES + 0j, ONES + 0j, cache)
    weight, names = np.ones((6, 2)), ("bias", "running_mean", "running_var", "gamma", "beta")
    for wrong in names:
        given = {name: ONES + 0j if name == wrong else ONES for name in names}
        with pytest.raises(TypeError, match=rf"{wrong} is complex128, but weight is float64.*pass"):
            numpy_norms.fold_batch_norm(weight, **given)
    with pytest.raises(TypeError, match="running_var is complex128"):
        conventions.convert_running_var(ONES + 0j, 5, "keras", "pytorch")

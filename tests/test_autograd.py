"""The norms in HIPS autograd: against its own checks, and against norms written in it."""

from itertools import combinations

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import elementwise_grad, grad, make_jvp, make_vjp
from autograd.test_util import check_grads
from cases import FIVE, INFERENCE, Norm, batch_norm, layer_norm, parametrize
from each import each
from measure import assert_close
from numpy.testing import assert_array_equal

import numpy_norms as nn
from numpy_norms import autograd as traced

EPS = 0.7
SIX = [*FIVE, INFERENCE]
OPTIONS = [
    Norm("batch_norm", (5, 3, 4, 2), {"channel_axis": (1, 3)}),
    Norm("batch_norm_inference", (5, 3, 4, 2), {"channel_axis": (1, 3)}),
    Norm("layer_norm", (5, 3, 4), {"axis": -1, "feature_axis": (-2, -1)}),
    Norm("rms_norm", (5, 3, 4), {"axis": 0, "feature_axis": -1}),
]


@pytest.fixture(autouse=True)
def seeded():
    """Seed NumPy's own generator, from which check_grads draws."""
    np.random.seed(0)  # noqa: NPY002


def function(norm, names, **options):
    """Make a function of arrays by position."""

    def call(*arrays):
        by_name = dict(zip(names, arrays, strict=True))
        return getattr(traced, norm.name)(**by_name, **{"eps": EPS, **norm.options, **options})

    return call


def written_out(norm, names):
    """Write the norm in autograd's own NumPy, for arrays whose parameters lie on one axis each."""
    axes = norm.options.get("axis", norm.options.get("channel_axis"))
    axes = [a % len(norm.shape) for a in np.atleast_1d(axes)]
    shape = [n if a in axes else 1 for a, n in enumerate(norm.shape)]

    def call(*arrays):
        by_name = dict(zip(names, arrays, strict=True))
        x = by_name["x"]
        if norm.name == "batch_norm_inference":
            mean, var = (anp.reshape(by_name[f"running_{k}"], shape) for k in ("mean", "var"))
        else:
            over, sets = tuple(axes), x
            if norm.name in ("batch_norm", "instance_norm"):
                kept = axes if norm.name == "batch_norm" else [0, *axes]
                over = tuple(a for a in range(x.ndim) if a not in kept)
            if norm.name == "group_norm":
                groups = norm.options["num_groups"]
                sets = anp.reshape(x, (len(x), groups, x.shape[1] // groups, *x.shape[2:]))
                over = tuple(range(2, sets.ndim))
            mean = anp.mean(sets, over, keepdims=True) if norm.centered else 0
            var = anp.mean((sets - mean) ** 2, over, keepdims=True)
            x = anp.reshape((sets - mean) / anp.sqrt(var + EPS), x.shape)
            mean, var = 0, 1 - EPS
        x_hat = (x - mean) / anp.sqrt(var + EPS)
        gamma = anp.reshape(by_name["gamma"], shape) if "gamma" in names else 1
        beta = anp.reshape(by_name["beta"], shape) if "beta" in names else 0
        return gamma * x_hat + beta

    return call


@parametrize([*SIX, *OPTIONS])
@each("scale", [1.0, 0.0])
def test_autograd_s_own_checks_pass_at_order_two_in_all_modes(norm, scale):
    arrays, _ = norm.draw(1)
    arrays["gamma"] = scale * arrays["gamma"]
    check_grads(function(norm, arrays), modes=["fwd", "rev"], order=2)(*arrays.values())


@parametrize(SIX)
def test_any_arguments_can_be_traced_and_parameters_be_absent(norm):
    arrays, _ = norm.draw(2)
    few = {k: a for k, a in arrays.items() if k not in ("gamma", "beta")}
    for given in (arrays, few):
        for n in range(1, len(given) + 1):
            for argnum in combinations(range(len(given)), n):
                values = list(given.values())

                def of_those(*some, values=values, given=given, argnum=argnum):
                    moved = dict(zip(argnum, some, strict=True))
                    return function(norm, given)(*[moved.get(k, a) for k, a in enumerate(values)])

                check_grads(of_those, modes=["fwd", "rev"])(*[values[k] for k in argnum])


@parametrize(SIX)
def test_two_derivatives_are_those_of_the_norm_written_in_autograd(norm):
    arrays, dy = norm.draw(3)
    values, argnum = list(arrays.values()), tuple(range(len(arrays)))
    rng = np.random.default_rng(4)
    along = [rng.standard_normal(a.shape) for a in values]

    def steepness(call):
        def penalty(*arrays):
            first = grad(lambda *a: anp.sum(dy * call(*a)), argnum)(*arrays)
            return sum(anp.sum(t * d**2) for t, d in zip(along, first, strict=True))

        return penalty

    pair = function(norm, arrays), written_out(norm, arrays)
    assert_close(pair[0](*values), pair[1](*values), 1e-13)
    found, expected = (grad(steepness(call), argnum)(*values) for call in pair)
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, 1e-11)


@parametrize(SIX)
@each("dtype", [np.float32, np.float64])
def test_gradients_and_tangents_have_the_bits_and_dtypes_of_the_library(norm, dtype):
    arrays, dy = norm.draw(5, dtype=dtype)
    y, cache = norm.forward(arrays, eps=EPS)
    call = function(norm, arrays)
    values = tuple(arrays.values())
    vjp, found = make_vjp(lambda a: call(*a))(values)
    assert_array_equal(found, y)
    for got, expected in zip(vjp(dy), norm.backward(dy, cache).values(), strict=True):
        assert got.dtype == dtype
        assert_array_equal(got, expected)
    _, y_dot = make_jvp(lambda a: call(*a))(values)(values)
    assert y_dot.dtype == dtype
    tangents = {f"{name}_dot": a for name, a in arrays.items()}
    assert_array_equal(y_dot, nn.jvp(cache, **tangents))
    ddx = np.ones_like(dy)
    again, _ = make_vjp(lambda dy: make_vjp(lambda x: call(x, *values[1:]))(values[0])[0](dy))(dy)
    assert_array_equal(again(ddx), nn.double_backward(dy, cache, ddx=ddx)[0])


@parametrize(FIVE)
def test_masks_have_a_first_derivative_in_either_mode_and_a_second_forward(norm):
    arrays, _ = norm.draw(6)
    where = np.random.default_rng(7).random(norm.shape) < 0.7
    where.ravel()[norm.sharing.set_rows[:, 0]] = True
    call = function(norm, arrays, where=where)
    check_grads(call, modes=["fwd", "rev"], order=1)(*arrays.values())
    check_grads(call, modes=["fwd"], order=2)(*arrays.values())
    x, *rest = arrays.values()
    with pytest.raises(ValueError, match="with where="):
        reverse(reverse(lambda x: call(x, *rest) ** 3))(x)


def forward(f):
    """Differentiate along ones, in forward mode."""
    return lambda x: make_jvp(f)(x)(np.ones(x.shape))[1]


def reverse(f):
    """Differentiate the sum, in reverse mode."""
    return elementwise_grad(f)


@parametrize(SIX)
@each("first", [forward, reverse])
@each("second", [forward, reverse])
@each("last", [forward, reverse])
def test_a_third_derivative_is_refused_in_words(norm, first, second, last):
    arrays, _ = norm.draw(8)
    x, *rest = arrays.values()

    def cubed(x):
        return function(norm, arrays)(x, *rest) ** 3

    assert np.isfinite(second(first(cubed))(x)).all()
    with pytest.raises(NotImplementedError, match=f"a third derivative of {norm.name}"):
        last(second(first(cubed)))(x)


@parametrize(SIX)
@each("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_forward_within_forward_mode_is_forward_of_reverse_in_any_dtype(norm, dtype):
    arrays, _ = norm.draw(8, dtype=dtype)
    values, rng = tuple(arrays.values()), np.random.default_rng(9)
    along = tuple(rng.standard_normal(a.shape).astype(dtype) for a in values)

    call = function(norm, arrays)

    def cubed(values):
        return anp.sum(call(*values) ** 3)

    _, of_reverse = make_jvp(grad(cubed))(values)(along)
    expected = sum(np.sum(d * t) for d, t in zip(of_reverse, along, strict=True))
    for size in (1, 2**-55) if dtype != np.float16 else (1,):
        small = tuple(t * dtype(size) for t in along)
        _, twice = make_jvp(lambda a, t=small: make_jvp(cubed)(a)(t)[1])(values)(small)
        assert twice.dtype == dtype
        assert_close(twice / size**2, expected, 2e-2 if dtype == np.float16 else 1e-4)


def test_forward_within_forward_mode_is_refused_for_complex_x():
    x = np.array([[1.0, 2j, 3.0]])
    twice = forward(forward(lambda x: traced.layer_norm(x) ** 3))
    with pytest.raises(NotImplementedError, match="forward mode of grad"):
        twice(x)


@each("scheme", ["gemma", "llama", "onnx"])
@each("first", [forward, reverse])
@each("second", [forward, reverse])
def test_a_scheme_s_roundings_are_the_identity(scheme, first, second, rng):
    x, gamma = rng.standard_normal((3, 5)), rng.standard_normal(5)

    def twice(gamma, **options):
        return second(first(lambda x: traced.rms_norm(x, gamma, **options) ** 3))(x)

    scale = gamma + 1 if scheme == "gemma" else gamma
    assert_close(twice(gamma, scheme=scheme), twice(scale), 1e-13)


def test_what_cannot_be_meant_is_refused_in_words():
    x = np.ones((2, 3))
    with pytest.raises(TypeError, match="out was given"):
        traced.layer_norm(x, out=x)
    with pytest.raises(TypeError, match="channel_axis"):
        traced.layer_norm(x, channel_axis=1)
    for absent in (
        lambda: traced.layer_norm(None),
        lambda: traced.batch_norm_inference(x, x[0], None),
    ):
        with pytest.raises(TypeError, match="it is a NoneType"):
            absent()
    with pytest.raises(ValueError, match="gamma has shape"):
        grad(lambda x: anp.sum(traced.layer_norm(x, np.ones(2))))(x)


def test_a_network_trains_and_as_one_that_is_written_in_autograd(rng):
    x = rng.standard_normal((60, 2))
    labels = np.where(x[:, 0] * x[:, 1] > 0, 1.0, -1.0)
    shapes = [(2, 16), (16,), (16,), (16, 16), (16,), (16,), (16,)]
    start = [rng.standard_normal(s) / np.sqrt(s[0]) for s in shapes]
    norms = [batch_norm((60, 16)), layer_norm((60, 16))]
    names = ["x", "gamma", "beta"]

    def train(make):
        first, second = (make(norm, names) for norm in norms)

        def loss(p):
            h = anp.tanh(first(x @ p[0], p[1], p[2]))
            h = anp.tanh(second(h @ p[3], p[4], p[5]))
            return anp.mean(anp.log1p(anp.exp(-labels * (h @ p[6]))))

        p, losses = start, []
        for _ in range(300):
            losses.append(loss(p))
            p = [a - 0.7 * d for a, d in zip(p, grad(loss)(p), strict=True)]
        return losses

    losses = train(function)
    assert losses[-1] < 0.3 * losses[0]
    assert_close(np.array(losses), np.array(train(written_out)), 1e-9)

"""Tangents, and the backward pass differentiated again, against the complex step and PyTorch."""

import warnings
from itertools import product

import ml_dtypes
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import (
    FIVE,
    INFERENCE,
    NORMS,
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    parametrize,
    rms_norm,
    with_large_gamma,
)
from each import each
from hypothesis import assume, given
from measure import assert_close
from numpy.testing import assert_array_equal
from small_tiles import small_tiles
from strategies import problems

import numpy_norms as nn

EPS, STEP = 0.7, 1e-30
ALL = [*NORMS, INFERENCE]
FAMILY = [*FIVE, INFERENCE]
LARGER = [
    batch_norm((90, 17)),
    layer_norm((5, 12, 40), axis=1),
    group_norm((3, 5, 6, 16), 2, channel_axis=-1),
    instance_norm((3, 6, 8, 19), channel_axis=-1),
    rms_norm((2, 300)),
]
CUT = [*product(FAMILY, ["tiny"]), *product(LARGER, ["small", "middle"])]


def random_like(arrays, seed):
    """Draw an array of the shape of each."""
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(a.shape) for name, a in arrays.items()}


def named(prefix, arrays, suffix=""):
    return {f"{prefix}{name}{suffix}": a for name, a in arrays.items()}


def dot(a, b):
    """Add up the products of arrays by name; those that are missing are 0."""
    return sum((a[name] * b[name]).sum() for name in b if a.get(name) is not None)


def sizes(a, b):
    """Add up the sizes of the products."""
    return sum(np.abs(a[name] * b[name]).sum() for name in b if a.get(name) is not None)


def stepped(arrays, tangents):
    """Take an imaginary step."""
    return {name: a + 1j * STEP * tangents[name] for name, a in arrays.items()}


def double_backward(norm, dy, cache, cotangents):
    """Name the results after the arguments."""
    found = nn.double_backward(dy, cache, **named("dd", cotangents))
    parameters = [name for name in norm.parameters if name != "beta"]
    return dict(zip(("dy", "x", *parameters), found, strict=True))


@given(problem=problems())
def test_jvp_is_the_complex_step_of_the_forward_pass(problem):
    norm, arrays = problem.norm, problem.arrays
    tangents = random_like(arrays, 3)
    tangents["x"] *= problem.scale
    _, cache = norm.forward(arrays, eps=problem.eps)
    assume((cache.var > 1e-8 * problem.scale**2).all())
    y_dot = nn.jvp(cache, **named("", tangents, "_dot"))
    y, _ = norm.forward(stepped(arrays, tangents), eps=problem.eps)
    terms = problem.scale * cache.rstd.max() * (1 + np.abs(arrays.get("gamma", 1)).max())
    assert np.abs(y_dot - y.imag / STEP).max() <= 1e-10 * (1 + terms)


@parametrize(ALL)
def test_jvp_of_each_argument_is_the_complex_step(norm):
    arrays, _ = norm.draw(1)
    tangents = random_like(arrays, 2)
    _, cache = norm.forward(arrays, eps=EPS)
    for name, a in arrays.items():
        one = {**arrays, name: a + 1j * STEP * tangents[name]}
        one["x"] = one["x"].astype(np.complex128)
        expected = norm.forward(one, eps=EPS)[0].imag / STEP
        assert_close(nn.jvp(cache, **{f"{name}_dot": tangents[name]}), expected, 1e-12)


@parametrize(ALL)
def test_jvp_is_the_adjoint_of_backward(norm):
    arrays, dy = norm.draw(4)
    tangents = random_like(arrays, 5)
    _, cache = norm.forward(arrays, eps=EPS)
    forward = dy * nn.jvp(cache, **named("", tangents, "_dot"))
    gradients = norm.backward(dy, cache)
    assert abs(forward.sum() - dot(gradients, tangents)) <= 1e-14 * sizes(gradients, tangents)


@parametrize(ALL)
@each("along", ["dy", "x", "running_mean", "running_var", "gamma"])
@each("scale", [1.0, 0.0])
def test_double_backward_is_the_complex_step_of_the_backward_pass(norm, along, scale):
    arrays, dy = norm.draw(6)
    arrays["gamma"] = arrays["gamma"] * scale
    if along not in (*arrays, "dy"):
        return
    cotangents = random_like(arrays, 7)
    _, cache = norm.forward(arrays, eps=EPS)
    found = double_backward(norm, dy, cache, cotangents)
    direction = random_like({"dy": dy, **arrays}, 8)[along]
    wide = {k: a.astype(np.complex128) for k, a in {"dy": dy, **arrays}.items()}
    wide[along] += 1j * STEP * direction
    step = wide.pop("dy")
    gradients = norm.backward(step, norm.forward(wide, eps=EPS)[1])
    expected = dot(gradients, cotangents).imag / STEP
    got = (found[along] * direction).sum()
    assert abs(got - expected) <= 1e-12 * max(np.abs(found[along] * direction).sum(), 1e-3)


@parametrize(ALL)
def test_second_derivatives_in_two_directions_are_the_same_in_either_order(norm):
    arrays, dy = norm.draw(9)
    _, cache = norm.forward(arrays, eps=EPS)
    a, b = random_like(arrays, 10), random_like(arrays, 11)
    names = [name for name in arrays if name != "beta"]
    one, other = (double_backward(norm, dy, cache, t) for t in (a, b))
    first, second = ({k: t[k] for k in names} for t in (a, b))
    assert abs(dot(one, second) - dot(other, first)) <= 1e-13 * sizes(one, second)


TORCH = {
    "batch_norm": lambda x, g, b, n: F.batch_norm(x, None, None, g, b, training=True, eps=EPS),
    "layer_norm": lambda x, g, b, n: F.layer_norm(x, g.shape, g, b, EPS),
    "group_norm": lambda x, g, b, n: F.group_norm(x, n, g, b, EPS),
    "instance_norm": lambda x, g, b, n: F.instance_norm(x, weight=g, bias=b, eps=EPS),
    "rms_norm": lambda x, g, b, n: F.rms_norm(x, g.shape, g, EPS),
}


def in_pytorch(norm, arrays, dy, cotangents):
    """Differentiate PyTorch's reverse mode in reverse mode, in float64."""
    tensors = {k: torch.tensor(a, requires_grad=True) for k, a in {"dy": dy, **arrays}.items()}
    arguments = [tensors[k] for k in arrays]
    if norm.name == "batch_norm_inference":
        x, mean, var, gamma, beta = arguments
        shape = [1, -1] + [1] * (x.ndim - 2)
        mean, var, gamma, beta = (a.reshape(shape) for a in (mean, var, gamma, beta))
        y = gamma * (x - mean) / torch.sqrt(var + EPS) + beta
    else:
        groups = norm.options.get("num_groups")
        y = TORCH[norm.name](*arguments, *[None] * (3 - len(arguments)), groups)
    gradients = torch.autograd.grad(y, arguments, tensors["dy"], create_graph=True)
    pairs = zip(gradients, arrays, strict=True)
    loss = sum((g * torch.tensor(cotangents[name])).sum() for g, name in pairs)
    wanted = [name for name in tensors if name != "beta"]
    found = torch.autograd.grad(loss, [tensors[k] for k in wanted], allow_unused=True)
    return dict(zip(wanted, found, strict=True))


@parametrize(FAMILY)
def test_double_backward_is_pytorch_s_reverse_over_reverse(norm):
    arrays, dy = norm.draw(12)
    cotangents = random_like(arrays, 13)
    _, cache = norm.forward(arrays, eps=EPS)
    found = double_backward(norm, dy, cache, cotangents)
    for name, expected in in_pytorch(norm, arrays, dy, cotangents).items():
        assert_close(found[name], expected.numpy(), 1e-12)


def second_order(norm, arrays, dy, tangents, **options):
    """Run jvp and double_backward; return all their results."""
    _, cache = norm.forward(arrays, **options)
    found = double_backward(norm, dy, cache, tangents)
    return {"y_dot": nn.jvp(cache, **named("", tangents, "_dot")), **found}


def cast(arrays, dtype):
    return {name: a.astype(dtype) for name, a in arrays.items()}


@parametrize(FAMILY)
@each("mean", [0.0, 1e2, 1e6])
def test_results_of_narrow_arrays_are_rounded_once(norm, mean):
    arrays, dy = norm.draw(14, mean=mean, dtype=np.float32)
    tangents = cast(random_like(arrays, 20), np.float32)
    found = second_order(norm, arrays, dy, tangents)
    wide = (cast(a, np.longdouble) for a in (arrays, tangents))
    exact = second_order(norm, next(wide), dy.astype(np.longdouble), next(wide))
    for name, a in found.items():
        assert a.dtype == np.float32
        assert (np.abs(a - exact[name]) <= 0.5000001 * np.spacing(np.abs(a))).all(), name


@parametrize(FIVE)
@each("exponent", [200, 300, 308])
@each("dtype", [np.float32, np.float64])
def test_gamma_near_the_largest_number_leaves_a_finite_d_x_finite(norm, exponent, dtype):
    arrays, dy = with_large_gamma(norm, exponent, dtype)
    tangents = cast(random_like(arrays, 21), dtype)
    got = second_order(norm, arrays, dy, tangents, dtype=dtype)["x"]
    wide = (cast(a, np.longdouble) for a in (arrays, tangents))
    exact = second_order(norm, next(wide), dy.astype(np.longdouble), next(wide))["x"]
    assert np.abs(exact).max() < np.finfo(dtype).max
    assert np.abs(got - exact).max() < 100 * np.finfo(dtype).eps * np.abs(exact).max()


@each(("norm", "size"), CUT)
@each(("dtype", "work"), [(np.float64, None), (np.float32, np.float32)])
def test_many_small_tiles_agree_with_one(norm, dtype, work, size):
    arrays, dy = norm.draw(15, dtype=dtype)
    tangents = cast(random_like(arrays, 16), dtype)
    expected = second_order(norm, arrays, dy, tangents, dtype=work)
    with small_tiles(size):
        found = second_order(norm, arrays, dy, tangents, dtype=work)
    for name, a in found.items():
        assert_close(a, expected[name], 3e-14 if dtype == np.float64 else 1e-5)


@each(("norm", "size"), CUT)
def test_threads_change_no_bit(norm, size):
    arrays, dy = norm.draw(17)
    tangents = random_like(arrays, 18)
    before = nn.get_num_threads()
    with small_tiles(size):
        try:
            nn.set_num_threads(1)
            alone = second_order(norm, arrays, dy, tangents)
            nn.set_num_threads(3)
            together = second_order(norm, arrays, dy, tangents)
        finally:
            nn.set_num_threads(before)
    for name, a in alone.items():
        assert_array_equal(a, together[name])


@parametrize([norm for norm in FIVE if norm.name != "batch_norm"])
def test_a_sample_alone_has_the_bits_that_it_has_in_a_batch(norm):
    if norm.name in ("layer_norm", "rms_norm") and norm.options["axis"] != -1:
        return
    arrays, dy = norm.draw(19)
    tangents = random_like(arrays, 20)
    batch = second_order(norm, arrays, dy, tangents)
    first = second_order(
        norm, {**arrays, "x": arrays["x"][:1]}, dy[:1], {**tangents, "x": tangents["x"][:1]}
    )
    for name in ("y_dot", "dy", "x"):
        assert_array_equal(first[name], batch[name][:1])


@parametrize(FAMILY)
def test_in_constant_sets_nothing_is_nan(norm):
    arrays, dy = norm.draw(21)
    arrays["x"] = np.full_like(arrays["x"], 1e6 + 0.1)
    tangents = random_like(arrays, 22)
    for a in second_order(norm, arrays, dy, tangents, eps=1e-5).values():
        assert np.isfinite(a).all()


@parametrize(FAMILY)
@each(("exponent", "eps"), [(-600, 0), (600, 0), (511, EPS), (-1000, 0), (1000, 0)])
def test_numbers_whose_squares_leave_the_range(norm, exponent, eps):
    if norm is INFERENCE:
        return
    arrays, dy = norm.draw(23)
    tangents = random_like(arrays, 24)
    scale = 2.0**exponent
    scaled = {**arrays, "x": arrays["x"] * scale}
    along = {**tangents, "x": tangents["x"] * scale}  # of x, and against the scale of dx
    found = second_order(norm, scaled, dy, along, eps=eps and eps * scale**2)
    expected = second_order(norm, arrays, dy, tangents, eps=eps)
    assert_close(found["y_dot"], expected["y_dot"], 1e-13)
    for name, a in expected.items():
        if name != "y_dot":
            assert_close(found[name] * (scale if name == "x" else 1), a, 1e-13)


@each("exponent", [-500, -340, 340, 500])
def test_inference_where_the_cube_of_rstd_leaves_the_range(exponent):
    arrays, dy = INFERENCE.draw(26)
    tangents = random_like(arrays, 27)
    units = {"x": 1, "running_mean": 1, "running_var": 2}

    def scaled(arrays, sign=1):
        return {k: np.ldexp(a, sign * exponent * units.get(k, 0)) for k, a in arrays.items()}

    found = second_order(INFERENCE, scaled(arrays), dy, scaled(tangents), eps=0)
    expected = second_order(INFERENCE, arrays, dy, tangents, eps=0)
    for name, a in expected.items():
        got = found[name] if name == "y_dot" else scaled({name: found[name]})[name]
        assert_close(got, a, 1e-12)


@parametrize(FIVE)
@each("exponent", [-1000, -600, 600, 1000])
def test_masked_numbers_whose_squares_leave_the_range(norm, exponent):
    arrays, _ = norm.draw(23)
    tangents, scale = random_like(arrays, 24), 2.0**exponent
    where = np.random.default_rng(25).random(norm.shape) < 0.8
    where.ravel()[norm.sharing.set_rows[:, :3]] = True

    def y_dot(scale):
        _, cache = norm.forward({**arrays, "x": arrays["x"] * scale}, eps=0, where=where)
        return nn.jvp(cache, **named("", {**tangents, "x": tangents["x"] * scale}, "_dot"))

    assert_close(y_dot(scale), y_dot(1.0), 1e-13)


@parametrize(FAMILY)
def test_what_is_left_out_is_zero(norm):
    arrays, dy = norm.draw(25)
    _, cache = norm.forward(arrays)
    zeros = {name: np.zeros_like(a) for name, a in arrays.items()}
    for name, a in random_like(arrays, 26).items():
        got = double_backward(norm, dy, cache, {name: a})
        expected = double_backward(norm, dy, cache, {**zeros, name: a})
        for k, value in got.items():
            assert_close(value, expected[k], 1e-14)
    assert not nn.jvp(cache).any()


@parametrize(FAMILY)
def test_no_argument_is_changed(norm):
    arrays, dy = norm.draw(27)
    tangents = random_like(arrays, 28)
    before = [a.copy() for a in (*arrays.values(), dy, *tangents.values())]
    second_order(norm, arrays, dy, tangents)
    for a, copy in zip((*arrays.values(), dy, *tangents.values()), before, strict=True):
        assert_array_equal(a, copy)


@each("scheme", ["gemma", "llama", "onnx"])
def test_a_scheme_s_roundings_are_the_identity(scheme, rng):
    x, dy, ddx = rng.standard_normal((3, 4, 6))
    gamma, ddgamma = rng.standard_normal((2, 6))
    _, cache = nn.rms_norm_forward(x, gamma, scheme=scheme)
    scale = gamma + 1 if scheme == "gemma" else gamma
    _, plain = nn.rms_norm_forward(x, scale)
    both = [nn.double_backward(dy, c, ddx=ddx, ddgamma=ddgamma) for c in (cache, plain)]
    for got, expected in zip(*both, strict=True):
        assert_close(got, expected, 1e-14)


def test_an_empty_batch_gives_empty_arrays_and_zeros(rng):
    x, gamma = np.empty((0, 5), np.float32), rng.standard_normal(5).astype(np.float32)
    _, cache = nn.layer_norm_forward(x, gamma)
    assert nn.jvp(cache, x_dot=x).shape == (0, 5)
    d_dy, d_x, d_gamma = nn.double_backward(x, cache, ddx=x, ddgamma=gamma)
    assert d_dy.shape == d_x.shape == (0, 5)
    assert_array_equal(d_gamma, np.zeros(5, np.float32))


@parametrize(FAMILY)
def test_tangents_of_every_dtype_are_taken_without_a_warning(norm):
    arrays, dy = norm.draw()
    _, cache = norm.forward(arrays)
    for dtype in (np.float16, ml_dtypes.bfloat16, np.float32, np.longdouble):
        along = cast(arrays, dtype)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            nn.jvp(cache, **{f"{name}_dot": along[name] for name in arrays})
            nn.double_backward(dy, cache, **{f"dd{name}": along[name] for name in arrays})


def refused():
    """Calls that cannot be meant, with the words that say so."""
    x, gamma = np.ones((2, 3)), np.ones(3)
    _, cache = nn.layer_norm_forward(x, gamma)
    _, overwritten = nn.layer_norm_forward(x.copy(), gamma)
    overwritten = overwritten._replace(x=None)
    _, lp = nn.lp_normalize_forward(x)
    yield nn.jvp, (lp,), {}, TypeError, "cache is a LpCache"
    yield nn.jvp, (overwritten,), {}, ValueError, "x was overwritten"
    yield nn.jvp, (cache,), {"x_dot": np.ones(3)}, ValueError, "x_dot has shape"
    yield nn.jvp, (cache,), {"beta_dot": gamma}, ValueError, "the norm had no beta"
    yield nn.jvp, (cache,), {"running_mean_dot": gamma}, ValueError, "had no running_mean"
    yield nn.jvp, (cache,), {"gamma_dot": gamma * 1j}, TypeError, "complex128"
    yield nn.double_backward, (gamma, cache), {}, ValueError, "dy has shape"
    yield nn.double_backward, (x, cache), {"ddbeta": gamma}, ValueError, "the norm had no beta"
    yield nn.double_backward, (x, cache), {"ddgamma": x}, ValueError, "ddgamma has shape"
    yield nn.double_backward, (x, cache), {"ddx": x.astype(int)}, TypeError, "ddx has dtype"


@each(("function", "arguments", "options", "error", "words"), list(refused()))
def test_what_cannot_be_meant_is_refused_in_words(function, arguments, options, error, words):
    with pytest.raises(error, match=words):
        function(*arguments, **options)

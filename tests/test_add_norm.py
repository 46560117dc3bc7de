"""The residual connection fused with layer norm and RMS norm."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from each import each
from layouts import LAYOUTS
from measure import assert_close
from numpy.testing import assert_array_equal

import numpy_norms
from numpy_norms import (
    layer_norm_backward,
    layer_norm_forward,
    rms_norm_backward,
    rms_norm_forward,
)
from numpy_norms.add_norm import (
    add_layer_norm_backward,
    add_layer_norm_forward,
    add_rms_norm_backward,
    add_rms_norm_forward,
)

EPS = 0.3
FUSED = {
    "layer": (add_layer_norm_forward, add_layer_norm_backward),
    "rms": (add_rms_norm_forward, add_rms_norm_backward),
}
ALONE = {
    "layer": (layer_norm_forward, layer_norm_backward),
    "rms": (rms_norm_forward, rms_norm_backward),
}
both = each("norm", FUSED)
dtypes = each("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])


def draw(rng, norm, shape=(3, 5, 7), axis=-1, dtype=np.float64):
    """Draw x, residual and parameters; dy and ds."""
    features = tuple(shape[a] for a in np.sort(np.arange(len(shape))[np.atleast_1d(axis)]))
    shapes = [shape, shape, features, features][: 4 if norm == "layer" else 3]
    arrays = [(0.5 + rng.standard_normal(s)).astype(dtype) for s in shapes]
    return arrays, *rng.standard_normal((2, *shape)).astype(dtype)


@both
@dtypes
def test_s_is_the_rounded_sum_and_y_its_norm(norm, dtype, rng):
    (x, residual, *parameters), _, _ = draw(rng, norm, dtype=dtype)
    y, s, cache = FUSED[norm][0](x, residual, *parameters, eps=EPS)
    exact = x.astype(np.longdouble) + residual.astype(np.longdouble)
    assert s.dtype == y.dtype == dtype
    assert_array_equal(s, exact.astype(np.float64).astype(dtype))
    assert_array_equal(y, ALONE[norm][0](s, *parameters, eps=EPS)[0])
    assert cache.x is s


@both
@dtypes
def test_without_ds_the_gradients_are_those_of_the_norm_at_s(norm, dtype, rng):
    arrays, dy, _ = draw(rng, norm, dtype=dtype)
    _, s, cache = FUSED[norm][0](*arrays)
    dx, dresidual, *others = FUSED[norm][1](dy, None, cache)
    expected = ALONE[norm][1](dy, ALONE[norm][0](s, *arrays[2:])[1])
    for got, value in zip((dx, *others), expected, strict=True):
        assert_array_equal(got, value)
    assert dresidual is dx


@both
@each("axis", [-1, 1, (0, 2), (-2, -1)])
def test_gradients_are_those_of_pytorch(norm, axis, rng):
    torch = pytest.importorskip("torch")
    arrays, dy, ds = draw(rng, norm, axis=axis)
    x, residual, *parameters = tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    axes = sorted(np.arange(3)[np.atleast_1d(axis)])
    last = tuple(range(-len(axes), 0))
    s = x + residual
    function = getattr(torch.nn.functional, f"{norm}_norm")
    y = function(s.movedim(axes, last), parameters[0].shape, *parameters, eps=EPS)
    y = y.movedim(last, axes)
    torch.autograd.backward([y, s], [torch.tensor(dy), torch.tensor(ds)])
    got_y, got_s, cache = FUSED[norm][0](*arrays, axis=axis, eps=EPS)
    assert_close(got_y, y.detach().numpy(), 1e-14)
    assert_close(got_s, s.detach().numpy(), 1e-15)
    for gradient, tensor in zip(FUSED[norm][1](dy, ds, cache), tensors, strict=True):
        assert_close(gradient, tensor.grad.numpy(), 1e-13)


@each(
    ("norm", "name"),
    [*itertools.product(["layer"], range(4)), *itertools.product(["rms"], range(3))],
)
def test_gradients_are_the_complex_step(norm, name, rng):
    arrays, dy, ds = draw(rng, norm, shape=(2, 5))
    expected = np.empty(arrays[name].shape)
    for at in np.ndindex(expected.shape):
        nudged = [a.astype(complex) for a in arrays]
        nudged[name][at] += 1e-30j
        y, s, _ = FUSED[norm][0](*nudged, eps=EPS)
        expected[at] = (dy * y + ds * s).sum().imag / 1e-30
    got = FUSED[norm][1](dy, ds, FUSED[norm][0](*arrays, eps=EPS)[2])
    assert_close(got[name], expected, 1e-13)


@both
def test_two_blocks_of_a_transformer_agree_with_pytorch(norm, rng):
    torch = pytest.importorskip("torch")
    (x, residual, *parameters), dy, ds = draw(rng, norm)
    w = rng.standard_normal((7, 7))
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, residual)]
    function = getattr(torch.nn.functional, f"{norm}_norm")
    fixed = [torch.tensor(p) for p in parameters]
    t1 = tensors[0] + tensors[1]
    t2 = function(t1, (7,), *fixed, eps=EPS) @ torch.tensor(w) + t1
    last = function(t2, (7,), *fixed, eps=EPS)
    torch.autograd.backward([last, t2], [torch.tensor(dy), torch.tensor(ds)])
    forward, backward = FUSED[norm]
    y1, s1, cache1 = forward(x, residual, *parameters, eps=EPS)
    _, _, cache2 = forward(y1 @ w, s1, *parameters, eps=EPS)
    dx2, ds1, *_ = backward(dy, ds, cache2)
    for gradient, tensor in zip(backward(dx2 @ w.T, ds1, cache1)[:2], tensors, strict=True):
        assert_close(gradient, tensor.grad.numpy(), 1e-13)


@both
@each("dtype", [np.float16, np.float32])
def test_dx_is_rounded_once_with_ds_in_it(norm, dtype, rng):
    arrays, dy, ds = draw(rng, norm, shape=(53, 769), dtype=dtype)
    _, s, cache = FUSED[norm][0](*arrays)
    dx = FUSED[norm][1](dy, ds, cache)[0]
    s, dy, ds, *parameters = (a.astype(np.float64) for a in (s, dy, ds, *arrays[2:]))
    through_norm = ALONE[norm][1](dy, ALONE[norm][0](s, *parameters)[1])[0]
    assert dx.dtype == dtype
    assert ((through_norm + ds).astype(dtype) == dx).mean() >= 0.99999


@both
def test_no_argument_is_changed(norm, rng):
    arrays, dy, ds = draw(rng, norm)
    before = [a.copy() for a in (*arrays, dy, ds)]
    _, s, cache = FUSED[norm][0](*arrays)
    kept = s.copy()
    FUSED[norm][1](dy, ds, cache)
    for array, copy in zip((*arrays, dy, ds, s), (*before, kept), strict=True):
        assert_array_equal(array, copy)


@both
@each("dtype", [np.float16, np.float32])
@each("layout", LAYOUTS)
def test_results_do_not_depend_on_memory(norm, layout, dtype, rng):
    (x, residual, *parameters), dy, ds = draw(rng, norm, dtype=dtype)
    y, s, cache = FUSED[norm][0](x, residual, *parameters)
    of_layout = FUSED[norm][0](layout(x), residual, *parameters)
    assert_array_equal(of_layout[0], y)
    assert_array_equal(of_layout[1], s)
    assert of_layout[1].dtype.isnative
    got = FUSED[norm][1](dy, layout(ds), of_layout[2])[0]
    assert_array_equal(got, FUSED[norm][1](dy, ds, cache)[0])


@both
def test_results_do_not_depend_on_the_number_of_threads(norm, rng):
    arrays, dy, ds = draw(rng, norm, shape=(300, 1021), dtype=np.float32)
    before, results = numpy_norms.get_num_threads(), []
    for n in (1, 3):
        numpy_norms.set_num_threads(n)
        y, s, cache = FUSED[norm][0](*arrays)
        results.append([y, s, *FUSED[norm][1](dy, ds, cache)])
    numpy_norms.set_num_threads(before)
    for one, three in zip(*results, strict=True):
        assert_array_equal(one, three)


@both
def test_half_precision_beyond_its_range_is_infinite_without_a_warning(norm):
    x = np.full((2, 3), 6e4, np.float16)
    _, s, _ = FUSED[norm][0](x, x)
    assert np.isinf(s).all()


@both
def test_an_empty_batch_has_empty_results(norm):
    y, s, cache = FUSED[norm][0](np.empty((0, 3)), np.empty((0, 3)), np.ones(3))
    dx, _, dgamma, *_ = FUSED[norm][1](np.empty((0, 3)), np.empty((0, 3)), cache)
    assert y.shape == s.shape == dx.shape == (0, 3)
    assert_array_equal(dgamma, np.zeros(3))


@both
def test_a_residual_of_another_shape_or_type_is_refused(norm):
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"residual has shape \(3,\), but x has \(2, 3\)"):
        FUSED[norm][0](x, np.ones(3))
    with pytest.raises(TypeError, match="residual has dtype float32, but x has float64"):
        FUSED[norm][0](x, x.astype(np.float32))
    with pytest.raises(TypeError, match="residual has dtype int64"):
        FUSED[norm][0](x, x.astype(np.int64))
    with pytest.raises(ValueError, match=r"gamma has shape \(2,\)"):
        FUSED[norm][0](x, x, np.ones(2))


@both
def test_ds_of_another_shape_or_type_is_refused(norm):
    x = np.ones((2, 3))
    _, _, cache = FUSED[norm][0](x, x)
    with pytest.raises(ValueError, match=r"ds has shape \(3,\), but s has \(2, 3\)"):
        FUSED[norm][1](x, np.ones(3), cache)
    with pytest.raises(TypeError, match="ds is complex128, but x is float64"):
        FUSED[norm][1](x, x.astype(complex), cache)
    with pytest.raises(ValueError, match="dy has shape"):
        FUSED[norm][1](np.ones(3), x, cache)


@both
def test_a_cache_belongs_to_its_own_pair(norm):
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match=f"cache comes from {norm}_norm_forward"):
        FUSED[norm][1](x, x, ALONE[norm][0](x)[1])
    with pytest.raises(ValueError, match=f"cache comes from add_{norm}_norm_forward"):
        ALONE[norm][1](x, FUSED[norm][0](x, x)[2])

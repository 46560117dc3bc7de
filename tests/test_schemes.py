"""``scheme``: where trained models round; bit for bit what those models compute."""

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

torch = pytest.importorskip("torch")

EPS = 1e-6
HALVES = [np.float16, ml_dtypes.bfloat16]
OTHERS = ["llama", "gemma", "onnx"]
halves = each("dtype", HALVES)
others = each("scheme", OTHERS)
features = each("features", [64, 96, 768, 2048])


def llama(x, weight):
    """Round the normalized numbers to the type of x before the weight."""
    wide = x.float()
    rstd = torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPS)
    return weight * (wide * rstd).to(x.dtype)


def gemma(x, weight):
    """Scale by 1 + weight before anything is rounded to the type of x."""
    wide = x.float()
    rstd = torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPS)
    return (wide * rstd * (1.0 + weight.float())).to(x.dtype)


MODELS = {"llama": llama, "gemma": gemma}
models = each("scheme", MODELS)


def run(model, *arrays):
    """Run a model in PyTorch on arrays in half precision."""
    name = arrays[0].dtype.name
    tensors = [torch.tensor(a.astype(np.float32)).to(getattr(torch, name)) for a in arrays]
    return model(*tensors).float().numpy().astype(arrays[0].dtype)


def onnx_layer_norm(x, scale, bias):
    """Follow the equations of LayerNormalization with stash_type 1, one rounding for each."""
    one, eps = np.float32(1), np.float32(EPS)
    x_stash = x.astype(np.float32)
    mean = x_stash.mean(-1, keepdims=True)
    d = x_stash - mean
    var = (d * d).mean(-1, keepdims=True)
    normalized = (d * (one / np.sqrt(var + eps))).astype(x.dtype)
    return normalized * scale + bias


def exact_statistics(rng, features, dtype):
    """Draw rows of eighths, in pairs about a mean: any order of summation gives the same bits."""
    half = rng.integers(1, 40, (53, features // 2))
    rows = rng.permuted(np.concatenate([half, -half], axis=1), axis=1)
    return ((rows + rng.integers(-9, 9, (53, 1))) / 8).astype(dtype)


def draw(rng, features, dtype, x=None):
    """Draw x, gamma and beta."""
    x = 0.3 + rng.standard_normal((53, features)) if x is None else x
    return [a.astype(dtype) for a in (x, *rng.standard_normal((2, features)))]


@models
@features
@halves
def test_rms_norm_equals_the_model_bit_for_bit(scheme, features, dtype, rng):
    x, gamma, _ = draw(rng, features, dtype, exact_statistics(rng, features, dtype))
    y, _ = rms_norm_forward(x, gamma, eps=EPS, dtype=np.float32, scheme=scheme)
    assert_array_equal(y, run(MODELS[scheme], x, gamma))


@features
@halves
def test_layer_norm_equals_the_equations_of_onnx_bit_for_bit(features, dtype, rng):
    x, gamma, beta = draw(rng, features, dtype, exact_statistics(rng, features, dtype))
    y, _ = layer_norm_forward(x, gamma, beta, eps=EPS, dtype=np.float32, scheme="onnx")
    assert_array_equal(y, onnx_layer_norm(x, gamma, beta))


@models
@features
@halves
def test_sums_of_another_order_change_less_than_one_element_in_a_thousand(
    scheme, features, dtype, rng
):
    x, gamma, _ = draw(rng, features, dtype)
    expected = run(MODELS[scheme], x, gamma)
    for work in (np.float32, np.float64):
        y, _ = rms_norm_forward(x, gamma, eps=EPS, dtype=work, scheme=scheme)
        assert (y == expected).mean() >= 0.999


@models
@halves
def test_one_rounding_at_the_end_is_not_what_a_model_computes(scheme, dtype, rng):
    x, gamma, _ = draw(rng, 768, dtype)
    y, _ = rms_norm_forward(x, gamma, eps=EPS, dtype=np.float32)
    assert (y == run(MODELS[scheme], x, gamma)).mean() < 0.9


def expanded(operator, inputs, dtype, eps):
    """Return ONNX' own function for an operator, as a model whose every step is an operator."""
    onnx = pytest.importorskip("onnx")
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator
    of = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = onnx.helper.make_node(operator, inputs, ["Y"], epsilon=eps, stash_type=1)
    types = [onnx.helper.make_tensor_type_proto(of, None).SerializeToString() for _ in inputs]
    body = onnx.FunctionProto()
    schema = onnx.defs.get_schema(operator)
    body.ParseFromString(schema.get_context_dependent_function(node.SerializeToString(), types))
    body.domain = node.domain = "expanded"
    del node.attribute[:], body.output[1:]
    values = [onnx.helper.make_tensor_value_info(name, of, None) for name in (*inputs, "Y")]
    graph = onnx.helper.make_graph([node], "g", values[:-1], values[-1:])
    opsets = [*body.opset_import, onnx.helper.make_opsetid("expanded", 1)]
    model = onnx.helper.make_model(graph, functions=[body], opset_imports=opsets)
    return evaluator(model)


@halves
def test_layer_norm_equals_onnx_function_where_dividing_by_the_root_is_exact(dtype, rng):
    row = rng.integers(-20, 21, 256)
    eps = 256 - row.var()  # a root of 16; x - mean has more digits than half precision
    x, gamma, beta = draw(rng, 256, dtype, rng.permuted(np.tile(row, (53, 1)), axis=1))
    model = expanded("LayerNormalization", ["X", "Scale", "B"], dtype, eps)
    expected = model.run(None, {"X": x, "Scale": gamma, "B": beta})[0]
    y, _ = layer_norm_forward(x, gamma, beta, eps=eps, dtype=np.float32, scheme="onnx")
    assert_array_equal(y, expected)


@halves
def test_rms_norm_differs_from_onnx_function_only_as_a_product_from_a_quotient(dtype, rng):
    x, gamma, _ = draw(rng, 768, dtype, exact_statistics(rng, 768, dtype))
    model = expanded("RMSNormalization", ["X", "scale"], dtype, EPS)
    expected = model.run(None, {"X": x, "scale": gamma})[0]
    y, _ = rms_norm_forward(x, gamma, eps=EPS, dtype=np.float32, scheme="onnx")
    assert (y == expected).mean() >= 0.999


@halves
def test_a_wider_gamma_and_beta_are_applied_unrounded(dtype, rng):
    x, gamma, beta = draw(rng, 96, dtype)
    gamma, beta = (a.astype(np.float32) + np.float32(1e-5) for a in (gamma, beta))
    x_hat, _ = layer_norm_forward(x)
    product = (gamma * x_hat.astype(np.float32)).astype(dtype)
    y, _ = layer_norm_forward(x, gamma, beta, dtype=np.float32, scheme="onnx")
    assert_array_equal(y, (product.astype(np.float32) + beta).astype(dtype))


@others
def test_gradients_are_those_of_pytorch_without_rounding(scheme, rng):
    x, gamma, beta, dy = rng.standard_normal((4, 5, 7, 11))
    gamma, beta = gamma[0, 0], beta[0, 0]
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    scale = 1 + tensors[1] if scheme == "gemma" else tensors[1]
    expected = torch.nn.functional.layer_norm(tensors[0], (11,), scale, tensors[2])
    expected.backward(torch.tensor(dy))
    y, cache = layer_norm_forward(x, gamma, beta, scheme=scheme)
    assert_close(y, expected.detach().numpy(), 1e-14)
    for gradient, tensor in zip(layer_norm_backward(dy, cache), tensors, strict=True):
        assert_close(gradient, tensor.grad.numpy(), 1e-13)


def test_gemma_s_gradient_is_the_complex_step(rng):
    x, dy = rng.standard_normal((2, 5, 7))
    gamma = rng.standard_normal(7)
    dx, dgamma = rms_norm_backward(dy, rms_norm_forward(x, gamma, scheme="gemma")[1])

    def slope(x, gamma):
        return (dy * rms_norm_forward(x, gamma, scheme="gemma")[0]).sum().imag / 1e-30

    steps = 1e-30j * np.eye(7)
    at_row_2 = np.zeros((7, 5, 7), complex)
    at_row_2[:, 2] = steps
    assert_close(dgamma, [slope(x.astype(complex), gamma + h) for h in steps], 1e-13)
    assert_close(dx[2], [slope(x + h, gamma.astype(complex)) for h in at_row_2], 1e-13)


@others
@halves
def test_gradients_have_the_types_of_what_was_passed_and_are_rounded_once(scheme, dtype, rng):
    x, gamma, dy = draw(rng, 96, dtype, rng.standard_normal((53, 96)))
    dy, gamma = np.broadcast_to(dy, x.shape), gamma.astype(np.float16)
    dx, dgamma = rms_norm_backward(dy, rms_norm_forward(x, gamma, scheme=scheme)[1])
    scale = gamma.astype(np.float64) + (scheme == "gemma")
    wide = [a.astype(np.float64) for a in (dy, x)]
    expected = rms_norm_backward(wide[0], rms_norm_forward(wide[1], scale)[1])
    assert (dx.dtype, dgamma.dtype) == (dtype, np.float16)
    assert_array_equal(dgamma, expected[1].astype(np.float16))
    assert_close(dx.astype(np.float64), expected[0], float(ml_dtypes.finfo(dtype).eps))


@others
def test_dgamma_knows_no_scheme_to_the_last_bit(scheme, rng):
    x, gamma, _ = draw(rng, 30_000, np.float16)
    dy = rng.standard_normal(x.shape).astype(np.float16)
    _, cache = rms_norm_forward(x, gamma, scheme=scheme)
    _, exact = rms_norm_forward(x, gamma)
    assert_array_equal(rms_norm_backward(dy, cache)[1], rms_norm_backward(dy, exact)[1])


@others
@each("dtype", [*HALVES, np.float32, np.float64])
def test_y_is_written_where_out_says_even_over_x(scheme, dtype, rng):
    x, gamma, beta = draw(rng, 96, dtype)
    expected, _ = layer_norm_forward(x, gamma, beta, scheme=scheme)
    y, _ = layer_norm_forward(x, gamma, beta, scheme=scheme, out=x)
    assert y is x
    assert_array_equal(x, expected)


@others
@each("layout", LAYOUTS)
def test_results_do_not_depend_on_memory_or_axis(scheme, layout, rng):
    x, gamma, beta = draw(rng, 96, np.float16)
    dy = rng.standard_normal(x.shape).astype(np.float16)
    y, cache = layer_norm_forward(x, gamma, beta, scheme=scheme)
    moved, cache_of_moved = layer_norm_forward(layout(x.T), gamma, beta, axis=0, scheme=scheme)
    assert_array_equal(moved, y.T)
    got, expected = layer_norm_backward(dy.T, cache_of_moved), layer_norm_backward(dy, cache)
    assert_array_equal(got[0], expected[0].T)


@others
def test_results_do_not_depend_on_the_number_of_threads(scheme, rng):
    x, gamma, beta = draw(rng, 6144, np.float16)
    before, results = numpy_norms.get_num_threads(), []
    for n in (1, 3):
        numpy_norms.set_num_threads(n)
        y, cache = layer_norm_forward(x, gamma, beta, scheme=scheme)
        results.append([y, *layer_norm_backward(x, cache)])
    numpy_norms.set_num_threads(before)
    for one, three in zip(*results, strict=True):
        assert_array_equal(one, three)


@others
@each("shape", [(1, 300_007), (0, 5), (2, 1)])
def test_long_and_empty_rows(scheme, shape, rng):
    x, gamma = rng.standard_normal(shape), rng.standard_normal(shape[1])
    y, cache = rms_norm_forward(x, gamma, scheme=scheme)
    dx, dgamma = rms_norm_backward(x, cache)
    scale = 1 + gamma if scheme == "gemma" else gamma
    plain, plain_cache = rms_norm_forward(x, scale)
    assert_close(y, plain, 1e-15)
    for got, expected in zip((dx, dgamma), rms_norm_backward(x, plain_cache), strict=True):
        assert_close(got, expected, 1e-15)


@others
@halves
def test_without_parameters_all_schemes_are_one(scheme, dtype, rng):
    x, _, dy = draw(rng, 96, dtype, rng.standard_normal((53, 96)))
    dy = np.broadcast_to(dy, x.shape)
    y, cache = layer_norm_forward(x, scheme=scheme)
    exact, exact_cache = layer_norm_forward(x)
    assert_array_equal(y, exact)
    assert_array_equal(layer_norm_backward(dy, cache)[0], layer_norm_backward(dy, exact_cache)[0])


@each("scheme", ["Llama", "", None, 3, ["llama"], np.ones(2)])
@each("forward", [layer_norm_forward, rms_norm_forward])
def test_another_scheme_is_refused_and_the_choices_named(forward, scheme):
    choices = "scheme is .*'exact', 'llama', 'gemma', 'onnx'"
    with pytest.raises(ValueError, match=choices):
        forward(np.ones((2, 3)), scheme=scheme)


@others
def test_the_cache_says_which_scheme_it_is_of(scheme):
    _, cache = rms_norm_forward(np.ones((2, 3)), np.ones(3), scheme=scheme)
    assert cache.scheme == scheme
    assert f"scheme {scheme}" in repr(cache)


@others
def test_parameters_beyond_the_working_type_warn_of_nothing(scheme):
    gamma = np.full(3, 1e300)
    x = np.ones((2, 3), np.float32)
    y, _ = rms_norm_forward(x, gamma, dtype=np.float32, scheme=scheme)
    assert np.isinf(y).all()

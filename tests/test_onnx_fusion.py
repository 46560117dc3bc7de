"""Norms in many nodes: found in every way in which they are written, and nowhere else."""

import io
import warnings

import numpy as np
import onnx
import torch
from each import each
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from onnx_graphs import Builder

from numpy_norms.onnx import evaluator, fused
from numpy_norms.onnx.graph import Graph

rng = np.random.default_rng(7)
f32 = np.float32
EPS, TWO, ONE, ZERO = f32(1e-3), f32(2), f32(1), f32(0)
D = 6


def draw(*shape):
    """Draw parameters of both signs."""
    return rng.standard_normal(shape).astype(f32)


GAMMA, BETA = draw(D), draw(D)


# How a variance or a mean square is written, of d = x - mean or of x, over the axes.


def square(b, a, how):
    return b.Pow(a, TWO) if how == "pow" else b.Mul(a, a)


def two_pass(b, x, mean, d, axes, how="pow"):
    return b.mean(square(b, d, how), axes)


def subtracted_twice(b, x, mean, d, axes):
    return b.mean(square(b, b.Sub(x, mean), "pow"), axes)


def one_pass(b, x, mean, d, axes):
    return b.Sub(b.mean(square(b, x, "mul"), axes), square(b, mean, "mul"))


def one_pass_clipped(b, x, mean, d, axes):
    return b.Max(ZERO, one_pass(b, x, mean, d, axes))


def one_pass_relu(b, x, mean, d, axes):
    return b.Relu(one_pass(b, x, mean, d, axes))


VARIANCES = {
    "pow": two_pass,
    "mul": lambda *a: two_pass(*a, how="mul"),
    "subtracted twice": subtracted_twice,
    "one pass": one_pass,
    "one pass, clipped": one_pass_clipped,
    "one pass, relu": one_pass_relu,
}

# How y is written, with d what is divided, v the variance plus eps.


def _affine(b, x_hat, gamma, beta):
    return b.Add(b.Mul(x_hat, gamma), beta)


ENDS = {
    "div": lambda b, d, v, g, c, **_: _affine(b, b.Div(d, b.Sqrt(v)), g, c),
    "div, other order": lambda b, d, v, g, c, **_: b.Add(c, b.Mul(g, b.Div(d, b.Sqrt(v)))),
    "reciprocal": lambda b, d, v, g, c, **_: _affine(b, b.Mul(d, b.Reciprocal(b.Sqrt(v))), g, c),
    "1 / root": lambda b, d, v, g, c, **_: _affine(b, b.Mul(b.Div(ONE, b.Sqrt(v)), d), g, c),
    "power": lambda b, d, v, g, c, **_: _affine(b, b.Mul(d, b.Pow(v, f32(-0.5))), g, c),
    "gamma in the factor": lambda b, d, v, g, c, **_: b.Add(
        b.Mul(d, b.Mul(b.Reciprocal(b.Sqrt(v)), g)), c
    ),
    "gamma above": lambda b, d, v, g, c, **_: b.Add(b.Div(b.Mul(g, d), b.Sqrt(v)), c),
    "gamma before": lambda b, d, v, g, c, **_: b.Add(
        b.Mul(b.Mul(g, d), b.Reciprocal(b.Sqrt(v))), c
    ),
    "scale and shift": lambda b, d, v, g, c, x, mean: _scale_and_shift(b, x, mean, v, g, c),
    "scale and shift, Keras 3": lambda b, d, v, g, c, x, mean: _keras_3(b, x, mean, v, g, c),
    "scale and shift, apart": lambda b, d, v, g, c, x, mean: _products_apart(b, x, mean, v, g, c),
}


def _keras_3(b, x, mean, v, g, c):
    k = b.Mul(b.Reciprocal(b.Sqrt(v)), g)
    return b.Add(b.Mul(x, k), b.Add(b.Mul(b.Neg(mean), k), c))


def _products_apart(b, x, mean, v, g, c):
    k = b.Mul(g, b.Reciprocal(b.Sqrt(v)))
    return b.Add(b.Sub(b.Mul(k, x), b.Mul(k, mean)), c)


def _scale_and_shift(b, x, mean, v, g, c):
    k = b.Mul(b.Reciprocal(b.Sqrt(v)), g)
    return b.Add(b.Mul(x, k), b.Sub(c, b.Mul(mean, k)))


def layer_norm(variance, end, axes=(-1,), gamma=GAMMA, beta=BETA, opset=13):
    """Write a layer norm of x in many nodes."""
    b = Builder(opset)
    mean = b.mean("x", axes)
    d = b.Sub("x", mean)
    v = b.Add(VARIANCES[variance](b, "x", mean, d, axes), EPS)
    return b, ENDS[end](b, d, v, gamma, beta, x="x", mean=mean)


def exact(x, axes, gamma=1.0, beta=0.0, eps=float(EPS)):
    """Standardize in float64."""
    x = x.astype(np.float64)
    d = x - x.mean(axes, keepdims=True)
    return d / np.sqrt((d**2).mean(axes, keepdims=True) + eps) * gamma + beta


def run(model, x, fuse=True):
    """Run a model and count its nodes."""
    ours = evaluator(model, fuse=fuse)
    return ours.run(None, {"x": x})[0], [node.op_type for node in ours.rt_nodes_]


@each("end", ENDS)
@each("variance", VARIANCES)
@each("opset", [13, 18])
def test_a_layer_norm_is_found_however_it_is_written(variance, end, opset):
    b, y = layer_norm(variance, end, opset=opset)
    model, x = b.model(y, (3, 4, D)), (0.3 + draw(3, 4, D))
    got, nodes = run(model, x)
    assert nodes == ["Norm"]
    (found,) = fused(model)
    assert found[:1] + found[2:3] + found[5:8] == ("layer_norm", y, float(EPS), (-1,), None)
    unused = end.startswith("scale and shift") and variance not in ("pow", "mul")  # d
    assert found.nodes == len(b.nodes) - 1 - unused
    assert_allclose(got, exact(x, -1, GAMMA, BETA), rtol=2e-6, atol=2e-6)
    assert_allclose(got, run(model, x, fuse=False)[0], rtol=1e-4, atol=1e-4)


@each("variance", ["one pass", "one pass, clipped"])
def test_it_is_better_where_the_chain_loses_digits(variance):
    b, y = layer_norm(variance, "div")
    model, x = b.model(y, (3, 4, D)), 3000 + draw(3, 4, D)
    truth = exact(x, -1, GAMMA, BETA)
    with np.errstate(invalid="ignore"):
        chain = run(model, x, fuse=False)[0]
    assert not np.nanmax(np.abs(chain - truth)) < 0.1
    assert_allclose(run(model, x)[0], truth, rtol=1e-5, atol=1e-5)


RMS_ENDS = [name for name in ENDS if not name.startswith("scale and shift")]


@each("how", ["pow", "mul"])
@each("end", RMS_ENDS)
def test_an_rms_norm_is_found_however_it_is_written(end, how):
    b = Builder()
    v = b.Add(EPS, b.mean(square(b, "x", how), (-1,)))
    y = ENDS[end](b, "x", v, GAMMA, BETA)
    model, x = b.model(y, (3, 4, D)), 2 + draw(3, 4, D)
    got, nodes = run(model, x)
    assert nodes == ["Norm", "Add"]
    assert [found.norm for found in fused(model)] == ["rms_norm"]
    assert_allclose(got, run(model, x, fuse=False)[0], rtol=2e-6, atol=2e-6)


@each(
    ("norm", "axes", "shape"),
    [
        ("instance_norm", (2, 3), (5, 1, 1)),
        ("instance_norm", (-1, -2), (1, 5, 1, 1)),
        ("instance_norm", (1, 2), (3,)),  # channels last
        ("layer_norm", (1,), (5, 1, 1)),  # over channels
        ("layer_norm", (1, 2, 3), (5, 4, 3)),
        ("layer_norm", (-1, -2), (4, 3)),
        ("layer_norm", (-1,), (1,)),  # one number for all features
        ("layer_norm", (0, 2, 3), (1, 5, 1, 1)),
    ],
)
def test_axes_and_parameters_of_any_shape(norm, axes, shape):
    gamma, beta = draw(*shape), draw(*shape)
    b, y = layer_norm("pow", "div", axes, gamma, beta)
    model, x = b.model(y, (2, 5, 4, 3)), draw(2, 5, 4, 3)
    got, nodes = run(model, x)
    assert nodes == ["Norm"]
    assert [found.norm for found in fused(model)] == [norm]
    assert_allclose(got, exact(x, axes, gamma, beta), rtol=3e-6, atol=3e-6)


@each("instances", [False, True])
@each("back", ["shape", "constant", "zero"])
def test_a_group_norm_between_reshapes_is_found(back, instances):
    b = Builder()
    shape = (2, 6, 4, 3)
    rows = b.Reshape("x", np.array([0, 3, -1]))
    if instances:
        ones = np.ones(3, f32)
        x_hat = b.InstanceNormalization(rows, ones, 0 * ones, epsilon=float(EPS))
    else:
        mean = b.mean(rows, (2,))
        d = b.Sub(rows, mean)
        x_hat = b.Div(d, b.Sqrt(b.Add(b.mean(b.Mul(d, d), (2,)), EPS)))
    sizes = {"shape": b.Shape("x"), "constant": np.array(shape), "zero": np.array([0, 6, -1, 3])}
    gamma, beta = draw(6, 1, 1), draw(6, 1, 1)
    y = b.Add(b.Mul(b.Reshape(x_hat, sizes[back]), gamma), beta)
    model, x = b.model(y, shape), draw(*shape)
    got, nodes = run(model, x)
    assert nodes == ["GroupNorm"]
    (found,) = fused(model)
    assert (found.norm, found.num_groups, found.axes) == ("group_norm", 3, None)
    tensors = [torch.from_numpy(a.reshape(a.shape[:1] if a.ndim < 4 else a.shape).astype(float))
               for a in (x, gamma, beta)]  # fmt: skip
    expected = torch.nn.functional.group_norm(tensors[0], 3, *tensors[1:], eps=float(EPS))
    assert_allclose(got, expected, rtol=3e-6, atol=3e-6)


def exported(module, x, opset):
    """Export by PyTorch, which writes layer norms in many nodes up to opset 16."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (x,), file, opset_version=opset, dynamo=False, input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


class Network(torch.nn.Module):
    """The norms of PyTorch, and an RMS norm as language models write it."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.GroupNorm(2, 4), torch.nn.InstanceNorm2d(4, affine=True), torch.nn.LayerNorm(6)
        )
        self.scale = torch.nn.Parameter(torch.empty(6))
        for parameter in self.parameters():
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(3))

    def forward(self, x):
        x = self.layers(x)
        return self.scale * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


@each("opset", [11, 13, 16, 17, 18])
def test_what_pytorch_exports_is_found_and_gives_its_outputs(opset):
    network = Network().eval()
    x = torch.from_numpy(1 + draw(3, 4, 5, 6))
    model = exported(network, x[:1], opset)
    decomposed = ["layer_norm"] if opset < 17 else []
    assert [found.norm for found in fused(model)] == ["group_norm", *decomposed, "rms_norm"]
    (y,) = evaluator(model).run(None, {"x": x.numpy()})
    assert_allclose(y, network(x).detach(), rtol=1e-5, atol=1e-5)


def test_a_change_of_type_on_the_way_is_kept():
    for place in ("x", "d"):
        b = Builder()
        start = b.Cast("x", to=onnx.TensorProto.FLOAT) if place == "x" else "x"
        mean = b.mean(start, (-1,))
        d = b.Sub(start, mean)
        d = b.Cast(d, to=onnx.TensorProto.FLOAT) if place == "d" else d
        x_hat = b.Div(d, b.Sqrt(b.Add(b.mean(b.Pow(d, TWO), (-1,)), EPS)))
        y = b.Mul(b.Cast(x_hat, to=onnx.TensorProto.FLOAT16), GAMMA.astype(np.float16))
        x = draw(3, 4, D).astype(np.float16)
        model = b.model(y, x.shape, dtype=np.float16)
        got, nodes = run(model, x)
        assert nodes == (["Cast"] if place == "x" else []) + ["Norm", "Cast", "Mul"]
        expected = run(model, x, fuse=False)[0]
        assert got.dtype == expected.dtype == np.float16
        assert_allclose(got, exact(x, -1) * GAMMA, rtol=2e-3, atol=2e-3)


@each("eps", [1e-5, 1e-60])
def test_eps_of_float64_stays_what_it_is(eps):
    b = Builder()
    y = b.Div("x", b.Sqrt(b.Add(b.mean(b.Mul("x", "x"), (-1,)), eps)))
    x = np.sqrt(eps) * rng.standard_normal((3, D))
    model = b.model(y, x.shape, dtype=np.float64)
    assert [found.eps for found in fused(model)] == [eps]
    assert_allclose(run(model, x)[0], run(model, x, fuse=False)[0], rtol=1e-14)


# What is no norm, or is needed elsewhere.


def _tail(b, d, v, gamma=GAMMA, beta=BETA):
    return _affine(b, b.Div(d, b.Sqrt(v)), gamma, beta)


def eps_outside(b, mean, d):
    return b.Div(d, b.Add(b.Sqrt(b.mean(b.Pow(d, TWO), (-1,))), EPS))


def other_axes(b, mean, d):
    return _tail(b, d, b.Add(b.mean(b.Pow(b.Sub("x", b.mean("x", (1,))), TWO), (-1,)), EPS))


def cubed(b, mean, d):
    return _tail(b, d, b.Add(b.mean(b.Pow(d, f32(3)), (-1,)), EPS))


def without_root(b, mean, d):
    return b.Div(d, b.Add(b.mean(b.Pow(d, TWO), (-1,)), EPS))


def eps_per_feature(b, mean, d):
    return _tail(b, d, b.Add(b.mean(b.Pow(d, TWO), (-1,)), GAMMA**2))


def a_third_factor(b, mean, d):
    return _tail(b, d, b.Add(b.mean(b.Mul(d, "x"), (-1,)), f32(9)))


def mean_of_the_other(b, mean, d):
    return b.Div(b.Sub("x", b.mean(b.Relu("x"), (-1,))), b.Sqrt(b.mean(b.Mul(d, d), (-1,))))


def of_integers(b, mean, d):
    whole = b.Cast(b.Cast("x", to=onnx.TensorProto.INT32), to=onnx.TensorProto.FLOAT)
    return b.Div("x", b.Sqrt(b.Add(b.mean(b.Mul(whole, whole), (-1,)), EPS)))


def eps_of_more_axes(b, mean, d):
    return _tail(b, d, b.Add(b.mean(b.Pow(d, TWO), (-1,)), EPS.reshape(1, 1, 1, 1)))


def clipped_above(b, mean, d):
    return _tail(b, d, b.Add(b.Clip(b.mean(b.Mul(d, d), (-1,)), min=0.0, max=0.5), EPS))


@each(
    "write",
    [eps_outside, other_axes, cubed, without_root, eps_per_feature, a_third_factor,
     mean_of_the_other, of_integers, eps_of_more_axes, clipped_above],
)  # fmt: skip
def test_what_is_no_norm_stays_as_it_is(write):
    b = Builder(10 if write is clipped_above else 13)
    mean = b.mean("x", (-1,))
    y = write(b, mean, b.Sub("x", mean))
    model, x = b.model(y, (3, 4, D)), draw(3, 4, D)
    assert fused(model) == []
    with np.errstate(invalid="ignore"):
        assert_array_equal(run(model, x)[0], run(model, x, fuse=False)[0])


def test_changes_of_type_in_a_circle_come_to_an_end():
    b = Builder()
    y = b.Div("x", b.Cast("v1", to=onnx.TensorProto.FLOAT))
    b.nodes.append(onnx.helper.make_node("Identity", ["v0"], ["v1"]))
    b.nodes[1].output[0] = y = "y"
    assert fused(b.model(y, (3, 4, D))) == []


def test_values_that_are_used_elsewhere_are_still_made():
    b, y = layer_norm("pow", "div")
    b.nodes[0].output[0] = "mean"
    for node in b.nodes[1:]:
        for i, name in enumerate(node.input):
            node.input[i] = "mean" if name == "v0" else name
    model, x = b.model(y, (3, 4, D), "mean"), draw(3, 4, D)
    y, mean = evaluator(model).run(None, {"x": x})
    assert_allclose(y, exact(x, -1, GAMMA, BETA), rtol=2e-6, atol=2e-6)
    assert_allclose(mean, x.mean(-1, keepdims=True), rtol=1e-6, atol=1e-7)


def test_a_standardized_value_that_is_an_output_is_not_scaled():
    b, y = layer_norm("pow", "div")
    x_hat = b.nodes[-3].output[0]
    model, x = b.model(y, (3, 4, D), x_hat), draw(3, 4, D)
    got, standardized = evaluator(model).run(None, {"x": x})
    assert_allclose(standardized, exact(x, -1), rtol=2e-6, atol=2e-6)
    assert_allclose(got, exact(x, -1, GAMMA, BETA), rtol=2e-6, atol=2e-6)


@each(("ir_version", "nodes"), [(3, ["Norm"]), (8, ["Norm", "Mul", "Add"])])
def test_what_the_caller_may_replace_is_no_constant(ir_version, nodes):
    b, y = layer_norm("pow", "div")
    names = [t.name for t in b.tensors]
    given = names if ir_version == 3 else names[2:]  # up to 3 all initializers are inputs
    x, other = draw(3, 4, D), draw(D)
    model = b.model(y, x.shape, ir_version=ir_version, graph_inputs=given)
    assert run(model, x)[1] == nodes
    (got,) = evaluator(model).run(None, {"x": x, names[2]: other})
    assert_allclose(got, exact(x, -1, other, BETA), rtol=2e-6, atol=2e-6)


def test_norms_in_subgraphs_and_functions_are_run_as_one():
    b, y = layer_norm("pow", "div")
    model, x = b.model(y, (3, 4, D)), draw(3, 4, D)
    body = onnx.GraphProto()
    body.CopyFrom(model.graph)
    del body.input[:]
    kind = onnx.TensorProto.FLOAT
    body.output[0].CopyFrom(onnx.helper.make_tensor_value_info(y, kind, None))
    branch = onnx.helper.make_node("If", ["on"], ["out"], then_branch=body, else_branch=body)
    starts = [model.graph.input[0], onnx.helper.make_tensor_value_info("on", 9, [])]
    graph = onnx.helper.make_graph([branch], "if", starts, [onnx.ValueInfoProto(name="out")])
    whole = evaluator(onnx.helper.make_model(graph, opset_imports=model.opset_import))
    (inner,) = {type(whole.rt_nodes_[0].then_branch.rt_nodes_[0]).__name__}
    assert inner == "Norm"
    (got,) = whole.run(None, {"x": x, "on": np.array(True)})
    assert_allclose(got, exact(x, -1, GAMMA, BETA), rtol=2e-6, atol=2e-6)


def test_the_model_stays_as_it_was():
    b, y = layer_norm("pow", "div")
    model = b.model(y, (3, 4, D))
    before = model.SerializeToString()
    evaluator(model).run(None, {"x": draw(3, 4, D)})
    fused(model)
    assert model.SerializeToString() == before


# Any graph: one that is nearly a norm must not be taken for one.


@st.composite
def graphs(draw):
    """Draw a graph of the steps of which norms are made, put together at random."""
    b, kept, averages = Builder(), ["x"], []
    for _ in range(draw(st.integers(4, 14))):
        recent = st.sampled_from(kept[-4:] + kept[:1])
        step = draw(st.sampled_from(["mean", "minus mean", "square", "root", "scale", "shift",
                                     "divide", "product", "eps", "inverse"]))  # fmt: skip
        axes = draw(st.sampled_from([(-1,), (-1,), (-1,), (1,), (-2, -1)]))
        a = draw(recent)
        if step == "mean":
            averages.append(b.mean(a, axes))
            new = averages[-1]
        elif step == "minus mean":
            averages.append(b.mean(a, axes))
            new = b.Sub(a, draw(st.sampled_from(averages[-2:])))
        elif step == "square":
            new = b.Pow(a, 2.0) if draw(st.booleans()) else b.Mul(a, a)
        elif step == "root":
            new = b.Sqrt(b.Add(b.Abs(a), 0.5)) if draw(st.booleans()) else b.Sqrt(b.Abs(a))
        elif step == "eps":
            new = b.Add(a, draw(st.sampled_from([0.5, 1.0])))
        elif step == "inverse":
            new = b.Reciprocal(b.Sqrt(b.Add(b.mean(b.Mul(a, a), axes), 0.5)))
        elif step == "scale":
            new = b.Mul(a, GAMMA.astype(float))
        elif step == "shift":
            new = b.Add(a, BETA.astype(float))
        elif step == "divide":
            over = draw(recent)
            new = b.Div(a, b.Sqrt(b.Add(b.mean(b.Mul(over, over), axes), 0.5)))
        else:
            new = b.Mul(a, draw(recent))
        kept.append(new)
    return b, kept[-1], draw(st.lists(st.sampled_from(kept[1:]), max_size=2, unique=True))


@given(graphs())
@settings(max_examples=100)
def test_any_graph_gives_what_its_nodes_give(drawn):
    b, y, more = drawn
    model = b.model(y, (3, 4, D), *(name for name in more if name != y), dtype=np.float64)
    x = np.random.default_rng(1).standard_normal((3, 4, D)) + 0.3
    with np.errstate(all="ignore"):
        expected = evaluator(model, fuse=False).run(None, {"x": x})
        got = evaluator(model).run(None, {"x": x})
    graph = Graph(model.graph, 13, model)
    for norm in fused(model):
        inputs = [norm.x, norm.gamma or "", norm.beta or ""]
        node = onnx.helper.make_node("Norm", inputs, [norm.y])
        assert norm.nodes == len(graph.kept({})) - len(graph.kept({norm.y: node}))
    for a, e in zip(got, expected, strict=True):
        assert a.shape == e.shape
        assert_allclose(a, e, rtol=1e-7, atol=1e-9 * (1 + np.abs(np.nan_to_num(e)).max()))

"""Every cure that an error names, tried: after it the call works, and gives what it should."""

import re
import subprocess
import sys
import tomllib
from fractions import Fraction
from pathlib import Path

import autograd
import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import numpy_norms as nn
import numpy_norms.autograd
from numpy_norms import conventions

rng = np.random.default_rng(20150211)
X = rng.normal(2, 3, (4, 6, 3))
GAMMA, BETA, MEAN, VAR = *rng.normal(size=(3, 6)), rng.uniform(0.5, 2, 6)
DY = rng.normal(size=X.shape)


def backward(x=X, gamma=GAMMA, dy=DY, **options):
    _, cache = nn.batch_norm_forward(x, gamma, **options)
    return nn.batch_norm_backward(dy, cache)


def overwriting(x, out):
    _, cache = nn.batch_norm_forward(x, out=out)
    return nn.batch_norm_backward(DY, cache)


def updated(mean=MEAN, var=VAR, x=X, **options):
    return nn.update_running_stats(mean, var, nn.batch_norm_forward(x)[1], **options)


WEIGHT = X[:, :, 0].T.copy()


def fold(weight=WEIGHT, gamma=GAMMA, var=VAR, **options):
    return nn.fold_batch_norm(weight, None, MEAN, var, gamma, **options)


MASKED = np.ma.masked_array(X, X > 4)
OF_LN = {"ln.weight": GAMMA}
OF_BN = {"bn.weight": GAMMA, "bn.bias": BETA, "bn.running_mean": MEAN, "bn.running_var": VAR}

# What is refused; part of what the error says; what it says to do.
CURES = {
    "masked": (
        lambda: nn.layer_norm_forward(MASKED),
        r"pass x\.data and where=~x\.mask, if the function takes a mask",
        lambda: nn.layer_norm_forward(MASKED.data, where=~MASKED.mask),
    ),
    "masked gamma": (
        lambda: nn.batch_norm_forward(X, np.ma.masked_array(GAMMA)),
        r"pass gamma\.data",
        lambda: nn.batch_norm_forward(X, np.ma.masked_array(GAMMA).data),
    ),
    "integers": (
        lambda: nn.layer_norm_forward(X.astype(int)),
        r"pass x.astype\(np.float32\)",
        lambda: nn.layer_norm_forward(X.astype(int).astype(np.float32)),
    ),
    "a list of integers": (
        lambda: nn.layer_norm_forward([[1, 2, 3]]),
        r"pass np.asarray\(x, np.float32\)",
        lambda: nn.layer_norm_forward(np.asarray([[1, 2, 3]], np.float32)),
    ),
    "a tensor of integers": (
        lambda: nn.layer_norm_forward(torch.tensor([[1, 2, 3]])),
        r"pass np.asarray\(x, np.float32\)",
        lambda: nn.layer_norm_forward(np.asarray(torch.tensor([[1, 2, 3]]), np.float32)),
    ),
    "groups that are no integer": (
        lambda: nn.group_norm_forward(X, 2.0),
        "pass num_groups=2, say",
        lambda: nn.group_norm_forward(X, num_groups=2),
    ),
    "complex64": (
        lambda: nn.layer_norm_forward(X.astype(np.complex64)),
        r"pass x.astype\(np.complex128\)",
        lambda: nn.layer_norm_forward(X.astype(np.complex64).astype(np.complex128)),
    ),
    "two bytes of no type": (
        lambda: nn.layer_norm_forward(X.astype(ml_dtypes.bfloat16).view("V2")),
        r"pass x.view\(ml_dtypes.bfloat16\)",
        lambda: nn.layer_norm_forward(
            X.astype(ml_dtypes.bfloat16).view("V2").view(ml_dtypes.bfloat16)
        ),
    ),
    "dtype": (
        lambda: nn.layer_norm_forward(X, dtype=np.float16),
        "pass one of these",
        lambda: nn.layer_norm_forward(X, dtype=np.longdouble),
    ),
    "dtype of complex": (
        lambda: nn.layer_norm_forward(X + 0j, dtype=np.float64),
        "leave dtype out",
        lambda: nn.layer_norm_forward(X + 0j),
    ),
    "gamma of one": (
        lambda: nn.batch_norm_forward(X, np.ones(1), BETA),
        r"pass gamma of shape \(6,\)",
        lambda: nn.batch_norm_forward(X, np.ones(6), BETA),
    ),
    "channels last": (
        lambda: nn.batch_norm_forward(np.moveaxis(X, 1, -1), GAMMA, BETA),
        "pass channel_axis=-1",
        lambda: nn.batch_norm_forward(np.moveaxis(X, 1, -1), GAMMA, BETA, channel_axis=-1),
    ),
    "features": (
        lambda: nn.layer_norm_forward(X, np.ones(4)),
        "pass gamma of that shape, or another axis=",
        lambda: nn.layer_norm_forward(X, np.ones(4), axis=0),
    ),
    "complex gamma": (
        lambda: nn.layer_norm_forward(X, np.ones(3) + 0j),
        r"pass x.astype\(np.complex128\)",
        lambda: nn.layer_norm_forward(X.astype(np.complex128), np.ones(3) + 0j),
    ),
    "real gamma": (
        lambda: backward(X + 0j, GAMMA, DY + 0j),
        r"pass gamma.astype\(np.complex128\) to the forward pass",
        lambda: backward(X + 0j, GAMMA.astype(np.complex128), DY + 0j),
    ),
    "complex dy": (
        lambda: backward(X, GAMMA, DY + 0j),
        r"x is float64.*pass x.astype\(np.complex128\) to the forward pass",
        lambda: backward(X.astype(np.complex128), GAMMA + 0j, DY + 0j),
    ),
    "complex dw": (
        lambda: nn.weight_norm_backward(
            WEIGHT + 0j, nn.weight_norm_forward(WEIGHT, np.ones(len(WEIGHT)))[1]
        ),
        r"v is float64.*pass v.astype\(np.complex128\) to the forward pass",
        lambda: nn.weight_norm_backward(
            WEIGHT + 0j, nn.weight_norm_forward(WEIGHT + 0j, np.ones(len(WEIGHT)) + 0j)[1]
        ),
    ),
    "a residual of another type": (
        lambda: nn.add_rms_norm_forward(torch.tensor(X), X.astype(np.float32)),
        r"pass np.asarray\(x, 'float32'\), or np.asarray\(residual, 'float64'\)",
        lambda: [
            nn.add_rms_norm_forward(np.asarray(torch.tensor(X), "float32"), X.astype(np.float32)),
            nn.add_rms_norm_forward(X, np.asarray(X.astype(np.float32), "float64")),
        ],
    ),
    "one axis": (
        lambda: nn.batch_norm_forward(X[0, 0]),
        r"pass np.reshape\(x, ...\) with 2 or more axes",
        lambda: nn.batch_norm_forward(np.reshape(X[0, 0], (1, 3))),
    ),
    "no axes": (
        lambda: nn.layer_norm_forward(3.0),
        r"pass np.reshape\(x, 1\)",
        lambda: nn.layer_norm_forward(np.reshape(3.0, 1)),
    ),
    "axis": (
        lambda: nn.layer_norm_forward(X, axis=None),
        "pass axis=-1, say",
        lambda: nn.layer_norm_forward(X, axis=-1),
    ),
    "empty axis": (
        lambda: nn.layer_norm_forward(X, axis=()),
        "pass axis=-1",
        lambda: nn.layer_norm_forward(X, axis=-1),
    ),
    "axis beyond": (
        lambda: nn.layer_norm_forward(X, axis=3),
        "axes -3 to 2; pass one of these",
        lambda: [nn.layer_norm_forward(X, axis=i) for i in range(-3, 3)],
    ),
    "groups": (
        lambda: nn.group_norm_forward(X, 4),
        r"pass one of \[1, 2, 3, 6\]",
        lambda: [nn.group_norm_forward(X, n) for n in (1, 2, 3, 6)],
    ),
    "eps": (
        lambda: nn.layer_norm_forward(X, eps=None),
        "pass eps=1e-05",
        lambda: nn.layer_norm_forward(X, eps=1e-05),
    ),
    "huge eps": (
        lambda: nn.layer_norm_forward(X, eps=10**400),
        "pass eps=1e-05",
        lambda: nn.layer_norm_forward(X, eps=1e-05),
    ),
    "out of another type": (
        lambda: nn.layer_norm_forward(X, out=np.empty(X.shape, "f4")),
        r"pass out=np.empty\(x.shape, 'float64'\)",
        lambda: nn.layer_norm_forward(X, out=np.empty(X.shape, "float64")),
    ),
    "out of another shape": (
        lambda: nn.layer_norm_forward(X, out=np.empty(3)),
        r"pass out=np.empty_like\(x\)",
        lambda: nn.layer_norm_forward(X, out=np.empty_like(X)),
    ),
    "out that is broadcast": (
        lambda: nn.layer_norm_forward(X, out=np.broadcast_to(np.zeros(()), X.shape)),
        r"pass out=np.empty\(x.shape, x.dtype\)",
        lambda: nn.layer_norm_forward(X, out=np.empty(X.shape, X.dtype)),
    ),
    "no backward": (
        lambda: overwriting(x := X.copy(), x),
        "with an out apart from x",
        lambda: overwriting(X.copy(), np.empty_like(X)),
    ),
    "constant dy": (
        lambda: backward(dy=np.ones(())),
        r"np.broadcast_to\(dy, y.shape\) if it is constant",
        lambda: backward(dy=np.broadcast_to(np.ones(()), X.shape)),
    ),
    "dy after the cache": (
        lambda: nn.layer_norm_backward(nn.layer_norm_forward(X)[1], DY),
        "pass dy first",
        lambda: nn.layer_norm_backward(DY, nn.layer_norm_forward(X)[1]),
    ),
    "y with its cache for dy": (
        lambda: nn.layer_norm_backward(nn.layer_norm_forward(X), nn.layer_norm_forward(X)[1]),
        r"pass dy\[0\], without the cache",
        lambda: nn.layer_norm_backward(*nn.layer_norm_forward(X)),
    ),
    "groups of no integer": (
        lambda: nn.group_norm_forward(X, 3.0),
        "num_groups is 3.0, but an integer was expected; pass num_groups=2, say",
        lambda: nn.group_norm_forward(X, num_groups=2),
    ),
    "another norm's cache": (
        lambda: nn.rms_norm_backward(DY, nn.layer_norm_forward(X)[1]),
        "call layer_norm_backward",
        lambda: nn.layer_norm_backward(DY, nn.layer_norm_forward(X)[1]),
    ),
    "residual of another shape": (
        lambda: nn.add_rms_norm_forward(X, X[0]),
        r"pass np.broadcast_to\(residual, x.shape\)",
        lambda: nn.add_rms_norm_forward(X, np.broadcast_to(X[0], X.shape)),
    ),
    "p": (
        lambda: nn.lp_normalize_forward(X, p="2"),
        "pass p=2",
        lambda: nn.lp_normalize_forward(X, p=2),
    ),
    "window": (
        lambda: nn.local_response_norm_forward(X, None),
        "pass size=5, say",
        lambda: nn.local_response_norm_forward(X, size=5),
    ),
    "a tensor that requires a gradient": (
        lambda: nn.layer_norm_forward(torch.ones(2, 3, requires_grad=True)),
        r"pass x.detach\(\).cpu\(\).numpy\(\)",
        lambda: nn.layer_norm_forward(torch.ones(2, 3, requires_grad=True).detach().cpu().numpy()),
    ),
    "a tensor of bfloat16": (
        lambda: fold(gamma=torch.ones(6, dtype=torch.bfloat16)),
        r"gamma is a Tensor .* pass gamma.detach\(\).cpu\(\).float\(\).numpy\(\)",
        lambda: fold(gamma=torch.ones(6, dtype=torch.bfloat16).detach().cpu().float().numpy()),
    ),
    "what autograd follows": (
        lambda: autograd.grad(lambda x: nn.layer_norm_forward(x)[0].sum())(X),
        "call the function of numpy_norms.autograd",
        lambda: autograd.grad(lambda x: numpy_norms.autograd.layer_norm(x).sum())(X),
    ),
    "None": (
        lambda: updated(mean=None),
        "running_mean has dtype object, .* it is a NoneType; pass an array of floats",
        lambda: updated(mean=MEAN),
    ),
    "rows of unequal length": (
        lambda: nn.layer_norm_forward([[1.0], [1.0, 2.0]]),
        "x is no array: .* pass lists of one length",
        lambda: nn.layer_norm_forward([[1.0, 3.0], [1.0, 2.0]]),
    ),
    "moments of unequal length": (
        lambda: nn.Moments([1, 1], [[1.0], [1.0, 2.0]], [0.0, 0.0]),
        "mean is no array: .* pass lists of one length",
        lambda: nn.Moments([1, 1], [1.0, 2.0], [0.0, 0.0]),
    ),
    "a mask of unequal length": (
        lambda: nn.layer_norm_forward(X[0, :2, :2], where=[[True], [True, False]]),
        "where is no array: .* pass lists of one length",
        lambda: nn.layer_norm_forward(X[0, :2, :2], where=[[True, True], [True, False]]),
    ),
    "the axis of a weight": (
        lambda: fold(axis=2),
        "axis is 2, but weight of shape",
        lambda: fold(axis=-2),
    ),
    "padding by name": (
        lambda: nn.fold_batch_norm_into_next(WEIGHT.T, None, MEAN, VAR, padding="valid"),
        "pass True where zeros are put around, or False",
        lambda: nn.fold_batch_norm_into_next(WEIGHT.T, None, MEAN, VAR, padding=False),
    ),
    "one value": (
        lambda: updated(x=X[:1, :, :1]),
        "pass correction=0, or a larger batch",
        lambda: updated(x=X[:1, :, :1], correction=0),
    ),
    "moments of more axes": (
        lambda: nn.update_running_stats(MEAN, VAR, nn.Moments.of(X, (0, 1, 2))),
        "over all axes but the channel axis",
        lambda: nn.update_running_stats(MEAN, VAR, nn.Moments.of(X, (0, 2))),
    ),
    "moments of more sets": (
        lambda: nn.update_running_stats(MEAN, VAR, nn.Moments.of(X, 0)),
        r"pass running_mean of shape \(6, 3\)",
        lambda: nn.update_running_stats(np.ones((6, 3)), np.ones((6, 3)), nn.Moments.of(X, 0)),
    ),
    "the cache of a layer norm": (
        lambda: nn.update_running_stats(MEAN, VAR, nn.layer_norm_forward(X)[1]),
        "pass the cache of batch_norm_forward",
        lambda: nn.update_running_stats(MEAN, VAR, nn.batch_norm_forward(X)[1]),
    ),
    "counts": (
        lambda: nn.Moments([4.0], np.ones(1), np.ones(1)),
        r"pass np.asarray\(count, np.int64\)",
        lambda: nn.Moments(np.asarray([4.0], np.int64), np.ones(1), np.ones(1)),
    ),
    "count": (
        lambda: nn.Moments(4, np.ones(2), np.ones(2)),
        r"pass np.full\(mean.shape, n\)",
        lambda: nn.Moments(np.full((2,), 4), np.ones(2), np.ones(2)),
    ),
    "no parts": (
        lambda: nn.Moments.merged([]),
        r"pass at least Moments.empty\(shape\)",
        lambda: nn.Moments.merged([nn.Moments.empty((6,))]),
    ),
    "a part": (
        lambda: nn.Moments.merged([X]),
        r"pass Moments.of\(x, axis\)",
        lambda: nn.Moments.merged([nn.Moments.of(X, axis=0)]),
    ),
    "too few": (
        lambda: nn.Moments.of(X[:1], 0).var(correction=1),
        "pass a smaller correction, or merge more data",
        lambda: [
            nn.Moments.of(X[:1], 0).var(correction=0),
            nn.Moments.of(X[:1], 0).merge(nn.Moments.of(X, 0)).var(correction=1),
        ],
    ),
    "folding by 0": (
        lambda: fold(var=np.zeros(6), eps=0),
        "pass eps > 0",
        lambda: fold(var=np.zeros(6), eps=1e-5),
    ),
    "folding out of range": (
        lambda: fold(WEIGHT.astype("f2"), gamma=1e6 * GAMMA),
        r"pass weight.astype\(np.float32\)",
        lambda: fold(WEIGHT.astype("f2").astype(np.float32), gamma=1e6 * GAMMA),
    ),
    "groups of no group norm": (
        lambda: nn.groups("layer_norm", X.shape, num_groups=2),
        "leave it out",
        lambda: nn.groups("layer_norm", X.shape),
    ),
    "no axis of samples": (
        lambda: nn.groups("batch_norm", (3,)),
        r"pass shape=\(2, 3\), say",
        lambda: nn.groups("batch_norm", (2, 3)),
    ),
    "a shape without axes": (
        lambda: nn.groups("layer_norm", ()),
        r"pass shape=\(2,\), say",
        lambda: nn.groups("layer_norm", (2,)),
    ),
    "a masked mask": (
        lambda: nn.layer_norm_forward(MASKED.data, where=MASKED > 0),
        r"pass where\.filled\(False\)",
        lambda: nn.layer_norm_forward(MASKED.data, where=(MASKED > 0).filled(False)),
    ),
    "no groups": (
        lambda: nn.groups("group_norm", X.shape),
        "pass num_groups=2, say",
        lambda: nn.groups("group_norm", X.shape, num_groups=2),
    ),
    "a parameter less": (
        lambda: conventions.load(OF_LN, "pytorch", "ln"),
        "built without in without=",
        lambda: conventions.load(OF_LN, "pytorch", "ln", without=["beta"]),
    ),
    "another norm": (
        lambda: conventions.load(OF_LN, "pytorch", "ln"),
        "or pass norm=",
        lambda: conventions.load(OF_LN, "pytorch", "ln", norm="rms_norm"),
    ),
    "another prefix": (
        lambda: conventions.load(OF_BN, "pytorch", "nb"),
        "prefixes that do exist: bn",
        lambda: conventions.load(OF_BN, "pytorch", "bn"),
    ),
}


@pytest.mark.parametrize(("wrong", "cure", "right"), CURES.values(), ids=CURES)
def test_the_cure_works(wrong, cure, right):
    with pytest.raises((ValueError, TypeError), match=cure):
        wrong()
    right()


NUMBERS = torch.arange(6.0).reshape(2, 3)


class Sparse:
    def toarray(self):
        return NUMBERS.numpy()


NO_ARRAYS = {
    "a sparse array": Sparse(),
    "a sparse tensor": NUMBERS.to_sparse(),
    "a tensor of bfloat16 that requires a gradient": NUMBERS.bfloat16().requires_grad_(),
    "a sparse tensor of bfloat16": NUMBERS.bfloat16().to_sparse(),
    "a tensor to be conjugated": (NUMBERS + 0j).to(torch.complex128).conj(),
    "a tensor of float8": NUMBERS.to(torch.float8_e4m3fn),
    "a list of numbers in text": [["0", "1", "2"], ["3", "4", "5"]],
    "objects": NUMBERS.numpy().astype(object),
}


@pytest.mark.parametrize("given", NO_ARRAYS.values(), ids=NO_ARRAYS)
def test_what_an_error_makes_of_no_array_holds_its_numbers(given):
    with pytest.raises(TypeError) as caught:
        nn.layer_norm_forward(given)
    cure = re.search(r"pass (.*\))", str(caught.value))[1]
    found = eval(cure, {"x": given, "np": np})
    assert_array_equal(found, NUMBERS.numpy())
    nn.layer_norm_forward(found)


@pytest.mark.parametrize(
    "given", ["abc", NUMBERS.numpy().view([("a", "f4")]), NUMBERS.to("meta"), {"a": 1.0}]
)
def test_of_what_holds_no_numbers_no_error_makes_an_array(given):
    with pytest.raises(TypeError, match=r"; .*pass an array of floats$"):
        nn.layer_norm_forward(given)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_of_lengths_and_of_zeros_and_ones_the_error_makes_masks(kind):
    x = X[:, :, 0]
    for given, part, counting in (
        ([3, 6, 1, 2], r"or (.*) if it holds lengths", np.arange(6) < [[3], [6], [1], [2]]),
        ([[1, 0, 1, 1, 0, 1]] * 4, r"pass (.*) if all but 0 count", [1, 0, 1, 1, 0, 1]),
    ):
        where = kind(given)
        with pytest.raises(TypeError, match="booleans were expected") as caught:
            nn.layer_norm_forward(x, where=where)
        made = eval(re.search(part, str(caught.value))[1], {"where": where, "np": np, "n": 6})
        assert_array_equal(made, np.broadcast_to(np.array(counting, bool), x.shape))
        nn.layer_norm_forward(x, where=made)


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_a_variance_from_which_eps_was_subtracted_is_told_and_cured(eps):
    divided_by = np.array([0.5, 1e-6, 3.0, 1e-9, 1.0, 2.0])  # squared
    stored = divided_by - eps
    y = X[:, :, 0] * (GAMMA / np.sqrt(divided_by)) + (BETA - MEAN * GAMMA / np.sqrt(divided_by))
    calls = (
        (
            lambda v, **o: nn.batch_norm_inference_forward(X, MEAN, v, GAMMA, BETA, **o)[0][..., 0],
            y,
        ),
        (lambda v, **o: fold(var=v, **o)[0], (GAMMA / np.sqrt(divided_by))[:, None] * WEIGHT),
    )
    for call, expected in calls:
        with pytest.raises(ValueError, match=r"pass running_var \+ eps, and eps=0") as caught:
            call(stored, eps=eps)
        assert "if eps was subtracted before it was stored" in str(caught.value)
        assert_allclose(call(stored + eps, eps=0), expected, rtol=1e-5)
    state = OF_BN | {"bn.running_var": stored}
    with pytest.raises(ValueError, match=r"pass state\['bn.running_var'\] \+ eps, and eps=0"):
        conventions.load(state, "pytorch", "bn")
    loaded = conventions.load(state | {"bn.running_var": stored + eps}, "pytorch", "bn")
    assert_array_equal(loaded["running_var"], stored + eps)


def test_an_infinite_float16_variance_is_told_and_cured():
    var = 1e5 * VAR
    with np.errstate(over="ignore"):
        stored = var.astype(np.float16)
    for call in (
        lambda v: fold(var=v),
        lambda v: conventions.load({**OF_BN, "bn.running_var": v}, "pytorch", "bn"),
    ):
        with pytest.raises(ValueError, match="float16 ends at 65504, and it overflowed") as caught:
            call(stored)
        assert "store it as float32" in str(caught.value)
        call(var.astype(np.float32))
    with pytest.raises(ValueError, match="before training diverged"):
        fold(var=np.full(6, np.inf))


def test_no_momentum_is_told_and_its_cure_averages_as_pytorch_does():
    with pytest.raises(TypeError, match="momentum=1 / n for the n-th batch"):
        updated(momentum=None)
    theirs = torch.nn.BatchNorm1d(6, momentum=None, dtype=torch.float64)
    mean, var = np.zeros(6), np.ones(6)
    for n in range(1, 5):
        x = rng.normal(n, n, (5, 6))
        theirs(torch.tensor(x))
        for momentum in (1 / n, Fraction(1, n)):
            new = nn.update_running_stats(mean, var, nn.batch_norm_forward(x)[1], momentum=momentum)
        mean, var = new
    assert_allclose(mean, theirs.running_mean.numpy(), rtol=1e-12)
    assert_allclose(var, theirs.running_var.numpy(), rtol=1e-12)
    of_instances = torch.nn.InstanceNorm1d(6, momentum=None, track_running_stats=True)
    of_instances(torch.tensor(X, dtype=torch.float32))
    cache = nn.instance_norm_forward(X)[1]
    same = nn.update_running_stats(np.zeros(6), np.ones(6), cache, momentum=0)
    for a, b in zip(same, (of_instances.running_mean, of_instances.running_var), strict=True):
        assert_array_equal(a, b.numpy())


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("autograd", "autograd", "autograd"),
        ("onnx", "onnx", "onnx"),
        ("dask", "dask", "dask"),
        ("verify.strategies", "hypothesis", "strategies"),
    ],
)
def test_where_a_package_is_missing_the_import_names_it(module, package, extra):
    code = f"import sys; sys.modules[{package!r}] = None; import numpy_norms.{module}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    says = f"ImportError: numpy_norms.{module} needs {package}: pip install {package}\n"
    assert result.stderr.endswith(says)
    extras = tomllib.loads((Path(nn.__file__).parents[1] / "pyproject.toml").read_text("utf-8"))
    brought = extras["project"]["optional-dependencies"][extra]
    assert any(requirement.startswith(package) for requirement in brought)

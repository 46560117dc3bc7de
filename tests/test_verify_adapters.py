"""Adapters: right kernels on other arrays pass, wrong ones are named, layouts get through."""

from __future__ import annotations

import shutil
import subprocess
from functools import partial

import ml_dtypes
import numpy as np
import pytest
import torch
from trials import small, without_large

from numpy_norms.verify import assert_kernel, check_kernel
from numpy_norms.verify.adapters import c_kernel, dlpack_kernel, jax_kernel, torch_kernel
from numpy_norms.verify.adapters.torch import as_array, as_tensor

functional = torch.nn.functional
C = """
#include <math.h>
#include <stddef.h>
void forward(const float *x, const float *gamma, const float *beta, size_t rows, size_t features,
             float eps, float *y) {
  for (size_t i = 0; i < rows; ++i) {
    const float *row = x + i * features;
    double mean = 0, var = 0;
    for (size_t j = 0; j < features; ++j) mean += row[j];
    mean /= features;
    for (size_t j = 0; j < features; ++j) var += (row[j] - mean) * (row[j] - mean);
    double rstd = 1 / sqrt(var / features + eps);
    for (size_t j = 0; j < features; ++j)
      y[i * features + j] = (float)(gamma[j] * ((row[j] - mean) * rstd) + beta[j]);
  }
}
void no_eps(const float *x, const float *gamma, size_t rows, size_t features, float eps, float *y) {
  for (size_t i = 0; i < rows; ++i) {
    double square = 0;
    const float *row = x + i * features;
    for (size_t j = 0; j < features; ++j) square += (double)row[j] * row[j];
    for (size_t j = 0; j < features; ++j)
      y[i * features + j] = (float)(gamma[j] * row[j] / sqrt(square / features));
  }
}
"""


def torch_layer_norm(x, gamma, beta, eps):
    return functional.layer_norm(x, gamma.shape, gamma, beta, eps)


def test_a_plain_function_of_tensors_gets_its_gradients_by_autograd():
    report = without_large("layer_norm").of(*torch_kernel(torch_layer_norm))
    assert report.passed, report
    assert {row.output for row in report.rows if not row.law} == {"y", "dx", "dgamma", "dbeta"}


def test_an_autograd_function_is_checked_through_its_apply():
    class WithoutVarianceTerm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, gamma, eps):
            rstd = (x * x).mean(-1, keepdim=True).add(eps).rsqrt()
            ctx.save_for_backward(x, gamma, rstd)
            return gamma * x * rstd

        @staticmethod
        def backward(ctx, dy):
            x, gamma, rstd = ctx.saved_tensors
            rows = tuple(range(dy.ndim - 1))
            return rstd * gamma * dy, (dy * x * rstd).sum(rows), None

    report = small("rms_norm").of(*torch_kernel(WithoutVarianceTerm.apply))
    assert [(f.output, f.name) for f in report.diagnosis] == [("dx", "projection_dropped")]


def test_group_norm_gets_its_groups():
    def group_norm(x, groups, gamma, beta, eps):
        return functional.group_norm(x, groups, gamma, beta, eps)

    forward, _ = torch_kernel(group_norm)
    assert without_large("group_norm").of(forward, None).passed


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_tensors_have_the_values_strides_and_memory_of_the_arrays(dtype):
    whole = np.arange(24, dtype=np.float32).astype(dtype).reshape(4, 6)
    for a in (whole, whole[:, ::2], whole.T, np.broadcast_to(whole[:1], (4, 6)).copy()):
        tensor = as_tensor(a)
        assert tensor.shape == a.shape
        assert [s * a.itemsize for s in tensor.stride()] == list(a.strides)
        np.testing.assert_array_equal(as_array(tensor), a.astype(np.float32))
    as_tensor(whole)[0, 0] = 7
    assert float(whole[0, 0]) == 7


def test_a_tensor_on_another_device_keeps_its_strides():
    strided = np.zeros((4, 6), np.float32)[:, ::2]
    repeated = np.lib.stride_tricks.as_strided(np.zeros(6, np.float32), (4, 6), (0, 4))
    assert as_tensor(strided, "meta").stride() == (6, 2)
    assert as_tensor(repeated, "meta").stride() == (0, 1)


def test_jax_compiles_once_for_each_shape_and_agrees():
    pytest.importorskip("jax")
    import jax.numpy as jnp

    traced = []

    def layer_norm(x, gamma, beta, eps):
        traced.append(x.shape)
        c = x - x.mean(-1, keepdims=True)
        return gamma * c / jnp.sqrt((c * c).mean(-1, keepdims=True) + eps) + beta

    report = small("layer_norm").of(*jax_kernel(layer_norm))
    assert report.passed, report
    assert len(traced) == 2 * len(set(traced)) == 4  # forward, and forward within vjp


def masked_by(library, where, x, gamma, beta, eps):
    """A masked layer norm in the words of PyTorch or JAX."""
    n = library.maximum(where.sum(-1)[..., None], library.ones_like(where.sum(-1))[..., None])
    counted = library.where(where, x, library.zeros_like(x))
    mean = counted.sum(-1)[..., None] / n
    centred = library.where(where, counted - mean, library.zeros_like(x))
    return gamma * (counted - mean) * ((centred**2).sum(-1)[..., None] / n + eps) ** -0.5 + beta


def kernel_of(package, function, **options):
    if package == "torch":
        return torch_kernel(partial(function, torch), **options)
    jax = pytest.importorskip("jax")
    return jax_kernel(partial(function, jax.numpy), **options)


BOTH = pytest.mark.parametrize("package", ["torch", "jax"])


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_are_derived_of_a_kernel_with_a_mask(package, dtype):
    def layer_norm(library, x, gamma, beta, eps, where):
        return masked_by(library, where, x, gamma, beta, eps)

    report = small("layer_norm", dtype, where=True).of(*kernel_of(package, layer_norm))
    assert report.passed, report


@BOTH
def test_gradients_are_derived_of_a_kernel_that_adds_a_residual(package):
    def fused(library, x, residual, gamma, beta, eps):
        total = x + residual
        return masked_by(library, library.ones_like(x) > 0, total, gamma, beta, eps), total

    passes = kernel_of(package, fused, residual=True)
    report = check_kernel("layer_norm", *passes, residual=True, shapes=[(5, 13)], threads=0)
    assert report.passed, report


@BOTH
def test_lists_may_come_back_and_dx_alone_and_none(package):
    def as_list(library, x, gamma, beta, eps):
        return [masked_by(library, library.ones_like(x) > 0, x, gamma, beta, eps)]

    ahead, back = kernel_of(package, as_list)
    assert small("layer_norm").of(ahead, back).passed
    adapter = torch_kernel if package == "torch" else jax_kernel
    for own in (lambda dy, *_: dy, lambda dy, *_: (dy, None, None)):
        report = small("layer_norm").of(None, adapter(as_list, own)[1])
        assert {row.output for row in report.rows if not row.law} == {"dx"}
        assert "Not checked: dgamma and dbeta" in report.remark


def test_a_jax_kernel_is_given_what_forward_saved():
    pytest.importorskip("jax")
    import jax.numpy as jnp

    def forward(x, gamma, eps):
        rstd = ((x * x).mean(-1) + eps) ** -0.5
        return gamma * x * rstd[..., None], rstd

    def backward(dy, x, gamma, eps, rstd):
        x_hat, g = x * rstd[..., None], gamma * dy
        dx = rstd[..., None] * (g - x_hat * (g * x_hat).mean(-1)[..., None])
        return dx, jnp.sum(dy * x_hat, tuple(range(x.ndim - 1)))

    passes = jax_kernel(forward, backward)
    assert check_kernel("rms_norm", *passes, saved=True, shapes=[(5, 13)], threads=0).passed


def test_dlpack_takes_arrays_there_and_back():
    def rms_norm(x, gamma, eps):
        return gamma * x * (x * x).mean(-1, keepdim=True).add(eps).rsqrt()

    forward, none = dlpack_kernel(torch.from_dlpack, rms_norm)
    assert none is None
    assert small("rms_norm").of(forward, None).passed
    listed, _ = dlpack_kernel(torch.from_dlpack, lambda *arrays: [rms_norm(*arrays)])
    assert small("rms_norm").of(listed, None).passed


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A shared library, where there is a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("c")
    (folder / "kernel.c").write_text(C)
    target = folder / "kernel.so"
    flags = ["-O1", "-shared", "-fPIC", "-o", str(target)]
    subprocess.run([compiler, *flags, str(folder / "kernel.c"), "-lm"], check=True)
    return target


def test_a_c_function_is_checked_by_its_name(library):
    forward, none = c_kernel(library, "layer_norm", "forward")
    assert none is None
    report = without_large("layer_norm").of(forward, None)
    assert report.passed, report
    wrong, _ = c_kernel(library, "rms_norm", "no_eps")
    assert "eps is ignored" in str(small("rms_norm").of(wrong, None).diagnosis[0])


@pytest.mark.parametrize("option", ["where", "residual"])
def test_what_a_c_function_is_not_given_is_said(library, option):
    forward, _ = c_kernel(library, "layer_norm", "forward")
    report = small("layer_norm", **{option: True}).of(forward, None)
    assert "c_kernel hands over x, gamma and beta alone" in str(report.diagnosis[0])


def test_a_library_without_the_function_is_refused(library):
    with pytest.raises(ValueError, match="no function backward"):
        c_kernel(library, "layer_norm", backward="backward")
    with pytest.raises(ValueError, match="dtype is 'int8'"):
        c_kernel(library, "layer_norm", "forward", dtype="int8")


def test_the_message_of_a_failed_assertion_is_the_report():
    forward, _ = torch_kernel(lambda x, gamma, beta, eps: torch_layer_norm(x, gamma, beta, 0.0))
    with pytest.raises(AssertionError, match="eps is ignored"):
        assert_kernel("layer_norm", forward, threads=0, shapes=[(5, 7, 13)])


@pytest.mark.parametrize(("adapter", "package"), [(torch_kernel, "torch"), (jax_kernel, "jax")])
def test_a_package_that_is_missing_is_named(adapter, package, monkeypatch):
    monkeypatch.setattr("numpy_norms.conventions.read.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=f"^{package}_kernel needs {package}: pip install"):
        adapter(lambda x, gamma, beta, eps: x)

"""What the golden vectors say of kernels: right ones pass, wrong ones do not."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_vectors import arrays, groups, kernel_arguments, vectors

from numpy_norms.golden.verify import verify
from numpy_norms.oracle.sets import FEATURE_NORMS, NORMS
from numpy_norms.verify import mutants
from numpy_norms.verify.plain import plain_kernel

C_PROGRAM = Path(__file__).parents[1] / "docs" / "check_golden.c"
# What no file of arrays can show: strides, what becomes of an argument, 65535 sets.
INVISIBLE = {"x_strides_ignored", "dy_strides_ignored", "dy_overwritten", "grid_overflow"}


def out_of_tolerance(file, case, got, slack=0.0):
    """Return the names of the outputs that are not within their tolerance and the slack."""
    found = set()
    for name, values in got.items():
        expected = arrays(file)[f"{case['name']}/{name}.float64"]
        tolerance = arrays(file)[f"{case['name']}/{name}.tolerance"]
        with np.errstate(invalid="ignore"):
            near = np.abs(np.asarray(values, np.float64) - expected) <= tolerance + slack
        if not np.all(near | np.isnan(values) & np.isnan(expected)):
            found.add(name)
    return found


def failures(norm, forward, backward, dtype):
    """Return the cases in which a kernel with channels on axis 1 is out of tolerance."""
    file = f"{norm}-{dtype}.npz"
    found = {}
    for case in groups()[file]["cases"]:
        if case["options"].get("channel_axis") == -1:
            continue
        dy, arguments = kernel_arguments(file, case)
        y, gradients = forward(*arguments), backward(dy, *arguments)
        names = ["dx", "dgamma", "dbeta"][: len(gradients)]
        got = {"y": y} | dict(zip(names, gradients, strict=True))
        if wrong := out_of_tolerance(file, case, got):
            found[case["name"]] = wrong
    return found


@pytest.fixture(scope="module")
def verdicts():
    return list(verify(vectors()))


def test_this_library_is_within_every_tolerance(verdicts):
    assert len(verdicts) == 24
    assert [verdict.failures for verdict in verdicts if not verdict.passed] == []


def test_this_library_rounds_correctly_whatever_is_narrower_than_float64(verdicts):
    narrow = [v for v in verdicts if "float64" not in v.file]
    assert sum(v.rounded for v in narrow) >= 0.9995 * sum(v.values for v in narrow)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("norm", NORMS)
def test_a_plain_kernel_fails_only_where_its_squares_overflow(norm, dtype):
    expected = [] if dtype == "float16" else ["large_values"]
    assert list(failures(norm, *plain_kernel(norm), dtype)) == expected


@pytest.mark.parametrize("norm", NORMS)
def test_every_known_mistake_that_a_file_can_show_is_out_of_tolerance(norm):
    survivors = set()
    for mutant in mutants(norm):
        passes = (mutant.forward, mutant.backward)
        with np.errstate(all="ignore"):
            found = failures(norm, *passes, "float32").keys() - {"large_values"}
            if not found and not failures(norm, *passes, "float16"):
                survivors.add(mutant.name)
    assert survivors == INVISIBLE


@pytest.mark.parametrize("norm", NORMS)
def test_exact_cases_are_the_same_bits_in_any_order_of_summation(norm):
    file = f"{norm}-float32.npz"
    forward, backward = plain_kernel(norm)
    for case in groups()[file]["cases"]:
        if not case["exact"]:
            continue
        dy, (x, *others) = kernel_arguments(file, case)
        if norm in FEATURE_NORMS:  # the last axis also carries gamma and beta
            *parameters, eps = others
            others = [*(p[::-1] for p in parameters), eps]
        got = {"y": forward(x[..., ::-1], *others)[..., ::-1]}
        got["dx"] = backward(dy[..., ::-1], x[..., ::-1], *others)[0][..., ::-1]
        assert not out_of_tolerance(file, case, got)


def torch_results(norm, case, x, gamma, beta, running_mean, running_var, dy, eps):
    """Return y and the gradients as PyTorch has them."""
    functional = torch.nn.functional
    if norm == "layer_norm":
        y = functional.layer_norm(x, gamma.shape, gamma, beta, eps)
    elif norm == "rms_norm":
        y = functional.rms_norm(x, gamma.shape, gamma, eps)
    elif norm == "group_norm":
        y = functional.group_norm(x, case["options"]["num_groups"], gamma, beta, eps)
    elif norm == "instance_norm":
        y = functional.instance_norm(x, weight=gamma, bias=beta, eps=eps)
    else:
        training = running_mean is None
        y = functional.batch_norm(x, running_mean, running_var, gamma, beta, training, eps=eps)
    y.backward(dy)
    gradients = {"dx": x.grad, "dgamma": gamma.grad, "dbeta": None if beta is None else beta.grad}
    return {"y": y.detach()} | {name: g for name, g in gradients.items() if g is not None}


@pytest.mark.parametrize("norm", [*NORMS, "batch_norm_inference"])
def test_pytorch_in_float64_agrees(norm):
    file = f"{norm}-float64.npz"
    refused = {"large_values", "one_element", "channels_last"}  # overflows; raises; other layout
    for case in groups()[file]["cases"]:
        if case["name"] in refused:
            continue
        tensors = dict.fromkeys(["gamma", "beta", "running_mean", "running_var"])
        for name in case["inputs"]:
            values = torch.tensor(arrays(file)[f"{case['name']}/{name}"])
            tensors[name] = values.requires_grad_(name in ("x", "gamma", "beta"))
        got = torch_results(norm, case, **tensors | {"eps": float(tensors["eps"])})
        got = {name: values.numpy() for name, values in got.items()}
        # Welford's recurrence rounds even where sums are exact.
        slack = 1e-14 if case["exact"] else 0.0
        assert not out_of_tolerance(file, case, got, slack), case["name"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Compile the C program, with one line of it replaced, and return what it prints."""
    folder = tmp_path_factory.mktemp("c")

    def run(old="", new="", *options):
        text = C_PROGRAM.read_text()
        assert text.count(old) == 1 or not old
        (folder / "check.c").write_text(text.replace(old, new) if old else text)
        build = ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-O2", *options, "check.c", "-lm"]
        subprocess.run([*build, "-o", "check"], cwd=folder, check=True)
        command = [folder / "check", vectors() / "layer_norm-float32.npz"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")


@needs_cc
def test_a_naive_layer_norm_in_c_passes(compiled):
    result = compiled()
    checked = 6 * len(groups()["layer_norm-float32.npz"]["cases"])
    assert result.stdout == f"{checked} arrays checked, 0 wrong\n"
    assert result.returncode == 0


@needs_cc
def test_sums_in_float_fail_in_c_only_where_squares_overflow(compiled):
    result = compiled("", "", "-DSUM=float")
    *wrong, summary = result.stdout.splitlines()
    assert result.returncode == 1
    assert summary.endswith(f" {len(wrong)} wrong")
    assert {line.split("/")[0] for line in wrong} == {"large_values"}


@needs_cc
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("sqrt(var + eps)", "(sqrt(var) + eps)"),
        ("var = squares / D", "var = squares / (D - 1)"),
        ("(g + r * (x[j] - mu) * gh) / D", "(r * (x[j] - mu) * gh) / D"),
        ("(g + r * (x[j] - mu) * gh) / D", "g / D"),
        ("dgamma[j] += dy[j] * h, dbeta[j] += dy[j]", "dgamma[j] += dy[j], dbeta[j] += dy[j] * h"),
    ],
)
def test_a_wrong_layer_norm_in_c_fails(compiled, right, wrong):
    result = compiled(right, wrong)
    assert result.returncode == 1
    assert "ordinary/" in result.stdout


def test_the_c_program_is_short():
    assert len(C_PROGRAM.read_text().splitlines()) < 100

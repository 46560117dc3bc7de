"""`groups`, `show` and `trace`: what they say is what the norms do."""

import argparse
import json
import re

import numpy as np
import pytest
import torch

import numpy_norms
from numpy_norms.cli import UsageError, main
from numpy_norms.commands import show, trace, trace_steps
from numpy_norms.groups import groups
from numpy_norms.oracle.sets import NORMS

# Norm, shape and options, with all sizes distinct so that a wrong axis has a wrong size.
CASES = [
    ("batch_norm", (2, 3), {}),
    ("batch_norm", (2, 4, 3), {"channel_axis": -1}),
    ("batch_norm", (4, 2, 3), {"channel_axis": 0}),
    ("layer_norm", (5,), {}),
    ("layer_norm", (2, 3, 4), {}),
    ("layer_norm", (2, 3, 4), {"axis": (1, 2)}),
    ("layer_norm", (2, 5, 3, 4), {"axis": 1}),
    ("group_norm", (2, 6, 4), {"num_groups": 3}),
    ("group_norm", (3, 2, 6), {"num_groups": 2, "channel_axis": 2}),
    ("group_norm", (6, 2, 4), {"num_groups": 3, "channel_axis": 0}),
    ("instance_norm", (2, 3, 4), {}),
    ("instance_norm", (4, 2, 3), {"channel_axis": 0}),
    ("rms_norm", (3, 4), {}),
    ("rms_norm", (3, 2, 4), {"axis": (0, 2)}),
]


def x_and_forward(norm, shape, options, seed=5):
    x = 1 + np.random.default_rng(seed).normal(size=shape)
    forward = getattr(numpy_norms, f"{norm}_forward")
    return x, lambda x: forward(x, **options)


def run(command, *words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


@pytest.mark.parametrize(("norm", "shape", "options"), CASES)
def test_two_elements_have_one_label_where_moving_one_moves_the_other(norm, shape, options):
    x, forward = x_and_forward(norm, shape, options)
    labels, y = groups(norm, shape, **options), forward(x)[0]
    for i in np.ndindex(shape):
        moved = x.copy()
        moved[i] += 0.25
        np.testing.assert_array_equal(forward(moved)[0] != y, labels == labels[i])


@pytest.mark.parametrize(("norm", "shape", "options"), CASES)
def test_labels_find_the_statistics_of_every_element(norm, shape, options):
    x, forward = x_and_forward(norm, shape, options)
    y, cache = forward(x)
    labels = groups(norm, shape, **options)
    mean = 0 if cache.mean is None else cache.mean.ravel()[labels]
    np.testing.assert_allclose((x - mean) * cache.rstd.ravel()[labels], y, rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("norm", "shape", "options", "message"),
    [
        ("norm", (2, 3), {}, "norm is 'norm'; pass one of 'batch_norm'"),
        ("group_norm", (2, 6), {}, "pass num_groups=2, say"),
        ("group_norm", (2, 6), {"num_groups": 4}, r"pass one of \[1, 2, 3, 6\]"),
        ("layer_norm", (2, 6), {"num_groups": 2}, "leave it out"),
        ("rms_norm", (2, 6), {"axis": 2}, "axis is 2, but x of shape"),
        ("batch_norm", (6,), {}, "takes arrays of 2 or more axes"),
    ],
)
def test_groups_refuses_with_a_cure(norm, shape, options, message):
    with pytest.raises(ValueError, match=message):
        groups(norm, shape, **options)


@pytest.mark.parametrize(("channels", "sets"), [(6, 3), (7, 7), (8, 2), (1, 1)])
def test_groups_that_are_left_out_divide_the_channels(channels, sets, capsys):
    assert main(["show", "group_norm", "--shape", f"1,{channels},2"]) == 0
    assert f"{sets} set" in capsys.readouterr().out


def test_groups_of_an_empty_batch_are_empty():
    assert groups("group_norm", (0, 6, 2), num_groups=3).shape == (0, 6, 2)


def test_show_prints_a_letter_for_every_element(capsys):
    assert run(show, "group_norm", "--shape", "2,6,2,2", "--groups", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:4] == [
        "n=0  AAAA  AAAA  BBBB  BBBB  CCCC  CCCC",
        "n=1  DDDD  DDDD  EEEE  EEEE  FFFF  FFFF",
    ]
    assert lines[4] == "6 sets of m = 8; statistics shape (2, 3); gamma shape (6,)"


def words_for(shape, options):
    names = {"num_groups": "--groups", "channel_axis": "--channel-axis", "axis": "--axis"}
    for name, value in {"shape": shape, **options}.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else value
        yield f"{names.get(name, '--shape')}={text}"


@pytest.mark.parametrize(("norm", "shape", "options"), CASES)
def test_show_tells_the_shapes_that_the_forward_pass_has(norm, shape, options, capsys):
    assert run(show, norm, "--json", *words_for(shape, options)) == 0
    shown = json.loads(capsys.readouterr().out)
    x, forward = x_and_forward(norm, shape, options)
    _, cache = forward(x)
    assert shown["labels"] == groups(norm, shape, **options).tolist()
    assert tuple(shown["statistics_shape"]) == cache.rstd.shape
    assert (shown["sets"], shown["m"]) == (cache.rstd.size, x.size // cache.rstd.size)
    gamma = np.ones(shown["gamma_shape"])
    getattr(numpy_norms, f"{norm}_forward")(x, gamma=gamma, **options)


@pytest.mark.parametrize("norm", NORMS)
def test_show_has_an_example_for_every_norm(norm, capsys):
    assert run(show, norm) == 0
    assert "sets of m = " in capsys.readouterr().out


def test_letters_go_on_after_z():
    assert [show.letters(k) for k in (0, 25, 26, 51, 52, 702)] == [
        "A",
        "Z",
        "AA",
        "AZ",
        "BA",
        "AAA",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["layer_norm", "--channel-axis", "2"], "layer_norm has no --channel-axis; use --axis"),
        (["batch_norm", "--axis", "2"], "batch_norm has no --axis; use --channel-axis"),
        (["batch_norm", "--shape", "64,128,56,56"], "the pattern is the same"),
        (["batch_norm", "--shape", "0,3"], "has no element"),
        (["group_norm", "--groups", "4"], "num_groups is 4"),
    ],
)
def test_show_refuses_with_a_cure(words, message):
    with pytest.raises(UsageError, match=message):
        run(show, *words)


@pytest.mark.parametrize("norm", ["batch_norm", "group_norm", "instance_norm"])
def test_a_shape_of_one_axis_is_told_a_shape_that_is_shown(norm):
    with pytest.raises(UsageError, match="--shape 6 has one axis") as caught:
        run(show, norm, "--shape", "6")
    cure = re.search("; pass (--shape .*), say", str(caught.value))[1]
    assert run(show, norm, *cure.split()) == 0


def torch_gradients(e):
    """The example once more as a graph that PyTorch differentiates."""
    leaves = ["x", "gamma", "beta"] + (["mean", "var"] if e.constants else [])
    t = {name: torch.tensor(getattr(e, name), requires_grad=True) for name in leaves}
    over = trace_steps.LAYOUTS[e.norm].over
    if e.norm != "rms_norm" and not e.constants:
        t["mean"] = t["x"].mean(over, keepdim=True)
    deviation = t["x"] - t.get("mean", 0)
    if not e.constants:
        t["var"] = (deviation**2).mean(over, keepdim=True)
    t["rstd"] = torch.rsqrt(t["var"] + e.eps)
    t["x_hat"] = deviation * t["rstd"]
    t["y"] = t["x_hat"] * t["gamma"] + (0 if e.norm == "rms_norm" else t["beta"])
    for a in t.values():
        a.retain_grad()
    (torch.tensor(e.dy) * t["y"]).sum().backward()
    return {name: a.grad.numpy() for name, a in t.items() if a.grad is not None}


@pytest.mark.parametrize("seed", [None, 0, 1])
@pytest.mark.parametrize("norm", trace_steps.LAYOUTS)
def test_every_step_has_the_gradient_that_torch_finds(norm, seed):
    e = trace_steps.example(norm, eps=1e-3, seed=seed)
    expected = torch_gradients(e)
    for step in trace_steps.trace(e):
        np.testing.assert_allclose(step.gradient, expected[step.name], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("norm", trace_steps.LAYOUTS)
def test_trace_agrees_with_differences_and_with_the_library(norm, capsys):
    assert run(trace, norm, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert max(step["error"] for step in shown["steps"].values()) < 1e-10
    assert max(shown["library"].values()) < 1e-14
    assert {"x", "var", "rstd", "x_hat", "gamma", "y"} <= set(shown["steps"])


def test_trace_prints_value_gradient_and_error_of_every_step(capsys):
    assert run(trace, "layer_norm") == 0
    printed = capsys.readouterr().out
    assert "(1)  mean = E[x]                   3.000\n" in printed
    assert "(11)  dmean = -rstd * sum(dx_hat)               -0.463" in printed
    assert "           + dmean / m                          -0.154  -0.154  -0.154" in printed
    assert "(12)  dx = rstd * (dx_hat - E[dx_hat]            0.176  -0.220   0.044" in printed
    assert "                 - x_hat * E[dx_hat * x_hat])    0.028   0.110  -0.138" in printed


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("norm", trace_steps.LAYOUTS)
def test_the_arrows_that_trace_shows_add_up_to_dx(norm, seed):
    e = trace_steps.example(norm, eps=0.25, seed=seed)
    v = trace_steps.forward(e)
    d = trace_steps.backward(e, v)
    arrows = trace_steps.arrows(e, v, d)
    number = {"batch_norm_inference": 1, "rms_norm": 2}.get(norm, 3)
    assert len(arrows) == number
    np.testing.assert_allclose(sum(arrows.values()), d["x"], rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["x", "mean", "var", "rstd", "x_hat", "gamma", "beta", "y"])
def test_trace_reports_a_wrong_gradient_of_any_step(name, monkeypatch, capsys):
    right = trace_steps.backward

    def wrong(e, v):
        d = right(e, v)
        return d | {name: d[name] * 1.001}

    monkeypatch.setattr(trace_steps, "backward", wrong)
    assert run(trace, "layer_norm") == 1
    assert "DIFFERS" in capsys.readouterr().out


@pytest.mark.parametrize("eps", ["-1", "inf", "nan"])
def test_trace_refuses_an_eps_that_is_none(eps):
    with pytest.raises(UsageError, match="finite number"):
        run(trace, "layer_norm", f"--eps={eps}")

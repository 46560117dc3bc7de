"""What is found in a state: the names of every framework, the norms it holds, and eps."""

import json
import re

import numpy as np
import pytest
import torch
from each import each
from numpy.testing import assert_allclose, assert_array_equal

import numpy_norms as nn
from numpy_norms import conventions
from numpy_norms.conventions import CONVENTIONS, eps_from_config, load, norms_in

rng = np.random.default_rng(5)
FEW = {"gamma", "beta", "running_mean", "running_var"}


def draw(*shape):
    """Draw numbers of both signs."""
    return rng.standard_normal(shape).astype(np.float32)


# Frameworks.

X = draw(4, 3, 5).astype(np.float64)


ROWS = [c for c in CONVENTIONS if c.names and c.framework not in ("paper", "caffe")]


@each("row", ROWS)
def test_every_framework_s_names_are_loaded_and_listed(row):
    prefix = row.separator.join(("net", row.norm)) if row.separator != "_" else row.norm
    state = {f"{prefix}{row.separator}{n}": 1 + draw(3) ** 2 for n in row.names.values()}
    options = {"eps": 1e-5} if row.eps is None else {}
    options |= {"fix_gamma": False} if row.framework == "mxnet" and row.norm == "batch_norm" else {}
    got = load(state, row.framework, prefix, norm=row.norm, **options)
    assert got.keys() == row.names.keys() | {"eps"}
    if row.framework != "onnx":
        (found,) = norms_in(state, row.framework)
        assert (found.prefix, found.norm, found.missing) == (prefix, row.norm, ())
        assert found.shapes == dict.fromkeys(row.names, (3,))


def test_caffe_s_factor_divides_mean_and_variance():
    mean, var, gamma, beta = draw(3), 1 + draw(3) ** 2, draw(3), draw(3)
    state = {"bn/0": 40 * mean, "bn/1": 40 * var, "bn/2": np.array([40], np.float32)}
    state |= {"scale/0": gamma, "scale/1": beta}
    got = load(state, "caffe", "bn", names={"gamma": "scale/0", "beta": "scale/1"})
    y, _ = nn.batch_norm_inference_forward(X, **got)
    along = (slice(None), None)
    expected = (X - mean[along]) / np.sqrt(var[along] + 1e-5) * gamma[along] + beta[along]
    assert_allclose(y, expected, rtol=1e-5)
    assert set(load(state, "caffe", "bn")) == {"running_mean", "running_var", "eps"}
    assert [(f.prefix, f.framework) for f in norms_in(state)] == [("bn", "caffe")]
    blobs = {"bn": [state[f"bn/{i}"] for i in range(3)], "scale": (gamma, beta)}
    names = {"gamma": "scale/0", "beta": "scale/1"}
    for ours, a in load(blobs, "caffe", "bn", names=names).items():
        assert_array_equal(a, got[ours])
    never_trained = state | {"bn/2": np.zeros(1)}
    assert not load(never_trained, "caffe", "bn")["running_var"].any()
    del state["bn/2"]
    with pytest.raises(ValueError, match="'bn/2' is missing"):
        load(state, "caffe", "bn")


def test_darknet_s_eps_outside_the_root_is_brought_inside():
    names = ("scales", "biases", "rolling_mean", "rolling_variance")
    state = dict(
        zip((f"c/{n}" for n in names), (draw(3), draw(3), draw(3), draw(3) ** 2), strict=True)
    )
    state["c/rolling_variance"][0] = 1e-10  # where eps is seen
    got = load(state, "darknet", "c")
    y, _ = nn.batch_norm_inference_forward(X, **got)
    gamma, beta, mean, var = (a.astype(float)[:, None] for a in state.values())
    assert_allclose(y, gamma * (X - mean) / (np.sqrt(var) + 1e-6) + beta, rtol=1e-6)
    with pytest.raises(ValueError, match="leave eps out"):
        load(state, "darknet", "c", eps=1e-5)


def test_mxnet_s_fixed_gamma_is_never_silent():
    state = {f"bn0_{n}": 1 + draw(3) ** 2 for n in ("gamma", "beta", "moving_mean", "moving_var")}
    with pytest.raises(
        ValueError, match=r"state\['bn0_gamma'\] is not 1, .* pass fix_gamma=True or False"
    ):
        load(state, "mxnet", "bn0")
    assert_array_equal(load(state, "mxnet", "bn0", fix_gamma=True)["gamma"], np.ones(3))
    assert load(state, "mxnet", "bn0", fix_gamma=False)["gamma"] is state["bn0_gamma"]
    ones = state | {"bn0_gamma": np.ones(3)}
    assert_array_equal(load(ones, "mxnet", "bn0")["gamma"], np.ones(3))
    tagged = {f"{'aux' if 'moving' in n else 'arg'}:{n}": a for n, a in ones.items()}
    assert load(tagged, "mxnet", "bn0").keys() == FEW | {"eps"}
    with pytest.raises(ValueError, match="fix_gamma is MXNet's"):
        load({"bn/gamma": np.ones(3)}, "keras", "bn", without=["beta"], fix_gamma=True)


def test_gamma_and_beta_of_old_transformers():
    state = {"h.LayerNorm.gamma": draw(3), "h.LayerNorm.beta": draw(3)}
    got = load(state, "pytorch", "h.LayerNorm", eps=1e-12)
    assert got == {"gamma": got["gamma"], "beta": got["beta"], "eps": 1e-12}
    (found,) = norms_in(state)
    assert (found.framework, found.norm, found.missing) == ("pytorch", "layer_norm", ())


@each("end", [".", "/", "_"])
@each("framework", ["pytorch", "keras", "gluon"])
def test_any_separator_after_the_prefix_is_found(framework, end):
    names = {"pytorch": ("weight", "bias")}.get(framework, ("gamma", "beta"))
    state = {f"bn0{end}{name}": draw(3) for name in names}
    assert load(state, framework, "bn0").keys() == {"gamma", "beta", "eps"}


def test_names_of_one_s_own():
    state = {"n.g": draw(3), "n.b": draw(3), "apart": 1 + draw(3) ** 2, "n.m": draw(3)}
    names = {"gamma": "g", "beta": "b", "running_mean": "m", "running_var": "apart"}
    got = load(state, "pytorch", "n", names=names)
    assert all(got[ours] is state.get(f"n.{n}", state.get(n)) for ours, n in names.items())
    with pytest.raises(ValueError, match="names names 'scale'; pass some of 'gamma', 'beta'"):
        load(state, "pytorch", "n", norm="layer_norm", names={"scale": "g"})


@each("norm", ["instance_norm", "layer_norm", "group_norm"])
def test_tracked_statistics_are_never_dropped_without_a_word(norm):
    module = torch.nn.InstanceNorm1d(3, affine=True, track_running_stats=True)
    state = {
        f"in.{k}": v
        for k, v in module(torch.from_numpy(draw(4, 3, 5))) is not None
        and module.state_dict().items()
    }
    with pytest.raises(
        ValueError, match=r"'in\.running_mean' is a running statistic, which pytorch"
    ):
        load(state, "pytorch", "in", norm=norm)
    module.eval()
    x = draw(4, 3, 5)
    y, _ = nn.batch_norm_inference_forward(x, **load(state, "pytorch", "in", norm="batch_norm"))
    assert_allclose(y, module(torch.from_numpy(x)).detach(), rtol=1e-5, atol=1e-6)
    got = load(state, "pytorch", "in", norm=norm, without=("running_mean", "running_var"))
    assert got.keys() == {"gamma", "beta", "eps"}


def test_a_bias_that_the_norm_would_not_use_is_not_dropped():
    state = {"n.weight": draw(3), "n.bias": draw(3)}
    with pytest.raises(ValueError, match=r"'n\.bias' is there, and pytorch's rms_norm has no beta"):
        load(state, "pytorch", "n", norm="rms_norm")
    assert "beta" not in load(state, "pytorch", "n", norm="rms_norm", without=["beta"])


def test_a_norm_without_a_default_asks_for_eps():
    with pytest.raises(ValueError, match="candle's rms_norm has no default eps"):
        load({"n.weight": draw(3)}, "candle", "n", norm="rms_norm")
    assert load({"n.weight": draw(3)}, "candle", "n", norm="rms_norm", eps=1e-6)["eps"] == 1e-6


@each("dtype", [torch.float64, torch.float32, torch.float16])
def test_the_default_eps_of_pytorch_s_rms_norm_is_that_of_its_type(dtype):
    module = torch.nn.RMSNorm(3, dtype=dtype)
    state = {name: a.numpy() for name, a in module.state_dict().items()}
    small = 1e-4 * torch.tensor([[1.0, -2.0, 3.0]], dtype=dtype)  # beside which eps counts
    y, _ = nn.rms_norm_forward(small.numpy(), **load(state, "pytorch", norm="rms_norm"))
    atol = 4 * torch.finfo(dtype).eps
    assert_allclose(y, module(small).detach().numpy(), rtol=atol, atol=atol)


# What a state holds.


class Network(torch.nn.Module):
    """Norms among what looks like them."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn1 = torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)
        self.bn2 = torch.nn.BatchNorm2d(8, affine=False)
        self.gn1, self.ln = torch.nn.GroupNorm(2, 8), torch.nn.LayerNorm(8)
        self.input_layernorm, self.act = torch.nn.RMSNorm(8), torch.nn.PReLU(8)
        self.fc, self.words = torch.nn.Linear(8, 8), torch.nn.Embedding(9, 8)
        self.blocks = torch.nn.Sequential(torch.nn.LayerNorm(8), torch.nn.Linear(8, 1))
        self.tracked = torch.nn.InstanceNorm1d(8, affine=True, track_running_stats=True)


def test_norms_in_a_network_of_pytorch():
    state = Network().state_dict()
    found = {f.prefix: (f.norm, f.missing) for f in norms_in(state)}
    assert found == {
        "bn1": ("batch_norm", ()),
        "bn2": ("batch_norm", ("gamma", "beta")),
        "gn1": ("group_norm", ()),
        "ln": ("layer_norm", ()),
        "input_layernorm": ("rms_norm", ()),
        "blocks.0": ("layer_norm", ()),
        "tracked": ("batch_norm", ()),
    }
    assert {f.framework for f in norms_in(state)} == {"pytorch"}


def test_what_is_listed_can_be_loaded():
    state = {n: a.numpy() for n, a in Network().state_dict().items()}
    for found in norms_in(state):
        got = load(state, found.framework, found.prefix, norm=found.norm, without=found.missing)
        assert got.keys() == found.shapes.keys() | {"eps"}


def test_a_nested_state_of_flax_is_listed():
    state = {
        "params": {"Dense_0": {"kernel": draw(3, 4), "bias": draw(4)},
                   "BatchNorm_0": {"scale": draw(3), "bias": draw(3)},
                   "LayerNorm_0": {"scale": draw(3)},
                   "GroupNorm_0": {"scale": draw(3), "bias": draw(3)}},
        "batch_stats": {"BatchNorm_0": {"mean": draw(3), "var": draw(3) ** 2}},
    }  # fmt: skip
    found = {f.prefix: (f.norm, f.framework, f.missing) for f in norms_in(state)}
    assert found == {
        "BatchNorm_0": ("batch_norm", "flax", ()),
        "LayerNorm_0": ("layer_norm", "flax", ("beta",)),
        "GroupNorm_0": ("group_norm", "flax", ()),
    }
    with pytest.raises(ValueError, match="framework is 'theano'; pass one of 'pytorch'"):
        norms_in(state, "theano")


STATES = [c for c in CONVENTIONS if c.names and c.framework not in ("paper", "onnx")]


@each("row", STATES)
@each("nested", ["dicts", "lists", "tuples"])
def test_a_nested_state_of_any_framework_is_listed_as_it_is_loaded(row, nested):
    layer = {name: draw(3) ** 2 for name in row.names.values()}
    if row.framework == "caffe":
        layer["2"] = np.ones(1)
    key = {"batch_norm": "bn1"}.get(row.norm, row.norm)
    state = {"net": {"0": {key: layer}}} if nested == "dicts" else {"net": [{key: layer}]}
    if nested == "tuples":
        state = {("net", "0", key, name): a for name, a in layer.items()}
    (named,) = norms_in(state, row.framework)
    assert (named.norm, named.missing) == (row.norm, ())
    (guessed,) = norms_in(state)
    fixed = {"mxnet": {"fix_gamma": False}}
    for found in (named, guessed):
        options = fixed.get(found.framework, {}) if found.norm == "batch_norm" else {}
        eps = None if conventions.convention(found.framework, found.norm).eps else 1e-5
        options |= {"norm": found.norm, "without": found.missing, "eps": eps}
        got = load(state, found.framework, found.prefix, **options)
        assert got.keys() == found.shapes.keys() | {"eps"}


def test_names_that_are_joined_in_another_way_are_listed():
    parts = {"params.BatchNorm_0.scale", "params.BatchNorm_0.bias", "batch_stats.BatchNorm_0.mean"}
    state = {name: draw(3) ** 2 for name in parts | {"batch_stats.BatchNorm_0.var"}}
    for given in (None, "flax"):
        (found,) = norms_in(state, given)
        assert (found.prefix, found.framework, found.missing) == ("BatchNorm_0", "flax", ())
        assert "running_var" in load(state, "flax", found.prefix)


def test_pairs_that_nothing_calls_a_norm_do_not_tell_the_framework():
    named = {f"{i}.{n}_norm.weight": draw(3) for i in range(3) for n in ("q", "k")}
    for end in "._":  # a scale and a shift of one shape, as Paddle's instance norm has them
        pairs = {f"{i}.scaling{end}{n}": draw(3) for i in range(9) for n in ("scale", "bias")}
        found = norms_in(named | pairs)
        assert {(f.norm, f.framework, f.missing) for f in found} == {("rms_norm", "pytorch", ())}
        assert len(found) == 6


def test_parameters_of_a_norm_in_a_linear_layer_are_listed_beside_other_norms():
    names = ("weight", "bias", "layer_norm_weight", "layer_norm_bias")  # of Megatron
    state = {f"0.linear_qkv.{n}": draw(3, 3) if n == "weight" else draw(3) for n in names}
    state |= {"final_layernorm.weight": draw(3), "final_layernorm.bias": draw(3)}
    fused, last = norms_in(state)
    assert (fused.prefix, fused.norm, last.prefix) == (
        "0.linear_qkv.layer_norm",
        "layer_norm",
        "final_layernorm",
    )
    assert load(state, "pytorch", fused.prefix)["gamma"] is state["0.linear_qkv.layer_norm_weight"]


def test_a_matrix_within_a_norm_is_no_scale():
    names = ("ada_rms_norm.linear1", "norm.scale", "input_layernorm.mlp.fc1")
    assert norms_in({f"{name}.weight": draw(3, 4) for name in names}) == []
    for name in ("norm", "layer_norms.0"):
        (found,) = norms_in({f"{name}.weight": draw(3, 4)})
        assert found.prefix == name


def test_variables_of_a_tensorflow_checkpoint_are_found():
    end = "/.ATTRIBUTES/VARIABLE_VALUE"
    state = {f"m/2/{n}{end}": draw(3) for n in ("gamma", "beta")} | {f"save_counter{end}": 1}
    (found,) = norms_in(state)
    assert (found.prefix, found.framework) == ("m/2", "keras")
    assert "beta" in load(state, "keras", "m/2")


@pytest.mark.parametrize(
    ("framework", "prefix", "scale", "shift"),
    [
        ("flax", "BatchNorm_0", "scale", "bias"),
        ("keras", "batch_normalization_3", "gamma", "beta"),
        ("pytorch", "features.batchnorm", "weight", "bias"),
    ],
)
def test_a_batch_norm_without_its_statistics_is_no_layer_norm(framework, prefix, scale, shift):
    end = conventions.convention(framework, "batch_norm").separator
    state = {f"{prefix}{end}{scale}": draw(3), f"{prefix}{end}{shift}": draw(3)}
    (found,) = norms_in(state, framework)
    assert (found.norm, found.missing) == ("batch_norm", ("running_mean", "running_var"))
    with pytest.raises(ValueError, match="is missing for batch_norm"):
        load(state, framework, prefix)
    got = load(state, framework, prefix, without=found.missing)
    assert got["eps"] == conventions.convention(framework, "batch_norm").eps


def test_what_is_left_out_may_be_said_by_any_iterable():
    state = {"ln.weight": draw(3), "ln.bias": draw(3)}
    assert "beta" not in load(state, "pytorch", "ln", without=(n for n in ["beta"]))


def test_what_is_no_norm_is_not_listed():
    assert norms_in({"losses": [[0.5], [0.4, 0.3]], "lr": None, "ln.weight": "x"}) == []
    keras = {f"normalization/vars/{i}": a for i, a in enumerate([draw(3), draw(3), np.ones(1)])}
    assert norms_in(keras) == []
    assert norms_in({"WeightNorm_0/Dense_0/kernel/scale": draw(3)}) == []
    assert norms_in({"spectral_norm.weight": draw(3)}) == []
    for name in ("layer_norm", "batchnorm"):  # of Haiku and Sonnet, with a shift
        assert norms_in({name: {"scale": draw(3), "offset": draw(3)}}) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefix": None}, "prefix is None"),
        ({"names": "gamma"}, "names is 'gamma'"),
        ({"names": {"gamma": 1}}, "names is {'gamma': 1}"),
        ({"without": "beta"}, r"without is 'beta'.*pass \['beta'\]"),
        ({"without": None}, r"without is None.*pass without=\['beta'\]"),
        ({"fix_gamma": "False"}, "fix_gamma is 'False'"),
        ({"state": [1.0]}, "state is a list"),
    ],
)
def test_arguments_of_another_kind_are_named(options, message):
    arguments = {"state": {"ln.weight": draw(3)}, "framework": "pytorch", "prefix": "ln", **options}
    with pytest.raises(TypeError, match=message):
        load(**arguments)


def test_a_name_of_one_s_own_stands_in_place_of_the_framework_s():
    state = {"bn.weight": draw(3), "bn.bias": draw(3), "trained.g": draw(3)}
    state |= {"bn.running_mean": draw(3), "bn.running_var": np.ones(3)}
    assert_array_equal(load(state, "pytorch", "bn", names={"gamma": "trained.g"})["gamma"],
                       state["trained.g"])  # fmt: skip


def test_a_state_with_other_names_is_shown():
    with pytest.raises(ValueError, match=r"there are bn\.Beta, bn\.Gamma; .* norms_in"):
        load({"bn.Gamma": draw(3), "bn.Beta": draw(3)}, "keras", "bn")
    with pytest.raises(ValueError, match="the state is empty"):
        load({}, "keras", "bn")


ODD = {
    "flat": (lambda a: {"bn.weight": a}, "pytorch", "state['bn.weight']"),
    "nested": (lambda a: {"params": {"bn": {"scale": a}}}, "flax", "['params']['bn']['scale']"),
    "tuples": (lambda a: {("params", "bn", "scale"): a}, "flax", "[('params', 'bn', 'scale')]"),
    "lists": (lambda a: {"bn": [{"weight": a}]}, "mlx", "state['bn'][0]['weight']"),
    "tagged": (lambda a: {"bn/gamma:0": a}, "keras", "state['bn/gamma:0']"),
}


@pytest.mark.parametrize(("state_of", "framework", "said"), ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    ("wrong", "error"),
    [(draw(1, 3, 1, 1), ValueError), (np.arange(3), TypeError), ([1, 2, 3], TypeError)],
)
def test_the_cure_for_an_array_is_python_that_can_be_typed(state_of, framework, said, wrong, error):
    state = state_of(wrong)
    prefix = "bn.0" if framework == "mlx" else "bn"
    options = {"norm": "group_norm", "without": ["beta"]}
    with pytest.raises(error, match=re.escape(said)) as caught:
        load(state, framework, prefix, **options)
    cure = re.search(r"pass (.*?\))(, or another|$)", str(caught.value))[1]
    state = state_of(eval(cure, {"state": state, "np": np}))
    assert load(state, framework, prefix, **options)["gamma"].shape == (3,)


# Configurations.


@pytest.mark.parametrize(
    ("norm", "config", "eps"),
    [
        ("layer_norm", {"layer_norm_eps": 1e-12}, 1e-12),
        ("layer_norm", {"layer_norm_epsilon": 1e-6}, 1e-6),
        ("rms_norm", {"rms_norm_eps": 1e-6, "layer_norm_eps": 1.0}, 1e-6),
        ("rms_norm", {"layer_norm_epsilon": 1e-6}, 1e-6),  # T5
        ("group_norm", {"norm_eps": 1e-5}, 1e-5),  # diffusers
        ("batch_norm", {"batch_norm_eps": 1e-3, "layer_norm_eps": 1.0}, 1e-3),
        ("rms_norm", {"text_config": {"rms_norm_eps": 1e-5}, "vision_config": {"a": 1}}, 1e-5),
        ("layer_norm", {"layer_norm_eps": 1e-7, "decoder": {"layer_norm_eps": 1}}, 1e-7),
    ],
)
def test_eps_is_read_from_a_configuration(tmp_path, norm, config, eps):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert eps_from_config(path, norm) == eps


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ({"hidden": 3, "norm_epsilons": 1}, {}, "no eps .* norm_epsilons = 1; pass .* as eps="),
        ({"deepstack": 1, "num_steps": 2}, {}, "what it has of the kind: None; pass"),
        ({"a": {"layer_norm_eps": 1}, "b": {"layer_norm_eps": 2}}, {}, "pass section=, one of 'a'"),
        ({"layer_norm_eps": "small"}, {}, "wrong layer_norm_eps: eps is 'small'"),
        ({"layer_norm_eps": -1}, {}, r"config\.json has a wrong layer_norm_eps: eps is -1"),
        ({"layer_norm_eps": [1]}, {}, r"config\.json has a wrong layer_norm_eps: eps is \[1\]"),
        ([], {}, "holds no configuration, but list"),
        ({"layer_norm_eps": 1}, {"section": "text"}, "no eps for layer_norm in 'text'"),
    ],
)
def test_a_configuration_without_a_clear_eps_is_named(tmp_path, config, options, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        eps_from_config(path, "layer_norm", **options)


@each("name", ["w.npz", "w.safetensors", "w.pt", "w.onnx", "m.safetensors.index.json"])
def test_weights_are_no_configuration(name):
    with pytest.raises(ValueError, match=f"{name} holds weights, but no configuration; pass the"):
        eps_from_config(name, "layer_norm")


def test_a_section_of_a_configuration(tmp_path):
    config = {"a": {"layer_norm_eps": 1e-3}, "b": {"layer_norm_eps": 1e-4}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert eps_from_config(tmp_path / "config.json", "layer_norm", section="b") == 1e-4
    (tmp_path / "text.json").write_text("version https://git-lfs")
    with pytest.raises(ValueError, match=r"text\.json"):
        eps_from_config(tmp_path / "text.json", "layer_norm")

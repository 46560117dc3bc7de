"""Files of weights of every kind."""

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from extras import need
from numpy.testing import assert_array_equal
from safetensors.numpy import save_file
from test_files import damaged

from numpy_norms.conventions import eps_from_config, load, norms_in, read_state
from numpy_norms.onnx import evaluator, fold, fused

rng = np.random.default_rng(5)


def draw(*shape):
    """Draw numbers of both signs."""
    return rng.standard_normal(shape).astype(np.float32)


# Files.


def write_safetensors(path, tensors):
    """Write tensors of any type, from (type, shape, bytes)."""
    header, at = {}, 0
    for name, (kind, shape, data) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    content = b"".join(data for *_, data in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def test_one_type_that_numpy_lacks_leaves_the_rest_readable(tmp_path):
    path, gamma = tmp_path / "a.safetensors", draw(3)
    tensors = {"n.weight": ("F32", [3], gamma.tobytes())}
    tensors |= {kind: (kind, [4], bytes(4)) for kind in ("F8_E4M3", "F8_E5M2", "F8_E8M0")}
    write_safetensors(path, tensors)
    state = read_state(path)
    assert list(state) == ["n.weight"]
    assert_array_equal(state["n.weight"], gamma)
    with pytest.raises(ValueError, match=r"'F8_E4M3' in .*a\.safetensors has the type F8_E4M3"):
        state["F8_E4M3"]
    with pytest.raises(KeyError, match="absent"):
        state["absent"]
    with pytest.raises(ValueError, match="has the type F8_E5M2, which NumPy does not have"):
        load(state, "pytorch", norm="rms_norm", names={"gamma": "F8_E5M2"})


def test_bfloat16_is_read_by_a_process_that_has_not_imported_ml_dtypes(tmp_path):
    path = tmp_path / "b.safetensors"
    save_file({"w": np.ones(3, ml_dtypes.bfloat16)}, path)
    code = "from numpy_norms.conventions import read_state; import sys"
    code += f"; print(read_state({str(path)!r})['w'].dtype)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["bfloat16"], done.stderr


def test_bfloat16_without_ml_dtypes_names_it(tmp_path, monkeypatch):
    path = tmp_path / "b.safetensors"
    save_file({"w": np.ones(3, ml_dtypes.bfloat16), "v": np.ones(2)}, path)
    find = sys.modules["numpy_norms.conventions.read"].find_spec
    monkeypatch.setattr(
        "numpy_norms.conventions.read.find_spec", lambda n: None if n == "ml_dtypes" else find(n)
    )
    state = read_state(path)
    assert list(state) == ["v"]
    with pytest.raises(ImportError, match=r"'w' in .* needs ml_dtypes: pip install ml_dtypes"):
        state["w"]


def test_norms_of_types_that_numpy_lacks_are_listed(tmp_path):
    path = tmp_path / "f.safetensors"
    tensors = {"ln.weight": ("F8_E4M3", [4], bytes(4)), "ln.bias": ("F8_E4M3", [4], bytes(4))}
    write_safetensors(path, tensors)
    state = read_state(path)
    (found,) = norms_in(state)
    assert (found.prefix, found.norm, found.shapes) == (
        "ln", "layer_norm", {"gamma": (4,), "beta": (4,)}
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"'ln\.weight' in .* has the type F8_E4M3"):
        load(state, found.framework, found.prefix, norm=found.norm)


def write_parts(folder, weight_map):
    """Write an index, and the files of which it is one."""
    write_safetensors(folder / "m-1-of-2.safetensors", {"a.weight": ("F32", [2], bytes(8))})
    parts = {"b.weight": ("F8_E4M3", [4], bytes(4)), "b.bias": ("F8_E4M3", [4], bytes(4))}
    write_safetensors(folder / "m-2-of-2.safetensors", parts)
    path = folder / "m.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def test_a_network_in_parts_is_read_by_its_index(tmp_path):
    one, two = "m-1-of-2.safetensors", "m-2-of-2.safetensors"
    path = write_parts(tmp_path, {"a.weight": one, "b.weight": two, "b.bias": two})
    state = read_state(path)
    assert_array_equal(state["a.weight"], [0, 0])
    assert [f.prefix for f in norms_in(state)] == ["b"]
    with pytest.raises(ValueError, match=r"'b.weight' in .*m-2-of-2\.safetensors has the type"):
        state["b.weight"]
    (tmp_path / two).unlink()
    with pytest.raises(FileNotFoundError, match="m-2-of-2"):
        read_state(path)


@pytest.mark.parametrize("weight_map", [{"a": "../a.safetensors"}, {"a": "/a.safetensors"}, 3])
def test_an_index_of_other_files_is_refused_by_name(tmp_path, weight_map):
    with pytest.raises(ValueError, match=r"m\.safetensors\.index\.json (is damaged|names files)"):
        read_state(write_parts(tmp_path, weight_map))


@pytest.mark.parametrize("name", ["A.NPZ", "a.npz", b"b.npz"])
def test_a_name_in_capitals_or_bytes_is_a_name(tmp_path, name):
    path = tmp_path / os.fsdecode(name)
    with path.open("wb") as file:
        np.savez(file, w=np.ones(2))
    assert_array_equal(read_state(os.fsencode(path) if isinstance(name, bytes) else path)["w"], 1)


@pytest.mark.parametrize(
    ("ending", "package"),
    [(".safetensors", "safetensors"), (".h5", "h5py"), (".keras", "h5py"), (".gguf", "gguf"),
     (".onnx", "onnx")],
)  # fmt: skip
def test_a_package_that_is_absent_is_named(tmp_path, monkeypatch, ending, package):
    monkeypatch.setattr("numpy_norms.conventions.read.find_spec", lambda _: None)
    with pytest.raises(ImportError, match=f"w{ending} needs {package}: pip install {package}"):
        read_state(tmp_path / f"w{ending}")


CHECKPOINTS = {
    ".pt": lambda state: state,
    ".pth": lambda state: {n: torch.nn.Parameter(a.float()) for n, a in state.items()},
    ".PT": lambda state: {"epoch": 3, "lr": [0.1], "state_dict": state, "ema": state},
    ".ckpt": lambda state: {"optimizer": {"state": {}}, "model": {**state, "version": 1}},
    ".bin": lambda state: {"best": torch.tensor(0.9), "state_dict": state},
    ".pth.tar": lambda state: {"model": {"0": {"encoder": state, "head": {"w": state["h"]}}}},
}


@pytest.mark.parametrize("ending", CHECKPOINTS)
def test_a_file_of_pytorch_is_refused_with_the_lines_that_convert_it(tmp_path, ending):
    path, module = tmp_path / f"net{ending}", torch.nn.BatchNorm1d(3)
    state = module.state_dict() | {"b": torch.ones(2, dtype=torch.bfloat16)}
    state |= {"e": torch.ones(2).to(torch.float8_e5m2), "h": torch.ones(2).half()}
    torch.save(CHECKPOINTS[ending](state), path)
    with pytest.raises(ValueError, match="is PyTorch's, and can run code") as caught:
        read_state(path)
    _, *lines = str(caught.value).split("\n", 1)
    exec(lines[0], {})
    got = read_state(path.with_suffix(".npz"))
    assert set(got) == set(state)
    assert got["running_var"].dtype == np.float32
    assert [got[name].dtype.name for name in "be"] == ["float32"] * 2
    assert all((got[name] == 1).all() for name in "beh")


def test_the_lines_convert_a_whole_module_once_it_is_trusted(tmp_path):
    path, module = tmp_path / "net.pt", torch.nn.BatchNorm1d(3)
    torch.save({"epoch": 1, "model": module}, path)
    with pytest.raises(ValueError, match="is PyTorch's") as caught:
        read_state(path)
    lines = str(caught.value).split("\n", 1)[1]
    with pytest.raises(pickle.UnpicklingError, match="weights_only"):
        exec(lines, {})
    exec(lines.replace("weights_only=True", "weights_only=False"), {})
    assert set(read_state(path.with_suffix(".npz"))) == set(module.state_dict())


TABLE = 0xDB4775248B80FB57.to_bytes(8, "little")  # the end of its files, as its sources have it
OF_TENSORFLOW = {
    "version 1": (["net.ckpt"], "net.ckpt"),
    "version 2": (["net.ckpt.index", "net.ckpt.data-00000-of-00001"], "net.ckpt"),
    "with a step": (["net.ckpt-100.index", "net.ckpt-100.meta"], "net.ckpt-100"),
    "of a saved model": (["variables.index", "variables.data-00000-of-00002"], "variables"),
}


@pytest.mark.parametrize(("files", "checkpoint"), OF_TENSORFLOW.values(), ids=OF_TENSORFLOW)
def test_a_checkpoint_of_tensorflow_is_told_as_such(tmp_path, files, checkpoint):
    for name in files:
        (tmp_path / name).write_bytes(b"1234567" + TABLE * name.endswith((".ckpt", ".index")))
    for name in {*files, checkpoint}:  # as TensorFlow is given it, too
        with pytest.raises(ValueError, match="is of a checkpoint of TensorFlow") as caught:
            read_state(tmp_path / name)
        _, lines = str(caught.value).split("\n", 1)
        compile(lines, name, "exec")
        assert f"load_checkpoint({str(tmp_path / checkpoint)!r})" in lines
    with pytest.raises(FileNotFoundError, match=r"other\.ckpt"):
        read_state(tmp_path / "other.ckpt")


@pytest.mark.parametrize("name", ["ggml.bin", "faiss.index", "x.ckpt", "x.data-00000-of-00001"])
def test_what_is_neither_of_pytorch_nor_of_tensorflow_is_not_said_to_be(tmp_path, name):
    for content in (b"", b"lmgg" + bytes(20)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is of no kind that is read here"):
            read_state(tmp_path / name)


def write_gguf(path):
    """Write a norm's weight, and one array of other types; return them."""
    need("gguf")
    import gguf

    norm, wide = draw(6), draw(2, 64)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("blk.0.attn_norm.weight", norm)
    writer.add_tensor("half", wide.astype(np.float16))
    for kind in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.BF16):
        writer.add_tensor(kind.name, gguf.quants.quantize(wide, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return norm, wide


def test_gguf(tmp_path):
    norm, wide = write_gguf(tmp_path / "m.gguf")
    state = read_state(tmp_path / "m.gguf")
    assert_array_equal(state["blk.0.attn_norm.weight"], norm)
    assert_array_equal(state["half"], wide.astype(np.float16))
    assert_array_equal(state["BF16"], wide.astype(ml_dtypes.bfloat16))
    with pytest.raises(ValueError, match=r"'Q8_0' in .* has the type Q8_0"):
        state["Q8_0"]
    (found,) = norms_in(state)
    assert (found.prefix, found.norm) == ("blk.0.attn_norm", "rms_norm")


def write_onnx(path):
    """Write a model with two initializers; return them."""
    arrays = {"g": draw(3), "h": draw(2, 3).astype(ml_dtypes.bfloat16)}
    tensors = [onnx.numpy_helper.from_array(a, n) for n, a in arrays.items()]
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [2, 3]) for name in "xy")
    node = onnx.helper.make_node("LayerNormalization", ["x", "g"], ["y"], epsilon=1e-3)
    graph = onnx.helper.make_graph([node], "g", [x], [y], tensors)
    onnx.save(onnx.helper.make_model(graph), path)
    return arrays


def write_foldable(path):
    """Write a linear map and the batch norm behind it."""
    text = """<ir_version: 8, opset_import: ["" : 15]> f (float[N, 3] x) => (float[N, 2] y) <
    float[2, 3] w = {1, 2, 3, 4, 5, 6}, float[2] g = {1, -1}, float[2] b = {0, 1},
    float[2] m = {1, 2}, float[2] v = {4, 9}> {
    h = Gemm<transB = 1, alpha = 2.0>(x, w)
    y = BatchNormalization<epsilon = 0.5>(h, g, b, m, v) }"""
    onnx.save(onnx.parser.parse_model(text), path)


@pytest.mark.parametrize("call", [evaluator, fold, fused])
def test_what_is_no_model_is_named(call, tmp_path):
    write_foldable(tmp_path / "m.onnx")
    content = (tmp_path / "m.onnx").read_bytes()
    with pytest.raises(TypeError, match=r"model is a bytes, .* pass onnx.load_from_string"):
        call(content)
    call(onnx.load_from_string(content))
    with pytest.raises(TypeError, match="model is a GraphProto"):
        call(onnx.load_from_string(content).graph)


def test_onnx_initializers(tmp_path):
    arrays = write_onnx(tmp_path / "m.onnx")
    state = read_state(tmp_path / "m.onnx")
    for name, a in arrays.items():
        assert_array_equal(state[name], a)
    assert load(state, "onnx", norm="rms_norm", names={"gamma": "g"})["gamma"].shape == (3,)


@pytest.mark.parametrize(
    ("write", "name", "read"),
    [(write_gguf, "x.gguf", read_state), (write_onnx, "x.onnx", read_state),
     (write_onnx, "x.onnx", evaluator), (write_onnx, "x.onnx", fused),
     (write_foldable, "x.onnx", fold)],
)  # fmt: skip
def test_a_damaged_file_is_named_or_read(tmp_path, write, name, read):
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        check_damage(Path(folder) / name, write, name, read)


def check_damage(path, write, name, read):
    """Read a file in 1000 damaged forms."""
    write(path)
    good, said = path.read_bytes(), []
    for trial in range(1000):
        path.write_bytes(damaged(good, trial))
        try:
            read(str(path))
        except NotImplementedError:  # a damaged operator's name
            assert read is evaluator
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 333
    assert all(name in line for line in said)


# Keras 3.15 wrote files of this form; `vars` has the layer's name.
RENORM = "moving_stddev", "renorm_mean", "renorm_stddev"
LAYERS = {
    "batch_normalization": ("bn1", ["gamma", "beta", "moving_mean", "moving_variance"], {}),
    "batch_normalization_1": ("bn2", ["beta", "moving_mean", "moving_variance"], {"scale": False}),
    "batch_normalization_2": (
        "bare",
        ["moving_mean", "moving_variance"],
        {"scale": False, "center": False},
    ),
    "batch_normalization_3": (
        "renorm",
        ["gamma", "beta", "moving_mean", "moving_variance", *RENORM],
        {"renorm": True},
    ),
    "batch_normalization_4": (
        "renorm_bare",
        ["moving_mean", "moving_variance", *RENORM],
        {"renorm": True, "scale": False, "center": False},
    ),
    "layer_normalization": ("ln", ["gamma", "beta"], {}),
    "norm": ("layer_normalization_4", ["gamma", "beta"], {}),  # an attribute of a layer
    "rms_normalization": ("rms", ["scale"], {}),
    "layer_normalization_1": ("std", ["vars/0"], {"center": False, "rms_scaling": True}),
    "dense": ("fc", ["vars/0", "vars/1"], {}),
}
CLASSES = {"batch": "BatchNormalization", "layer": "LayerNormalization", "rms": "RMSNormalization"}


def keras_weights(file):
    """Write weights as Keras 3 does; return them by the names that are expected."""
    import h5py

    expected = {}
    with h5py.File(file, "w") as root:
        for key, (name, weights, _) in LAYERS.items():
            group = root.create_group(f"layers/{key}/vars")
            group.attrs["name"] = name
            for i, weight in enumerate(weights):
                expected[f"{name}/{weight}"] = a = 1 + draw(3) ** 2
                group.create_dataset(str(i), data=a)
    return expected


def test_keras_weights_get_their_names_where_it_is_certain(tmp_path):
    need("h5py")
    expected = keras_weights(tmp_path / "k.weights.h5")
    state = read_state(tmp_path / "k.weights.h5")
    uncertain = {f"bn2/vars/{i}": n for i, n in enumerate(n for n in expected if "bn2" in n)}
    assert set(state) == {n for n in expected if "bn2" not in n} | set(uncertain)
    for name, a in state.items():
        assert_array_equal(a, expected[uncertain.get(name, name)])
    assert set(load(state, "keras", "bn1")) == {
        *(["gamma", "beta", "running_mean", "running_var", "eps"])
    }


def test_keras_archives_tell_which_weights_a_layer_has(tmp_path):
    need("h5py")
    buffer = io.BytesIO()
    expected = keras_weights(buffer)
    layers = [
        {"class_name": CLASSES.get(key.split("_")[0], "Dense"), "config": {"name": name, **flags}}
        for key, (name, _, flags) in LAYERS.items()
    ]
    with zipfile.ZipFile(tmp_path / "k.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": layers}}))
        archive.writestr("model.weights.h5", buffer.getvalue())
    state = read_state(tmp_path / "k.keras")
    assert set(state) == set(expected)
    for name, a in state.items():
        assert_array_equal(a, expected[name])
    found = {f.prefix: (f.norm, f.framework, f.missing) for f in norms_in(state)}
    assert found == {
        "bn1": ("batch_norm", "keras", ()),
        "bn2": ("batch_norm", "keras", ("gamma",)),
        "bare": ("batch_norm", "keras", ("gamma", "beta")),
        "renorm": ("batch_norm", "keras", ()),
        "renorm_bare": ("batch_norm", "keras", ("gamma", "beta")),
        "ln": ("layer_norm", "keras", ()),
        "layer_normalization_4": ("layer_norm", "keras", ()),
        "rms": ("rms_norm", "keras", ()),
    }


def test_keras_2_archives_have_groups_called_after_classes(tmp_path):
    need("h5py")
    import h5py

    def layer(kind, name, **config):
        return {"class_name": kind, "config": {"name": name, **config}}

    inside = layer("Sequential", "inner", layers=[layer("LayerNormalization", "ln", center=False)])
    layers = [
        layer("BatchNormalization", "first"),
        layer("Conv2D", "conv", layers=[64]),
        layer("BatchNormalization", "batch_normalization"),
        inside,
    ]
    buffer = io.BytesIO()
    groups = {"batch_normalization": 4, "batch_normalization_1": 4, "conv2d": 1}
    groups |= {"sequential/layers/layer_normalization": 1}
    with h5py.File(buffer, "w") as root:
        for group, many in groups.items():
            for i in range(many):
                root[f"layers/{group}/vars/{i}"] = np.array([len(group), i], np.float32)
    with zipfile.ZipFile(tmp_path / "k.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": layers}}))
        archive.writestr("model.weights.h5", buffer.getvalue())
    state = read_state(tmp_path / "k.keras")
    for name, group in (("first", "batch_normalization"),
                        ("batch_normalization", "batch_normalization_1")):  # fmt: skip
        for i, weight in enumerate(["gamma", "beta", "moving_mean", "moving_variance"]):
            assert_array_equal(state[f"{name}/{weight}"], [len(group), i])
    assert state.keys() >= {"conv/vars/0", "inner/ln/gamma"}
    assert len(state) == 10


def test_keras_layers_of_one_name_in_two_models_are_two(tmp_path):
    need("h5py")
    import h5py

    def layer(kind, name, **config):
        return {"class_name": kind, "config": {"name": name, **config}}

    bn = layer("BatchNormalization", "bn", epsilon=1e-5)
    inside = layer("LayerNormalization", "ln", center=False, epsilon=1e-6)
    inner = layer("Functional", "inner", layers=[inside, layer("TimeDistributed", "td", layer=bn)])
    outside = layer("LayerNormalization", "ln", scale=False, epsilon=1e-3)
    net = layer("Functional", "net", layers=[outside, inner])
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as root:
        for path in ("ln", "inner/layers/ln"):
            root.create_dataset(f"layers/{path}/vars/0", data=draw(3))
            root[f"layers/{path}/vars"].attrs["name"] = "ln"
    with zipfile.ZipFile(tmp_path / "n.keras", "w") as archive:
        archive.writestr("config.json", json.dumps(net))
        archive.writestr("model.weights.h5", buffer.getvalue())
    assert set(read_state(tmp_path / "n.keras")) == {"ln/beta", "inner/ln/gamma"}
    for section, eps in (("ln", 1e-3), ("inner/ln", 1e-6)):
        for path in (section, f"net/{section}"):  # the latter in the .h5 of a Sequential
            assert eps_from_config(tmp_path / "n.keras", "layer_norm", section=path) == eps
    for section in (None, "inner/td/bn", "td/bn", "bn"):
        assert eps_from_config(tmp_path / "n.keras", "batch_norm", section=section) == 1e-5
    with pytest.raises(ValueError, match=r"pass section=, one of 'ln', 'inner/ln'"):
        eps_from_config(tmp_path / "n.keras", "layer_norm")


def with_layers(path, **eps):
    """Write a model of Keras that has a batch norm of each name, with its eps, and a layer norm."""
    import h5py

    layers = [
        {"class_name": "BatchNormalization", "config": {"name": name, "epsilon": e}}
        for name, e in eps.items()
    ]
    layers += [{"class_name": "LayerNormalization", "config": {"name": "ln", "epsilon": 1e-3}}]
    config = json.dumps({"class_name": "Functional", "config": {"layers": [{"config": layers}]}})
    if path.suffix == ".keras":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", config)
            archive.writestr("model.weights.h5", b"")
    else:
        with h5py.File(path, "w") as root:
            root.attrs["model_config"] = config


@pytest.mark.parametrize("ending", [".keras", ".h5"])
def test_eps_is_read_from_the_models_of_keras(tmp_path, ending):
    need("h5py")
    path = tmp_path / f"m{ending}"
    with_layers(path, bn1=1.001e-5, bn2=1.001e-5)
    assert eps_from_config(path, "batch_norm") == 1.001e-5
    assert eps_from_config(path, "layer_norm") == 1e-3
    with pytest.raises(ValueError, match="has no eps for rms_norm"):
        eps_from_config(path, "rms_norm")
    with_layers(path, bn1=1e-5, bn2=1e-3)
    with pytest.raises(
        ValueError, match=r"bn1.epsilon = 1e-05, bn2.epsilon = 0.001; pass section="
    ):
        eps_from_config(path, "batch_norm")
    assert eps_from_config(path, "batch_norm", section="bn2") == 1e-3


def test_weights_alone_of_keras_have_no_eps(tmp_path):
    need("h5py")
    keras_weights(tmp_path / "k.weights.h5")
    with pytest.raises(ValueError, match=r"k\.weights\.h5 holds weights, but no configuration"):
        eps_from_config(tmp_path / "k.weights.h5", "batch_norm")


def test_eps_is_read_from_gguf(tmp_path):
    need("gguf")
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_layer_norm_rms_eps(1e-6)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert eps_from_config(tmp_path / "m.gguf", "rms_norm") == 1e-6
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "m.gguf").read_bytes()[:20])
    with pytest.raises(ValueError, match=r"cut\.gguf is damaged"):
        eps_from_config(tmp_path / "cut.gguf", "rms_norm")


@pytest.mark.parametrize(("kind", "value"), [("string", "1e-6"), ("array", [1e-6, 1e-5])])
def test_an_eps_in_gguf_that_is_no_number_is_named(tmp_path, kind, value):
    need("gguf")
    import gguf

    writer, key = gguf.GGUFWriter(tmp_path / "m.gguf", "llama"), "llama.layer_norm_epsilon"
    getattr(writer, f"add_{kind}")(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match=rf"m\.gguf has a wrong {key}: one float was expected"):
        eps_from_config(tmp_path / "m.gguf", "layer_norm")


def test_eps_of_parts_in_gguf_are_told_apart(tmp_path):
    need("gguf")
    import gguf

    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "clip")
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    writer.add_float32("clip.audio.attention.layer_norm_epsilon", 1e-5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ValueError, match=r"one of 'clip.vision.attention', 'clip.audio.attention'"):
        eps_from_config(tmp_path / "m.gguf", "layer_norm")
    section = "clip.vision.attention"
    assert eps_from_config(tmp_path / "m.gguf", "layer_norm", section=section) == 1e-6


@pytest.mark.parametrize("order", "<>")
def test_gguf_of_more_keys_than_any_model_has_is_refused_at_once(tmp_path, order):
    need("gguf")
    keys = [struct.pack(f"{order}Q5sIB", 5, b"%05d" % k, 0, 1) for k in range(70_000)]
    header = b"GGUF" + struct.pack(f"{order}IQQ", 3, 0, len(keys))
    (tmp_path / "many.gguf").write_bytes(header + b"".join(keys))
    for read in (read_state, lambda path: eps_from_config(path, "rms_norm")):
        with pytest.raises(ValueError, match=r"many\.gguf says that it has 70000 keys"):
            read(tmp_path / "many.gguf")


def test_gguf_that_says_more_than_it_has_takes_no_memory(tmp_path):
    need("gguf")
    array = struct.pack("<QcIIQ", 1, b"a", 9, 4, 1 << 50)  # named a, of so many uint32
    (tmp_path / "long.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + array)
    for read in (read_state, lambda path: eps_from_config(path, "rms_norm")):
        with pytest.raises(ValueError, match=r"long\.gguf is damaged: it ends early"):
            read(tmp_path / "long.gguf")


def test_keras_2_files_and_those_of_others(tmp_path):
    need("h5py")
    import h5py

    gamma, blob = draw(3), draw(2)
    with h5py.File(tmp_path / "old.h5", "w") as root:
        group = root.create_group("model_weights/bn")
        group.attrs["weight_names"] = [b"bn/gamma:0"]
        group.create_dataset("bn/gamma:0", data=gamma)
        group = root.create_group("optimizer_weights")
        group.attrs["weight_names"] = [b"Adam/m/bn/gamma:0"]
        group.create_dataset("Adam/m/bn/gamma:0", data=gamma)
        root.create_dataset("data/scale/0", data=blob)
    state = read_state(tmp_path / "old.h5")
    assert state.keys() == {"bn/gamma", "data/scale/0"}
    assert_array_equal(state["bn/gamma"], gamma)
    assert_array_equal(state["data/scale/0"], blob)


def test_names_of_weights_that_are_in_several_attributes_are_put_together(tmp_path):
    need("h5py")
    import h5py

    with h5py.File(tmp_path / "large.h5", "w") as root:  # a model within a model, as Keras does
        group = root.create_group("model_weights/inner")
        for i in range(12):
            group.attrs[f"weight_names{i}"] = [f"inner/bn{i}/gamma:0".encode()]
            group[f"inner/bn{i}/gamma:0"] = draw(3)
    assert list(read_state(tmp_path / "large.h5")) == [f"inner/bn{i}/gamma" for i in range(12)]


def test_a_type_with_a_name_is_no_array(tmp_path):
    need("h5py")
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as root:
        root["kind"], root["w"] = np.dtype("f4"), draw(3)
    assert list(read_state(tmp_path / "a.h5")) == ["w"]


@pytest.mark.parametrize("ending", [".keras", ".h5"])
@pytest.mark.parametrize("archive", [False, True])
def test_a_model_of_keras_is_told_by_what_it_is_not_by_its_ending(tmp_path, ending, archive):
    need("h5py")
    with_layers(tmp_path / "m.keras", bn=1e-4)
    with_layers(tmp_path / "m.h5", bn=1e-4)
    path = (tmp_path / ("m.keras" if archive else "m.h5")).rename(tmp_path / f"x{ending}")
    assert eps_from_config(path, "batch_norm") == 1e-4
    if archive:
        with pytest.raises(ValueError, match="is damaged"):  # it has no weights
            read_state(path)
    else:
        assert read_state(path) == {}


@pytest.mark.parametrize("ending", [".npz", ".h5"])
def test_bfloat16_of_which_two_bytes_were_kept_gets_its_type_back(tmp_path, ending, monkeypatch):
    path, w = tmp_path / f"w{ending}", draw(2, 3).astype(ml_dtypes.bfloat16)
    if ending == ".npz":
        np.savez(path, w=w)
    else:
        need("h5py")
        import h5py

        with h5py.File(path, "w") as root:
            root["w"] = w
    assert read_state(path)["w"].dtype == ml_dtypes.bfloat16
    assert_array_equal(read_state(path)["w"], w)
    find = sys.modules["numpy_norms.conventions.read"].find_spec
    monkeypatch.setattr(
        "numpy_norms.conventions.read.find_spec", lambda n: None if n == "ml_dtypes" else find(n)
    )
    with pytest.raises(TypeError, match=r"pass state\['w'\]\.view\(ml_dtypes\.bfloat16\)"):
        load(read_state(path), "pytorch", norm="rms_norm", names={"gamma": "w"})


def test_hdf5_that_would_unpack_to_much_more_is_refused(tmp_path):
    need("h5py")
    import h5py

    with h5py.File(tmp_path / "bomb.h5", "w") as root:
        root.create_dataset("a", (1 << 30,), "f4", chunks=(1 << 20,), compression="gzip")
    with pytest.raises(ValueError, match=r"bomb\.h5 would take 4294967296 bytes of memory"):
        read_state(tmp_path / "bomb.h5")


def external(root, other):
    root.create_dataset("a", (1,), "f4", external=[(str(other), 0, 4)])


def linked(root, other):
    import h5py

    root["a"] = h5py.ExternalLink(str(other), "/w")


def virtual(root, other):
    import h5py

    layout = h5py.VirtualLayout((1,), "f4")
    layout[:] = h5py.VirtualSource(str(other), "w", (1,))
    root.create_virtual_dataset("a", layout)


@pytest.mark.parametrize("write", [external, linked, virtual])
def test_hdf5_reads_no_other_file(tmp_path, write):
    need("h5py")
    import h5py

    with h5py.File(tmp_path / "other.h5", "w") as root:
        root["w"] = draw(1)
    with h5py.File(tmp_path / "a.h5", "w") as root:
        write(root, tmp_path / "other.h5")
    with pytest.raises(ValueError, match=r"a\.h5 has 'a' in another file, or nowhere; save"):
        read_state(tmp_path / "a.h5")


def test_hdf5_of_more_paths_than_groups_is_refused(tmp_path):
    need("h5py")
    import h5py

    with h5py.File(tmp_path / "many.h5", "w") as root:
        group = root
        for _ in range(60):  # 2**60 paths
            inner = group.create_group("a")
            group["b"] = inner
            group = inner
    with pytest.raises(ValueError, match=r"many\.h5 is damaged: it has the group .* twice"):
        read_state(tmp_path / "many.h5")


@pytest.mark.parametrize("ending", [".h5", ".keras", ".gguf", ".onnx"])
@pytest.mark.parametrize("content", [b"", b"version https://git-lfs", b"GGUF" + bytes(40)])
def test_a_file_that_is_not_what_it_says_is_named(tmp_path, ending, content):
    need("h5py", "gguf")
    path = tmp_path / f"net{ending}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"net{ending}")):
        read_state(path)

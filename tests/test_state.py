"""Reading a network's arrays: what is wrong with them is named."""

import ml_dtypes
import numpy as np
import pytest
from each import each
from numpy.testing import assert_array_equal
from safetensors.numpy import save_file

from numpy_norms import batch_norm_inference_forward, fold_batch_norm
from numpy_norms.conventions import load, read_state

NAMES = {
    "pytorch": ["weight", "bias", "running_mean", "running_var"],
    "keras": ["gamma", "beta", "moving_mean", "moving_variance"],
    "flax": ["scale", "bias", "mean", "var"],
    "onnx": ["scale", "B", "input_mean", "input_var"],
}
frameworks = each("framework", NAMES)


def state_of(framework, **changes):
    """Return a batch norm under the prefix ``a/bn`` (PyTorch, ONNX: ``a.bn``)."""
    separator = "/" if framework in ("keras", "flax") else "."
    arrays = dict(zip(NAMES[framework], np.arange(12.0).reshape(4, 3), strict=True)) | changes
    prefix = separator.join(["a", "bn"])
    return prefix, {f"{prefix}{separator}{name}": a for name, a in arrays.items()}


@frameworks
def test_names_become_ours(framework):
    prefix, state = state_of(framework)
    options = load(state, framework, prefix)
    rows = np.arange(12.0).reshape(4, 3)
    for name, row in zip(["gamma", "beta", "running_mean", "running_var"], rows, strict=True):
        assert_array_equal(options[name], row)
    assert options["eps"] == (1e-3 if framework == "keras" else 1e-5)


@frameworks
def test_what_is_loaded_fits_the_pair_and_the_folding(framework):
    prefix, state = state_of(framework)
    options = load(state, framework, prefix)
    batch_norm_inference_forward(np.ones((2, 3)), **options)
    fold_batch_norm(np.ones((3, 5)), None, **options)


def test_a_nested_state_and_flax_collections_are_found():
    nested = {
        "params": {"a": {"bn": {"scale": np.ones(3), "bias": np.zeros(3)}}},
        "batch_stats": {"a": {"bn": {"mean": np.zeros(3), "var": np.ones(3)}}},
    }
    assert set(load(nested, "flax", "a/bn")) == {
        "gamma", "beta", "running_mean", "running_var", "eps"
    }  # fmt: skip


def test_names_of_keras_2_are_found():
    assert "gamma" in load({"ln/gamma:0": np.ones(3), "ln/beta:0": np.ones(3)}, "keras", "ln")


def test_without_running_statistics_it_is_a_layer_norm():
    options = load({"weight": np.ones((3, 4)), "bias": np.ones((3, 4))}, "pytorch")
    assert set(options) == {"gamma", "beta", "eps"}


def test_a_layer_built_without_a_parameter_says_so():
    state = {"ln.weight": np.ones(3)}
    assert "beta" not in load(state, "pytorch", "ln", without=["beta"])
    with pytest.raises(
        ValueError, match=r"'ln.bias' is missing for layer_norm; under 'ln\.' there"
    ):
        load(state, "pytorch", "ln")


@frameworks
@each("missing", range(4))
def test_a_missing_name_is_named(framework, missing):
    prefix, state = state_of(framework)
    name = list(state)[missing]
    del state[name]
    with pytest.raises(ValueError, match=f"'{name}' is missing for batch_norm"):
        load(state, framework, prefix)


def test_a_wrong_prefix_lists_those_that_exist():
    _, state = state_of("pytorch")
    with pytest.raises(
        ValueError, match=r"no name begins with 'b\.'; prefixes that do exist: a.bn"
    ):
        load(state, "pytorch", "b")


@frameworks
@each(
    ("which", "value", "message"),
    [
        (0, np.ones(4), r"{} has shape \(3,\), but {} has \(4,\)"),
        (1, np.ones((3, 1)), r"{} has shape \(3, 1\), but one number for each channel"),
        (2, np.array([0.0, np.nan, 0.0]), "{} is nan for channel 1"),
        (3, np.array([0.0, 1.0, -2.0]), "{} is -2.0 for channel 2"),
        (3, np.array([np.inf, 1.0, 2.0]), "{} is inf for channel 0"),
    ],
)
def test_a_wrong_array_is_named(framework, which, value, message):
    name = NAMES[framework][which]
    prefix, state = state_of(framework, **{name: value})
    ends = (NAMES[framework][1], name)
    names = [rf"state\['{k}'\]" for end in ends for k in state if k.endswith(end)]
    wanted = message.format(*(names if which == 0 else names[1:]))
    with pytest.raises(ValueError, match=wanted):
        load(state, framework, prefix)


def test_a_prefix_that_was_not_given_is_asked_for():
    with pytest.raises(ValueError, match=r"no prefix was given; prefixes that do exist: a\.bn"):
        load(state_of("pytorch")[1], "pytorch")
    with pytest.raises(ValueError, match="under '' there are weight; name the parameters"):
        load({"weight": np.ones(3)}, "pytorch")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="is a folder; pass a file of weights in it"):
        read_state(tmp_path)


def test_integers_and_unknown_words_are_refused():
    prefix, state = state_of("pytorch", weight=np.ones(3, int))
    with pytest.raises(TypeError, match=r"pass state\['a.bn.weight'\]\.astype"):
        load(state, "pytorch", prefix)
    with pytest.raises(ValueError, match="without names 'shift'; pass some of 'gamma', 'beta'"):
        load(state, "pytorch", prefix, without=["shift"])
    with pytest.raises(ValueError, match="framework is 'paper', which has no arrays"):
        load(state, "paper", prefix)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_files_hold_what_was_written(tmp_path, kind):
    arrays = {"bn.weight": np.ones(3, np.float16), "bn.bias": np.arange(3.0)}
    path = tmp_path / f"weights.{kind}"
    np.savez(path, **arrays) if kind == "npz" else save_file(arrays, path)
    for name, a in read_state(path).items():
        assert_array_equal(a, arrays[name])
        assert a.dtype == arrays[name].dtype


def test_bfloat16_is_read_from_safetensors(tmp_path):
    save_file({"w": np.ones(3, ml_dtypes.bfloat16)}, tmp_path / "w.safetensors")
    assert read_state(tmp_path / "w.safetensors")["w"].dtype == ml_dtypes.bfloat16


def write_array_file(path):
    """Write a single array, as ``np.save`` does."""
    with path.open("wb") as file:
        np.save(file, np.ones(3))


def write_objects(path):
    """Write an array of Python objects, which would be pickled."""
    with path.open("wb") as file:
        np.savez(file, a=np.array([{}], dtype=object))


WRITERS = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"),
    "truncated": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(50)),
    "array": write_array_file,
    "objects": write_objects,
}


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_a_file_that_is_not_what_it_says_is_named(tmp_path, kind, write):
    path = tmp_path / f"weights.{kind}"
    write(path)
    says = "holds pickled" if write is write_objects and kind == "npz" else "is not an?"
    with pytest.raises(ValueError, match=rf"weights\.{kind} {says} "):
        read_state(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    for kind in ("npz", "safetensors"):
        with pytest.raises(FileNotFoundError, match=f"absent.{kind}"):
            read_state(tmp_path / f"absent.{kind}")

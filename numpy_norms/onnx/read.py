"""A model from its file."""

from __future__ import annotations

import os

import onnx


def read(name: str) -> onnx.ModelProto:
    """Read a model and the weights beside it."""
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(name, load_external_data=False)
    except DecodeError as error:
        raise ValueError(f"{name} holds no ONNX model: {error}") from None
    if not model.graph.output:
        raise ValueError(f"{name} holds no ONNX model: it has no outputs")
    try:
        onnx.load_external_data_for_model(model, os.path.dirname(name))
    except onnx.checker.ValidationError as error:
        raise ValueError(f"{name} has weights in a file beside it: {error}") from None
    return model

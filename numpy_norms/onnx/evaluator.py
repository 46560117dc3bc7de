"""A model, read from its file and run with the norms of this library."""

from __future__ import annotations

import os
from os import PathLike, fspath
from typing import Any

import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from . import contrib, operators
from .batch_normalization import BatchNormalization

new_ops: list[type[OpRun]] = [
    BatchNormalization,
    operators.InstanceNormalization,
    operators.GroupNormalization,
    operators.LayerNormalization,
    operators.RMSNormalization,
    operators.MeanVarianceNormalization,
    operators.LpNormalization,
    operators.LRN,
    contrib.SimplifiedLayerNormalization,
    # A class' name is the operator's; this one is in two domains.
    type(
        "SimplifiedLayerNormalization",
        (contrib.SimplifiedLayerNormalization,),
        {"op_domain": "com.microsoft"},
    ),
    contrib.SkipLayerNormalization,
    contrib.SkipSimplifiedLayerNormalization,
    contrib.EmbedLayerNormalization,
    contrib.GroupNorm,
    contrib.SkipGroupNorm,
]


def evaluator(model: str | PathLike[str] | onnx.ModelProto) -> ReferenceEvaluator:
    """Return ONNX' reference evaluator of `model`, with the norms of this library in it.

    Those in subgraphs and in the model's own functions are this library's, too.

    Parameters
    ----------
    model : path or onnx.ModelProto
        A model, or the file that holds it; weights beside it, in its folder, are read too.

    Returns
    -------
    ReferenceEvaluator
        Its ``run(None, inputs)`` returns the outputs.

    Raises
    ------
    ValueError
        If the file holds no ONNX model, or a norm has an attribute or a value that its version
        does not know.
    OSError
        If it cannot be opened.
    """
    if isinstance(model, str | PathLike):
        model = read(fspath(model))
    return _Evaluator(model)


class _Evaluator(ReferenceEvaluator):
    """Gives the operators to the evaluators of functions and subgraphs, which are made by class."""

    def __init__(self, proto: Any, *args: Any, **options: Any):
        super().__init__(proto, *args, **options | {"new_ops": new_ops})


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

"""A model, read from its file and run with the norms of this library."""

from __future__ import annotations

import os
from collections.abc import Iterable
from os import PathLike
from typing import Any

import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from . import contrib, fusion, operators
from .batch_normalization import BatchNormalization
from .graph import Graph, of_the_standard
from .read import external_array, path_of, read, told

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
    *fusion.operators,
]


def evaluator(
    model: str | PathLike[str] | onnx.ModelProto, *, fuse: bool = True
) -> ReferenceEvaluator:
    """Return ONNX' reference evaluator of `model`, with the norms of this library in it.

    Those in subgraphs and in the model's own functions are this library's, too.

    Parameters
    ----------
    model : path or onnx.ModelProto
        A model, or the file that holds it. Weights in files beside it, in its folder, may be
        larger than 2 GB: they take memory only where they are used.
    fuse : bool, default True
        Run each norm that an exporter has written in many nodes, and that `fused` finds, as one.
        Results are those of the nodes to rounding, and better where these lose digits.

    Returns
    -------
    ReferenceEvaluator
        Its ``run(None, inputs)`` returns the outputs.

    Raises
    ------
    ValueError
        If `model` is damaged, its file holds none, or a norm has an attribute or a value that its
        version does not know.
    NotImplementedError
        If the evaluator does not know an operator.
    TypeError
        If `model` is neither.
    OSError
        If it cannot be opened.
    """
    kind = _FusingEvaluator if fuse else _Evaluator
    if isinstance(model, onnx.ModelProto):
        with told("the model", "run"):
            return kind(model)
    name = path_of(model)
    proto = read(name, weights=False)
    with told(name, "run"):
        # By class, as the evaluators of functions and subgraphs are made.
        here: type[_Evaluator] = type(kind.__name__, (kind,), {"folder": os.path.dirname(name)})
        return here(proto)


class _Evaluator(ReferenceEvaluator):
    """Gives the operators to the evaluators of functions and subgraphs, which are made by class."""

    folder: str | None = None

    def __init__(self, proto: Any, *args: Any, **options: Any):
        super().__init__(proto, *args, **options | {"new_ops": new_ops})

    def _init(self) -> None:
        self.opsets_ = {"" if d == "ai.onnx" else d: n for d, n in self.opsets_.items()}
        self.nodes_ = list(map(of_the_standard, self._nodes()))
        super()._init()

    def _nodes(self) -> Iterable[onnx.NodeProto]:
        nodes: Iterable[onnx.NodeProto] = self.nodes_
        return nodes

    def retrieve_external_data(self, initializer: onnx.TensorProto) -> Any:
        """Weights in the model's folder, where a file was given."""
        if self.folder is None:
            raise ValueError(
                f"the weight {initializer.name!r} is in a file beside the model's; pass the name "
                "of the model's file, or onnx.load(it), which reads both"
            )
        return external_array(initializer, self.folder)


class _FusingEvaluator(_Evaluator):
    """Fuses the norms of each graph before its nodes are loaded; `proto` stays as it is."""

    def _nodes(self) -> Iterable[onnx.NodeProto]:
        model = self.proto_ if isinstance(self.proto_, onnx.ModelProto) else None
        external = None if self.folder is None else self.retrieve_external_data
        proto = self.onnx_graph_ or self.proto_
        graph = Graph(proto, self.opsets_.get("", 1), model, external)
        self.opsets_ = {**self.opsets_, fusion.DOMAIN: 1}
        return fusion.nodes_fused(graph)

"""The batch norms of a whole graph, folded into the maps before them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import onnx

from ..fold import fold_batch_norm
from .base import EPSILON
from .graph import Array, Graph, Node, attribute, is_a, needs, opset_of
from .read import path_of, read, told


def fold(model: str | os.PathLike[str] | onnx.ModelProto) -> onnx.ModelProto:
    """Fold the batch norms of a model into the convolutions and linear maps before them.

    Conv, ConvTranspose, Gemm, and MatMul of two axes (which becomes Gemm), and the sum with a bias
    after one of these, take over a BatchNormalization in inference whose parameters are constant.
    It is done in float64 and rounded once; outputs agree to a few units in the last place of the
    largest terms. A pair whose folded weights leave their type, or whose map has another user,
    stays as it is, and so do subgraphs and functions.

    Parameters
    ----------
    model : path or onnx.ModelProto
        A model, which is not changed, or the file that holds it.

    Returns
    -------
    onnx.ModelProto
        A new model, equal to `model` if there is nothing to fold; ``onnx.save`` writes it.

    Raises
    ------
    ValueError
        If `model` is damaged, or its file holds none.
    TypeError
        If `model` is neither.
    OSError
        If it cannot be opened.

    Examples
    --------
    >>> import numpy as np
    >>> import onnx
    >>> text = '''<ir_version: 8, opset_import: ["" : 15]>
    ... f (float[N, 3] x) => (float[N, 2] y) <float[2, 3] w = {1, 2, 3, 4, 5, 6},
    ... float[2] g = {1, -1}, float[2] b = {0, 1}, float[2] m = {1, 2}, float[2] v = {4, 9}> {
    ... h = Gemm<transB = 1>(x, w)
    ... y = BatchNormalization(h, g, b, m, v) }'''
    >>> [node.op_type for node in fold(onnx.parser.parse_model(text)).graph.node]
    ['Gemm']
    """
    if not isinstance(model, onnx.ModelProto):
        name = path_of(model)
        read_model = read(name)
        with told(name, "folded"):
            return _folded_wholly(read_model)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    with told("the model", "folded"):
        return _folded_wholly(result)


def _folded_wholly(model: onnx.ModelProto) -> onnx.ModelProto:
    while _fold_once(model):
        pass  # a norm after a norm, folded in the last round
    return model


class _Map(NamedTuple):
    """A linear map: its node, weight, bias, and the axis of its output channels."""

    node: Node
    weight: Array
    bias: Array | None
    axis: int


def _fold_once(model: onnx.ModelProto) -> bool:
    graph = Graph(model.graph, opset_of(model), model)
    replaced: dict[str, Node] = {}
    for node in graph.nodes:
        if _is_inference(graph, node):
            new = _folded(graph, node)
            if new is not None:
                old, weight, bias = new
                y = node.output[0]
                names = [_unused(f"{y}_{part}", graph) for part in ("weight", "bias")]
                _add(model, names[0], weight)
                _add(model, names[1], bias)
                old.input[:] = [old.input[0], *names]
                old.output[:] = [y]
                replaced[y] = old
    if replaced:
        _replace(model.graph, graph.kept(replaced))
    return bool(replaced)


def _is_inference(graph: Graph, node: Node) -> bool:
    if not is_a(node, "BatchNormalization") or attribute(node, "spatial", 1) != 1:
        return False
    if graph.opset < 7 and attribute(node, "is_test", 0) != 1:
        return False
    return not any(node.output[1:]) and not attribute(node, "training_mode", 0)


def _folded(graph: Graph, norm: Node) -> tuple[Node, Array, Array] | None:
    """The map that stands for a map and a norm, without its names, its weight and its bias."""
    found = _map_before(graph, norm.input[0])
    parameters = [a for name in norm.input[1:] if (a := graph.constant(name)) is not None]
    if found is None or len(parameters) < 4:
        return None
    gamma, beta, mean, var = parameters
    eps = float(attribute(norm, "epsilon", EPSILON))
    try:
        weight, bias = fold_batch_norm(
            found.weight, found.bias, mean, var, gamma, beta, eps=eps, axis=found.axis
        )
    except (TypeError, ValueError):  # it would not fit; where the norm is wrong, running it says so
        return None
    with np.errstate(over="ignore"):
        bias = bias.astype(weight.dtype)
    if not np.isfinite(bias).all():
        return None
    node = Node()
    node.CopyFrom(found.node)
    if is_a(node, "MatMul", "Gemm"):
        kept = [a for a in node.attribute if a.name not in ("beta", "broadcast")]
        del node.attribute[:]
        node.attribute.extend(kept)  # 1, of the bias
        node.op_type = "Gemm"
    return node, weight, bias


def _map_before(graph: Graph, name: str) -> _Map | None:
    """The map that makes a value for its one user, with a bias that is added after it."""
    if graph.only_user(name) is None:
        return None
    total = graph.made_by(name, "Add")
    if total is None or graph.opset < 7:
        return _map_of(graph, name)
    for product, added in (total.input, tuple(total.input)[::-1]):
        found = _map_of(graph, product) if graph.only_user(product) is total else None
        constant = graph.constant(added)
        if found is not None and constant is not None:
            channels = _channels(found)
            rank = 2 if is_a(found.node, "MatMul", "Gemm") else found.weight.ndim
            bias = _per_channel(constant, channels, rank)
            if bias is not None:
                before = np.zeros(channels, bias.dtype) if found.bias is None else found.bias
                return found._replace(bias=before.astype(np.float64) + bias)
    return None


def _map_of(graph: Graph, name: str) -> _Map | None:
    node = graph.made_by(name, "Conv", "ConvTranspose", "Gemm", "MatMul")
    if node is None or (graph.opset < 7 and node.op_type in ("Gemm", "MatMul")):
        return None  # they broadcast in another way there
    weight = graph.constant(node.input[1])
    has_bias = len(node.input) > 2 and node.input[2] != ""
    bias = graph.constant(node.input[2]) if has_bias else None
    if (
        weight is None
        or (has_bias and bias is None)
        or not _has_channels_on_axis_1(graph, node, weight)
    ):
        return None
    if node.op_type == "Gemm":
        axis = 0 if attribute(node, "transB", 0) else 1
        if bias is not None:
            bias = _per_channel(attribute(node, "beta", 1.0) * bias, weight.shape[axis], 2)
            if bias is None:
                return None
        return _Map(node, weight, bias, axis)
    return _Map(node, weight, bias, 0 if node.op_type == "Conv" else 1)


def _has_channels_on_axis_1(graph: Graph, node: Node, weight: Array) -> bool:
    """Whether the channels of what a map makes are on axis 1; MatMul has them on the last."""
    if node.op_type != "MatMul":
        return True
    shape = graph.shape(node.input[0])
    return weight.ndim == 2 and shape is not None and len(shape) == 2


def _channels(found: _Map) -> int:
    groups = attribute(found.node, "group", 1) if found.node.op_type == "ConvTranspose" else 1
    return int(found.weight.shape[found.axis] * groups)


def _per_channel(a: Array, channels: int, rank: int) -> Array | None:
    """One number for each channel, of what broadcasts along all other axes."""
    shape = (1,) * (rank - a.ndim) + a.shape
    if len(shape) != rank or shape[1] not in (1, channels) or a.size != shape[1]:
        return None
    return np.broadcast_to(a.reshape(-1), (channels,))


def _unused(name: str, graph: Graph) -> str:
    while name in graph.makers or name in graph.users or name in graph.initializers:
        name += "_"
    return name


def _add(model: onnx.ModelProto, name: str, a: Array) -> None:
    model.graph.initializer.append(onnx.numpy_helper.from_array(a, name))
    if model.ir_version < 4:  # where all of them are inputs
        kind = onnx.helper.np_dtype_to_tensor_dtype(a.dtype)
        model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, a.shape))


def _replace(graph: onnx.GraphProto, nodes: list[Node]) -> None:
    """Give a graph these nodes, and take away the weights that none of them uses."""
    was_weight = {tensor.name for tensor in graph.initializer}
    used = {name for node in nodes for name in needs(node)} | {out.name for out in graph.output}
    made = {name for node in nodes for name in node.output}
    del graph.node[:]
    graph.node.extend(nodes)
    _keep(graph.initializer, used)
    _keep(graph.value_info, used | made)
    _keep(graph.input, used | {entry.name for entry in graph.input} - was_weight)


def _keep(entries: Iterable[onnx.ValueInfoProto | onnx.TensorProto], names: set[str]) -> None:
    kept = [entry for entry in entries if entry.name in names]
    del entries[:]  # type: ignore[attr-defined]
    entries.extend(kept)  # type: ignore[attr-defined]

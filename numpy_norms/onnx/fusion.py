"""Norms written in many nodes, run as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

from ..cache import Cache
from ..group_norm import group_norm_forward
from ..instance_norm import instance_norm_forward
from ..layer_norm import layer_norm_forward
from ..rms_norm import rms_norm_forward
from .base import Array, Operator, work_of
from .chains import Chain, chains
from .graph import Graph, Node, opset_of
from .patterns import Axes
from .read import external_array, path_of, read, told

DOMAIN = "numpy_norms"
Normalize = Callable[..., tuple[Array, Cache]]


class Fused(NamedTuple):
    """A norm that a graph has in many nodes.

    `x` and `y` are the names of what is normalized and of the result, `gamma` and `beta` those of
    its parameters, None where it has none; `axes` are counted as in the graph, and None for a group
    norm. `nodes` is how many fewer the graph has with one node in their place.
    """

    norm: str
    x: str
    y: str
    gamma: str | None
    beta: str | None
    eps: float
    axes: Axes | None
    num_groups: int | None
    nodes: int


def fused(model: str | os.PathLike[str] | onnx.ModelProto) -> list[Fused]:
    """List the norms that a model has in many nodes, and that `evaluator` runs as one.

    Layer, instance, group and RMS norms are found by what computes them, and by their constants;
    names say nothing. Functions and subgraphs of the model are not listed.

    Parameters
    ----------
    model : path or onnx.ModelProto
        A model, or the file that holds it.

    Returns
    -------
    list of Fused
        norm, x, y, gamma, beta, eps, axes, num_groups, nodes.

    Raises
    ------
    ValueError
        If `model` is damaged, or its file holds none.
    TypeError
        If `model` is neither.
    OSError
        If it cannot be opened.
    """
    if isinstance(model, onnx.ModelProto):
        with told("the model", "searched"):
            return _listed(Graph(model.graph, opset_of(model), model))
    name = path_of(model)
    proto = read(name, weights=False)
    external = partial(external_array, folder=os.path.dirname(name))
    with told(name, "searched"):
        return _listed(Graph(proto.graph, opset_of(proto), proto, external))


def _listed(graph: Graph) -> list[Fused]:
    return [
        Fused(
            _name(graph, chain),
            *(chain.x, chain.y, chain.gamma, chain.beta, chain.eps),
            chain.axes if chain.num_groups is None else None,
            chain.num_groups,
            graph.spared(chain.y, node),
        )
        for chain, node in _found(graph)
    ]


def nodes_fused(graph: Graph) -> list[Node]:
    """The nodes of a graph with one for each norm."""
    return graph.kept({chain.y: node for chain, node in _found(graph)})


def _found(graph: Graph) -> list[tuple[Chain, Node]]:
    return [(chain, _node(chain)) for chain in chains(graph)]


def _node(chain: Chain) -> Node:
    inputs = [chain.x, chain.gamma or "", chain.beta or ""]
    epsilon = onnx.numpy_helper.from_array(np.array(chain.eps))  # a number would be float32
    options: dict[str, Any] = {"epsilon": epsilon}
    if chain.num_groups is None:
        options |= {"axes": chain.axes, "centered": int(chain.centered), "dtype": chain.dtype}
        return onnx.helper.make_node("Norm", inputs, [chain.y], domain=DOMAIN, **options)
    options["num_groups"] = chain.num_groups
    return onnx.helper.make_node("GroupNorm", inputs, [chain.y], domain=DOMAIN, **options)


def _name(graph: Graph, chain: Chain) -> str:
    """What a reader calls it: by its axes, and those along which its parameters vary."""
    if not chain.centered:
        return "rms_norm"
    if chain.num_groups is not None:
        return "group_norm"
    known = graph.shape(chain.x)
    rank = (
        len(known) if known is not None else max(*chain.axes, max(-a for a in chain.axes) - 1) + 1
    )
    parameters = [graph.constant(name) for name in (chain.gamma, chain.beta) if name]
    axes = tuple(sorted(a % rank for a in chain.axes))
    return "layer_norm" if _channel_axis(parameters, rank, axes) is None else "instance_norm"


def _channel_axis(parameters: Sequence[Array | None], rank: int, axes: Axes) -> int | None:
    """The one axis along which all parameters vary, if all others but the first are in `axes`."""
    varying: set[int] = set()
    for a in parameters:
        shape = (1,) * (rank - a.ndim) + a.shape if a is not None else ()
        varying.update(i for i, n in enumerate(shape) if n != 1)
    if len(varying) != 1:
        return None
    (c,) = varying
    return c if sorted((0, c, *axes)) == list(range(rank)) else None


class Norm(Operator):
    """Layer, instance or RMS norm over any axes, with parameters of any shape that fits."""

    op_domain = DOMAIN

    def compute(
        self,
        x: Array,
        gamma: Array | None,
        beta: Array | None,
        *,
        axes: Sequence[int],
        epsilon: Array,
        centered: int,
        dtype: int,
    ) -> tuple[Array, ...]:
        """Y."""
        over = tuple(sorted(a % x.ndim for a in axes))
        kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(dtype)) if dtype else x.dtype
        x = x.astype(np.promote_types(x.dtype, kind), copy=False)
        c = _channel_axis((gamma, beta), x.ndim, over)
        normalize: Normalize
        if not centered:
            normalize, along = partial(_rms_norm, axis=over), over
        elif c is not None:
            normalize, along = partial(instance_norm_forward, channel_axis=c), (c,)
        else:
            normalize, along = partial(layer_norm_forward, axis=over), over
        y = _applied(normalize, x, gamma, beta, along, float(epsilon))
        return (y.astype(kind, copy=False),)


class GroupNorm(Operator):
    """Group norm, whose parameters have a number for each channel."""

    op_domain = DOMAIN

    def compute(
        self,
        x: Array,
        gamma: Array | None,
        beta: Array | None,
        *,
        num_groups: int,
        epsilon: Array,
    ) -> tuple[Array, ...]:
        """Y."""

        def normalize(x: Array, *parameters: Array | None, **options: Any) -> tuple[Array, Cache]:
            return group_norm_forward(x, num_groups, *parameters, **options)

        return (_applied(normalize, x, gamma, beta, (1,), float(epsilon)),)


operators: list[type[OpRun]] = [Norm, GroupNorm]


def _rms_norm(x: Array, gamma: Array | None, _: None, **options: Any) -> tuple[Array, Cache]:
    return rms_norm_forward(x, gamma, **options)


def _applied(
    normalize: Normalize,
    x: Array,
    gamma: Array | None,
    beta: Array | None,
    along: Axes,
    eps: float,
) -> Array:
    """In one pass where the parameters vary along just the axes `along`, in steps elsewhere."""
    own = [None if a is None else _along(a, x, along) for a in (gamma, beta)]
    options = {"eps": eps, "dtype": work_of(x)}
    if all(a is None or b is not None for a, b in zip((gamma, beta), own, strict=True)):
        return normalize(x, *own, **options)[0]
    y = normalize(x, None, None, **options)[0]
    y = y if gamma is None else y * gamma
    return y if beta is None else y + beta


def _along(a: Array, x: Array, axes: Axes) -> Array | None:
    """A parameter without the axes of length 1 with which it broadcasts against `x`."""
    wanted = tuple(n if i in axes else 1 for i, n in enumerate(x.shape))
    shape = (1,) * (x.ndim - a.ndim) + a.shape
    return a.reshape([x.shape[i] for i in axes]) if shape == wanted else None

"""The steps of a norm, in the ways in which exporters write them."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from .graph import Graph, attribute

Axes = tuple[int, ...]

_FLOATS = {onnx.TensorProto.DataType.Value(t) for t in ("FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16")}


def inverse_roots_of(graph: Graph, name: str) -> Iterator[tuple[str, str | None]]:
    """a and gamma of ``gamma / sqrt(a)``."""
    a = inverse_root_of(graph, name)
    if a is not None:
        yield a, None
    for k, gamma in terms_of(graph, name, "Mul"):
        a = inverse_root_of(graph, k)
        if a is not None and graph.constant(gamma) is not None:
            yield a, gamma


def inverse_root_of(graph: Graph, name: str) -> str | None:
    """a of ``1 / sqrt(a)``."""
    name = before_casts(graph, name)
    quotient = graph.made_by(name, "Div")
    if quotient is not None and graph.number(quotient.input[0]) == 1:
        return root_of(graph, quotient.input[1])
    reciprocal = graph.made_by(name, "Reciprocal")
    if reciprocal is not None:
        return root_of(graph, reciprocal.input[0])
    return raised_of(graph, name, -0.5)


def root_of(graph: Graph, name: str) -> str | None:
    name = before_casts(graph, name)
    root = graph.made_by(name, "Sqrt")
    return raised_of(graph, name, 0.5) if root is None else str(root.input[0])


def raised_of(graph: Graph, name: str, exponent: float) -> str | None:
    """What is raised to this power."""
    power = graph.made_by(name, "Pow")
    if power is None or graph.number(power.input[1]) != exponent:
        return None
    return str(power.input[0])


def without_eps(graph: Graph, a: str) -> Iterator[tuple[str, float]]:
    """v and eps of ``v + eps``; what may be added is a constant of one element."""
    a = before_casts(graph, a)
    for v, constant in terms_of(graph, a, "Add"):
        eps = graph.number(constant)
        if eps is not None and 0 <= eps < float("inf"):
            yield v, eps
    yield a, 0.0


def unclipped(graph: Graph, v: str) -> str:
    """What is clipped at 0 from below, as a difference of averages has to be."""
    clip = graph.made_by(v, "Max", "Relu", "Clip")
    if clip is None:
        return v
    if clip.op_type == "Max" and len(clip.input) == 2:
        first, second = clip.input
        return first if graph.number(second) == 0 else second if graph.number(first) == 0 else v
    if clip.op_type == "Clip":
        least = graph.number(clip.input[1]) if len(clip.input) > 1 else attribute(clip, "min")
        bounded = len(clip.input) > 2 or attribute(clip, "max") is not None
        return clip.input[0] if least == 0 and not bounded else v
    return clip.input[0] if clip.op_type == "Relu" else v


def axes_of_mean(graph: Graph, mean: str, x: str) -> Axes | None:
    found = mean_of(graph, mean)
    return found[1] if found is not None and agree(graph, found[0], x) else None


def mean_of(graph: Graph, name: str) -> tuple[str, Axes] | None:
    """What is averaged, and over which axes, which stay with length 1."""
    node = graph.made_by(before_casts(graph, name), "ReduceMean")
    if node is None or attribute(node, "keepdims", 1) != 1:
        return None
    axes = attribute(node, "axes")
    if len(node.input) > 1:
        axes = graph.integers(node.input[1])
    return (node.input[0], tuple(sorted(axes))) if axes else None


def is_square(graph: Graph, name: str, x: str) -> bool:
    factor = squared_of(graph, name)
    return factor is not None and agree(graph, factor, x)


def squared_of(graph: Graph, name: str) -> str | None:
    """What is squared."""
    name = before_casts(graph, name)
    factor = raised_of(graph, name, 2)
    if factor is not None:
        return before_casts(graph, factor)
    product = graph.made_by(name, "Mul")
    if product is not None and agree(graph, *product.input):
        return before_casts(graph, product.input[0])
    return None


def agree(graph: Graph, a: str, b: str) -> bool:
    """Whether two values are one but for their types; an exporter may write a difference twice."""
    a, b = before_casts(graph, a), before_casts(graph, b)
    first, second = graph.made_by(a, "Sub"), graph.made_by(b, "Sub")
    return a == b or (
        first is not None
        and second is not None
        and all(
            before_casts(graph, p) == before_casts(graph, q)
            for p, q in zip(first.input, second.input, strict=True)
        )
    )


def before_casts(graph: Graph, name: str) -> str:
    """The value before changes of type, from floats to floats."""
    for _ in graph.nodes:  # no more often, where they run in a circle
        node = graph.made_by(name, "Cast", "Identity")
        if node is None or (node.op_type == "Cast" and attribute(node, "to") not in _FLOATS):
            break
        name = node.input[0]
    return name


def cast_of(graph: Graph, name: str) -> int:
    """The type to which a value is brought, 0 if it is not."""
    node = graph.made_by(name, "Cast")
    return 0 if node is None else attribute(node, "to")


def terms_of(graph: Graph, name: str, operator: str) -> Iterator[tuple[str, str]]:
    """The two terms of a sum or factors of a product, in both orders."""
    node = graph.made_by(name, operator)
    if node is not None and len(node.input) == 2:
        a, b = node.input
        yield a, b
        yield b, a


def negative_product_of(graph: Graph, name: str) -> Iterator[tuple[str, str]]:
    """a and b of ``-(a * b)`` or ``-a * b``."""
    negative = graph.made_by(name, "Neg")
    if negative is not None:
        yield from terms_of(graph, negative.input[0], "Mul")
    for a, b in terms_of(graph, name, "Mul"):
        factor = graph.made_by(a, "Neg")
        if factor is not None:
            yield factor.input[0], b

"""Norms that an exporter has written as ReduceMean, Sub, Pow, Sqrt, Div and their like.

What is looked for, with v a variance or mean square over `axes`, in all the ways in which it is
written, and r one of Reciprocal(Sqrt(v + eps)), 1 / Sqrt(v + eps) and Pow(v + eps, -0.5)::

    d / Sqrt(v + eps)      d * r      d * (r * gamma)      (d * gamma) / Sqrt(v + eps)
    x * k + (beta - mean * k)      x * k + (-mean * k + beta)      with k = r or r * gamma

    d = x - mean, v = mean of d * d or of Pow(d, 2)       layer and instance norm
    d = x - mean, v = mean of x * x - mean * mean         the same, where it loses digits
    d = x,        v = mean of x * x                       RMS norm

followed by a product with a constant, gamma, and a sum with another, beta.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .graph import Graph, Node, Shape, attribute, is_a
from .patterns import (
    Axes,
    agree,
    axes_of_mean,
    before_casts,
    cast_of,
    inverse_roots_of,
    is_square,
    mean_of,
    negative_product_of,
    root_of,
    squared_of,
    terms_of,
    unclipped,
    without_eps,
)


class Chain(NamedTuple):
    """A norm: `y` is `x` standardized over `axes`, times gamma, plus beta."""

    x: str
    y: str
    axes: Axes
    eps: float
    centered: bool
    gamma: str | None = None
    beta: str | None = None
    num_groups: int | None = None
    dtype: int = 0  # ONNX' number for the type of y; 0: that of x


def chains(graph: Graph) -> Iterator[Chain]:
    """The norms of a graph that are written in many nodes; from opset 7 on, when NumPy's rules of
    broadcasting became ONNX'.
    """
    if graph.opset < 7:
        return
    for node in graph.nodes:
        found = _standardized(graph, node) or _scaled_and_shifted(graph, node)
        if found is not None:
            grouped = _grouped(graph, found)
            yield _with_parameters(graph, found if grouped is None else grouped)
        elif is_a(node, "InstanceNormalization"):
            grouped = _grouped_instances(graph, node)
            if grouped is not None:
                yield _with_parameters(graph, grouped)


def _standardized(graph: Graph, node: Node) -> Chain | None:
    for d, root, gamma in _quotients(graph, node):
        for v, eps in without_eps(graph, root):
            found = _second_moment(graph, d, v)
            if found is not None:
                x, axes, centered = found
                dtype = cast_of(graph, d) if centered else 0
                return Chain(x, node.output[0], axes, eps, centered, gamma, dtype=dtype)
    return None


def _scaled_and_shifted(graph: Graph, node: Node) -> Chain | None:
    for product, mean, k, beta in _differences(graph, node):
        for x, again in terms_of(graph, product, "Mul"):
            axes = axes_of_mean(graph, mean, x)
            if k != again or axes is None:
                continue
            for root, gamma in inverse_roots_of(graph, k):
                for v, eps in without_eps(graph, root):
                    if _variance_of(graph, x, v) == axes:
                        return Chain(x, node.output[0], axes, eps, True, gamma, beta)
    return None


def _differences(graph: Graph, node: Node) -> Iterator[tuple[str, str, str, str | None]]:
    """p, mean, k and beta of ``p - mean * k + beta``; beta is a constant, or None."""
    if is_a(node, "Sub"):
        product, lost = node.input
        for mean, k in terms_of(graph, lost, "Mul"):
            yield product, mean, k, None
    for product, rest in terms_of(graph, node.output[0], "Add"):
        difference = graph.made_by(rest, "Sub")
        if difference is not None and graph.constant(difference.input[0]) is not None:
            for mean, k in terms_of(graph, difference.input[1], "Mul"):
                yield product, mean, k, difference.input[0]
        for mean, k in negative_product_of(graph, rest):
            yield product, mean, k, None
        for beta, lost in terms_of(graph, rest, "Add"):
            if graph.constant(beta) is not None:
                for mean, k in negative_product_of(graph, lost):
                    yield product, mean, k, beta


def _quotients(graph: Graph, node: Node) -> Iterator[tuple[str, str, str | None]]:
    """d, a and gamma of ``gamma * d / sqrt(a)``; gamma is a constant, or None."""
    y = node.output[0]
    if is_a(node, "Div"):
        above, below = node.input
        under_root = root_of(graph, below)
        if under_root is not None:
            yield above, under_root, None
            for d, gamma in terms_of(graph, above, "Mul"):
                if graph.constant(gamma) is not None:
                    yield d, under_root, gamma
    for d, k in terms_of(graph, y, "Mul"):
        for under_root, factor in inverse_roots_of(graph, k):
            yield d, under_root, factor
            if factor is None:
                for inner, gamma in terms_of(graph, d, "Mul"):
                    if graph.constant(gamma) is not None:
                        yield inner, under_root, gamma


def _second_moment(graph: Graph, d: str, v: str) -> tuple[str, Axes, bool] | None:
    """x, the axes, and whether v is the variance of x or its mean square, where d is divided."""
    difference = graph.made_by(before_casts(graph, d), "Sub")
    if difference is not None:
        x, mean = difference.input
        axes = axes_of_mean(graph, mean, x)
        if axes is not None and _variance_of(graph, x, v) == axes:
            return x, axes, True
    found = mean_of(graph, v)
    if found is not None and is_square(graph, found[0], d):
        return d, found[1], False
    return None


def _variance_of(graph: Graph, x: str, v: str) -> Axes | None:
    """The axes over which `v` is the variance of `x`."""
    v = unclipped(graph, before_casts(graph, v))
    found = mean_of(graph, v)
    if found is not None:
        factor = squared_of(graph, found[0])
        difference = graph.made_by(factor, "Sub") if factor else None
        if difference is not None and agree(graph, difference.input[0], x):
            axes = axes_of_mean(graph, difference.input[1], x)
            return axes if axes == found[1] else None
    loses_digits = graph.made_by(v, "Sub")
    if loses_digits is not None:
        squares, mean = (
            mean_of(graph, loses_digits.input[0]),
            squared_of(graph, loses_digits.input[1]),
        )
        if squares is not None and mean is not None and is_square(graph, squares[0], x):
            axes = axes_of_mean(graph, mean, x)
            return axes if axes == squares[1] else None
    return None


def _with_parameters(graph: Graph, chain: Chain) -> Chain:
    """With the constants that follow: a product for gamma, a sum for beta."""
    if chain.gamma is None and chain.beta is None:
        found = _constant_operand(graph, chain.y, "Mul")
        chain = chain._replace(gamma=found[0], y=found[1]) if found else chain
    if chain.beta is None and chain.centered:
        found = _constant_operand(graph, chain.y, "Add")
        chain = chain._replace(beta=found[0], y=found[1]) if found else chain
    return chain


def _constant_operand(graph: Graph, name: str, operator: str) -> tuple[str, str] | None:
    """The constant that the only user of a value adds or multiplies, and the result."""
    user = graph.only_user(name)
    if user is None or not is_a(user, operator):
        return None
    other = [n for n in user.input if n != name]
    return (other[0], user.output[0]) if other and graph.constant(other[0]) is not None else None


def _grouped(graph: Graph, chain: Chain) -> Chain | None:
    """A chain over all but two axes of (N, G, ...), between reshapes of (N, C, ...)."""
    reshape = graph.made_by(chain.x, "Reshape")
    shape = None if reshape is None else graph.integers(reshape.input[1])
    if reshape is None or shape is None or chain.gamma or chain.beta or not chain.centered:
        return None
    axes = tuple(sorted(a % len(shape) for a in chain.axes))
    if len(shape) < 3 or axes != tuple(range(2, len(shape))):
        return None
    return _between_reshapes(graph, chain, reshape)


def _grouped_instances(graph: Graph, node: Node) -> Chain | None:
    """An instance norm of (N, G, ...) without scale and shift, between reshapes of (N, C, ...)."""
    scale, bias = (graph.constant(name) for name in node.input[1:3])
    reshape = graph.made_by(node.input[0], "Reshape")
    if reshape is None or scale is None or bias is None or (scale != 1).any() or bias.any():
        return None
    eps = attribute(node, "epsilon", 1e-5)
    return _between_reshapes(graph, Chain(node.input[0], node.output[0], (), eps, True), reshape)


def _between_reshapes(graph: Graph, chain: Chain, reshape: Node) -> Chain | None:
    shape, back = graph.integers(reshape.input[1]), graph.only_user(chain.y)
    x = reshape.input[0]
    known = graph.shape(x)
    if shape is None or len(shape) < 3 or shape[1] < 1 or back is None or not is_a(back, "Reshape"):
        return None
    keeps_samples = shape[0] == 0 or (known is not None and known[0] == shape[0])
    if attribute(reshape, "allowzero", 0) or not keeps_samples:
        return None
    if not _is_shape_of(graph, back.input[1], x) or back.input[0] != chain.y:
        return None
    return chain._replace(x=x, y=back.output[0], axes=(), num_groups=shape[1])


def _is_shape_of(graph: Graph, name: str, x: str) -> bool:
    node = graph.made_by(before_casts(graph, name), "Shape")
    if node is not None:
        return node.input[0] == x and not node.attribute
    known, shape = graph.shape(x), graph.integers(name)
    return known is not None and shape is not None and _fits(shape, known)


def _fits(shape: tuple[int, ...], known: Shape) -> bool:
    """Whether a reshape to `shape` gives `known`; 0 keeps the first axis, -1 is what is left."""
    return (
        len(shape) == len(known)
        and shape.count(-1) <= 1
        and all(
            s in (k, -1) or (i == 0 and s == 0)
            for i, (s, k) in enumerate(zip(shape, known, strict=True))
        )
    )

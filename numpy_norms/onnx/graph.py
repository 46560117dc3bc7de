"""A graph as its values: which node makes one, who uses it, and which are constant."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from ..checks import one_line

Array = NDArray[Any]
Node = onnx.NodeProto
Shape = tuple[int | None, ...]

# What exporters leave between a constant and its use.
_OF_CONSTANTS = {"Add", "Cast", "Constant", "Div", "Identity", "Mul", "Neg", "Reciprocal"}
_OF_CONSTANTS |= {"Reshape", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze"}
_OF_CONSTANTS |= {"Concat", "Gather", "Range", "Size", "Slice"}  # of shapes that are known
_CURE = "export the model again"
_LARGE = 2**22  # elements; what is larger takes long to compute with


class Graph:
    """The nodes of a model's graph, of a subgraph or of a function."""

    def __init__(
        self,
        proto: Any,
        opset: int,
        model: onnx.ModelProto | None = None,
        external: Callable[[onnx.TensorProto], Array] | None = None,
    ):
        self.opset = opset
        self.nodes: list[Node] = [node for node in proto.node if any(node.output)]
        for node in self.nodes:
            check_by_schema(node, opset)
        self.initializers: dict[str, onnx.TensorProto] = {}
        if isinstance(proto, onnx.GraphProto):
            given = {entry.name for entry in proto.input}
            overridable = given if model is None or model.ir_version >= 4 else set()
            self.initializers = {t.name: t for t in proto.initializer if t.name not in overridable}
            self.outputs = {entry.name for entry in proto.output}
        else:
            self.outputs = set(proto.output)
        self.makers = {name: node for node in self.nodes for name in node.output if name}
        self.users: dict[str, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for name in needs(node):
                self.users[name].append(node)
        self._model, self._external = model, external
        self._constants: dict[str, Array | None] = {}

    def made_by(self, name: str, *operators: str) -> Node | None:
        """The node that makes a value, if it is one of these operators of the standard."""
        node = self.makers.get(name)
        return node if node is not None and is_a(node, *operators) else None

    def only_user(self, name: str) -> Node | None:
        """The one node that uses a value, which is no output of the graph."""
        users = self.users[name]
        return users[0] if len(users) == 1 and name not in self.outputs else None

    def constant(self, name: str) -> Array | None:
        """The array that a value always is."""
        if name not in self._constants:
            self._constants[name] = None  # if the graph runs in a circle
            self._constants[name] = self._find(name)
        return self._constants[name]

    def number(self, name: str) -> float | None:
        """The number that a value always is, with no more axes than what it is added to."""
        a = self.constant(name)
        return float(a.reshape(())) if a is not None and a.size == 1 and a.ndim < 2 else None

    def integers(self, name: str) -> tuple[int, ...] | None:
        """The integers that a value always is."""
        a = self.constant(name)
        return None if a is None or a.dtype.kind != "i" else tuple(a.ravel().tolist())

    def shape(self, name: str) -> Shape | None:
        """What is known of a value's shape before the graph runs."""
        if name in self.initializers:
            return tuple(self.initializers[name].dims)
        return self._shapes.get(name)

    @cached_property
    def _shapes(self) -> dict[str, Shape]:
        return {} if self._model is None else inferred_shapes(self._model)

    def _find(self, name: str) -> Array | None:
        tensor = self.initializers.get(name)
        if tensor is not None:
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                return None if self._external is None else self._external(tensor)
            return array_of(tensor)
        node = self.made_by(name, *_OF_CONSTANTS, "Shape")
        if node is None:
            return None
        if node.op_type == "Shape":
            shape = self.shape(node.input[0])
            known = shape is not None and None not in shape and not node.attribute
            return np.array(shape, np.int64) if known else None
        inputs = {}
        for n in filter(None, node.input):
            if (a := self.constant(n)) is None or a.size > _LARGE:
                return None
            inputs[n] = a
        end = onnx.ValueInfoProto(name=name)
        starts = [onnx.ValueInfoProto(name=n) for n in inputs]
        graph = onnx.helper.make_graph([of_the_standard(node)], "constant", starts, [end])
        (value,) = ReferenceEvaluator(graph, opsets={"": self.opset}).run([name], inputs)
        return np.asarray(value)

    def kept(self, replaced: Mapping[str, Node]) -> list[Node]:
        """The nodes that still count once some values are made by others.

        A new node stands where the old one stood, so that its inputs come before it.
        """
        wanted, kept = set(self.outputs), []
        for old in reversed(self.nodes):
            node = next((replaced[name] for name in old.output if name in replaced), old)
            if wanted.intersection(node.output):
                wanted.update(needs(node))
                kept.append(node)
        return kept[::-1]

    def spared(self, name: str, new: Node) -> int:
        """How many fewer nodes `kept` has once `new` makes a value, looking at these alone."""
        if not self._uses[name]:
            return 0
        changed = {n: self._uses[n] + 1 for n in needs(new)}
        gone, count = [self.makers[name]], -1  # the new one
        while gone:
            count += 1
            for n in needs(gone.pop()):
                changed[n] = changed.get(n, self._uses[n]) - 1
                maker = self.makers.get(n)
                if maker is not None and not any(
                    changed.get(o, self._uses[o]) for o in maker.output
                ):
                    gone.append(maker)
        return count

    @cached_property
    def _uses(self) -> Counter[str]:
        """How often a value is used by what counts, as an output of the graph too."""
        return Counter(self.outputs) + Counter(n for node in self.kept({}) for n in needs(node))


def array_of(tensor: onnx.TensorProto) -> Array:
    """The array of a tensor whose numbers are in the model."""
    try:
        return onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # of every kind, as the numbers are of any
        says = f"{type(error).__name__}: {one_line(error)}"
        raise ValueError(f"the weight {tensor.name!r} is damaged ({says}); {_CURE}") from None


def check_by_schema(node: Node, opset: int) -> None:
    """Refuse inputs, outputs and attributes that a node of the standard cannot have."""
    schema = schema_of("", node.op_type, opset) if is_a(node, node.op_type) else None
    if schema is None:
        return
    inputs = [parameter.name for parameter in schema.inputs]
    needed = [name for i, name in enumerate(inputs) if i < schema.min_input]
    check_inputs(node, inputs, needed, schema.max_input)
    check_outputs(node, schema.max_output)
    check_kinds(node, {name: entry.type.name for name, entry in schema.attributes.items()})


def check_inputs(node: Node, names: Sequence[str], needed: Sequence[str], most: int) -> None:
    """Refuse a node that lacks an input, or has more than `most`."""
    given = dict(zip(names, node.input, strict=False))
    missing = [name for name in needed if not given.get(name)]
    known = ", ".join(names) or "none"
    if missing:
        raise error_of(node, f"the input {missing[0]} is missing, of {known}; {_CURE}")
    if len(node.input) > most:
        raise error_of(
            node,
            f"it has {len(node.input)} inputs, but at most {most} were expected, {known}; {_CURE}",
        )


def outputs_of(node: Node) -> int:
    """How many outputs are asked for, up to the last that has a name."""
    return max((i for i, name in enumerate(node.output, 1) if name), default=0)


def check_outputs(node: Node, most: int) -> None:
    """Refuse a node of which more outputs are asked for than there are."""
    asked = outputs_of(node)
    if asked > most:
        raise error_of(
            node, f"{asked} outputs are asked for, but at most {most} were expected; {_CURE}"
        )


def check_kinds(node: Node, kinds: Mapping[str, str]) -> None:
    """Refuse attributes of another kind, such as a text for an axis."""
    for entry in node.attribute:
        kind = onnx.AttributeProto.AttributeType.Name(entry.type)
        expected = kinds.get(entry.name, kind)
        if kind not in (expected, "UNDEFINED"):  # as the oldest files have it
            raise error_of(
                node,
                f"attribute {entry.name!r} is of the kind {kind}, but {expected} was expected; "
                f"{_CURE}",
            )


def error_of(node: Node, message: str) -> ValueError:
    """An error that names the node."""
    made = f"that computes {node.output[0]!r}" if node.output else "without outputs"
    return ValueError(f"{node.op_type} node {node.name or made}: {message}")


def schema_of(domain: str, operator: str, opset: int) -> Any:
    """What ONNX says of an operator in the version that holds in `opset`, if it defines it.

    What an optimizer wrote under an opset that does not have it yet is its first version.
    """
    versions = _schemas().get((domain, operator))
    if versions is None:
        return None
    return versions[max((v for v in versions if v <= opset), default=min(versions))]


@lru_cache(maxsize=1)
def _schemas() -> dict[tuple[str, str], dict[int, Any]]:
    found: dict[tuple[str, str], dict[int, Any]] = defaultdict(dict)
    for schema in onnx.defs.get_all_schemas_with_history():
        found[schema.domain, schema.name][schema.since_version] = schema
    return dict(found)


def opset_of(model: onnx.ModelProto) -> int:
    """The version of the standard that a model is written in; 1 in the oldest files."""
    return max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=1)


def of_the_standard(node: Node) -> Node:
    """The node, whose domain is written as "" if it is that of the standard."""
    if node.domain != "ai.onnx":
        return node
    short = Node()
    short.CopyFrom(node)
    short.domain = ""
    return short


def is_a(node: Node, *operators: str) -> bool:
    """Whether it is one of these operators of the standard."""
    return node.domain in ("", "ai.onnx") and node.op_type in operators


def needs(node: Node) -> Iterator[str]:
    """The values that a node uses, in its subgraphs too."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for inner in graph.node:
                yield from needs(inner)
            yield from (entry.name for entry in graph.output)


def attribute(node: Node, name: str, default: Any = None) -> Any:
    """The value of a node's attribute."""
    for entry in node.attribute:
        if entry.name == name:
            return onnx.helper.get_attribute_value(entry)
    return default


def inferred_shapes(model: onnx.ModelProto) -> dict[str, Shape]:
    """The shapes that ONNX infers, without the numbers in large weights."""
    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph = model.graph
    for field in ("node", "input", "output", "value_info"):
        getattr(light.graph, field).extend(getattr(graph, field))
    known = {entry.name for entry in graph.input}
    for tensor in graph.initializer:
        is_here = tensor.data_location != onnx.TensorProto.EXTERNAL
        if is_here and math.prod(tensor.dims) <= 1024:
            light.graph.initializer.append(tensor)
        elif tensor.name not in known:
            light.graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    try:
        found = onnx.shape_inference.infer_shapes(light).graph
    except (onnx.shape_inference.InferenceError, ValueError):  # as if nothing were known
        found = light.graph
    return dict(_shapes_of((*found.input, *found.value_info, *found.output)))


def _shapes_of(entries: Iterable[onnx.ValueInfoProto]) -> Iterator[tuple[str, Shape]]:
    for entry in entries:
        if entry.type.tensor_type.HasField("shape"):
            dims = entry.type.tensor_type.shape.dim
            yield entry.name, tuple(d.dim_value if d.HasField("dim_value") else None for d in dims)

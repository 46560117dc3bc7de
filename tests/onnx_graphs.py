"""Graphs for tests: an operator is a method, a value is a name."""

import numpy as np
import onnx


class Builder:
    """Adds a node at every call, and a constant for every array or number."""

    def __init__(self, opset=13):
        self.opset, self.nodes, self.tensors = opset, [], []

    def __getattr__(self, operator):
        def add(*inputs, **attributes):
            output = f"v{len(self.nodes)}"
            names = [self.name(a) for a in inputs]
            self.nodes.append(onnx.helper.make_node(operator, names, [output], **attributes))
            return output

        return add

    def name(self, a):
        """Return the name of a value, or of a new constant."""
        if isinstance(a, str):
            return a
        name = f"c{len(self.tensors)}"
        self.tensors.append(onnx.numpy_helper.from_array(np.asarray(a), name))
        return name

    def mean(self, x, axes):
        """Average as this opset has it."""
        if self.opset < 18:
            return self.ReduceMean(x, axes=list(axes))
        return self.ReduceMean(x, np.array(axes, np.int64))

    def model(self, y, shape, *more, dtype=np.float32, ir_version=8, graph_inputs=()):
        """Return the model from x, of this shape, to y and more; nothing else has a shape."""
        kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        x = onnx.helper.make_tensor_value_info("x", kind, shape)
        given = [
            onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
            for t in self.tensors
            if t.name in graph_inputs
        ]
        ends = [onnx.helper.make_tensor_value_info(n, kind, None) for n in (y, *more)]
        graph = onnx.helper.make_graph(self.nodes, "graph", [x, *given], ends, self.tensors)
        imports = [onnx.helper.make_opsetid("", self.opset)]
        return onnx.helper.make_model(graph, opset_imports=imports, ir_version=ir_version)

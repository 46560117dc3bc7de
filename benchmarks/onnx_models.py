"""Time whole ONNX models in the reference evaluator, stock and with numpy_norms' operators.

    python -m benchmarks.onnx_models            five models, some minutes
    python -m benchmarks.onnx_models --smoke    small ones, to see that everything runs

The two evaluators take turns on the same input; the best run of each counts.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from numpy_norms.onnx import evaluator

from .machine import setting

RESULTS = Path(__file__).parent / "results" / "onnx_models.json"


class Graph:
    """A model under construction: every call adds a node and returns the name of its output."""

    def __init__(self, shape: tuple[int, ...]):
        self.rng = np.random.default_rng(0)
        self.shape = shape
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, a: np.ndarray) -> str:
        """Store an array."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(a, name))
        return name

    def random(self, *shape: int, scale: float = 1.0) -> str:
        """Store a random float32 array."""
        return self.constant((scale * self.rng.standard_normal(shape)).astype(np.float32))

    def positive(self, n: int) -> str:
        """Store n numbers such as variances."""
        return self.constant(self.rng.uniform(0.5, 2, n).astype(np.float32))

    def __call__(self, operator: str, *inputs: str, **attributes: object) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def model(self, output: str) -> onnx.ModelProto:
        """Finish."""
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)
        y = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "network", [x], [y], self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)])


def transformer(norm: str, batch: int = 8, tokens: int = 128, d: int = 384) -> onnx.ModelProto:
    """Return six pre-norm blocks of one-headed attention and a ReLU layer."""
    g = Graph((batch, tokens, d))
    x = "x"

    def normalize(x: str) -> str:
        beta = [g.random(d)] if norm == "LayerNormalization" else []
        return g(norm, x, g.positive(d), *beta)

    for _ in range(6):
        h = normalize(x)
        q, k, v = (g("MatMul", h, g.random(d, d, scale=d**-0.5)) for _ in range(3))
        scores = g("MatMul", q, g("Transpose", k, perm=[0, 2, 1]))
        mixed = g("MatMul", g("Softmax", g("Mul", scores, g.random(1, scale=0.05))), v)
        x = g("Add", x, mixed)
        h = g("Relu", g("MatMul", normalize(x), g.random(d, 4 * d, scale=d**-0.5)))
        x = g("Add", x, g("MatMul", h, g.random(4 * d, d, scale=(4 * d) ** -0.5)))
    return g.model(normalize(x))


def residual(norm: str, batch: int = 8, c: int = 64, side: int = 56) -> onnx.ModelProto:
    """Return four blocks of norm, ReLU and a convolution of 1 x 1, each added to its input."""
    g = Graph((batch, c, side, side))
    x = "x"
    for _ in range(4):
        parameters = [g.positive(c), g.random(c)]
        if norm == "BatchNormalization":
            parameters += [g.random(c), g.positive(c)]
        groups = {"num_groups": 8} if norm == "GroupNormalization" else {}
        h = g("Relu", g(norm, x, *parameters, **groups))
        x = g("Add", x, g("Conv", h, g.random(c, c, 1, 1, scale=c**-0.5)))
    return g.model(x)


MODELS: dict[str, tuple[Callable[..., onnx.ModelProto], str]] = {
    "transformer, layer norm": (transformer, "LayerNormalization"),
    "transformer, RMS norm": (transformer, "RMSNormalization"),
    "residual network, batch norm": (residual, "BatchNormalization"),
    "residual network, instance norm": (residual, "InstanceNormalization"),
    "residual network, group norm": (residual, "GroupNormalization"),
}
SMALL = {transformer: (2, 5, 16), residual: (2, 16, 6)}


class Timed:
    """An evaluator that knows how long it took, and how much of that its norms."""

    def __init__(self, side: ReferenceEvaluator):
        self.side = side
        self.whole, self.norms = [], []
        for node in side.rt_nodes_:
            if node.op_type.endswith("Normalization"):
                node.run = self.timed(node.run)

    def timed(self, run: Callable[..., object]) -> Callable[..., object]:
        """Return a node's method that adds up its time."""

        def timed_run(*inputs: object, **options: object) -> object:
            start = time.perf_counter()
            result = run(*inputs, **options)
            self.norms[-1] += 1e3 * (time.perf_counter() - start)
            return result

        return timed_run

    def __call__(self, x: np.ndarray) -> np.ndarray:
        self.norms.append(0.0)
        start = time.perf_counter()
        (y,) = self.side.run(None, {"x": x})
        self.whole.append(1e3 * (time.perf_counter() - start))
        return y


def compare(model: onnx.ModelProto, runs: int) -> dict[str, float]:
    """Return the milliseconds of both evaluators, and how far their outputs are apart."""
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    sides = {"stock": Timed(ReferenceEvaluator(model)), "numpy_norms": Timed(evaluator(model))}
    for _ in range(runs):
        stock, ours = (side(x) for side in sides.values())
    figures = {f"{name}, ms": round(min(side.whole), 2) for name, side in sides.items()}
    figures |= {f"{name}, norms, ms": round(min(side.norms), 2) for name, side in sides.items()}
    return figures | {"apart": float(np.abs(stock - ours).max() / np.abs(stock).max())}


def main(argv: Sequence[str] | None = None) -> None:
    """Compare on every model, print the figures and keep them."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.onnx_models")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--smoke", action="store_true", help="small models, nothing kept")
    options = parser.parse_args(argv)
    figures = {}
    for name, (make, norm) in MODELS.items():
        model = make(norm, *(SMALL[make] if options.smoke else ()))
        figures[name] = compare(model, 1 if options.smoke else options.runs)
        print(f"{name:32}", figures[name], flush=True)
    if not options.smoke:
        kept = {"setting": setting(("onnx",)), "figures": figures}
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()

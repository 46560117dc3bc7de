"""Run three trained networks in ONNX' evaluator, stock and with these norms, against ONNX Runtime.

    python -m benchmarks.real_models            the models of rapidocr-onnxruntime, some minutes
    python -m benchmarks.real_models --smoke    the smallest, once

Each gets what the page's image gives it. The sides take turns; the best run of each counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from numpy_norms.onnx import evaluator, fold, fused

from .machine import setting, warn_if_busy

Array = NDArray[Any]
ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "real_models.json"
TEXT = ("Batch norm: 2015", "Layer norm: 2016")


def inputs_of(ocr: Any) -> dict[str, Array]:
    """Return what each network is given on the page."""
    image = ocr.draw(TEXT)
    box = ocr.Box(14, 58, 16, 264)
    return {
        "classifier": ocr.as_input(ocr.cut(image, box, 192)),
        "recognizer": ocr.as_input(ocr.cut(image, box)),
        "detector": ocr.as_input(image),
    }


def sides(path: Path) -> dict[str, Callable[[Array], Array]]:
    """Return the ways to run a model."""
    import onnxruntime

    model = onnx.load(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    ways = {
        "stock": ReferenceEvaluator(model),
        "numpy_norms": evaluator(model),
        "numpy_norms, folded": evaluator(fold(model)),
        "ONNX Runtime": session,
    }
    return {way: lambda x, runs=runs: runs.run(None, {name: x})[0] for way, runs in ways.items()}


def compare(path: Path, x: Array, rounds: int) -> dict[str, Any]:
    """Time all sides by turns, and measure how far each is from ONNX Runtime."""
    ways = sides(path)
    times = dict.fromkeys(ways, np.inf)
    results = {}
    with np.errstate(all="ignore"):
        for _ in range(rounds):
            for way, run in ways.items():
                start = time.perf_counter()
                results[way] = run(x)
                times[way] = min(times[way], time.perf_counter() - start)
    truth = results["ONNX Runtime"]
    operators = [node.op_type for node in onnx.load(path).graph.node]
    figures: dict[str, Any] = {
        "batch norms": operators.count("BatchNormalization"),
        "layer norms in many nodes": len(fused(path)),
    }
    for way in ways:
        figures[f"{way}, ms"] = round(1e3 * times[way], 1)
        figures[f"{way}, apart"] = float(f"{np.abs(results[way] - truth).max():.1e}")
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_models")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--smoke", action="store_true", help="the smallest, nothing kept")
    options = parser.parse_args(argv)
    sys.path.insert(0, str(ROOT / "docs"))
    from examples import ocr

    where = setting(("onnx", "onnxruntime", "rapidocr-onnxruntime"))
    figures = {}
    for name, x in inputs_of(ocr).items():
        if options.smoke and figures:
            break
        rounds = 1 if options.smoke else options.rounds
        figures[name] = compare(ocr.model_file(name), x, rounds)
        print(name, json.dumps(figures[name], indent=1))
    warn_if_busy(where)
    if not options.smoke:
        RESULTS.write_text(json.dumps({"setting": where, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()

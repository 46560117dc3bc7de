"""Measure time and peak memory of all-MiniLM-L6-v2, in NumPy and in PyTorch.

    python -m benchmarks.minilm              one thread each, in processes of their own, by turns
    python -m benchmarks.minilm --smoke      one round, to see that everything runs

The best of all rounds counts. Memory is the peak of the whole process, libraries included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .machine import THREAD_VARIABLES, best, setting

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "minilm.json"
SIDES = ("numpy", "torch")
TEXT = "The library runs a trained network in NumPy alone, and it says how long that takes. "
BATCHES = {"1 sentence": [TEXT], "32 sentences": [TEXT * (1 + i % 3) for i in range(32)]}


def child(side: str, threads: int, repeats: int) -> dict[str, float]:
    """Run one side in this process."""
    sys.path.insert(0, str(ROOT / "docs"))
    start = time.perf_counter()
    if side == "numpy":
        from examples.minilm import encode, read_model

        model = read_model()

        def run(sentences: Sequence[str]) -> object:
            return encode(model, sentences)
    else:
        import torch
        from examples.minilm_torch import TorchModel

        torch.set_num_threads(threads)
        run = TorchModel().encode
    figures = {"import and load, ms": 1e3 * (time.perf_counter() - start)}
    for name, sentences in BATCHES.items():
        run(sentences)
        figures[f"{name}, ms"] = 1e3 * best(lambda batch=sentences: run(batch), repeats)
    # In kilobytes on Linux.
    figures["peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def measure(side: str, threads: int, repeats: int) -> dict[str, float]:
    """Run one side in a fresh process."""
    env = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in THREAD_VARIABLES}
    asked = ["--side", side, "--threads", str(threads), "--repeats", str(repeats)]
    command = [sys.executable, "-m", "benchmarks.minilm", *asked]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{side} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def compare(rounds: int, threads: int, repeats: int) -> dict[str, dict[str, float]]:
    """Measure both sides by turns; keep the best figures."""
    figures: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for side in SIDES:
            new = measure(side, threads, repeats)
            old = figures.get(side, new)
            figures[side] = {name: round(min(value, old[name]), 1) for name, value in new.items()}
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.minilm")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--smoke", action="store_true", help="one short round, nothing kept")
    options = parser.parse_args(argv)
    if options.side:
        print(json.dumps(child(options.side, options.threads, options.repeats)))
        return
    rounds, repeats = (1, 1) if options.smoke else (options.rounds, options.repeats)
    figures = compare(rounds, options.threads, repeats)
    for name in figures[SIDES[0]]:
        print(f"{name:22}" + "".join(f"{side} {figures[side][name]:9.1f}   " for side in SIDES))
    if not options.smoke:
        kept = {"setting": setting(("torch", "tokenizers")), "threads": options.threads}
        RESULTS.write_text(json.dumps(kept | {"figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()

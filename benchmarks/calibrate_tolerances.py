"""Measure how much of the tolerances right kernels use: the largest error / tolerance.

Two tables. The battery: every case of ``numpy_norms.verify.cases`` over seeds, for the kernels that
`check_kernel` must pass. The sweep: layer norm over the width of the rows and the ratio mean / std,
for kernels that add up in known orders. Run from the repository's root::

    python -m benchmarks.calibrate_tolerances --seeds 200 --out docs/tolerances.md
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pages import deliver
from benchmarks.peer_kernels import torch_kernel
from numpy_norms.oracle.sets import NORMS
from numpy_norms.verify import Accumulator, tolerances
from numpy_norms.verify.kernel import Trial
from numpy_norms.verify.plain import plain_kernel
from numpy_norms.verify.runs import library_kernel

Kernel = Callable[..., Any]
OUTPUTS = ("y", "dx", "dgamma", "dbeta")
WIDTHS = (3, 16, 127, 1024, 4096)
RATIOS = (0, 10, 1e3, 1e5)


def kernels(norm: str) -> dict[str, tuple[Kernel, Kernel]]:
    """Return the kernels of the first table."""
    return {
        "plain NumPy": plain_kernel(norm),
        "PyTorch": torch_kernel(norm),
        "numpy_norms": library_kernel(norm),
    }


def battery_table(seeds: int) -> Iterator[str]:
    """Yield the rows of the first table."""
    yield "| norm | type | kernel | failed | " + " | ".join(OUTPUTS) + " |"
    yield "|---|---|---|---|" + "---|" * len(OUTPUTS)
    for norm in NORMS:
        for dtype in ("float32", "float64"):
            failed: Counter[str] = Counter()
            worst: dict[tuple[str, str], float] = defaultdict(float)
            for seed in range(seeds):
                trial = Trial(norm, dtype, None, seed, {})
                for name, kernel in kernels(norm).items():
                    report = trial.of(*kernel)
                    failed[name] += not report.passed
                    for row in report.rows:
                        key = name, row.output
                        worst[key] = max(worst[key], row.ratio)
            print(norm, dtype, dict(failed), file=sys.stderr)
            for name in kernels(norm):
                cells = " | ".join(_cell(worst.get((name, output))) for output in OUTPUTS)
                yield f"| {norm} | {dtype} | {name} | {failed[name]} of {seeds} | {cells} |"


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _sequential(a: np.ndarray) -> np.ndarray:
    return np.add.accumulate(a, axis=-1)[..., -1:]


def _pairwise(a: np.ndarray) -> np.ndarray:
    return a.sum(axis=-1, keepdims=True)


def ordered_kernel(
    total: Callable[[np.ndarray], np.ndarray], centred: bool
) -> tuple[Kernel, Kernel]:
    """Return a layer norm of two axes whose sums are all taken by `total`."""

    def statistics(x: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
        size = x.dtype.type(x.shape[-1])
        mean = total(x) / size
        return mean, 1 / np.sqrt(total((x - mean) ** 2) / size + x.dtype.type(eps))

    def forward(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float) -> np.ndarray:
        mean, rstd = statistics(x, eps)
        return (x - mean) * rstd * gamma + beta

    def backward(
        dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, eps: float
    ) -> tuple[np.ndarray, ...]:
        size = x.dtype.type(x.shape[-1])
        mean, rstd = statistics(x, eps)
        x_hat, g = (x - mean) * rstd, gamma * dy
        products = total(g * x_hat) if centred else (total(g * x) - mean * total(g)) * rstd
        dx = rstd * (g - total(g) / size - x_hat * products / size)
        return dx, total((dy * x_hat).T)[:, 0], total(dy.T)[:, 0]

    return forward, backward


def sweep_table(seeds: int) -> Iterator[str]:
    """Yield the rows of the second table."""
    yield "| order | backward | type | " + " | ".join(OUTPUTS) + " |"
    yield "|---|---|---|" + "---|" * len(OUTPUTS)
    for order, total in (("naive", _sequential), ("pairwise", _pairwise), ("any", _sequential)):
        for centred in (True, False):
            for dtype in (np.float32, np.float64):
                worst = np.zeros(4)
                for seed in range(seeds):
                    for width in WIDTHS:
                        for ratio in RATIOS:
                            kernel = ordered_kernel(total, centred)
                            by = Accumulator(dtype, order, centred)
                            worst = np.maximum(worst, _used(kernel, width, ratio, dtype, by, seed))
                cells = " | ".join(f"{value:.2f}" for value in worst)
                words = "centred" if centred else "uncentred"
                yield f"| {order} | {words} | {np.dtype(dtype)} | {cells} |"


def _used(
    kernel: tuple[Kernel, Kernel],
    width: int,
    ratio: float,
    dtype: type,
    by: Accumulator,
    seed: int,
) -> np.ndarray:
    rng = np.random.default_rng([seed, width, int(ratio)])
    x = (rng.standard_normal((61, width)) + ratio).astype(dtype)
    gamma, beta = rng.standard_normal((2, width)).astype(dtype)
    dy = rng.standard_normal(x.shape).astype(dtype)
    wide = np.longdouble if dtype is np.float64 else np.float64
    exact = [np.asarray(a, wide) for a in (dy, x, gamma, beta)]
    forward, backward = library_kernel("layer_norm")
    expected = (forward(*exact[1:], 0.1), *backward(*exact, 0.1))
    got = (kernel[0](x, gamma, beta, 0.1), *kernel[1](dy, x, gamma, beta, 0.1))
    allowed = tolerances("layer_norm", x, gamma, beta, dy, eps=0.1, accumulate=by)
    return np.array(
        [float((abs(g - e) / a).max()) for g, e, a in zip(got, expected, allowed, strict=True)]
    )


def page(seeds: int, sweep_seeds: int) -> Iterator[str]:
    """Yield the lines of the page."""
    import torch

    yield "# How much of the tolerances right kernels use"
    yield ""
    yield (
        f"Measured {datetime.date.today()} by `benchmarks/calibrate_tolerances.py`: "
        f"NumPy {np.__version__}, PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}, {platform.machine()}. "
        "Numbers are the largest error / tolerance; 1 is the limit."
    )
    yield ""
    yield f"The battery of `check_kernel`, {seeds} seeds, nothing declared:"
    yield ""
    yield from battery_table(seeds)
    yield ""
    yield (
        f"Layer norm over widths {', '.join(map(str, WIDTHS))} and ratios of mean and deviation "
        f"{', '.join(f'{ratio:g}' for ratio in RATIOS)}, {sweep_seeds} seeds, for kernels that add "
        "up in one order and declare one; the last rows add up naively and declare nothing:"
    )
    yield ""
    yield from sweep_table(sweep_seeds)


def main() -> None:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--sweep-seeds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    deliver(page(options.seeds, options.sweep_seeds), options.out)


if __name__ == "__main__":
    main()

"""Right kernels of the kinds that people write, each with what it declares.

None may ever be called wrong: `python -m benchmarks.right_kernels --seeds 200` counts how often one
is. They are written for the last axis, in float32 inside unless they say otherwise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from numpy_norms.oracle.sets import NORMS
from numpy_norms.verify import Accumulator
from numpy_norms.verify.kernel import Trial
from numpy_norms.verify.plain import plain_kernel

F32 = np.float32
BF16 = np.dtype(ml_dtypes.bfloat16)


class Right(NamedTuple):
    """A kernel, what it is given and what it declares."""

    name: str
    norm: str
    passes: tuple[Callable[..., Any], Callable[..., Any]]
    dtype: Any = "float32"
    accumulate: Any = None
    options: dict[str, Any] = {}  # noqa: RUF012


def welford(x: Any, lanes: int = 1) -> tuple[Any, Any]:
    """Return mean and variance of rows by Welford's recurrence, lanes merged by Chan's formula."""
    kind = x.dtype.type
    size = x.shape[-1]
    lanes = min(lanes, size)
    mean, square = np.zeros((2, lanes, *x.shape[:-1]), x.dtype)
    columns = np.moveaxis(x, -1, 0)
    for n, start in enumerate(range(0, size, lanes), 1):
        new = columns[start : start + lanes]
        some = slice(len(new))  # of the lanes, where the last block is short
        off = new - mean[some]
        mean[some] += off / kind(n)
        square[some] += off * (new - mean[some])
    means, squares = list(mean), list(square)
    counts = [kind(len(range(lane, size, lanes))) for lane in range(lanes)]
    while len(means) > 1:  # neighbours, pair by pair
        for a in range(len(means) // 2):
            b = a + 1
            total = counts[a] + counts[b]
            off = means[b] - means[a]
            means[a] = means[a] + off * counts[b] / total
            squares[a] = squares[a] + squares[b] + off * off * counts[a] * counts[b] / total
            counts[a] = total
            del means[b], squares[b], counts[b]
    return means[0][..., None], squares[0][..., None] / kind(size)


def two_pass(x: Any, add: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Return mean and variance with sums in some order."""
    size = x.dtype.type(x.shape[-1])
    mean = add(x)[..., None] / size
    return mean, add((x - mean) ** 2)[..., None] / size


def sequential(a: Any) -> Any:
    """Add up one after the other."""
    return np.add.accumulate(a, axis=-1)[..., -1]


def backwards(a: Any) -> Any:
    """Add up from the end."""
    return sequential(a[..., ::-1])


def in_lanes(a: Any, lanes: int = 32) -> Any:
    """Add up in lanes that are folded at the end, as a warp does."""
    pad = -a.shape[-1] % lanes
    padded = np.concatenate([a, np.zeros((*a.shape[:-1], pad), a.dtype)], axis=-1)
    sums = sequential(np.moveaxis(padded.reshape(*a.shape[:-1], -1, lanes), -2, -1))
    while sums.shape[-1] > 1:
        half = sums.shape[-1] // 2
        sums = sums[..., :half] + sums[..., half:]
    return sums[..., 0]


def two_off(root: Any) -> Any:
    """Move a reciprocal root by two units in the last place."""
    return np.nextafter(np.nextafter(root, root.dtype.type(np.inf)), root.dtype.type(np.inf))


def usual(a: Any) -> Any:
    """Add up as NumPy does."""
    return a.sum(-1)


def layer_norm(statistics: Any, root: Any = None, add: Any = usual) -> Any:
    """Return the passes of a layer norm with these statistics."""

    def parts(x: Any, eps: float) -> tuple[Any, Any]:
        mean, var = statistics(x)
        rstd = 1 / np.sqrt(var + x.dtype.type(eps))
        rstd = root(rstd) if root else rstd
        return (x - mean) * rstd, rstd

    def lifted(*arrays: Any) -> list[Any]:
        return [a.astype(np.promote_types(a.dtype, F32)) for a in arrays]

    def forward(x: Any, gamma: Any, beta: Any, eps: float) -> Any:
        x_, gamma_, beta_ = lifted(x, gamma, beta)
        return (gamma_ * parts(x_, eps)[0] + beta_).astype(x.dtype)

    def backward(dy: Any, x: Any, gamma: Any, beta: Any, eps: float) -> Any:
        dy_, x_, gamma_ = lifted(dy, x, gamma)
        x_hat, rstd = parts(x_, eps)
        size = x_.dtype.type(x.shape[-1])
        g = gamma_ * dy_
        centre, projection = (add(a)[..., None] / size for a in (g, g * x_hat))
        dx = rstd * (g - centre - x_hat * projection)
        rows = tuple(range(x.ndim - 1))
        sums = [(dy_ * x_hat).sum(axis=rows), dy_.sum(axis=rows)]
        return (dx.astype(x.dtype), *(a.astype(gamma.dtype) for a in sums))

    return forward, backward


def llama() -> Any:
    """Return Llama's RMS norm: x_hat is rounded to the type of x, and then multiplied."""

    def x_hat_of(x: Any, eps: float) -> tuple[Any, Any]:
        wide = x.astype(F32)
        rstd = 1 / np.sqrt((wide * wide).mean(-1, keepdims=True) + F32(eps))
        return wide * rstd, rstd

    def forward(x: Any, gamma: Any, eps: float) -> Any:
        return (gamma * x_hat_of(x, eps)[0].astype(x.dtype)).astype(x.dtype)

    def backward(dy: Any, x: Any, gamma: Any, eps: float) -> Any:
        x_hat, rstd = x_hat_of(x, eps)
        rounded = x_hat.astype(x.dtype)
        rows = tuple(range(x.ndim - 1))
        dgamma = (dy * rounded).astype(F32).sum(axis=rows)
        g = (dy * gamma).astype(x.dtype).astype(F32)
        dx = rstd * (g - x_hat * (g * x_hat).mean(-1, keepdims=True))
        return dx.astype(x.dtype), dgamma.astype(gamma.dtype)

    return forward, backward


def gemma() -> Any:
    """Return Gemma's RMS norm: the scale is 1 + gamma, in float32, rounded once."""
    forward, backward = plain_kernel("rms_norm", scheme="gemma")
    return forward, backward


def float32_out(norm: str) -> Any:
    """Return a kernel that is given half precision and returns float32."""
    passes = plain_kernel(norm)

    def run(kernel: Any, *arguments: Any) -> Any:
        return kernel(*(a.astype(F32) if isinstance(a, np.ndarray) else a for a in arguments))

    return tuple(partial(run, kernel) for kernel in passes)


def right_kernels() -> Iterator[Right]:
    """Yield every kernel."""
    for dtype in ("float32", "float64"):
        yield Right("Welford", "layer_norm", layer_norm(welford), dtype)
        for lanes in (4, 32):
            statistics = partial(welford, lanes=lanes)
            yield Right(f"Welford, {lanes} lanes", "layer_norm", layer_norm(statistics), dtype)
        naive = Accumulator(np.dtype(dtype), "naive")
        for add in (sequential, backwards):
            kernel = layer_norm(partial(two_pass, add=add), add=add)
            yield Right(f"two passes, {add.__name__}", "layer_norm", kernel, dtype, naive)
        kernel = layer_norm(partial(two_pass, add=in_lanes), add=in_lanes)
        yield Right("two passes, in lanes", "layer_norm", kernel, dtype)
        rough = Accumulator(np.dtype(dtype), rsqrt_ulp=2)
        plain = partial(two_pass, add=usual)
        yield Right(
            "reciprocal root 2 ulp off", "layer_norm", layer_norm(plain, two_off), dtype, rough
        )
    for dtype in ("float16", BF16):
        plain = partial(two_pass, add=usual)
        yield Right("float32 inside", "layer_norm", layer_norm(plain), dtype)
        yield Right("float32 inside, Welford", "layer_norm", layer_norm(welford), dtype)
        yield Right("Llama", "rms_norm", llama(), dtype, None, {"scheme": "llama"})
        yield Right("Gemma", "rms_norm", gemma(), dtype, None, {"scheme": "gemma"})
        for norm in NORMS:
            yield Right("float32 out", norm, float32_out(norm), dtype)
        for norm in ("layer_norm", "rms_norm"):
            weights = {"weights": "float32"}
            yield Right("float32 weights", norm, plain_kernel(norm), dtype, None, weights)


def main() -> None:
    """Count the false alarms, of each kernel over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    kernels = [kernel for kernel in right_kernels() if options.only in kernel.name]
    alarms = [0] * len(kernels)
    for seed in range(options.seeds):
        trials: dict[str, Trial] = {}  # several declare the same
        for number, (_, norm, passes, *declared) in enumerate(kernels):
            same = str((norm, declared))
            if same not in trials:
                dtype, accumulate, more = declared
                trials[same] = Trial(norm, dtype, accumulate, seed, {}, threads=0, **more)
            report = trials[same].of(*passes)
            if not report.passed:
                alarms[number] += 1
                print(report, file=sys.stderr)
    for kernel, count in zip(kernels, alarms, strict=True):
        print(f"{kernel.norm}, {kernel.name}, {kernel.dtype}: {count} of {options.seeds}")


if __name__ == "__main__":
    main()

"""Write the kill table: which checker catches which known-wrong kernel, as a Markdown page.

Every mutant of every norm is given to the gradient checkers of PyTorch, JAX and autograd, each with
its own default tolerances, to this library's `check_gradients`, and to its `check_kernel`. The
gradient checkers get two kinds of input: x from N(0, 1) with eps 1e-5, as such tests are commonly
written, and the case "ordinary" of this library's battery. Run from the repository's root::

    python -m benchmarks.kill_table --out docs/kill_table.md
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from numpy_norms.oracle.sets import FEATURE_NORMS, NORMS
from numpy_norms.verify import Mutant, cases, check_gradients, mutants
from numpy_norms.verify.kernel import Trial
from numpy_norms.verify.plain import plain_kernel

from .gradient_checkers import CHECKERS, Checker, Kernel
from .machine import cores
from .pages import deliver

OURS, GRADIENTS = "check_kernel", "check_gradients"
RIGHT = "(right kernels)"
Share = dict[tuple[str, str], list[bool]]


def common_inputs(norm: str, seed: int) -> tuple[list[np.ndarray], float, int | None]:
    """Return what a test commonly takes: x from N(0, 1), random gamma and beta, eps 1e-5."""
    rng = np.random.default_rng([seed, NORMS.index(norm)])
    shape = (2, 3, 64) if norm in FEATURE_NORMS else (5, 6, 7)
    features = shape[-1] if norm in FEATURE_NORMS else shape[1]
    parameters = rng.standard_normal((1 if norm == "rms_norm" else 2, features))
    return [rng.standard_normal(shape), *parameters], 1e-5, 2 if norm == "group_norm" else None


def our_inputs(norm: str, seed: int) -> tuple[list[np.ndarray], float, int | None]:
    """Return the first case of the battery, which is small enough for every checker."""
    case = cases(norm, dtype=np.float64, seed=seed)[0]
    beta = [] if norm == "rms_norm" else [case.beta]
    return [case.x, case.gamma, *beta], case.eps, case.num_groups


INPUTS = {"common": common_inputs, "ours": our_inputs}


def rejects(checker: Checker, kernel: Kernel) -> bool | None:
    """Return whether another package's checker rejects a kernel; None if it is not installed."""
    module = checker.module()
    if module is None:
        return None
    try:
        return not checker.accepts(module, kernel)
    except (ArithmeticError, RuntimeError, ValueError):
        return True  # it stopped at what the kernel returned, a NaN for instance


def gradients_reject(kernel: Kernel, seed: int) -> bool:
    """Return whether this library's `check_gradients` rejects a kernel."""
    report = check_gradients(
        lambda *arrays: (kernel.y(*arrays), arrays),
        lambda dy, arrays: kernel.gradients(dy, *arrays),
        *kernel.arrays,
        seed=seed,
    )
    return not report.passed


def other_checkers(seeds: int) -> Share:
    """Give every kernel to every gradient checker."""
    caught: Share = defaultdict(list)
    for norm in NORMS:
        right = Mutant(RIGHT, norm, "", "", "", "", *plain_kernel(norm))
        for mutant in (right, *mutants(norm)):
            print(norm, mutant.name, file=sys.stderr)
            for seed in range(seeds):
                for words, inputs in INPUTS.items():
                    (x, *parameters), eps, groups = inputs(norm, seed)
                    kernel = Kernel(
                        mutant.forward, mutant.backward, x, tuple(parameters), eps, groups
                    )
                    for checker in CHECKERS:
                        verdict = rejects(checker, kernel)
                        if verdict is not None:
                            caught[mutant.name, f"{checker.name}, {words}"].append(verdict)
                    verdict = gradients_reject(kernel, seed)
                    caught[mutant.name, f"{GRADIENTS}, {words}"].append(verdict)
    return caught


def our_checker(seeds: int) -> tuple[Share, Share]:
    """Give every kernel to `check_kernel`: whether it is caught, and whether it is named first."""
    caught: Share = defaultdict(list)
    named: Share = defaultdict(list)
    with ProcessPoolExecutor(cores()) as pool:
        trials = [(norm, seed) for norm in NORMS for seed in range(seeds)]
        for (norm, seed), reports in zip(trials, pool.map(_reports, trials), strict=True):
            right, *wrong = reports
            caught[RIGHT, OURS].append(not right[0])
            for mutant, (passed, first) in zip(mutants(norm), wrong, strict=True):
                caught[mutant.name, OURS].append(not passed)
                named[mutant.name, OURS].append(first == mutant.name)
            seen = sum(not passed for passed, _ in wrong)
            print(f"{norm} seed {seed}: {seen} of {len(wrong)} caught", file=sys.stderr, flush=True)
    return caught, named


def _reports(trial: tuple[str, int]) -> list[tuple[bool, str | None]]:
    """Whether the right kernel and each mutant pass, and the first suspect."""
    norm, seed = trial
    kernels = [plain_kernel(norm), *((m.forward, m.backward) for m in mutants(norm))]
    trials = Trial(norm, np.float32, None, seed, {})
    reports = [trials.of(*kernel) for kernel in kernels]
    return [(r.passed, r.suspects[0] if r.suspects else None) for r in reports]


def page(seeds: int, our_seeds: int) -> Iterator[str]:
    """Yield the lines of the page."""
    others = other_checkers(seeds)
    ours, named = our_checker(our_seeds)
    caught = others | ours
    columns = [OURS, *dict.fromkeys(column for _, column in caught if column != OURS)]
    names = [RIGHT, *dict.fromkeys(mutant.name for norm in NORMS for mutant in mutants(norm))]
    versions = ", ".join(f"{c.package} {c.version()}" for c in CHECKERS[1:])
    yield "# Kill table"
    yield ""
    yield (
        f"Measured {datetime.date.today()} by `benchmarks/kill_table.py`: {versions}, "
        f"NumPy {np.__version__}, Python {platform.python_version()}, {platform.machine()}."
    )
    yield ""
    yield (
        "Each cell is the share of norms and seeds in which a checker rejects the kernel: "
        f"{our_seeds} seeds for `check_kernel`, {seeds} for the others. The first row is kernels "
        "without a mistake; to reject them is a false alarm. The other packages' checkers run with "
        "their default tolerances, in float64. They compare a backward pass with its own forward "
        "pass, so that a mistake which both share is out of their reach by design. *common* is x "
        'from N(0, 1) with eps 1e-5; *ours* is the case "ordinary" of the battery.'
    )
    yield ""
    yield "| kernel | " + " | ".join(columns) + " |"
    yield "|---|" + "---|" * len(columns)
    for name in names:
        cells = [_share(caught.get((name, column), [])) for column in columns]
        yield f"| {name} | " + " | ".join(cells) + " |"
    wrong = [name for name in names if name != RIGHT]
    totals = [_share([v for n in wrong for v in caught.get((n, c), [])]) for c in columns]
    yield "| **all mistakes** | " + " | ".join(totals) + " |"
    yield ""
    first = [value for values in named.values() for value in values]
    yield f"`check_kernel` names the right mistake first in {_share(first)} of {len(first)} runs."
    yield ""
    yield from _catalogue()


def _share(values: list[bool]) -> str:
    return f"{sum(values) / len(values):.0%}" if values else ""


def _catalogue() -> Iterator[str]:
    yield "## The mistakes"
    yield ""
    yield "| name | what is wrong | formula | seen in |"
    yield "|---|---|---|---|"
    unique = {mutant.name: mutant for norm in NORMS for mutant in mutants(norm)}
    for name, mutant in unique.items():
        formula = mutant.formula.replace("|", "\\|")
        yield f"| {name} | {mutant.what} | `{formula}` | {mutant.issue} |"


def main() -> None:
    """Print the page or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="for the gradient checkers")
    parser.add_argument("--our-seeds", type=int, default=50)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    deliver(page(options.seeds, options.our_seeds), options.out)


if __name__ == "__main__":
    main()

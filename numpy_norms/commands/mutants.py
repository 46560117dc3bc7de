"""``mutants``: which gradient checker catches which known-wrong kernel."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from numpy_norms.cli import DISAGREEMENT, OK
from numpy_norms.commands.arguments import Progress, norm_among, seed
from numpy_norms.commands.gradient_checkers import CHECKERS, MISSING, Checker, Kernel
from numpy_norms.commands.table import print_table, print_text
from numpy_norms.oracle.sets import FEATURE_NORMS, NORMS
from numpy_norms.verify import check_kernel, mutants
from numpy_norms.verify.plain import plain_kernel

HELP = "show which gradient checker catches which known-wrong kernel"
EPILOG = """\
Every checker gets the same: x from N(0, 1), random gamma and beta, eps 1e-5, float64, and its own
default tolerances. numpy_norms' check_kernel is given the kernel alone and chooses its inputs.
The first row is a right kernel: to reject it is a false alarm. A norm takes a few minutes.
"""
NOTE = "A gradient checker compares the backward with the forward pass: what both share is unseen."
SHAPES = {
    "batch_norm": (7, 3, 5),
    "layer_norm": (4, 64),
    "group_norm": (3, 6, 5),
    "instance_norm": (3, 4, 7),
    "rms_norm": (4, 64),
}
OURS = "numpy_norms"
RIGHT = "(the right kernel)"
CAUGHT, MISSED, ACCEPTED, REJECTED = "caught", "missed", "accepted", "REJECTED"


@dataclass(frozen=True)
class Trial:
    """One kernel: what is wrong with it, and whether each checker caught that."""

    norm: str
    name: str
    what: str
    formula: str
    issue: str
    verdicts: dict[str, str]
    suspect: str

    @property
    def named(self) -> bool:
        """Whether this library's first suspect is the mistake."""
        return self.suspect == self.name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mutants`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "norm",
        nargs="?",
        type=norm_among(NORMS),
        metavar="NORM",
        help="all, or one of: " + ", ".join(NORMS),
    )
    parser.add_argument("--list", action="store_true", help="show the catalogue, and run nothing")
    parser.add_argument("--seed", type=seed, default=0, help="seed of every random array; 0")
    parser.add_argument("--json", action="store_true", help="print every result, as JSON")


def run(args: argparse.Namespace) -> int:
    """Try every kernel; return 0 where this library's checker makes no mistake, 1 otherwise."""
    norms = [args.norm] if args.norm else list(NORMS)
    if args.list:
        _print_catalogue(norms, as_json=args.json)
        return OK
    progress = Progress()
    trials = []
    for norm in norms:
        trials += list(_trials(norm, args.seed, progress))
    progress("")
    versions = {c.name: c.version() for c in CHECKERS}
    if args.json:
        content = {"seed": args.seed, "numpy": np.__version__, "checkers": versions}
        print(json.dumps({**content, "kernels": [asdict(trial) for trial in trials]}, indent=1))
    else:
        for norm in norms:
            _print([trial for trial in trials if trial.norm == norm], versions)
    right = all(trial.verdicts[OURS] in (CAUGHT, ACCEPTED) for trial in trials)
    return OK if right else DISAGREEMENT


def _trials(norm: str, seed: int, progress: Progress) -> Iterator[Trial]:
    catalogue = mutants(norm)
    plain = plain_kernel(norm)
    yield _trial(norm, RIGHT, ("nothing", "", ""), plain, seed)
    for number, mutant in enumerate(catalogue, 1):
        progress(f"{norm} {number} of {len(catalogue)}: {mutant.name}")
        texts = (mutant.what, mutant.formula, mutant.issue)
        yield _trial(norm, mutant.name, texts, (mutant.forward, mutant.backward), seed)


def _trial(
    norm: str,
    name: str,
    texts: tuple[str, str, str],
    passes: tuple[Callable[..., Any], Callable[..., Any]],
    seed: int,
) -> Trial:
    kernel = _kernel(norm, *passes, seed)
    accepts = {checker.name: _accepts(checker, kernel) for checker in CHECKERS}
    report = check_kernel(norm, *passes, seed=seed)
    accepts[OURS] = report.passed
    words = (REJECTED, ACCEPTED) if name == RIGHT else (CAUGHT, MISSED)
    verdicts = {n: MISSING if a is None else words[a] for n, a in accepts.items()}
    return Trial(norm, name, *texts, verdicts, report.suspects[0] if report.suspects else "")


def _kernel(
    norm: str, forward: Callable[..., Any], backward: Callable[..., Any], seed: int
) -> Kernel:
    rng = np.random.default_rng([seed, NORMS.index(norm)])
    shape = SHAPES[norm]
    features = shape[-1] if norm in FEATURE_NORMS else shape[1]
    count = 1 if norm == "rms_norm" else 2
    parameters = tuple(rng.standard_normal((count, features)))
    groups = 2 if norm == "group_norm" else None
    return Kernel(forward, backward, rng.standard_normal(shape), parameters, 1e-5, groups)


def _accepts(checker: Checker, kernel: Kernel) -> bool | None:
    module = checker.module()
    if module is None:
        return None
    try:
        return checker.accepts(module, kernel)
    except (ArithmeticError, RuntimeError, ValueError):
        return False  # it stopped at what the kernel returned, a NaN for instance


def _print(trials: Sequence[Trial], versions: dict[str, str]) -> None:
    names = [*versions, OURS]
    norm = trials[0].norm
    print_text(f"{norm}: x {SHAPES[norm]}; " + ", ".join(f"{n} {v}" for n, v in versions.items()))
    rows = [[trial.name, *(trial.verdicts[name] for name in names)] for trial in trials]
    wrong = [trial for trial in trials if trial.name != RIGHT]
    totals = [_total(wrong, name) for name in names]
    print_table(["kernel", *names], [*rows, ["caught", *totals]], align="l" * (len(names) + 1))
    named = sum(trial.named for trial in wrong)
    print_text(f"named first by {OURS}: {named} of {len(wrong)}")
    print_text(NOTE)
    print_text("")


def _total(trials: Sequence[Trial], name: str) -> str:
    verdicts = [trial.verdicts[name] for trial in trials]
    return MISSING if MISSING in verdicts else f"{verdicts.count(CAUGHT)} of {len(verdicts)}"


def _print_catalogue(norms: Sequence[str], *, as_json: bool) -> None:
    found = [mutant for norm in norms for mutant in mutants(norm)]
    if as_json:
        fields = ("norm", "name", "what", "formula", "issue")
        print(json.dumps([{f: getattr(m, f) for f in fields} for m in found], indent=1))
        return
    for norm in norms:
        rows = [[m.name, m.formula, m.issue] for m in found if m.norm == norm]
        print_text(norm)
        print_table(["name", "formula", "seen in"], rows, align="lll")
        print_text("")

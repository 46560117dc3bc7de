"""What `check` prints: two tables and a closing line, or JSON."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from numpy_norms.commands.check.findings import CENTRAL, COMPLEX, EXACT, PYTORCH, Finding
from numpy_norms.commands.table import paint, print_table, print_text

OUTPUTS = ("y", "dx", "dgamma", "dbeta")
ROUTES = (COMPLEX, CENTRAL, PYTORCH)


@dataclass(frozen=True)
class Report:
    """All findings, and under which circumstances they were made."""

    findings: Sequence[Finding]
    skipped: Sequence[str]
    seed: int
    eps: float
    input: str | None
    torch: str | None
    seconds: float

    @property
    def agrees(self) -> bool:
        """Whether every finding agrees."""
        return all(finding.agrees for finding in self.findings)

    def print_json(self) -> None:
        """Print everything as one JSON object."""
        about = {
            "agrees": self.agrees,
            "seed": self.seed,
            "eps": self.eps,
            "input": self.input,
            "numpy": np.__version__,
            "torch": self.torch,
            "seconds": round(self.seconds, 2),
            "skipped": self.skipped,
        }
        print(json.dumps(about | {"findings": [_plain(f) for f in self.findings]}, indent=1))

    def print_tables(self) -> None:
        """Print the tables, what was skipped, every disagreement, and a closing line."""
        _print_title("Rounding: largest error in ulp, against 106-bit arithmetic")
        exact = _grouped(f for f in self.findings if f.route == EXACT)
        header = ["norm", "x", "dtype", *OUTPUTS, ""]
        print_table(header, [_rounding_row(group) for group in exact], align="lllrrrrl")
        print()
        _print_title("Other routes: largest relative difference, float64")
        others = _grouped(f for f in self.findings if f.route != EXACT)
        header = ["norm", COMPLEX, CENTRAL, self._pytorch(), ""]
        print_table(header, [self._routes_row(group) for group in others], align="lrrrl")
        print()
        for line in (*map("skipped {}".format, self.skipped), *self._disagreements()):
            print_text(line)
        print_text(self._closing())

    def _routes_row(self, group: Sequence[Finding]) -> list[str]:
        missing = "no result" if self.torch else "not installed"
        errors = [_largest(f.error for f in group if f.route == route) for route in ROUTES]
        cells = [missing if error is None else f"{error:.0e}" for error in errors]
        name = group[0].label if group[0].x == "x" else f"{group[0].label} of {group[0].x}"
        return [name, *cells, _verdict(group)]

    def _pytorch(self) -> str:
        # The build, as in 2.13.0+cpu, is in the JSON.
        return f"{PYTORCH} {self.torch.partition('+')[0]}" if self.torch else PYTORCH

    def _disagreements(self) -> list[str]:
        wrong = [f for f in self.findings if not f.agrees]
        lines = [
            f"{f.label}, {_name_of(f)} {f.dtype}: {f.output} is off by {f.error:.2g} "
            f"({f.route}), at most {f.limit:.2g} agrees"
            for f in wrong
        ]
        if wrong:
            norms = " ".join(dict.fromkeys(f.norm for f in wrong))
            source = f" --input {shlex.quote(self.input)}" if self.input else ""
            options = f"--seed {self.seed} --eps {self.eps}"
            lines.append(f"again: python -m numpy_norms check {norms}{source} {options}")
        return lines

    def _closing(self) -> str:
        count, wrong = len(self.findings), sum(not f.agrees for f in self.findings)
        result = f"{wrong} of {count} disagree" if wrong else f"{count} comparisons, all agree"
        torch = self._pytorch() if self.torch else "PyTorch not installed"
        return f"{result}; seed {self.seed}, NumPy {np.__version__}, {torch}, {self.seconds:.1f} s"


def _rounding_row(group: Sequence[Finding]) -> list[str]:
    errors = {f.output: f.error for f in group}
    cells = [_short(errors[name]) if name in errors else "" for name in OUTPUTS]
    return [group[0].label, _name_of(group[0]), group[0].dtype, *cells, _verdict(group)]


def _grouped(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Return the findings of each large case together, or of each norm on each x."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for f in findings:
        dtype = f.dtype if f.route == EXACT else ""
        groups.setdefault((f.x, f.norm, dtype), []).append(f)
    return list(groups.values())


def _name_of(f: Finding) -> str:
    shape = "×".join(map(str, f.shape))
    return shape if f.x == "x" else f"{f.x} {shape}"


def _largest(errors: Iterable[float]) -> float | None:
    """Return the largest error, NaN above all; None where there is none."""
    return max(errors, key=lambda e: (math.isnan(e), e), default=None)


def _short(ulps: float) -> str:
    return f"{ulps:.1e}" if ulps >= 100 else f"{ulps:.2f}"


def _verdict(group: Sequence[Finding]) -> str:
    return "ok" if all(f.agrees for f in group) else "DIFFERS"


def _plain(f: Finding) -> dict[str, object]:
    # JSON has no NaN and no infinity.
    error = f.error if math.isfinite(f.error) else str(f.error)
    unit = "ulp" if f.route == EXACT else "relative"
    return asdict(f) | {"error": error, "unit": unit, "agrees": f.agrees}


def _print_title(text: str) -> None:
    print_text(paint(text, "bold"))

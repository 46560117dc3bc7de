"""Sixty faults that are in no catalogue, each labelled before any diagnosis is run.

25 are those of public reports (`benchmarks.public_faults`), the others are drawn at random from the
grammar, with places and conditions (`numpy_norms.verify.faults.drawn`): those are left out that
change no result by more than its tolerance. A first finding agrees with the label if it names the
same output and the same kind, and either its place and condition, or as much as 99 % of the
evidence: then it selects the same elements. Run from the repository's root::

    python -m benchmarks.labelled_faults --out docs/labelled_faults.md
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from numpy_norms.verify import Report
from numpy_norms.verify.faults.drawn import Drawn, drawn
from numpy_norms.verify.kernel import Trial
from numpy_norms.verify.plain import plain_kernel
from numpy_norms.verify.runs import run

from .pages import deliver
from .public_faults import public_faults

FAULTS = 60
SEED = 15
SAME = 0.99
Label = tuple[str, str, str, str]


class Trying(NamedTuple):
    """A labelled fault and what was said of it."""

    source: str
    norm: str
    what: str
    label: Label
    report: Report

    @property
    def caught(self) -> bool:
        """Whether the kernel was rejected."""
        return not self.report.passed

    @property
    def said(self) -> Label:
        """What the first finding says."""
        if not self.report.diagnosis:
            return "", "", "", ""
        first = self.report.diagnosis[0]
        return first.output, first.kind, first.place, first.condition

    @property
    def agrees(self) -> bool:
        """Whether it is what the label says."""
        said = self.said
        same_place = said == self.label or self.report.diagnosis[0].share >= SAME
        return self.caught and said[:2] == self.label[:2] and same_place


@cache
def trial(norm: str) -> Trial:
    """Return the battery, made once."""
    return Trial(norm, np.float32, None, 0, {})


def trials(count: int) -> Iterator[Trying]:
    """Try the public faults, and then as many drawn ones as are wanted."""
    known = list(public_faults())
    for public in known:
        report = trial(public.norm).of(public.forward, public.backward)
        yield Trying(public.report, public.norm, public.what, public.label, report)
    left = count - len(known)
    for one in drawn(SEED):
        if left <= 0:
            return
        report = trial(one.norm).of(*one.passes)
        if not _hidden(one, report):
            left -= 1
            yield Trying("drawn", one.norm, one.fault.what, one.label, report)


def _hidden(one: Drawn, report: Report) -> bool:
    """Whether the fault changes no result by more than its tolerance: nobody could catch it."""
    made, right = trial(one.norm), plain_kernel(one.norm)
    for judge in made.judges if report.passed else ():
        wrong, good = (run(judge.case, *passes) for passes in (one.passes, right))
        for name, array in wrong.results.items():
            if judge.apart(name, array, good.results[name]) > 1:
                return False
    return report.passed


def page(count: int) -> Iterator[str]:
    """Yield the lines of the page."""
    tried = list(trials(count))
    caught, agree = sum(t.caught for t in tried), sum(t.agrees for t in tried)
    yield "# Faults that are in no catalogue"
    yield ""
    yield (
        f"Measured {datetime.date.today()} by `benchmarks/labelled_faults.py`, seed {SEED}, "
        f"NumPy {np.__version__}, float32 kernels."
    )
    yield ""
    yield (
        f"{len(tried)} kernels, {sum(t.source != 'drawn' for t in tried)} with faults of public "
        "reports and the others drawn at random from the grammar of faults, at places and under "
        "conditions. Each has a label, which was written before any diagnosis was run: the output, "
        "the kind of the fault, the place and the condition. "
        f"**{caught} of {len(tried)} are caught; the first finding agrees with the label for "
        f"{agree} ({agree / len(tried):.0%}).** It agrees if output and kind are the same, and "
        "either place and condition are too, or the finding explains 99% of the evidence or more, "
        "so that they select the same elements."
    )
    yield ""
    yield "| report | norm | fault | label | what is said | explains | agrees |"
    yield "|---|---|---|---|---|---|---|"
    for one in tried:
        first = one.report.diagnosis[0] if one.report.diagnosis else None
        cells = [
            one.source,
            one.norm,
            one.what,
            ", ".join(part for part in one.label if part),
            str(first) if first else "nothing",
            f"{first.share:.0%}" if first else "",
            "yes" if one.agrees else f"no: {one.said[0]}, {one.said[1]}",
        ]
        print(cells[0], cells[1], cells[2], "|", cells[4], "|", cells[6], file=sys.stderr)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    """Print the page or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=FAULTS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    deliver(page(options.faults), options.out)


if __name__ == "__main__":
    main()

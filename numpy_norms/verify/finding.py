"""What is wrong with one output of a kernel, as a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

__all__ = ["Finding", "told"]


@dataclass(frozen=True)
class Finding:
    """One sentence about one output.

    Parameters
    ----------
    output : str
        "y", "mean", "rstd", "dx", "dgamma", "dbeta", or an argument that was overwritten.
    kind : str
        The kind of the fault: "sign", "term left out", "factor", "axis", "block lost",
        "count wrong", "stride ignored", "stale buffer", "cast too early", "overwritten",
        "mask", "formula", "not repeatable"; "raises", "shape" where nothing came back that could
        be measured; "rounding" where errors are larger than declared and no fault fits;
        "unknown".
    what : str
        What is wrong.
    place : str
        Which elements are wrong: an index condition; empty if any may be.
    condition : str
        In which cases: a condition on sizes, values or layouts; empty if in all.
    share : float
        How much of the evidence it explains: 1 if every element that is wrong is what the fault
        makes of it, and every one that is right is out of its reach.
    formula, name, issue : str
        The wrong formula; of a fault in the catalogue its name and a public issue that had it.
    """

    output: str
    kind: str
    what: str
    place: str = ""
    condition: str = ""
    share: float = 1.0
    formula: str = ""
    name: str = ""
    issue: str = ""

    @property
    def where(self) -> str:
        """The place and the condition, as they are said."""
        return ", ".join(part for part in (self.place, self.condition) if part)

    def __str__(self) -> str:
        where = f", {self.where}" if self.where else ""
        formula = f": {self.formula}" if self.formula else ""
        return f"{self.output}{where}: {self.what}{formula}"


def told(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield the sentences, those that are the same of several outputs once."""
    same: dict[Finding, list[str]] = {}
    for finding in findings:
        key = replace(finding, output="", share=0.0)
        same.setdefault(key, []).append(finding.output)
    for key, outputs in same.items():
        share = min(f.share for f in findings if replace(f, output="", share=0.0) == key)
        listed = " and ".join([", ".join(outputs[:-1]), outputs[-1]] if outputs[1:] else outputs)
        seen = f"; {key.name}, {key.issue}" if key.issue else ""
        part = f" (explains {share:.0%} of what differs{seen})" if key.kind != "unknown" else ""
        yield f"{replace(key, output=listed)}{part}"

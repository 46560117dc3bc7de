"""A finding in the words of somebody who is told about code of their own."""

from __future__ import annotations

import re

from numpy_norms.verify import Case, Finding
from numpy_norms.verify.plain import View

# What a fault is called, and what is said to whoever made it.
FAILED = ("raises", "shape")  # nothing came back that could be compared
IS = "(?:is|are)"
SAID = (
    (
        rf"(.+) {IS} summed where the average over m is meant",
        "you summed {0} where the average over m = {m} is meant",
    ),
    (
        "(.+) is averaged over its n terms, which are added in the definition",
        "you averaged {0} over {terms}; its terms are added",
    ),
    (
        rf"(.+) {IS} divided by m, the size of a set, once more",
        "you divided {0} by m = {m} once more",
    ),
    ("(.+) is left out", "you left out {0}"),
    (
        "(.+) is taken as a constant: (.+) is missing from dx",
        "you took {0} as a constant: {1} is missing from dx",
    ),
    ("(.+) is missing from dx", "you left {0} out of dx"),
    ("(.+) is (?:lost|forgotten)", "you forgot {0}"),
    ("(.+) is never (?:written|computed).*", "you never compute {0}"),
    ("(.+) has the wrong sign", "{0} has the wrong sign"),
    (rf"(.+) {IS} held constant.*", "you held {0} constant: they depend on x too"),
    (rf"(.+) {IS} taken over (.+)", "you took {0} over {1}"),
    (rf"(.+) {IS} divided by (.+)", "you divided {0} by {1}"),
    (rf"(.+) {IS} multiplied by (.+)", "you multiplied {0} by {1}"),
    ("(.+) is subtracted from dx twice", "you subtracted {0} from dx twice"),
)


def in_your_words(finding: Finding, case: Case) -> str:
    """Say a finding to the author, with the sizes of the case that is shown."""
    where = f" ({finding.where})" if finding.where else ""
    declared = finding.formula.startswith("accumulate=")  # which is nothing that one can say here
    formula = f": {finding.formula}" if finding.formula and not declared else ""
    if finding.kind in ("unknown", "rounding", "not repeatable", *FAILED):
        return f"your {finding.output}{where}: {finding.what.removeprefix('raises ')}"
    return f"your {finding.output}{where}: {_said(finding.what, case)}{formula}"


def _said(what: str, case: Case) -> str:
    view = View.of(case.norm, case.x.shape, case.gamma.shape, case.num_groups or 1)
    rows = case.norm in ("layer_norm", "rms_norm")
    sizes = {"m": view.set_size, "terms": f"{view.sum_size} {'rows' if rows else 'positions'}"}
    # In batch norm as many terms are added for dgamma as a set has elements.
    if view.sum_size == view.set_size:
        for name in ("dgamma", "dbeta"):
            what = what.replace(
                f"{name} is divided by m, the size of a set, once more",
                f"{name} is averaged over its n terms, which are added in the definition",
            )
    several = re.split(r"(?<=is meant) and ", what)
    if len(several) > 1:
        return " and ".join(_said(part, case) for part in several)
    for pattern, words in SAID:
        if found := re.fullmatch(pattern, what):
            return words.format(*found.groups(), **sizes)
    return f"it equals ours, but {what}"

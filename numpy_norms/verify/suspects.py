"""Which known mistake resembles what a kernel did: its results beside those of every mutant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .arrangement import Arrangement
from .catalogue import mutants
from .plain import Kernel, plain_kernel
from .runs import Judge, Run, run

__all__ = ["suspects"]

_CAP = 1e6
_LIKENESS = 0.5
_SMALL = 20_000
_SHORTLIST = 5

Pair = tuple[Judge, Run]


def suspects(
    arrangement: Arrangement, judges: Sequence[Judge], runs: Sequence[Run], failed: set[str]
) -> tuple[str, ...]:
    """Return the names of mutants that a failing kernel resembles, likeliest first.

    The likeness of a kernel to a mutant is 1 - D(kernel, mutant) / D(kernel, expected), where D is
    the sum over cases and outputs of the logarithm of the largest distance in units of the
    tolerance, as far as that is above 1. A few cases make a shortlist, all of them the order. Who
    is no more like the kernel than plain NumPy without a mistake is no suspect.

    Parameters
    ----------
    arrangement : Arrangement
    judges, runs : sequence of Judge, Run
        Every case with what the kernel did in it.
    failed : set of str
        Names of the cases in which it failed.
    """
    norm = arrangement.norm
    pairs = sorted(zip(judges, runs, strict=True), key=lambda pair: pair[0].case.x.size)
    wrong = [pair for pair in pairs if pair[0].case.name in failed]
    if not wrong:
        return ()
    small = [pair for pair in pairs if pair[0].case.x.size <= _SMALL]
    compared = small if wrong[0][0].case.x.size <= _SMALL else wrong
    kernels = {mutant.name: (mutant.forward, mutant.backward) for mutant in mutants(norm)}
    likeness = _likeness(arrangement, kernels, wrong[:_SHORTLIST])
    best = {name: kernels[name] for name in list(likeness)[:_SHORTLIST]}
    likeness = _likeness(arrangement, best, compared)
    right = _likeness(arrangement, {"plain": plain_kernel(norm)}, compared)
    least = max(_LIKENESS, right["plain"])
    return tuple(name for name, alike in likeness.items() if alike > least)


def _likeness(
    arrangement: Arrangement, kernels: Mapping[str, tuple[Kernel, Kernel]], pairs: Sequence[Pair]
) -> dict[str, float]:
    """Return how much what was found resembles each kernel, from most to least."""
    truth = sum(_distance(judge, found, None) for judge, found in pairs)
    likeness = dict.fromkeys(kernels, 0.0)
    for name, kernel in kernels.items() if truth else ():
        passes = arrangement.arranged(*kernel)
        apart = sum(_distance(judge, found, run(judge.case, *passes)) for judge, found in pairs)
        likeness[name] = 1 - apart / truth
    return dict(sorted(likeness.items(), key=lambda entry: -entry[1]))


def _distance(judge: Judge, found: Run, mutant: Run | None) -> float:
    """Add up the distances between the results of a kernel and a mutant, or the expected ones."""
    changed = set() if mutant is None else set(mutant.changed)
    total = math.log(_CAP) * len(changed ^ set(found.changed))
    for name, got in found.results.items():
        other = judge.expected[name] if mutant is None else mutant.results.get(name)
        if other is None or got.shape != other.shape:
            total += math.log(_CAP)
        else:
            total += math.log(min(max(judge.apart(name, got, other), 1.0), _CAP))
    return total

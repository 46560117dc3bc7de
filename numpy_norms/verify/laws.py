"""Laws that every right kernel obeys: they need no expected values.

With h = x_hat, g = gamma dy and sums over a set:

    (V7) sum dx = 0                                             all but RMS norm
    (V8) sum dx h = eps r^3 sum g h
    (V9) sum gamma dgamma + sum beta dbeta = sum dy y           Euler's identity
    (V10) f(-x; gamma, -beta) = -f(x; gamma, beta)
    (V11) f(2 x; 4 eps) = f(x; eps), and dx is halved
    (V12) the backward pass is linear in dy

A law may be missed by as much as the tolerances of what stands in it add up to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .arrangement import Arrangement
from .battery import Case
from .judge import Judge
from .plain import Array
from .report import Row
from .runs import Run

__all__ = ["law_rows"]


def law_rows(
    arrangement: Arrangement,
    judge: Judge,
    found: Run,
    call: Callable[[Case], Run],
    *,
    any_eps: bool = True,
) -> list[Row]:
    """Return a row for each law that the passes given can be held to, of what a case came to."""
    case = judge.case
    mirrored = _times(-1, replace(case, beta=-case.beta))
    scaled = _times(2, replace(case, eps=4 * case.eps))
    doubled = replace(case, dy=2 * case.dy)
    got = [call(other) for other in (mirrored, scaled, doubled)]
    rows = []

    def hold(law: str, left: Array, right: Array | float, tolerance: Array) -> None:
        off, allowed = abs(left - right), np.maximum(tolerance, np.finfo(float).tiny)
        ratio = float(np.nan_to_num((off / allowed).max(), nan=np.inf, posinf=np.inf))
        rows.append(Row(case.name, law, ratio, ratio, ratio, ratio <= 1, law=True))

    def every(*names: str) -> bool:
        return all(
            name in each.results and each.results[name].shape == judge.expected[name].shape
            for each in (found, *got)
            for name in names
        )

    if every("y"):
        y, allowed = found.results["y"], 2 * judge.tolerances["y"]
        hold("f(-x) = -f(x)", got[0].results["y"], -y, allowed)
        if any_eps:
            hold("f(2x; 4 eps) = f(x; eps)", got[1].results["y"], y, allowed)
    if every("dx"):
        dx, allowed = found.results["dx"], 3 * judge.tolerances["dx"]
        if any_eps:
            hold("dx of 2x, 4 eps is halved", 2 * got[1].results["dx"], dx, allowed)
        hold("dx is linear in dy", got[2].results["dx"], 2 * dx, allowed)
        _set_laws(arrangement, judge, found, hold)
    if every("y", "dgamma") and (case.norm == "rms_norm" or every("dbeta")):
        _euler(judge, found, hold)
    return rows


def _times(factor: float, case: Case) -> Case:
    """Return the case with x, and the part of it that is given apart, times a power of two."""
    residual = None if case.residual is None else factor * case.residual
    return replace(case, x=factor * case.x, residual=residual)


def _set_laws(arrangement: Arrangement, judge: Judge, found: Run, hold: Any) -> None:
    case = judge.case
    view = arrangement.view(arrangement.inward(case.x), case.gamma, case.num_groups)

    def seen(a: Array) -> Array:
        return arrangement.inward(np.asarray(a, np.float64)).reshape(view.shape)

    def total(a: Array) -> Array:
        return np.asarray(a.sum(axis=view.over))

    x, dx, allowed = (seen(a) for a in (case.x, found.results["dx"], judge.tolerances["dx"]))
    g = judge.scale.reshape(view.params) * seen(case.dy)
    centred = case.norm != "rms_norm"
    deviation = x - x.mean(axis=view.over, keepdims=True) * centred
    r = ((deviation**2).mean(axis=view.over, keepdims=True) + case.eps) ** -0.5
    h = deviation * r
    if centred:
        hold("sum dx = 0", total(dx), 0.0, total(allowed))
    law = total(case.eps * r**3 * g * h)
    hold("sum dx x_hat = eps r^3 sum g x_hat", total(dx * h), law, total(allowed * abs(h)))


def _euler(judge: Judge, found: Run, hold: Any) -> None:
    case, results, allowed = judge.case, found.results, judge.tolerances
    scale = judge.scale
    left = (scale * results["dgamma"]).sum()
    slack = (abs(scale) * allowed["dgamma"]).sum() + (abs(case.dy) * allowed["y"]).sum()
    if case.norm != "rms_norm":
        left = left + (case.beta * results["dbeta"]).sum()
        slack = slack + (abs(case.beta) * allowed["dbeta"]).sum()
    hold("sum gamma dgamma + beta dbeta = sum dy y", left, (case.dy * results["y"]).sum(), slack)

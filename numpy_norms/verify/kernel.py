"""Checking a kernel of one of the norms: the battery, the expected values, the laws, the report."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from numpy_norms.checks import choice

from . import masked
from .arrangement import Arrangement
from .asked import floating, kernels, reachable, whole_number, yes_or_no
from .battery import Case, Values, case_of, cases, planned
from .diagnosis import diagnose
from .diagnosis.sharpening import Probe
from .finding import Finding
from .judge import Judge
from .laws import law_rows
from .plain import SCHEMES, Kernel, as_dtype
from .properties import REQUIRABLE, properties, required_rows
from .recipes import RECIPES
from .report import Report, Row
from .runs import Contract, Run, library_kernel, run
from .shapes import sized
from .tolerances import Accumulator

__all__ = ["Trial", "check_kernel"]

SMALL = 20_000  # elements of a case that several threads work on at once


def check_kernel(
    norm: str,
    forward: Kernel | None = None,
    backward: Kernel | None = None,
    *,
    dtype: DTypeLike = np.float32,
    accumulate: DTypeLike | Accumulator | None = None,
    seed: int = 0,
    scheme: str = "exact",
    weights: DTypeLike | None = None,
    eps: float | None = None,
    saved: bool = False,
    residual: bool = False,
    where: bool = False,
    in_place: str | Sequence[str] = (),
    require: str | Sequence[str] = (),
    sizes: str = "usual",
    shapes: Sequence[tuple[int, ...]] | None = None,
    num_groups: int | None = None,
    empty: bool = False,
    threads: int = 2,
    **options: Any,
) -> Report:
    """Check a normalization kernel on a designed battery, and say what is wrong with it, and where.

    Its results are compared with those of this library in a wider type, within tolerances that
    know the condition of each set, and with laws that need no expected values. Every case is run
    twice, and the small ones from several threads at once.

    Parameters
    ----------
    norm : str
        One of "batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm".
    forward : callable, optional
        ``forward(x, gamma, beta, eps) -> y``, or ``(y, mean, rstd)``, which are judged too; group
        norm has ``num_groups`` after ``x``, RMS norm no ``beta`` and no ``mean``. Anything that
        ``np.asarray`` takes may come back.
    backward : callable, optional
        ``backward(dy, x, gamma, beta, eps) -> (dx, dgamma, dbeta)``, or dx alone, or None for what
        it does not compute. A pass that is not given is not checked; if neither is, this library's
        own are.
    dtype : dtype, default float32
        The type of the arrays that the kernel is given.
    accumulate : dtype or Accumulator, optional
        What the kernel declares to add up in; the wider of float32 and `dtype` by default.
    seed : int, default 0
        Of the values in the battery.
    scheme : {"exact", "llama", "gemma", "onnx"}
        Where the kernel rounds, or that its gamma is stored as a distance from 1.
    weights : dtype, optional
        The type of gamma and beta, if another than `dtype`.
    eps : float, optional
        The one eps that the kernel knows.
    saved : bool, default False
        Whether backward is given, after eps, what forward returned after y.
    residual : bool, default False
        Whether forward is ``forward(x, residual, gamma, ...)`` and adds the two first. It returns
        y, or y and the sum; backward is given the sum as x.
    where : bool, default False
        Whether both passes are given, after eps, a boolean array of the shape of x that says what
        counts. What it leaves out, whole sets among it, may be anything; dy is 0 there, and y and
        dx are not looked at.
    in_place : str or sequence of str
        Arguments that it may write into, of x, residual, gamma, beta, dy.
    require : str or sequence of {"repeatable", "batch_invariant"}
        Properties that the report tells of every kernel, and that this one promises.
    sizes : {"usual", "all"}
        All the sizes at which kernels change their ways, or ten shapes.
    shapes : sequence of shapes, optional
        What the kernel supports: nothing else is run.
    num_groups : int, optional
        Of a group norm with `shapes`.
    empty : bool, default False
        Whether it is to be right for an empty batch.
    threads : int, default 2
        How many threads call it at once; 0 for none.
    **options
        `axis` (layer, RMS norm) or `channel_axis`: where the kernel expects its axes.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If there is no such norm, scheme or property, or the norm has none of `shapes`.
    TypeError
        If the norm has no such option, a pass is no function, or a type none of float16, bfloat16,
        float32 and float64.

    Examples
    --------
    >>> def forward(x, gamma, beta, eps):
    ...     x_hat = (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + eps)
    ...     return gamma * x_hat + beta
    >>> report = check_kernel("layer_norm", forward)
    >>> report.passed
    False
    >>> print(report.diagnosis[0])
    y: eps is added to the standard deviation: r = 1 / (sqrt(var) + eps)
    """
    kernels(forward, backward, accumulate)
    whole_number("threads", threads)
    yes_or_no(saved=saved, residual=residual, where=where, empty=empty)
    if isinstance(shapes, Iterable) and not isinstance(shapes, (list, tuple, str)):
        shapes = [tuple(shape) for shape in shapes]
    places = (in_place,) if isinstance(in_place, str) else tuple(in_place)
    reachable(places)
    battery = {
        "weights": weights,
        "eps": eps,
        "residual": residual,
        "where": where,
        "sizes": sizes,
        "shapes": shapes,
        "num_groups": num_groups,
        "empty": empty,
    }
    return Trial(
        norm,
        dtype,
        accumulate,
        seed,
        options,
        contract=Contract(saved, residual, places),
        scheme=scheme,
        require=(require,) if isinstance(require, str) else tuple(require),
        threads=threads,
        **battery,
    ).of(forward, backward)


class Trial:
    """The battery with everything that does not depend on the kernel: made once, used for many."""

    def __init__(
        self,
        norm: str,
        dtype: DTypeLike,
        accumulate: DTypeLike | Accumulator | None,
        seed: int,
        options: dict[str, Any],
        *,
        contract: Contract | None = None,
        scheme: str = "exact",
        require: tuple[str, ...] = (),
        threads: int = 2,
        **battery: Any,
    ) -> None:
        choice("scheme", scheme, SCHEMES)
        for promise in require:
            choice("require", promise, REQUIRABLE)
        self.arrangement = Arrangement.of(norm, options)
        self.dtype = floating("dtype", dtype)
        self.contract = contract or Contract()
        self.scheme, self.require, self.threads = scheme, require, threads
        asked = {"dtype": self.dtype, "seed": seed, **options}
        asked |= {
            name: value
            for name, value in battery.items()
            if value is not None and value is not False and value != "usual"
        }
        if scheme == "gemma":
            asked["scheme"] = scheme
        every = cases(norm, **asked)
        self.masked = [case for case in every if isinstance(case.where, np.ndarray)]
        chosen = every[: len(every) - len(self.masked)]
        self.made_by = _written(norm, asked)
        self.seed, self.accumulate = seed, accumulate
        self.values = Values(
            self.dtype,
            as_dtype(asked["weights"]) if "weights" in asked else None,
            scheme,
            asked.get("eps"),
            bool(asked.get("residual")),
            bool(asked.get("where")),
        )
        self.whole, self.any_eps = "shapes" not in asked, "eps" not in asked
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of means of nothing
            self.judges = [self._judge(case) for case in chosen]
            self.baselines = [judge.plain_errors() for judge in self.judges]

    def _judge(self, case: Case) -> Judge:
        return Judge(case, self.arrangement, self.dtype, self.accumulate, self.scheme)

    def of(self, forward: Kernel | None, backward: Kernel | None) -> Report:
        """Return what a kernel does on the battery."""
        norm = self.arrangement.norm
        if forward is None and backward is None:
            forward, backward = self._library()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._report(norm, forward, backward)

    def _report(self, norm: str, forward: Kernel | None, backward: Kernel | None) -> Report:
        def call(case: Case) -> Run:
            return run(case, forward, backward, self.contract)

        first = [call(judge.case) for judge in self.judges]
        again = [call(judge.case) for judge in self.judges[::-1]][::-1]
        has = properties(
            self.arrangement,
            self.judges[0].case,
            call,
            list(zip(first, again, strict=True)),
            alone=self.whole,
        )
        judges, runs, baselines = list(self.judges), list(first), list(self.baselines)
        names = [judge.case.name for judge in judges]
        for number in range(len(first))[::-1]:
            if again[number].bits() != first[number].bits():
                self._add(judges, runs, baselines, names, number, again[number], "called again")
        for number, found in self._threaded(call, first):
            found.traits["threads"] = 1
            self._add(judges, runs, baselines, names, number, found, "several threads")
        outputs = dict.fromkeys(n for found in first for n in (*found.results, *found.failures))
        rows = [
            replace(row, case=name)
            for name, judge, found, beside in zip(names, judges, runs, baselines, strict=True)
            for row in _rows(judge, found, beside, list(outputs))
        ]
        with np.errstate(all="ignore"):
            rows += law_rows(self.arrangement, self.judges[0], first[0], call, any_eps=self.any_eps)
        rows += required_rows(has, self.require)
        diagnosis: tuple[Finding, ...] = ()
        if not all(row.passed for row in rows):
            diagnosis = self._diagnosis(judges, runs, call)
        if self.masked:
            under, said = masked.checked(
                self.arrangement,
                self.masked,
                call,
                self._judge,
                lambda judge, found: _rows(judge, found, {}, list(outputs)),
            )
            if any(not finding.condition for finding in said):  # which says it all
                diagnosis = ()
            told = {finding.output for finding in diagnosis}
            diagnosis += tuple(finding for finding in said if finding.output not in told)
            rows += under
            names += [case.name for case in self.masked]
        report = Report(
            f"{norm}, {self.dtype} kernel against numpy_norms",
            tuple(rows),
            diagnosis,
            f"plain {np.promote_types(self.dtype, np.float32)} NumPy",
            unit=f"1 unit is {self.dtype} roundoff times the magnitude of the terms added up",
            remark="\n".join(self._remarks(first, list(outputs))),
            properties=has,
        )
        worst = report.worst.case.partition(" (")[0]
        known = worst if worst in names else names[0]
        line = f'case = {{case.name: case for case in {self.made_by}}}["{known}"]'
        return replace(report, reproduce=f"from numpy_norms.verify import cases; {line}")

    def _diagnosis(
        self, judges: Sequence[Judge], runs: Sequence[Run], call: Any
    ) -> tuple[Finding, ...]:
        probe = self._prober(call) if self.whole else None
        return diagnose(self.arrangement, judges, runs, probe)

    def _prober(self, call: Any) -> Probe:
        """Return what tries the kernel on a case of a given size."""

        def probe(trait: str, value: int, output: str) -> tuple[int, bool] | None:
            features, norm = self.arrangement.features, self.arrangement.norm
            by_length = trait == "set size"
            length, count = (value, 2) if by_length else (8, value)
            shape = sized(norm, length, count, features)
            case = case_of(RECIPES[0], self.arrangement, shape, self.values, [self.seed, value])
            judge = self._judge(case)
            found = call(case)
            got = found.results.get(output)
            if got is None or got.shape != judge.expected[output].shape:
                return None
            size = int(judge.traits[trait])
            return size, judge.apart(output, got, judge.expected[output]) > 1

        return probe

    def _library(self) -> tuple[Kernel, Kernel]:
        options = dict(self.arrangement.options)
        if self.scheme != "exact":
            options["scheme"] = self.scheme
        also = {"where": self.values.where, "residual": self.values.residual}
        return library_kernel(self.arrangement.norm, **also, **options)

    def _add(
        self,
        judges: list[Judge],
        runs: list[Run],
        baselines: list[dict[str, float]],
        names: list[str],
        number: int,
        found: Run,
        what: str,
    ) -> None:
        """Judge a call apart that gave other bits than the first of the same case."""
        judges.append(self.judges[number])
        runs.append(found)
        baselines.append(self.baselines[number])
        names.append(f"{self.judges[number].case.name} ({what})")

    def _threaded(self, call: Any, first: Sequence[Run]) -> Iterator[tuple[int, Run]]:
        """Yield what gives other bits when several threads call the kernel at once."""
        small = [n for n, judge in enumerate(self.judges) if judge.case.x.size <= SMALL]
        if self.threads < 2:
            return
        own = [_copied(self.judges[n].case) for n in small for _ in range(self.threads)]
        with ThreadPoolExecutor(self.threads) as pool:
            found = list(pool.map(call, own))
        for i, n in enumerate(small):
            several = found[i * self.threads : (i + 1) * self.threads]
            wanted = first[n].bits()
            if first[n].failures or all(one.bits() == wanted for one in several):
                continue
            wanted = call(own[i * self.threads]).bits()  # of these copies, which are contiguous
            other = next((one for one in several if one.bits() != wanted), None)
            if other is not None:
                yield n, other

    def _remarks(self, first: Sequence[Run], outputs: Sequence[str]) -> Iterator[str]:
        absent = dict.fromkeys(name for found in first for name in found.absent)
        unseen = [n for n in absent if n in ("dgamma", "dbeta") and n not in outputs]
        if unseen:
            yield f"Not checked: {' and '.join(unseen)}, which the kernel does not return."
        if not self.whole or self.values.eps == 0:
            usual = [recipe.name for recipe, _ in planned(self.arrangement)]
            there = {judge.case.name for judge in self.judges}
            left = [name for name in usual if name not in there]
            why = "Without variance and eps there is no x_hat."
            if not self.whole:
                why = "Run on the given shapes alone."
            if left:
                yield f"{why} Not run: {', '.join(left)}."


def _rows(
    judge: Judge, found: Run, baseline: dict[str, float], outputs: Sequence[str]
) -> Iterator[Row]:
    name = judge.case.name
    for output in outputs:
        if output in found.results or output in found.failures:
            yield judge.row(output, found, baseline.get(output, math.nan))
        elif output in ("y", "dx", "dgamma", "dbeta"):
            yield Row.failure(name, output, "returned None here, and an array elsewhere")
    for argument in found.changed:
        yield Row.failure(name, argument, "argument was overwritten")


def _copied(case: Case) -> Case:
    arrays = {name: getattr(case, name) for name in ("x", "gamma", "beta", "dy", "residual")}
    return replace(case, **{name: a.copy() for name, a in arrays.items() if a is not None})


def _written(norm: str, options: dict[str, Any]) -> str:
    """Return the call of `cases` as it is written."""
    types = {n: str(as_dtype(v)) if n in ("dtype", "weights") else v for n, v in options.items()}
    listed = ", ".join(
        f'{name}="{value}"' if isinstance(value, str) else f"{name}={value!r}"
        for name, value in types.items()
    )
    return f'cases("{norm}", {listed})'

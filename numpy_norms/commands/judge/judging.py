"""The side of `judge` that runs somebody's module: it makes the report where the module is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from numpy_norms.commands.grade.report import finite
from numpy_norms.commands.isolated import Send, one_line
from numpy_norms.commands.judge.lengths import judge_length
from numpy_norms.commands.judge.module import Subject, load_class
from numpy_norms.commands.judge.problems import LP, Problem, shapes_of
from numpy_norms.commands.judge.state import state_rows
from numpy_norms.verify import Finding, Report, Row, cases, check_kernel

__all__ = ["answer"]


def answer(request: bytes, send: Send) -> None:
    """Judge the module that the request names, and send the report."""
    asked = json.loads(request)
    fields = asked["problem"]
    axis = None if fields["axis"] is None else tuple(fields["axis"])
    init = fields["init"] if isinstance(fields["init"], dict) else tuple(fields["init"])
    problem = Problem(**{**fields, "axis": axis, "init": init})
    device = asked["device"]
    if device != "cpu" and not torch.cuda.is_available():
        return send(json.dumps({"usage": f"there is no device {device} here; pass cpu"}).encode())
    try:
        made_by = load_class(Path(asked["path"]), asked["name"])
    except AttributeError:
        there = f"{Path(asked['path']).name} has no class {asked['name']}, and nothing to call"
        return send(json.dumps({"usage": there}).encode())
    except Exception as error:
        return _tell(send, _failed(problem, f"importing the file raised {one_line(error)}"))
    subject = Subject(made_by, problem, device)
    first = shapes_of(problem)[0]
    try:
        subject.module(first, 1e-5)
    except Exception as error:
        what = f"making the module raised {one_line(error)}"
        given = json.dumps(fields["init"])
        return _tell(send, _failed(problem, f"{what}; --init says what it is given, here {given}"))
    try:
        subject.derives(first, 1e-5)
    except Exception as error:
        return _tell(send, _failed(problem, f"running it on x of {first} raised {one_line(error)}"))
    return _tell(send, judged(subject, asked["dtype"], asked["seed"], asked["backward"]))


def judged(subject: Subject, dtype: str, seed: int, backward: bool) -> Report:
    """Return what a module does: on the battery, in eval mode, and to its state."""
    problem = subject.problem
    if backward and not subject.derives(shapes_of(problem)[0], 1e-5):
        report = judged(subject, dtype, seed, backward=False)
        note = "No gradient flows through the module: its forward pass alone is judged."
        return replace(report, remark="\n".join(filter(None, (report.remark, note))))
    if problem.norm in LP:
        return judge_length(subject, problem, dtype, seed, backward)
    forward, back = subject.passes(backward=backward)
    shapes, groups = shapes_of(problem), problem.num_groups
    report = check_kernel(
        problem.norm,
        forward,
        back,
        dtype=dtype,
        seed=seed,
        eps=subject.eps,
        shapes=shapes,
        num_groups=groups,
        threads=0,
        **problem.options,
    )
    first = cases(
        problem.norm,
        dtype=dtype,
        seed=seed,
        eps=subject.eps,
        shapes=shapes[:1],
        num_groups=groups,
        **problem.options,
    )[0]
    rows, found = list(report.rows), list(report.diagnosis)
    try:
        for row, finding in state_rows(subject, first):
            rows.append(row)
            found += [finding] if finding else []
    except Exception as error:
        rows.append(Row.failure("eval mode", "y, eval", f"raised {one_line(error)}"))
    return replace(report, rows=tuple(rows), diagnosis=tuple(found))


def _failed(problem: Problem, what: str) -> Report:
    row = Row.failure("module", "module", what)
    return Report(f"{problem.norm}, module", (row,), (Finding("module", "raises", what),))


def _tell(send: Send, report: Report) -> None:
    content: dict[str, Any] = {"report": finite(report.to_dict()), "text": str(report)}
    send(json.dumps(content).encode())

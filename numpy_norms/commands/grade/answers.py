"""The two sides of the process that runs somebody's file: what it is asked, what came back."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from numpy_norms.cli import UsageError
from numpy_norms.commands import isolated
from numpy_norms.commands.grade.graded import ARGUMENTS, Graded, battery, folded, graded
from numpy_norms.commands.grade.student import Failure, load, named
from numpy_norms.verify import Case
from numpy_norms.verify.runs import Run


@dataclass(frozen=True)
class Answers:
    """What somebody's functions did.

    Parameters
    ----------
    form : str
        What they take; empty where the file could not be imported.
    runs : list of Run
        One for each case, as far as they went.
    happened : str
        Why they went no further, or what else is wrong with the file; empty if nothing is.
    rank : int or None
        The number of axes of x that they work for, where the first case failed and that would do.
    printed, details : str
        What was printed, and the traceback of what was raised first.
    """

    form: str
    runs: list[Run]
    happened: str
    rank: int | None
    printed: str
    details: str


def ask(args: Namespace, chosen: Sequence[Case]) -> Answers:
    """Run the file that `args` names on the cases, in a process of its own.

    Raises
    ------
    UsageError
        If there is no such file or function, or it is not to be seen which pass it is.
    """
    path, names = named(args.target)
    asked = {name: getattr(args, name) for name in ("norm", "part", "rank", "seed")}
    request = json.dumps({"path": str(path), "names": names, **asked}).encode()
    outcome = isolated.run(f"{__name__}:answer", request, timeout=args.timeout)
    first, *rest = [json.loads(piece) for piece in outcome.sent] or [{}]
    if "usage" in first:
        raise UsageError(first["usage"])
    happened = first.get("failure", "")
    if outcome.happened:
        reached = first and len(rest) < len(chosen)
        where = f" in the case {chosen[len(rest)].name}" if reached else ""
        happened = f"{path.name} {outcome.happened}{where}"
    details = [found["details"] for found in (first, *rest) if found.get("details")]
    return Answers(
        first.get("form", ""),
        [_decoded(case, found) for case, found in zip(chosen, rest, strict=False)],
        happened,
        rest[0]["rank"] if rest else None,
        outcome.printed,
        (details or [outcome.details])[0],
    )


def answer(request: bytes, send: isolated.Send) -> None:
    """Run the file on the battery, here: the form is sent first, then what came of each case."""
    asked = json.loads(request)
    norm, rank = asked["norm"], asked["rank"]
    chosen = battery(norm, asked["seed"], rank)

    def tell(**content: Any) -> None:
        send(json.dumps(content).encode())

    with np.errstate(all="ignore"):  # what matters is what comes back
        try:
            ours = graded(norm, load(Path(asked["path"]), asked["names"], norm), asked["part"])
        except UsageError as error:
            return tell(usage=str(error))
        except Failure as failure:
            return tell(failure=str(failure), details=failure.details)
        tell(form=ours.form)
        for case in chosen:
            found, details = ours.run(case)
            failed = rank is None and case is chosen[0] and found.failures
            other = _usual_rank(ours, case) if failed else None
            tell(**_encoded(found), details=details, rank=other)


def _usual_rank(ours: Graded, case: Case) -> int | None:
    """Return the number of axes that most code is for, if this code works for so many."""
    usual = 4 if case.norm in ("group_norm", "instance_norm") else 2
    like = folded(case, usual)
    return usual if like and not ours.run(like)[0].failures else None


def _encoded(found: Run) -> dict[str, Any]:
    results = {name: array.tobytes().hex() for name, array in found.results.items()}
    return {"results": results, "failures": found.failures, "changed": found.changed}


def _decoded(case: Case, found: dict[str, Any]) -> Run:
    results = {
        name: np.frombuffer(bytes.fromhex(text)).reshape(getattr(case, ARGUMENTS[name]).shape)
        for name, text in found["results"].items()
    }
    return Run(results, found["failures"], tuple(found["changed"]))

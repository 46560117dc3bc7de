"""A class is marked: every Python file under a folder, one after the other."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

from numpy_norms.cli import DISAGREEMENT, OK, UsageError
from numpy_norms.commands.arguments import Progress
from numpy_norms.commands.grade.answers import ask
from numpy_norms.commands.grade.graded import battery
from numpy_norms.commands.grade.marking import mark
from numpy_norms.commands.grade.report import OUTPUTS, Grade
from numpy_norms.commands.table import print_table

HEADER = ("file", "right", "cases", *OUTPUTS, "says")


def folder_of(target: str) -> tuple[Path, str] | None:
    """Return the folder and the names in ``FOLDER[:function[,function]]``; None if it is none."""
    if target and Path(target).is_dir():
        return Path(target), ""
    folder, _, names = target.rpartition(":")
    return (Path(folder), names) if folder and Path(folder).is_dir() else None


def run(args: argparse.Namespace, folder: Path, names: str) -> int:
    """Grade every file in a process of its own; print a line of each."""
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".py", ".ipynb")
        and not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
    ]
    if not files:
        raise UsageError(f"there is no Python file in {folder}")
    progress = Progress()
    chosen = battery(args.norm, args.seed, args.rank)
    lines: list[dict[str, Any]] = []
    for number, path in enumerate(files, 1):
        progress(f"{number} of {len(files)}: {path.relative_to(folder)}")
        target = f"{path}:{names}" if names else str(path)
        try:
            answers = ask(argparse.Namespace(**vars(args) | {"target": target}), chosen)
            grade = mark(target, args.norm, args.seed, chosen, answers)
            line = _line(grade)
        except UsageError as error:
            line = {"right": 0, "cases": len(chosen), "says": [str(error)]}
        lines.append({"file": path.relative_to(folder).as_posix(), **line})
    progress("")
    _print(args, lines)
    return OK if all(line["right"] == line["cases"] for line in lines) else DISAGREEMENT


def _line(grade: Grade) -> dict[str, Any]:
    wrong = {row.case for row in grade.rows if not row.passed}
    right = len(grade.chosen) - len(wrong) if grade.rows and not grade.happened else 0
    line: dict[str, Any] = {"right": right, "cases": len(grade.chosen)}
    graded = [name for name in OUTPUTS if name in grade.differences or name in grade.failures]
    line |= {name: "wrong" if name in grade.wrong else "right" for name in graded}
    return line | {"says": grade.reasons()}


def _print(args: argparse.Namespace, lines: list[dict[str, Any]]) -> None:
    table = not (args.json or args.csv)
    for line in lines:
        line["says"] = "; ".join(line["says"][:1] if table else line["says"])
    if args.json:
        print(json.dumps(lines, indent=1))
    elif args.csv:
        writer = csv.DictWriter(sys.stdout, HEADER, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _cell(text) for name, text in line.items()} for line in lines)
    else:
        rows = [[str(line.get(name, "")) for name in HEADER] for line in lines]
        print_table(HEADER, rows, align="lrrlllll")


def _cell(text: str | int) -> str | int:
    """Keep a spreadsheet from taking a file's name or message for a formula."""
    return f"'{text}" if str(text).startswith(("=", "+", "-", "@", "\t", "\r")) else text

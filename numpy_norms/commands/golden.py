"""``golden``: write vectors for kernels in other languages, or check them and this library."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from numpy_norms.cli import DISAGREEMENT, OK, UsageError
from numpy_norms.commands.arguments import Progress, filename
from numpy_norms.commands.table import print_table, print_text

if TYPE_CHECKING:
    from numpy_norms.golden.verify import Verdict

MOST = 20  # failures that are listed
HELP = "write golden vectors for kernels in any language, or check such vectors"
EPILOG = """\
export writes, for each norm and dtype, NORM-DTYPE.npz (inputs, correctly rounded results,
tolerances), and cases.json (what each case is after), cases.schema.json and SHA256SUMS;
the same bytes every time. It needs mpmath and ml_dtypes. bfloat16 is stored as its 16 bits.
verify checks the files against SHA256SUMS, and this library against the vectors.
A reader in C: docs/check_golden.c.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `golden`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("action", choices=("export", "verify"))
    parser.add_argument("folder", metavar="DIR", type=_folder, help="folder of vectors")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _folder(text: str) -> Path:
    return Path(filename(text))


def run(args: argparse.Namespace) -> int:
    """Write or check the vectors; return 0, or 1 where something disagrees."""
    return _export(args) if args.action == "export" else _verify(args)


def _export(args: argparse.Namespace) -> int:
    from numpy_norms.golden.export import export
    from numpy_norms.golden.formats import MissingExtra

    if args.folder.exists() and not args.folder.is_dir():
        raise UsageError(f"{args.folder} is not a folder; pass the name of a new or existing one")
    progress = Progress()
    try:
        cases = export(args.folder, progress=progress)
    except MissingExtra as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        raise UsageError(f"cannot write to {args.folder}: {error.strerror or error}") from None
    progress("")
    files = sorted(path for path in args.folder.iterdir() if path.is_file())
    size = sum(path.stat().st_size for path in files)
    if args.json:
        print(json.dumps({"folder": str(args.folder), "cases": cases, "bytes": size}))
    else:
        print_text(f"{cases} cases in {args.folder}, {size / 1e6:.1f} MB")
    return OK


def _verify(args: argparse.Namespace) -> int:
    from numpy_norms.golden.reading import BadVectors
    from numpy_norms.golden.verify import verify

    progress = Progress()
    try:
        verdicts = list(verify(args.folder, progress=progress))
    except BadVectors as error:
        raise UsageError(str(error)) from None
    progress("")
    if args.json:
        print(json.dumps([verdict.to_dict() for verdict in verdicts], indent=1))
    else:
        _print(verdicts)
    return OK if all(verdict.passed for verdict in verdicts) else DISAGREEMENT


def _print(verdicts: list[Verdict]) -> None:
    rows = []
    for verdict in verdicts:
        state = "ok" if verdict.passed else "DISAGREES"
        if verdict.values:
            rounded = f"{verdict.rounded} of {verdict.values}"
            rows.append([verdict.file, str(verdict.cases), rounded, f"{verdict.worst:.2g}", state])
        else:
            rows.append([verdict.file, "", "", "", verdict.skipped or state])
    header = ["file", "cases", "correctly rounded", "worst error/tolerance", ""]
    print_table(header, rows, align="lrrrl")
    failures = [line for verdict in verdicts for line in verdict.failures]
    for line in failures[:MOST]:
        print_text(line)
    if len(failures) > MOST:
        print_text(f"and {len(failures) - MOST} more: --json shows them")
    skipped = sum(bool(verdict.skipped) for verdict in verdicts)
    cases = sum(verdict.cases for verdict in verdicts)
    note = f", {skipped} files not checked" if skipped else ""
    print_text(f"{cases} cases, {len(failures)} disagree{note}")

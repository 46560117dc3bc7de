"""Change the equations one at a time and see whether the library's own tests fail.

    python -m benchmarks.mutation                     every mutant, half an hour
    python -m benchmarks.mutation --again             only those that survived the last time
    python -m benchmarks.mutation --page              write the page from the results

The mutants are those of cosmic-ray's operators (another arithmetic operator, comparison or number,
a condition turned round), and numerical ones, which it does not know: another NumPy function in a
call, an average of `a` for one of `a * b`, statistics off by a millionth. Bit operators, floor
division and remainders are left out: on floats they raise errors, and would only flatter the
result.
"""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hypothesis  # noqa: F401, as the next two: for the tests
import ml_dtypes  # noqa: F401
import mpmath  # noqa: F401
import pytest

from .command_line import program
from .mutation_survivors import WHY

ROOT = Path(__file__).parents[1]
TARGET = Path("numpy_norms/equations.py")
RESULTS = Path(__file__).parent / "results" / "mutation.json"
PAGE = ROOT / "docs" / "mutation.md"
SECONDS = 400  # after which a run counts as failed

# Tests of values, in two parts: those that take no time, and the others for what survives them.
# Left out are tests of the equations' text, and `test_mutations.py`, which fails with any change.
QUICK = "layer_norm rms_norm batch_norm group_norm instance_norm batch_norm_inference gradients"
OTHERS = """
constant_sets laws running_stats backward_laws oracle nasty_values nasty_nonfinite properties
rounding nasty_shapes working_dtype invariance out add_norm
"""

OPERATORS = re.compile(
    r"core/(ReplaceBinaryOperator_(Add|Sub|Mul|Div|Pow)_(Add|Sub|Mul|Div|Pow)"
    r"|ReplaceComparisonOperator_.*|ReplaceUnaryOperator_.*|ReplaceOrWithAnd|ReplaceAndWithOr"
    r"|NumberReplacer|AddNot)"
)
NUMERICAL = (
    (r"np\.add\(", "np.subtract("),
    (r"np\.subtract\(", "np.add("),
    (r"np\.multiply\(", "np.divide("),
    (r"np\.multiply\(", "np.add("),
    (r"np\.sqrt\(", "np.cbrt("),
    (r"np\.reciprocal\(", "np.negative("),
    (r"np\.abs\(", "("),
    (r"\b([ES])\((\w+)\)", r"\1(\2, \2)"),
    (r"\b([ES])\((\w+), \w+\)", r"\1(\2)"),
    (r"\b(E|S)\(([\w, ]+)\)(?!:)", r"(1.000001 * \1(\2))"),
    (r"\ba\.(rest|n|var|pivot)\b", r"b.\1"),
    (r"\bb\.(rest|n|var|pivot)\b", r"a.\1"),
    (r"\b(rstd)(?= \*|,)", "(1.000001 * rstd)"),
    (r"np\.where\((\w+), (.*), 0\)", r"np.where(\1, 0, 0)"),
    (r"np\.where\((\w+), (.*), 0\)", r"np.where(True, \2, 0)"),
    (r"np\.where\(near, rest - (.*), rest\)", "np.where(near, rest, rest)"),
    (r", dtype=out\.dtype", ""),
    (r"\.real\b", ""),
)


def mutants(code: str) -> Iterator[tuple[str, str]]:
    """Yield what was changed, and the changed code, each changed program once."""
    seen = {_meaning(code)}
    for what, changed in (*_of_operators(code), *_of_calls(code)):
        meaning = _meaning(changed)
        if meaning is not None and meaning not in seen:
            seen.add(meaning)
            yield what, changed


def _of_operators(code: str) -> Iterator[tuple[str, str]]:
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    for name in sorted(operator_names()):
        if OPERATORS.fullmatch(name):
            occurrence = 0
            while changed := mutate_code(code, get_operator(name)(), occurrence):
                yield name.removeprefix("core/"), changed
                occurrence += 1


def _of_calls(code: str) -> Iterator[tuple[str, str]]:
    for pattern, replacement in NUMERICAL:
        for match in re.finditer(pattern, code):
            changed = match.expand(replacement)
            yield "numerical", code[: match.start()] + changed + code[match.end() :]


def _meaning(code: str) -> str | None:
    """The program without annotations, docstrings and kinds of parameters; None if it is none."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            given = node.args
            every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
            given.defaults += filter(None, given.kw_defaults)
            given.posonlyargs, given.kwonlyargs, given.kw_defaults = [], [], []
            given.args = [ast.arg(a.arg) for a in every]
            if ast.get_docstring(node):
                del node.body[0]
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    tree.body = [node for node in tree.body if not isinstance(node, ast.Expr)]
    return ast.dump(tree)


def changed_line(before: str, after: str) -> tuple[int, str, str]:
    """The number of the first line that differs, and both versions of it."""
    pairs = zip(before.splitlines(), after.splitlines(), strict=False)
    return next((i, b.strip(), a.strip()) for i, (b, a) in enumerate(pairs, 1) if b != a)


def function_of(code: str, line: int) -> str:
    """The function that a line belongs to, or "constants"."""
    names = [m[1] for s in code.splitlines()[:line] if (m := re.match(r"def (\w+)", s))]
    return names[-1] if names else "constants"


def survives(checkout: Path, changed: str) -> bool:
    """Whether all tests pass with the changed equations."""
    (checkout / TARGET).write_text(changed, encoding="utf-8")
    return all(_pass(checkout, tests.split()) for tests in (QUICK, OTHERS))


def _pass(checkout: Path, names: Sequence[str]) -> bool:
    # In a copy of this process, which has imported what takes time, but nothing of the checkout.
    if child := os.fork():
        return os.waitpid(child, 0)[1] == 0
    status = 1
    try:
        signal.alarm(SECONDS)
        os.chdir(checkout)
        sys.path.insert(0, str(checkout))
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        tests = [f"tests/test_{name}.py" for name in names]
        status = pytest.main(["-qxn0", "--assert=plain", "-p", "no:cacheprovider", *tests])
    finally:
        os._exit(status)


def copy_of_checkout(place: Path) -> None:
    """Copy what git tracks, as it is in the work tree."""
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout
    for name in filter(None, files.decode().split("\0")):
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())


def run(only: set[tuple[str, str]] | None, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Try the mutants, or `only` some of them; return one record for each."""
    code = (ROOT / TARGET).read_text(encoding="utf-8")
    every = [(what, changed, *changed_line(code, changed)) for what, changed in mutants(code)]
    records = [r for r in known if only is not None and (r["line"], r["after"]) not in only]
    if only is not None:
        every = [m for m in every if (m[2], m[4]) in only]
    with tempfile.TemporaryDirectory() as place:
        checkout = Path(place)
        copy_of_checkout(checkout)
        sys.dont_write_bytecode = True  # a mutant must not run the last one's
        if not survives(checkout, code):
            raise SystemExit("the tests fail without a mutation; mend them first")
        for i, (what, changed, line, before, after) in enumerate(every, 1):
            alive = survives(checkout, changed)
            records.append(
                {
                    "function": function_of(code, line),
                    "line": line,
                    "what": what,
                    "before": before,
                    "after": after,
                    "survives": alive,
                }
            )
            verdict = "SURVIVES" if alive else "killed"
            print(f"{i}/{len(every)} {verdict} {line}: {after}", file=sys.stderr, flush=True)
    return sorted(records, key=lambda r: (r["line"], r["what"], r["after"]))


def page(report: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the page."""
    records = report["mutants"]
    alive = [r for r in records if r["survives"]]
    changes = [r for r in alive if not _why(r)[0]]
    killed = len(records) - len(alive)
    yield "# Would the tests notice?"
    yield ""
    yield (
        f"Measured {report['date']} by `benchmarks/mutation.py` with cosmic-ray "
        f"{report['cosmic-ray']}: one change at a time is made in `numpy_norms/equations.py`, and "
        "the library's own tests are run. A change is *killed* if a test fails. Bit operators, "
        "floor division and remainders are left out, since on floats they only raise errors."
    )
    yield ""
    yield (
        f"**{killed} of {len(records)} mutants are killed ({killed / len(records):.1%})**. "
        f"Of the {len(alive)} that survive, "
        f"{len(alive) - len(changes)} change no result, as the list below says one by one; of "
        f"those that can change one, {killed / (killed + len(changes)):.1%} are killed."
    )
    yield ""
    yield "| function | by an operator | killed | numerical | killed |"
    yield "|---|---:|---:|---:|---:|"
    for name in dict.fromkeys(r["function"] for r in records):
        mine = [r for r in records if r["function"] == name]
        kinds = [[r for r in mine if (r["what"] == "numerical") is n] for n in (False, True)]
        cells = [str(n) for k in kinds for n in (len(k), sum(not r["survives"] for r in k))]
        yield f"| `{name}` | " + " | ".join(cells) + " |"
    yield ""
    yield "## The survivors"
    yield ""
    for record in alive:
        _, why = _why(record)
        yield f"- `{record['function']}`: `{record['before']}`  "
        yield f"  became `{record['after']}`.  "
        yield f"  {why}"


def _why(record: dict[str, Any]) -> tuple[bool, str]:
    """Whether a survivor changes no result, and why it survives."""
    for fragment, (equal, why) in WHY.items():
        if fragment in record["after"]:
            return equal, why
    return False, "Not explained."


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line."""
    parser = program("mutation", __doc__)
    parser.add_argument("--again", action="store_true", help="only those that survived")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--json", type=Path, default=RESULTS, help="default: %(default)s")
    options = parser.parse_args(arguments)
    report = json.loads(options.json.read_text()) if options.json.exists() else {"mutants": []}
    if not options.page:
        known = report["mutants"]
        alive = {(r["line"], r["after"]) for r in known if r["survives"]}
        report = {
            "date": str(date.today()),
            "cosmic-ray": version("cosmic-ray"),
            "mutants": run(alive if options.again else None, known),
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    PAGE.write_text("\n".join(page(report)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

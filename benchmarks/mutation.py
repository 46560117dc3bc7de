"""Change the equations and the passes one line at a time and see whether the library's tests fail.

    python -m benchmarks.mutation                     every mutant, a quarter of an hour
    python -m benchmarks.mutation --again             only those that survived the last time
    python -m benchmarks.mutation --page              write the page from the results

The mutants are those of cosmic-ray's operators (another arithmetic operator, comparison or number,
a condition turned round), and numerical ones, which it does not know: a step with another sign or
left out, another NumPy function in a call, an average of `a` for one of `a * b`, statistics off by
a millionth. Bit operators, floor division and remainders are left out: on floats they raise errors,
and would only flatter the result.
"""

from __future__ import annotations

import ast
import json
import multiprocessing
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
from typing import Any, NamedTuple

import hypothesis  # noqa: F401, as the next two: for the tests
import ml_dtypes  # noqa: F401
import mpmath  # noqa: F401
import pytest

from .command_line import program
from .mutation_survivors import WHY

ROOT = Path(__file__).parents[1]
TARGETS = ("numpy_norms/equations.py", "numpy_norms/passes.py")
RESULTS = Path(__file__).parent / "results" / "mutation.json"
PAGE = ROOT / "docs" / "mutation.md"
SECONDS = 1200  # after which a run counts as failed

# Tests of values, those that take no time first, the others for what survives them. Left out are
# tests of the equations' text, and `test_mutations.py`, which fails with any change.
TESTS = (
    "layer_norm rms_norm batch_norm group_norm instance_norm batch_norm_inference gradients",
    "engine_lifting add_norm constant_sets backward_laws nasty_nonfinite out running_stats",
    "laws oracle nasty_values properties rounding nasty_shapes working_dtype invariance tiles",
)

OPERATORS = re.compile(
    r"core/(ReplaceBinaryOperator_(Add|Sub|Mul|Div|Pow)_(Add|Sub|Mul|Div|Pow)"
    r"|ReplaceComparisonOperator_.*|ReplaceUnaryOperator_.*|ReplaceOrWithAnd|ReplaceAndWithOr"
    r"|NumberReplacer|AddNot)"
)
NUMERICAL = (
    (r"(?<=\w) -= ", " += "),
    (r"(?<=\w) \+= ", " -= "),
    (r"\w+ [-+*]= \w.*", "pass"),
    (r"\*= (rstd|mean_dx_hat_x_hat)\b", r"*= 1.000001 * \1"),
    (r"(dx|tile)\.\w+\([^=\n]*\)(?= *(#.*)?\n)", "pass"),
    (r"np\.sqrt\(", "np.cbrt("),
    (r"np\.reciprocal\(", "np.negative("),
    (r"\b([EG])\((\w+), \w+\)", r"\1(\2)"),
    (r"\b([MB])\((\w+)\)", r"\1(\2, \2)"),
    (r"\b([EG])\(([\w, ]+)\)(?!:)", r"(1.000001 * \1(\2))"),
    (r"\b[MB]\(\w+\)", "None"),
    (r"(tile)\.E, tile\.M", r"\1.E, \1.E"),
    (r"(tile)\.G, tile\.B", r"\1.B, \1.G"),
    (r"(?<=x_hat, )gamma, beta(?=\))", "beta, gamma"),
    (r", (pivot|exponent|mean|rest)(?=[,)])", ", None"),
    (r"\bstandardized\((.*), mean, ", r"standardized(\1, None, "),
    (r"(?<=rstd, )\*averages\b", "*averages[::-1]"),
    (r"lifting\.eps_of\(.*?\)", "eps"),
    (r", (partial\(.*\)|into=\w+)(?=[,)])", ""),
    (r", gradients(?=\n)", ", ()"),
    (r"\b(rstd)(?= \*|,)(?!, G|, E)", "(1.000001 * rstd)"),
)


class Mutant(NamedTuple):
    """A file with one line changed."""

    target: str
    what: str
    code: str
    line: int
    before: str
    after: str


def mutants(code: str) -> Iterator[tuple[str, str]]:
    """Yield what was changed, and the changed code, each changed program once."""
    seen = {_meaning(code)}
    for what, changed in (*_of_operators(code), *_of_lines(code)):
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


def _of_lines(code: str) -> Iterator[tuple[str, str]]:
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
    """The function or the class that a line belongs to, or "constants"."""
    names = [m[1] for s in code.splitlines()[:line] if (m := re.match(r"(?:def|class) (\w+)", s))]
    return names[-1] if names else "constants"


def survives(checkout: Path, mutant: Mutant) -> bool:
    """Whether all tests pass with the changed file."""
    file = checkout / mutant.target
    right = file.read_text(encoding="utf-8")
    file.write_text(mutant.code, encoding="utf-8")
    try:
        return all(_pass(checkout, tests.split()) for tests in TESTS)
    finally:
        file.write_text(right, encoding="utf-8")


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
        options = ["-qx", "-n0", "--assert=plain", "-p", "no:cacheprovider"]
        status = pytest.main([*options, *tests])
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


_checkout: tempfile.TemporaryDirectory[str]  # of a worker


def _begin() -> None:
    global _checkout
    sys.dont_write_bytecode = True  # a mutant must not run the last one's
    _checkout = tempfile.TemporaryDirectory()
    copy_of_checkout(Path(_checkout.name))


def _try(mutant: Mutant) -> tuple[Mutant, bool]:
    return mutant, survives(Path(_checkout.name), mutant)


def run(
    only: set[tuple[str, int, str]] | None, known: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Try the mutants, or `only` some of them, on all cores; return one record for each."""
    records = [r for r in known if only is not None and _key(r) not in only]
    every = []
    for target in TARGETS:
        code = (ROOT / target).read_text(encoding="utf-8")
        right = Mutant(target, "nothing", code, 0, "", "")
        found = [Mutant(target, w, c, *changed_line(code, c)) for w, c in mutants(code)]
        every += [m for m in found if only is None or (target, m.line, m.after) in only]
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with multiprocessing.get_context("fork").Pool(workers, _begin) as pool:
        if not pool.apply(_try, (right,))[1]:
            raise SystemExit("the tests fail without a mutation; mend them first")
        for i, (m, alive) in enumerate(pool.imap_unordered(_try, every), 1):
            code = (ROOT / m.target).read_text(encoding="utf-8")
            records.append(
                {
                    "target": m.target,
                    "function": function_of(code, m.line),
                    "line": m.line,
                    "what": m.what,
                    "before": m.before,
                    "after": m.after,
                    "survives": alive,
                }
            )
            verdict = "SURVIVES" if alive else "killed"
            where = f"{Path(m.target).name}:{m.line}"
            print(f"{i}/{len(every)} {verdict} {where} {m.after}", file=sys.stderr, flush=True)
    return sorted(records, key=lambda r: (r["target"], r["line"], r["what"], r["after"]))


def _key(record: dict[str, Any]) -> tuple[str, int, str]:
    return record["target"], record["line"], record["after"]


def page(report: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the page."""
    records = report["mutants"]
    alive = [r for r in records if r["survives"]]
    changes = [r for r in alive if not _why(r)[0]]
    killed = len(records) - len(alive)
    yield "# Would the tests notice?"
    yield ""
    files = " and ".join(f"`{target}`" for target in TARGETS)
    yield (
        f"Measured {report['date']} by `benchmarks/mutation.py` with cosmic-ray "
        f"{report['cosmic-ray']}: one change at a time is made in {files}, and "
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
    for target in dict.fromkeys(r["target"] for r in records):
        yield ""
        yield f"| `{Path(target).name}` | by an operator | killed | numerical | killed |"
        yield "|---|---:|---:|---:|---:|"
        of_file = [r for r in records if r["target"] == target]
        for name in dict.fromkeys(r["function"] for r in of_file):
            mine = [r for r in of_file if r["function"] == name]
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
        alive = {_key(r) for r in known if r["survives"]} if options.again else None
        report = {
            "date": str(date.today()),
            "cosmic-ray": version("cosmic-ray"),
            "mutants": run(alive, known),
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    PAGE.write_text("\n".join(page(report)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Break plain kernels at random places; count how many `check_kernel` catches, and can name.

The bugs are not those of the catalogue: the source of a plain kernel is taken apart and one thing
in it changed: a sign, an operator, a constant, an axis, a name, or a factor of 1 +- 1e-4 somewhere.
Changes that raise an exception or give a wrong shape are left out: everybody sees them. Run from
the repository's root::

    python -m benchmarks.random_bugs --bugs 1000 --out docs/random_bugs.md
"""

from __future__ import annotations

import argparse
import ast
import datetime
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import cores
from benchmarks.pages import deliver
from numpy_norms.verify.diagnosis.findings import VAGUE
from numpy_norms.verify.kernel import Trial

# Each norm's view of x, the axes of a set and the axes that dgamma is summed over.
VIEWS = {
    "batch_norm": ("(x.shape[0], x.shape[1], -1)", "(1, -1, 1)", "(0, 2)", "(0, 2)"),
    "layer_norm": ("(-1, x.shape[-1])", "(1, -1)", "(1,)", "(0,)"),
    "group_norm": (
        "(x.shape[0], num_groups, x.shape[1] // num_groups, -1)",
        "(1, num_groups, -1, 1)",
        "(2, 3)",
        "(0, 3)",
    ),
    "instance_norm": ("(x.shape[0], x.shape[1], -1)", "(1, -1, 1)", "(2,)", "(0, 2)"),
    "rms_norm": ("(-1, x.shape[-1])", "(1, -1)", "(1,)", "(0,)"),
}
CENTRED = """
def forward(x, GROUPS gamma, beta, eps):
    seen, scale, shift = x.reshape(VIEW), gamma.reshape(PARAMS), beta.reshape(PARAMS)
    mean = seen.mean(axis=SET, keepdims=True)
    var = ((seen - mean) ** 2).mean(axis=SET, keepdims=True)
    x_hat = (seen - mean) / np.sqrt(var + eps)
    return (scale * x_hat + shift).reshape(x.shape)

def backward(dy, x, GROUPS gamma, beta, eps):
    seen, given, scale = x.reshape(VIEW), dy.reshape(VIEW), gamma.reshape(PARAMS)
    mean = seen.mean(axis=SET, keepdims=True)
    var = ((seen - mean) ** 2).mean(axis=SET, keepdims=True)
    rstd = 1 / np.sqrt(var + eps)
    x_hat = (seen - mean) * rstd
    g = given * scale
    centre = g.mean(axis=SET, keepdims=True)
    projection = (g * x_hat).mean(axis=SET, keepdims=True)
    dx = rstd * (g - centre - x_hat * projection)
    dgamma = (given * x_hat).sum(axis=SUMS)
    dbeta = given.sum(axis=SUMS)
    return dx.reshape(x.shape), dgamma.reshape(gamma.shape), dbeta.reshape(gamma.shape)
"""
ABOUT_ZERO = """
def forward(x, gamma, eps):
    seen, scale = x.reshape(VIEW), gamma.reshape(PARAMS)
    square = (seen ** 2).mean(axis=SET, keepdims=True)
    return (scale * (seen / np.sqrt(square + eps))).reshape(x.shape)

def backward(dy, x, gamma, eps):
    seen, given, scale = x.reshape(VIEW), dy.reshape(VIEW), gamma.reshape(PARAMS)
    square = (seen ** 2).mean(axis=SET, keepdims=True)
    rstd = 1 / np.sqrt(square + eps)
    x_hat = seen * rstd
    g = given * scale
    projection = (g * x_hat).mean(axis=SET, keepdims=True)
    dx = rstd * (g - x_hat * projection)
    dgamma = (given * x_hat).sum(axis=SUMS)
    return dx.reshape(x.shape), dgamma.reshape(gamma.shape)
"""
SWAPS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.Pow: (ast.Mult,),
}
FACTORS = ("1.0001", "0.9999")
NAMES = ("seen", "given", "mean", "var", "square", "rstd", "x_hat", "g", "centre", "projection")
Change = tuple[str, str, ast.Module]


def source(norm: str) -> str:
    """Return the plain kernel of a norm."""
    view, params, over, sums = VIEWS[norm]
    text = ABOUT_ZERO if norm == "rms_norm" else CENTRED
    groups = "num_groups," if norm == "group_norm" else ""
    for word, value in (
        ("GROUPS", groups),
        ("VIEW", view),
        ("PARAMS", params),
        ("SET", over),
        ("SUMS", sums),
    ):
        text = text.replace(word, value)
    return text


def broken(norm: str) -> Iterator[Change]:
    """Yield every single change: its kind, the line it makes, and the module."""
    text = source(norm)
    tree = ast.parse(text)
    before = ast.unparse(tree).splitlines()
    nodes = enumerate(_computing(tree))
    places = [(number, *edit) for number, node in nodes for edit in _edits(node, norm)]
    for number, kind, edit in places:
        other = ast.parse(text)
        edit(next(islice(_computing(other), number, None)))
        ast.fix_missing_locations(other)
        after = ast.unparse(other).splitlines()
        changed = [new for old, new in zip(before, after, strict=True) if old != new]
        if changed:
            yield kind, changed[0].strip(), other


def _computing(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes of the lines that compute: not reshapes, not signatures."""
    for function in tree.body:
        assert isinstance(function, ast.FunctionDef)
        for statement in function.body[1:]:
            for node in ast.walk(statement):
                if not isinstance(statement, ast.Return) or function.name == "forward":
                    yield node


def _edits(node: ast.AST, norm: str) -> Iterator[tuple[str, Callable[[Any], None]]]:
    if isinstance(node, ast.BinOp):
        for swap in SWAPS.get(type(node.op), ()):
            kind = "sign" if swap in (ast.Add, ast.Sub) else "operator"
            yield kind, lambda n, swap=swap: setattr(n, "op", swap())
        for side in ("left", "right"):
            yield "sign", lambda n, side=side: _wrap(n, side, "-({})")
            for factor in FACTORS:
                form = f"{factor} * ({{}})"
                yield "factor", lambda n, side=side, form=form: _wrap(n, side, form)
    if isinstance(node, ast.Assign):
        for factor in FACTORS:
            yield "factor", lambda n, form=f"{factor} * ({{}})": _wrap(n, "value", form)
    if isinstance(node, ast.Constant) and isinstance(node.value, int) and node.value is not True:
        for value in {node.value + 1, node.value - 1, 2 * node.value} - {node.value}:
            yield "constant", lambda n, value=value: setattr(n, "value", value)
    if isinstance(node, ast.keyword) and node.arg == "axis":
        for axes in _other_axes(ast.unparse(node.value), 4 if norm == "group_norm" else 3):
            yield "axis", lambda n, axes=axes: setattr(n, "value", ast.parse(axes).body[0].value)
    if isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
        for name in NAMES:
            if name != node.id:
                yield "name", lambda n, name=name: setattr(n, "id", name)


def _wrap(node: Any, side: str, form: str) -> None:
    inner = ast.unparse(getattr(node, side))
    setattr(node, side, ast.parse(form.format(inner), mode="eval").body)


def _other_axes(axes: str, rank: int) -> Iterator[str]:
    kept = ast.literal_eval(axes)
    for axis in range(rank):
        other = tuple(a for a in kept if a != axis) if axis in kept else (*kept, axis)
        if other:
            yield str(tuple(sorted(other)))


def compiled(module: ast.Module) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return the kernel that a module defines."""
    space: dict[str, Any] = {"np": np}
    exec(compile(module, "broken", "exec"), space)
    return space["forward"], space["backward"]


def tried(norm: str, bugs: int, seed: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """Break a norm's kernel `bugs` times; return what was counted, and what was not caught."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors = []
    trial = Trial(norm, "float32", None, seed, {})
    changes = list(broken(norm))
    for kind, line, module in random.Random(seed).sample(changes, min(bugs, len(changes))):
        report = trial.of(*compiled(module))
        if any(row.note.endswith("expected") or "Error: " in row.note for row in report.rows):
            continue
        counts[kind]["bugs"] += 1
        if report.passed:
            survivors.append(f"| {norm} | {kind} | `{line}` |")
        else:
            counts[kind]["caught"] += 1
            counts[kind]["named"] += report.diagnosis[0].kind not in VAGUE
    print(norm, len(changes), "possible", file=sys.stderr)
    return counts, survivors


def survey(bugs: int, seed: int) -> Iterator[str]:
    """Break each norm's kernel `bugs` times and yield the lines of a Markdown page."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors = []
    with ProcessPoolExecutor(cores()) as pool:
        for found, left in pool.map(partial(tried, bugs=bugs, seed=seed), VIEWS):
            survivors += left
            for kind, n in found.items():
                counts[kind] += n
    yield "| changed | bugs | caught | of these named first |"
    yield "|---|---|---|---|"
    for kind, n in [*sorted(counts.items()), ("all", sum(counts.values(), Counter()))]:
        shares = f"{n['caught'] / n['bugs']:.1%} | {n['named'] / n['caught']:.1%}"
        yield f"| {kind} | {n['bugs']} | {shares} |"
    yield ""
    if survivors:
        yield "Not caught:"
        yield ""
        yield "| norm | changed | line |"
        yield "|---|---|---|"
        yield from survivors


def main() -> None:
    """Print the page or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bugs", type=int, default=100, help="bugs for each norm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [
        "# Bugs that are in no catalogue",
        "",
        f"Measured {datetime.date.today()} by `benchmarks/random_bugs.py`, seed {options.seed}, "
        f"NumPy {np.__version__}, float32 kernels.",
        "",
        *survey(options.bugs, options.seed),
        "",
        "A minus sign under a square changes nothing: such a kernel is right.",
    ]
    deliver(lines, options.out)


if __name__ == "__main__":
    main()

"""Slips of the pen: one name, sign or operator of one equation is another, or left out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from types import CodeType
from typing import Any

from numpy_norms.verify.plain import Edit, Work

from .grammar import CENTRED, TERMS, Fault

__all__ = ["EQUATIONS", "OTHERWISE", "slips", "value"]

# The steps as expressions, E the average over a set and S the sum for a parameter.
EQUATIONS = {
    "mean": "E(x)",
    "var": "E((x - mean) ** 2)",
    "rstd": "(var + eps) ** -0.5",
    "x_hat": "(x - mean) * rstd",
    "y": "scale * x_hat + beta",
    "dbeta": "S(dy)",
    "dgamma": "S(dy * x_hat)",
    "dx_hat": "scale * dy",
    "centre": "E(dx_hat)",
    "projection": "x_hat * E(dx_hat * x_hat)",
    "dx": "rstd * (dx_hat - centre - projection)",
}
# Other forms in which they are written often.
OTHERWISE = {
    "var": "E(x * x) - mean * mean",
    "y": "x * (scale * rstd) + (beta - mean * (scale * rstd))",
}
NAMES = ("x", "dy", "mean", "var", "rstd", "x_hat", "scale", "beta")
SWAPS: dict[type, ast.operator] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.Div(),
}
SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "a product", ast.Div: "/"}
EXPONENTS = (1, 3, 4, -2)


def value(equation: str | CodeType, w: Work) -> Any:
    """Return what an expression comes to, after the steps before it."""
    return eval(equation, {"E": w.average, "S": w.total}, vars(w))


@cache
def slips(norm: str, *, otherwise: bool = False) -> tuple[Fault, ...]:
    """Return the faults that are a slip in one equation of a norm, or in its other form."""
    found = []
    for step, equation in (OTHERWISE if otherwise else EQUATIONS).items():
        equation = _of_norm(equation, norm)
        if norm in CENTRED or not {"mean", "centre"} & {step, *_names(_parsed(equation))}:
            quantities = _known_before(step, centred=norm in CENTRED)
            for changed, what in _variants(_parsed(equation), quantities):
                found.append(_fault(step, norm, changed, what))
    return tuple(found)


def _of_norm(equation: str, norm: str) -> str:
    """Return an equation without the terms that a norm has not."""
    if norm not in CENTRED:
        for absent, left in (("(x - mean)", "x"), (" - centre", ""), (" + beta", "")):
            equation = equation.replace(absent, left)
    return equation


def _known_before(step: str, *, centred: bool) -> list[str]:
    """Return what may stand where another quantity belongs: what is known by then."""
    steps = list(EQUATIONS)
    before = {"x", "scale", "beta", *steps[: steps.index(step)]}
    if step != "y":
        before.add("dy")
    if not centred:
        before.remove("mean")
    dx_hat = "dx_hat" if "dx_hat" in before else "scale * dy"
    averages = [dx_hat, *[f"E({dx_hat})"] * centred, f"E({dx_hat} * x_hat)"]
    return [q for q in (*NAMES, *averages) if _names(_parsed(q)) <= before]


def _fault(step: str, norm: str, changed: ast.expr, what: str) -> Fault:
    words, symbol = TERMS[step]
    words = symbol if step == "dx_hat" else words
    written = _written(changed)
    if step in ("centre", "projection"):  # terms of dx
        whole = _of_norm(EQUATIONS["dx"], norm).replace(step, f"({ast.unparse(changed)})")
        symbol, written = "dx", _written(_parsed(whole))
    code = compile(ast.unparse(changed), what, "eval")
    edit: Edit = lambda w, _: value(code, w)  # noqa: E731
    kind = "term left out" if "left out" in what else "formula"
    kind = "sign" if what[:2] in ("+ ", "- ") or "stands for" in what else kind
    return Fault(kind, f"in {words}, {what}", f"{symbol} = {written}", edits={step: edit})


def _variants(node: ast.expr, quantities: list[str]) -> Iterator[tuple[ast.expr, str]]:
    """Yield an expression with one thing in it changed, and what that is."""
    own = ast.unparse(node)
    if isinstance(node, ast.Name) or own.startswith("E("):
        for other in quantities:
            if other != ("E(dx_hat)" if own == "centre" else own):
                stands = _parsed(other)
                yield stands, f"{_written(stands)} stands where {_written(node)} belongs"
    if isinstance(node, ast.Call):
        for inside, what in _variants(node.args[0], quantities):
            if ast.unparse(inside) != own:  # an average of averages
                yield ast.Call(node.func, [inside], []), what
    if isinstance(node, ast.Constant):
        for exponent in EXPONENTS:
            yield ast.Constant(exponent), f"{exponent} stands where {node.value!r} belongs"
    if isinstance(node, ast.BinOp):
        left, op, right = node.left, node.op, node.right
        if type(op) in SWAPS:
            other_op = SWAPS[type(op)]
            said = f"{SIGNS[type(other_op)]} stands where {SIGNS[type(op)]} belongs"
            yield ast.BinOp(left, other_op, right), said
        if isinstance(op, ast.Add | ast.Sub):
            negative = ast.UnaryOp(ast.USub(), left)
            yield ast.BinOp(negative, op, right), f"-{_written(left)} stands for {_written(left)}"
        for one, what in _variants(left, quantities):
            yield ast.BinOp(one, op, right), what
        for one, what in _variants(right, quantities):
            yield ast.BinOp(left, op, one), what
        if isinstance(op, ast.Mult):
            said = f"{_written(right)} is divided by {_written(left)}"
            yield ast.BinOp(right, ast.Div(), left), said
        if isinstance(op, ast.Pow):
            yield ast.BinOp(left, ast.Mult(), right), "a product stands where a power belongs"
        else:
            yield left, f"{_written(right)} is left out"
            rest = ast.UnaryOp(ast.USub(), right) if isinstance(op, ast.Sub) else right
            yield rest, f"{_written(left)} is left out"


def _written(node: ast.expr) -> str:
    """Return an expression in the notation of the equations."""
    if isinstance(node, ast.Name):
        return TERMS[node.id][1] if node.id in TERMS else node.id
    if isinstance(node, ast.Call):
        inside = _written(node.args[0])
        return f"E[{inside}]" if ast.unparse(node.func) == "E" else f"sum {_bound(node.args[0])}"
    if isinstance(node, ast.UnaryOp):
        return f"-{_bound(node.operand)}"
    if not isinstance(node, ast.BinOp):
        return ast.unparse(node)
    if isinstance(node.op, ast.Pow):
        return f"{_bound(node.left)}^{_bound(node.right)}"
    if isinstance(node.op, ast.Add | ast.Sub):
        return f"{_written(node.left)} {SIGNS[type(node.op)]} {_bound(node.right)}"
    return f"{_bound(node.left)}{' / ' * isinstance(node.op, ast.Div) or ' '}{_bound(node.right)}"


def _bound(node: ast.expr) -> str:
    """The same with brackets where it is a sum."""
    loose = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)
    negative = isinstance(node, ast.UnaryOp)
    return f"({_written(node)})" if loose or negative else _written(node)


def _parsed(equation: str) -> ast.expr:
    return ast.parse(equation, mode="eval").body


def _names(node: ast.expr) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - {"E", "S"}

"""Mutants of the equations and passes are programs, differ from each other, are told apart."""

import ast
import re

from extras import need

from benchmarks import mutation

need("cosmic_ray")

CODE = '''
def dx(dx_hat: Array | None, rstd, *, E):
    """The gradient of x."""
    if dx_hat is None:
        return E(rstd, rstd)
    dx = dx_hat
    dx -= np.sqrt(rstd * 2)
    dx *= rstd
    return dx
'''


def lines(code):
    changed = (mutation.changed_line(code, changed)[2] for _, changed in mutation.mutants(code))
    return {re.sub(" +", " ", line) for line in changed}


def test_operators_conditions_numbers_calls_and_steps_are_changed():
    assert lines(CODE) >= {
        "if dx_hat is not None:",
        "return E(rstd)",
        "return (1.000001 * E(rstd, rstd))",
        "dx -= np.sqrt(rstd / 2)",
        "dx -= np.sqrt(rstd * 3)",
        "dx -= np.cbrt(rstd * 2)",
        "dx += np.sqrt(rstd * 2)",
        "dx *= 1.000001 * rstd",
        "pass",
    }


def test_every_mutant_is_another_program():
    found = list(mutation.mutants(CODE))
    assert len(found) > 10
    assert len({ast.dump(ast.parse(changed)) for _, changed in found}) == len(found)


def test_signatures_and_docstrings_are_not_mutated():
    head = CODE[: CODE.index("    if")]
    assert all(changed.startswith(head) for _, changed in mutation.mutants(CODE))


def test_a_survivor_without_a_reason_counts_as_one_that_changes_results():
    record = {"target": "passes.py", "function": "dx", "line": 1, "what": "numerical"}
    record |= {"before": "a", "after": "b"}
    report = {
        "date": "today",
        "cosmic-ray": "1",
        "mutants": [record | {"survives": alive} for alive in (True, False, False)],
    }
    text = "\n".join(mutation.page(report))
    assert "**2 of 3 mutants are killed (66.7%)**" in text
    assert "66.7% are killed" in text.replace("\n", " ")
    assert "Not explained." in text

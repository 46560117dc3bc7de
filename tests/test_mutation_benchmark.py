"""The mutants of the equations are programs, differ from each other, and are told apart."""

import ast
import re

from extras import need

from benchmarks import mutation

need("cosmic_ray")

CODE = '''
def dx(dx_hat: Array | None, rstd, *, out):
    """The gradient of x."""
    if dx_hat is None:
        return E(rstd)
    return np.multiply(dx_hat, rstd * 2, out=out)
'''


def lines(code):
    changed = (mutation.changed_line(code, changed)[2] for _, changed in mutation.mutants(code))
    return {re.sub(" +", " ", line) for line in changed}


def test_operators_conditions_numbers_and_calls_are_changed():
    assert lines(CODE) >= {
        "if dx_hat is not None:",
        "return E(rstd, rstd)",
        "return np.divide(dx_hat, rstd * 2, out=out)",
        "return np.multiply(dx_hat, rstd / 2, out=out)",
        "return np.multiply(dx_hat, rstd * 3, out=out)",
        "return np.multiply(dx_hat, (1.000001 * rstd) * 2, out=out)",
    }


def test_every_mutant_is_another_program():
    found = list(mutation.mutants(CODE))
    assert len(found) > 10
    assert len({ast.dump(ast.parse(changed)) for _, changed in found}) == len(found)


def test_signatures_and_docstrings_are_not_mutated():
    head = CODE[: CODE.index("    if")]
    assert all(changed.startswith(head) for _, changed in mutation.mutants(CODE))


def test_a_survivor_without_a_reason_counts_as_one_that_changes_results():
    record = {"function": "dx", "line": 1, "what": "numerical", "before": "a", "after": "b"}
    report = {
        "date": "today",
        "cosmic-ray": "1",
        "mutants": [record | {"survives": alive} for alive in (True, False, False)],
    }
    text = "\n".join(mutation.page(report))
    assert "**2 of 3 mutants are killed (66.7%)**" in text
    assert "66.7% are killed" in text.replace("\n", " ")
    assert "Not explained." in text

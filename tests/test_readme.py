"""What the README says is true: its example, its figures, its tables and its links."""

import ast
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

import numpy_norms
from numpy_norms.cli import COMMANDS
from numpy_norms.oracle.reference import evaluate

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SIZES = {"N": (2,), "C": (6,), "S": (3, 5), "B": (4, 2), "D": (7,), "G": (3,), "C/G": (2,)}


def rows_under(heading):
    """Return the cells of the table whose header begins with `heading`."""
    table = next(part for part in README.split("\n\n") if part.startswith(f"| {heading}"))
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    return lines[2:]


def test_the_example_gives_the_results_in_its_comments():
    code, names, results = re.search(r"```python\n(.*?)```", README, re.DOTALL)[1], {}, []
    for statement in ast.parse(code).body:
        source = ast.get_source_segment(code, statement)
        if not isinstance(statement, ast.Expr):
            exec(source, names)
            continue
        comment = code.splitlines()[statement.end_lineno - 1].partition("  # ")[2]
        results.append((repr(eval(source, names)), comment))
    assert len(results) == 2
    assert all(result == comment for result, comment in results)


def symbols(text):
    return [symbol.strip("*") for symbol in re.findall(r"\*?[A-Z](?:/G)?", text)]


def sizes(text):
    return tuple(n for symbol in symbols(text) for n in SIZES[symbol])


@pytest.mark.parametrize("row", rows_under("forward, backward"), ids=lambda row: row[0])
def test_the_family_table_is_that_of_the_functions(row):
    name, x_axes, averaged, means, parameters = (cell.replace("`", "") for cell in row)
    x = np.random.default_rng(0).standard_normal(sizes(x_axes))
    gamma = np.ones(sizes(parameters.partition(")")[0]))
    options = {"num_groups": SIZES["G"][0]} if name == "group_norm_*" else {}
    forward = getattr(numpy_norms, name.replace("*", "forward"))
    _, cache = forward(x, gamma=gamma, **options)
    assert cache.rstd.shape == sizes(means.partition(")")[0])
    assert x.size // cache.rstd.size == np.prod(sizes(averaged))
    assert (cache.mean is None) == means.endswith("no mean")


@pytest.mark.parametrize("row", rows_under("mean / standard deviation"), ids=lambda row: row[0])
def test_the_comparison_with_pytorch_is_measured(row):
    rng = np.random.default_rng(0)
    x = (float(row[0]) + rng.standard_normal((256, 1024))).astype(np.float32)
    gamma, beta = rng.standard_normal((2, 1024)).astype(np.float32)
    arrays = {"x": x, "gamma": gamma, "beta": beta}
    exact = evaluate("layer_norm", arrays, np.ones_like(x))["y"].value
    ours, _ = numpy_norms.layer_norm_forward(x, gamma, beta)
    tensors = map(torch.tensor, (gamma, beta))
    theirs = torch.nn.functional.layer_norm(torch.tensor(x), (1024,), *tensors).numpy()
    right = [np.mean(y == exact.hi.astype(np.float32)) for y in (ours, theirs)]
    errors = [exact.error(y).max() for y in (ours, theirs)]
    assert right[0] >= 0.99999
    # PyTorch's last digits depend on the processor.
    assert right == pytest.approx([float(cell.strip(" %")) / 100 for cell in row[1:3]], abs=0.1)
    assert np.log10(errors) == pytest.approx(np.log10([float(cell) for cell in row[3:]]), abs=0.5)


def test_the_commands_are_those_of_the_command_line():
    rows = dict(rows_under("command"))
    assert {name.strip("`"): text for name, text in rows.items()} == {
        name: import_module(f"numpy_norms.commands.{module}").HELP
        for name, module in COMMANDS.items()
    }


def test_a_student_reads_nothing_of_rounding_first():
    first = "\n".join(README.splitlines()[:60])
    assert not re.search(r"\bulp|rounded|rounding|float32", first)
    assert first.index("<picture>") < first.index("git clone") < first.index("(1)")


def test_the_two_commands_are_those_of_the_continuous_integration():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ (pip .* && (?:python|pytest).*)$", README, re.MULTILINE)
    assert commands == [
        "pip install . && python -m numpy_norms check",
        "pip install '.[test]' && pytest",
    ]
    # There with more extras, so that no test is skipped.
    parts = " && ".join(commands).replace("[test]'", "[test-all,").split(" && ")
    assert all(part in script for part in parts)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)|(?:src|srcset)=\"([^\"]+)\"", text)
    local = [a or b for a, b in links if "://" not in (a or b)]
    assert [link for link in local if not (ROOT / link).exists()] == []

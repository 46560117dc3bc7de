"""`judge`: modules of kernel benchmarks, each fault said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from numpy_norms.cli import main
from numpy_norms.commands.judge.problems import KERNELBENCH, shapes_of

FILE = Path(__file__).parent / "data" / "judged_modules.py"


@pytest.fixture
def judge(capsys, _in_this_process):
    """Run the command and return its status, what it prints and what it says aside."""

    def run(name, *options):
        status = main(["judge", f"{FILE}:{name}", *options])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    ("name", "problem"), [("Batch", 33), ("Rms", 36), ("L1", 38), ("Layer", 40)]
)
def test_a_right_module_passes(judge, name, problem):
    status, out, _ = judge(name, "--kernelbench", str(problem))
    assert status == 0, out
    assert "passed" in out


@pytest.mark.parametrize(
    ("name", "problem", "says"),
    [
        ("BatchInEval", 33, "eval mode uses the statistics of the batch, not the running ones"),
        ("BatchFrozen", 33, "running_mean is not updated in training"),
        ("LayerUnbiased", 40, "the variance is divided by m - 1"),
        ("RmsNoEps", 36, "eps is ignored"),
        ("L1Sum", 38, "y is multiplied by 1/m"),
        ("Zeros", 39, "y is never written: it is 0"),
    ],
)
def test_a_fault_is_named(judge, name, problem, says):
    status, out, _ = judge(name, "--kernelbench", str(problem))
    assert status == 1
    assert says in out


def test_without_a_gradient_the_forward_pass_alone_is_judged(judge):
    _, out, _ = judge("Zeros", "--kernelbench", "39")
    assert "No gradient flows through the module" in out


def test_the_norm_may_be_given_and_the_report_be_json(judge):
    options = ("--norm", "rms_norm", "--axis", "1", "--forward-only", "--json")
    status, out, _ = judge("RmsNoEps", *options)
    content = json.loads(out)
    assert status == 1
    assert {row["output"] for row in content["rows"] if not row["law"]} >= {"y"}
    assert content["diagnosis"][0]["kind"] == "term left out"


def test_a_module_that_cannot_be_made_in_a_process_of_its_own_is_wrong(capsys):
    assert main(["judge", f"{FILE}:Raises", "--norm", "batch_norm"]) == 1
    assert "making the module raised ValueError: no such kernel" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("Batch", (), "expected either --norm or --kernelbench"),
        ("Batch", ("--norm", "batch_norm", "--axis", "1"), "batch_norm has no --axis"),
        ("Batch", ("--norm", "group_norm"), "group_norm needs --groups"),
        ("Batch", ("--norm", "batch_norm", "--init", "C"), "expected a JSON list"),
        ("Nothing", ("--norm", "batch_norm"), "has no class Nothing"),
    ],
)
def test_wrong_usage_is_one_line(judge, name, options, says):
    status, out, err = judge(name, *options)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert says in err


@pytest.mark.parametrize("problem", KERNELBENCH.values(), ids=lambda problem: problem.norm)
def test_few_shapes_of_the_rank_that_is_asked_for_one_of_them_long(problem):
    shapes = shapes_of(problem)
    assert len(shapes) <= 5
    assert {len(shape) for shape in shapes} == {problem.rank}
    assert max(max(shape) for shape in shapes) > 100

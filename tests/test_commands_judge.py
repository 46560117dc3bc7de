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


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Epsilon", ("--norm", "rms_norm")),
        ("BuiltIn", ("--norm", "rms_norm")),
        ("Group", ("--norm", "group_norm", "--groups", "2")),
        ("ByName", ("--norm", "layer_norm", "--init", '{"dim": "C"}')),
        ("Pair", ("--norm", "layer_norm")),
    ],
)
def test_a_right_module_passes_whatever_its_constructor_and_its_eps_are_called(
    judge, name, options
):
    status, out, _ = judge(name, *options)
    assert status == 0, out


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ByName", '--init says what it is given, here ["shape"]'),
        ("Dictionary", "returned a dict; a tensor is expected"),
        ("Broken", "running it on x of (5, 7, 13) raised NotImplementedError: no kernel for it"),
    ],
)
def test_a_module_that_cannot_be_run_is_wrong_and_the_report_says_why(judge, name, says):
    status, out, _ = judge(name, "--norm", "layer_norm")
    assert status == 1
    assert says in out


def test_the_cure_of_another_constructor_works_for_a_known_problem(judge):
    _, out, _ = judge("ByName", "--kernelbench", "40", "--init", '{"shape": "C"}')
    assert '--init says what it is given, here {"shape": "C"}' in out


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
        ("nothing", ("--norm", "batch_norm"), "has no class nothing, and nothing to call"),
        ("Layer", ("--norm", "layer_norm", "--axis", "9"), "--axis is 9, and x has 4 axes"),
        ("Layer", ("--norm", "layer_norm", "--axis", "-1,-3,1"), "names an axis twice"),
        ("Layer", ("--norm", "layer_norm", "--groups", "2"), "layer_norm has no --groups"),
        ("Batch", ("--kernelbench", "33", "--rank", "4"), "--kernelbench says --rank itself"),
        ("Batch", ("--kernelbench", "33", "--init", "C"), "expected a JSON list"),
        ("Group", ("--norm", "group_norm", "--groups", "0"), "--groups is 0; expected 1 or more"),
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


def test_a_file_that_is_no_python_is_wrong_usage(tmp_path, capsys):
    path = tmp_path / "model.txt"
    path.write_text(FILE.read_text())
    assert main(["judge", f"{path}:Layer", "--norm", "layer_norm"]) == 2
    assert "is not a Python file" in capsys.readouterr().err

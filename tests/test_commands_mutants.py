"""`mutants`: what each checker says of a kernel, and how the table is made of it."""

import json
import sys

import numpy as np
import pytest

from numpy_norms.cli import main
from numpy_norms.commands import mutants as command
from numpy_norms.commands.arguments import Progress
from numpy_norms.commands.gradient_checkers import CHECKERS
from numpy_norms.oracle.sets import NORMS
from numpy_norms.verify import mutants
from numpy_norms.verify.plain import plain_kernel

PACKAGES = sorted({checker.package for checker in CHECKERS})
FEW = {"mean_term_dropped", "one_pass_variance"}


@pytest.fixture(autouse=True)
def _few_mutants(monkeypatch):
    """Leave two mistakes in the catalogue: one that all catch, and one that only we do."""
    monkeypatch.setattr(
        command, "mutants", lambda norm: tuple(m for m in mutants(norm) if m.name in FEW)
    )


@pytest.fixture
def nothing_installed(monkeypatch):
    """Hide the packages of the other checkers."""
    for package in PACKAGES:
        monkeypatch.setitem(sys.modules, package, None)


@pytest.fixture(params=CHECKERS, ids=lambda checker: checker.name)
def checker(request):
    """A checker whose package is installed."""
    pytest.importorskip(request.param.package)
    return request.param


@pytest.mark.parametrize("norm", NORMS)
def test_every_checker_accepts_a_right_kernel(checker, norm):
    kernel = command._kernel(norm, *plain_kernel(norm), seed=0)
    assert checker.accepts(checker.module(), kernel)


@pytest.mark.parametrize("name", ["mean_term_not_divided", "dgamma_dbeta_swapped"])
def test_every_checker_sees_each_argument_of_a_small_kernel(checker, name):
    wrong = next(mutant for mutant in mutants("batch_norm") if mutant.name == name)
    kernel = command._kernel("batch_norm", wrong.forward, wrong.backward, seed=0)
    assert not checker.accepts(checker.module(), kernel)


def test_the_slow_check_of_pytorch_passes_a_gradient_that_is_a_thousandth_too_large(checker):
    forward, backward = plain_kernel("layer_norm")
    kernel = command._kernel(
        "layer_norm", forward, lambda *a: tuple(1.0009 * g for g in backward(*a)), seed=0
    )
    assert checker.accepts(checker.module(), kernel) == (checker.package == "torch")


def test_a_checker_leaves_the_global_generator_as_it_was(checker):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    checker.accepts(checker.module(), command._kernel("rms_norm", *plain_kernel("rms_norm"), 0))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_the_table_says_who_caught_what(capsys):
    pytest.importorskip("torch")
    assert main(["mutants", "layer_norm"]) == 0
    lines = capsys.readouterr().out.splitlines()
    said = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert said["mean_term_dropped"][0] == said["mean_term_dropped"][-1] == "caught"
    assert (said["one_pass_variance"][0], said["one_pass_variance"][-1]) == ("missed", "caught")
    assert said["(the"].count("accepted") >= 3
    assert "named first by numpy_norms: 2 of 2" in lines


@pytest.mark.usefixtures("nothing_installed")
def test_what_is_not_installed_is_a_column_that_says_so(capsys):
    assert main(["mutants", "instance_norm"]) == 0
    out = capsys.readouterr().out
    assert "PyTorch slow not installed, PyTorch fast not installed, JAX not installed" in out
    assert out.count("not installed") == len(CHECKERS) * (1 + 1 + 2 + 1)
    assert "2 of 2" in out


@pytest.mark.usefixtures("nothing_installed")
def test_json_has_every_kernel_with_its_issue(capsys):
    assert main(["mutants", "rms_norm", "--json", "--seed", "3"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["checkers"] == dict.fromkeys((c.name for c in CHECKERS), "not installed")
    assert [kernel["name"] for kernel in found["kernels"]] == [command.RIGHT]


@pytest.mark.usefixtures("nothing_installed")
def test_a_mistake_that_we_miss_disagrees(capsys, monkeypatch):
    class Accepting:
        passed = True
        suspects = ()

    monkeypatch.setattr(command, "check_kernel", lambda *_, **__: Accepting())
    assert main(["mutants", "layer_norm"]) == 1
    assert "0 of 2" in capsys.readouterr().out


@pytest.mark.usefixtures("nothing_installed")
def test_a_false_alarm_of_ours_disagrees(capsys, monkeypatch):
    class Rejecting:
        passed = False
        suspects = ()

    monkeypatch.setattr(command, "check_kernel", lambda *_, **__: Rejecting())
    assert main(["mutants", "layer_norm"]) == 1
    assert "REJECTED" in capsys.readouterr().out


def test_the_list_is_the_catalogue_and_runs_nothing(capsys, monkeypatch):
    monkeypatch.setattr(command, "check_kernel", None)
    assert main(["mutants", "--list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {entry["norm"] for entry in found} == set(NORMS) - {"rms_norm"}
    assert {entry["name"] for entry in found} == FEW


def test_progress_is_silent_at_first_and_then_on_stderr(capsys):
    Progress(patience=60)("not yet")
    late = Progress(patience=0)
    for line in ("case 1", "case 1", "case 2", ""):
        late(line)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["case 1", "case 2"]


def test_an_unknown_norm_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as error:
        main(["mutants", "layernorm"])
    assert error.value.code == 2
    assert "did you mean layer_norm?" in capsys.readouterr().err

"""`sweep`: the curves that it measures, and how it draws them."""

import json
import sys
from functools import cache

import pytest

from numpy_norms.cli import main
from numpy_norms.commands import sweep
from numpy_norms.oracle.sets import SIX_NORMS

measure = cache(sweep.measure)


@pytest.fixture(autouse=True)
def _measured_once(monkeypatch):
    """Measure each norm once with each seed, with every second step."""
    monkeypatch.setattr(sweep, "measure", measure)
    monkeypatch.setattr(sweep, "STEPS", sweep.STEPS[1::2])


@pytest.mark.parametrize("norm", [norm for norm in SIX_NORMS if norm != "batch_norm_inference"])
def test_each_curve_is_best_where_theory_has_it(norm):
    found = measure(norm, 1)
    double, single = (found.steps[e.index(min(e))] for e in (found.float64, found.float32))
    assert 1e-6 < double < 3e-4 < single < 1e-1  # about the cube root of the roundoff
    assert min(found.float64) < 1e-8
    assert 1e-7 < min(found.float32) < 1e-3
    assert found.complex_step < 1e-14


def test_differences_of_an_affine_function_have_no_error_but_rounding():
    found = measure("batch_norm_inference", 1)
    assert found.float64[0] < 1e-13
    assert found.float32[0] < 1e-4


def test_the_error_falls_with_the_square_of_the_step_and_rises_with_its_inverse():
    found = measure("layer_norm", 1)
    error = dict(zip((f"{step:.0e}" for step in found.steps), found.float64, strict=True))
    assert error["3e-02"] / error["3e-03"] == pytest.approx(100, rel=0.2)
    assert 1e4 < error["3e-13"] / error["3e-08"] < 1e6


def test_the_chart_has_a_mark_for_every_number():
    found = sweep.Sweep("layer_norm", (2, 3), 0, [1e-1, 1e-2], [1e-3, 1e-5], [1e-3, 1e-2], 1e-16)
    lines = sweep.chart(found)
    rows = {line[:6].strip(): line[8:] for line in lines if "|" in line}
    assert rows["1e-03"] == " *  "
    assert rows["1e-05"] == "   *"
    assert rows["1e-02"] == "   o"
    assert rows["1e-16"] == " - -"
    assert len(rows) == 15


def test_the_table_marks_the_best_of_each_and_the_complex_step(capsys):
    assert main(["sweep", "group_norm", "--seed", "1"]) == 0
    out = capsys.readouterr().out
    assert out.count("best") == 2
    assert "complex step 1e-30: error" in out
    assert "seed 1" in out


def test_json_has_every_number(capsys):
    assert main(["sweep", "rms-norm", "--json", "--seed", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["norm"] == "rms_norm"
    assert len(found["steps"]) == len(found["float64"]) == len(found["float32"]) == 12


def test_a_gradient_that_is_wrong_disagrees(monkeypatch, capsys):
    monkeypatch.setattr(sweep, "STEPS", [1e-2, 1e-5])
    monkeypatch.setattr(sweep.Case, "results", lambda case: {"dx": case.arrays["x"]})
    assert main(["sweep", "layer_norm", "--seed", "2"]) == 1


def test_the_png_is_a_picture(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file = tmp_path / "curve.png"
    assert main(["sweep", "layer_norm", "--seed", "1", "--png", str(file)]) == 0
    assert file.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_a_png_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["sweep", "layer_norm", "--seed", "1", "--png", str(tmp_path / "a.png")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "pip install matplotlib" in captured.err


@pytest.mark.parametrize("name", ["no/such/folder/a.png", "curve.pdf"])
def test_a_png_that_cannot_be_written_is_one_line(tmp_path, capsys, name):
    assert main(["sweep", "layer_norm", "--seed", "1", "--png", str(tmp_path / name)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["layer_nrom"], "did you mean layer_norm?"),
        (["layer_norm", "--seed", "-1"], "'-1' is not a whole number of 0 or more"),
        (["layer_norm", "--seed", "1.5"], "'1.5' is not a whole number of 0 or more"),
    ],
)
def test_a_wrong_word_is_wrong_usage(capsys, words, says):
    with pytest.raises(SystemExit) as error:
        main(["sweep", *words])
    assert error.value.code == 2
    assert says in capsys.readouterr().err

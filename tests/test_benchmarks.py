"""The benchmarks run, and time the same computation in every library; how long, nobody asks."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest

import numpy_norms
from benchmarks import accuracy, memory, report, side_by_side, straight, straight_norms, summary
from benchmarks.contenders import CONTENDERS, DEFAULT, FLOAT32, PLAIN, TORCH, formula, installed
from benchmarks.grid import DIRECTIONS, GRID, SMOKE, Entry, Problem
from benchmarks.memory_cases import entry_of

TINY = sorted({entry for entries in SMOKE.values() for entry in entries})


def as_array(value: Any) -> np.ndarray:
    """Return an array or a tensor as an array."""
    return np.asarray(value.detach() if hasattr(value, "detach") else value)


@cache
def truth(entry: Entry) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return y, and the gradients of sum(dy * y) by the complex step, element after element."""
    problem = Problem.of(entry)
    *arguments, dy = (a.astype(np.float64) for a in (*problem.arguments, problem.dy))
    gradients = [np.empty(a.shape) for a in arguments]
    for which, gradient in enumerate(gradients):
        for at in np.ndindex(gradient.shape):
            nudged = [a.astype(complex) for a in arguments]
            nudged[which][at] += 1e-30j
            gradient[at] = np.sum(dy * formula(entry)(*nudged)[0].imag) / 1e-30
    return formula(entry)(*arguments)[0], gradients


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda c: c.name)
@pytest.mark.parametrize("entry", TINY, ids=str)
def test_every_contender_computes_the_same(contender, entry) -> None:
    if contender not in installed():
        pytest.skip(f"needs {contender.package}: pip install '.[bench]'")
    calls = contender.prepare(Problem.of(entry))
    y, gradients = truth(entry)
    np.testing.assert_allclose(as_array(calls.forward()), y, rtol=1e-4, atol=1e-5)
    for got, expected in zip(calls.backward(), gradients, strict=True):
        np.testing.assert_allclose(as_array(got), expected, rtol=1e-3, atol=1e-4)


def test_a_contender_that_is_absent_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "benchmarks.contenders.find_spec", lambda n: None if n == "torch" else find(n)
    )
    assert [c.name for c in installed()] == [FLOAT32, DEFAULT, PLAIN]


@pytest.mark.parametrize("ratio", straight.RATIOS)
@pytest.mark.parametrize("entry", straight.CHECKED, ids=str)
def test_the_straight_code_computes_the_textbook_formula(entry, ratio) -> None:
    assert list(straight.check(entry, ratio)) == []


@pytest.mark.parametrize(
    "entry", [e for e in straight.CHECKED if e.norm != "rms" and math.prod(e.shape) > 1e5], ids=str
)
def test_straight_code_that_does_not_look_for_lost_digits_is_found_wrong(
    entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(straight_norms, "CHANCE", math.inf)
    assert list(straight.check(entry, 100.0)) != []
    assert list(straight.check(entry, 0.1)) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_straight_code_changes_neither_its_arguments_nor_the_buffer(dtype) -> None:
    for entry in straight.CHECKED:
        problem = Problem.of(entry)
        before, size = [a.copy() for a in problem[1:]], np.getbufsize()
        calls = straight.straight(problem, dtype)
        calls.forward()
        calls.backward()
        assert all(map(np.array_equal, before, problem[1:]))
        assert np.getbufsize() == size


def test_the_grid_has_each_norm_both_ways_at_each_size() -> None:
    for entries in GRID.values():
        assert {e.norm for e in entries} == {"layer", "rms", "group", "instance", "batch"}
    large, middle, small = (
        [math.prod(e.shape) for e in GRID[size]] for size in ("large", "middle", "small")
    )
    assert min(large) > max(middle) > max(small)


def test_a_geometric_mean_of_ratios() -> None:
    results = [
        {
            "size": "large",
            "times": {FLOAT32: {"min": a, "median": 9.0}, TORCH: {"min": b, "median": 1.0}},
        }
        for a, b in ((1.0, 2.0), (4.0, 2.0), (8.0, 1.0))
    ]
    results.append({"size": "large", "times": {FLOAT32: {"min": 5.0, "median": 5.0}}})
    results.append({"size": "small", "times": results[0]["times"]})
    values = summary.ratios(results, (FLOAT32, TORCH), "large")
    assert values == [0.5, 2.0, 8.0]
    assert summary.geometric_mean(values) == pytest.approx(2.0)
    large, small = summary.means(results, [(FLOAT32, TORCH), (FLOAT32, PLAIN)])
    assert "2.00 by minima,  9.00 by medians, worst  8.00" in large
    assert "0.50 by minima" in small


@pytest.mark.filterwarnings("ignore")
def test_side_by_side_runs_and_writes_its_results(tmp_path, capsys) -> None:
    path = tmp_path / "times.json"
    side_by_side.main(["--smoke", "--sizes", "middle", "small", "--json", str(path)])
    found = json.loads(path.read_text())
    entries = [(r["size"], r["norm"], tuple(r["shape"]), r["direction"]) for r in found["results"]]
    expected = [(s, *e, d) for s in ("middle", "small") for e in SMOKE[s] for d in DIRECTIONS]
    assert entries == expected
    for result in found["results"]:
        assert {FLOAT32, DEFAULT, PLAIN} <= set(result["times"])
        assert all(0 < t["min"] <= t["median"] for t in result["times"].values())
    assert f"{DEFAULT} / {PLAIN}" in capsys.readouterr().out
    assert set(found["setting"]) >= {"date", "processor", "cores", "versions", "blas"}


def test_straight_runs_on_one_thread_and_writes_its_results(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(straight, "CHECKED", straight.CHECKED[:1])
    path, before = tmp_path / "straight.json", numpy_norms.get_num_threads()
    straight.main(["--smoke", "--sizes", "small", "--json", str(path)])
    found = json.loads(path.read_text())
    assert found["setting"]["numpy_norms threads"] == 1
    assert numpy_norms.get_num_threads() == before
    for result in found["results"]:
        assert set(result["times"]) == {name for pair in straight.PAIRS for name in pair}


def test_accuracy_runs_and_the_default_is_correctly_rounded(tmp_path) -> None:
    path = tmp_path / "accuracy.json"
    accuracy.main(["--smoke", "--json", str(path)])
    rows = json.loads(path.read_text())["rows"]
    ours = [r for r in rows if r["contender"] == DEFAULT]
    plain = [r for r in rows if r["contender"] == PLAIN and r["ratio"] == 1e4]
    assert [r[key]["share"] for r in ours for key in ("y", "dx")] == [1.0] * 4
    assert plain[0]["y"]["share"] < 0.5


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and sets RLIMIT_DATA")
def test_memory_runs_and_a_file_larger_than_the_limit_is_normalized(tmp_path, monkeypatch) -> None:
    # What threads have for themselves counts as well.
    monkeypatch.setenv("NUMPY_NORMS_NUM_THREADS", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = tmp_path / "memory.json"
    memory.main(["--smoke", "--limit", "192", "--scratch", str(tmp_path), "--json", str(path)])
    found = json.loads(path.read_text())
    for row in found["file"]:
        assert row["bytes"] > row["limit"]
        assert all(row["refused"].values())
        assert all(row["right"].values())
    assert [row["shape"] for row in found["allocations"]] == [[1, 20]] * 2


@pytest.mark.parametrize("family", ["layer (n, 1024)", "batch (n, 128)"])
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_passes_allocate_their_outputs_and_little_more(family: str) -> None:
    norm, shape = entry_of(family, 48)
    found = memory.child("allocation", norm=norm, shape=shape, dtype=None)
    for direction in DIRECTIONS:
        assert found[direction]["outputs"] >= found["bytes"]
        assert found[direction]["traced"] <= memory.PER_THREAD * found["threads"]


@pytest.mark.parametrize("module", [side_by_side, straight, accuracy, memory])
def test_a_smoke_run_does_not_replace_results(module, capsys) -> None:
    with pytest.raises(SystemExit):
        module.main(["--smoke"])
    assert "pass --json FILE" in capsys.readouterr().err


def test_the_page_says_what_the_results_say() -> None:
    report.main(["--check"])


def test_the_page_is_short() -> None:
    assert len(report.PAGE.read_text(encoding="utf-8").split()) <= 1200


def test_a_page_without_a_part_is_refused() -> None:
    page = "<!-- begin figures -->\n\nold\n\n<!-- end figures -->"
    assert report.filled(page, {"figures": "new"}) == page.replace("old", "new")
    with pytest.raises(ValueError, match="no one part 'beyond'"):
        report.filled(page, {"figures": "new", "beyond": ""})

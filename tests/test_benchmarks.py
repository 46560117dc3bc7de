"""The benchmarks run, and time the same computation in every library; how long, nobody asks."""

from __future__ import annotations

import json
import math
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest

from benchmarks import accuracy, bounds, memory, passes, report, side_by_side, summary
from benchmarks.contenders import (
    CONTENDERS,
    DEFAULT,
    FLOAT32,
    FLOOR,
    PLAIN,
    TORCH,
    formula,
    installed,
)
from benchmarks.grid import DIRECTIONS, GRID, SMOKE, Entry, Problem
from benchmarks.machine import on_all_cores

TINY = sorted({entry for entries in SMOKE.values() for entry in entries})
COMPARED = [c for c in CONTENDERS if c.name != FLOOR]


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
            gradient[at] = np.sum(dy * formula(entry, np)(*nudged)[0].imag) / 1e-30
    return formula(entry, np)(*arguments)[0], gradients


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("contender", COMPARED, ids=lambda c: c.name)
@pytest.mark.parametrize("entry", TINY, ids=str)
def test_every_contender_computes_the_same(contender, entry) -> None:
    if contender not in installed():
        pytest.skip(f"needs {contender.package}: pip install '.[bench]'")
    calls = contender.prepare(Problem.of(entry))
    y, gradients = truth(entry)
    if calls.forward is not None:
        np.testing.assert_allclose(as_array(calls.forward()), y, rtol=1e-4, atol=1e-5)
    if calls.backward is not None:
        for found in (calls.backward(), calls.backward()):
            for got, expected in zip(found, gradients, strict=True):
                np.testing.assert_allclose(as_array(got), expected, rtol=1e-3, atol=1e-4)


def test_a_contender_that_is_absent_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert TORCH not in [c.name for c in installed()]
    assert DEFAULT in [c.name for c in installed()]


def test_the_grid_has_each_norm_both_ways_at_each_size() -> None:
    for entries in GRID.values():
        assert {e.norm for e in entries} == {"layer", "rms", "group", "instance", "batch"}
    large, middle, small = (
        [math.prod(e.shape) for e in GRID[size]] for size in ("large", "middle", "small")
    )
    assert min(large) > max(middle) > max(small)


def test_a_geometric_mean_of_ratios() -> None:
    results = [
        {"size": "large", "times": {FLOAT32: {"min": a}, TORCH: {"min": b}}}
        for a, b in ((1.0, 2.0), (4.0, 2.0), (8.0, 1.0))
    ]
    results.append({"size": "large", "times": {FLOAT32: {"min": 5.0}}})
    values = summary.ratios(results, FLOAT32, TORCH, "large")
    assert values == [0.5, 2.0, 8.0]
    assert summary.geometric_mean(values) == pytest.approx(2.0)


def test_aims_are_reached_on_the_right_side() -> None:
    times = {FLOAT32: 1.2, DEFAULT: 1.4, TORCH: 1.0, PLAIN: 4.0}
    result = {"size": "large", "times": {n: {"min": t} for n, t in times.items()}}
    reached = {aim.what: aim.reached for aim in summary.aims([result])}
    assert reached == {
        f"large: {FLOAT32} / {TORCH}, geometric mean": False,
        f"large: {DEFAULT} / {TORCH}, geometric mean": True,
        f"large: {FLOAT32} / {TORCH}, worst entry": True,
        f"everywhere: {FLOAT32} / {PLAIN}, worst entry": True,
        f"everywhere: {DEFAULT} / {PLAIN}, worst entry": True,
        f"large: {PLAIN} / {FLOAT32}, geometric mean": True,
    }


def test_an_entry_above_a_limit_is_named() -> None:
    times = {FLOAT32: 2.6, DEFAULT: 9.0, TORCH: 1.0, PLAIN: 8.0}
    large = {"size": "large", "times": {n: {"min": t} for n, t in times.items()}}
    small = large | {"size": "small"}
    found = [(r["size"], what) for r, what, _ in summary.exceptions([large, small])]
    both = f"{DEFAULT} / {PLAIN}"
    assert found == [("large", f"{FLOAT32} / {TORCH}"), ("large", both), ("small", both)]


@pytest.mark.parametrize("least", [1, 10**9])
def test_a_copy_in_parts_is_a_copy(rng, least: int) -> None:
    x = rng.standard_normal((7, 11))
    out = np.zeros_like(x)
    on_all_cores(np.positive, x, out, least=least)()
    assert np.array_equal(out, x)


@pytest.mark.filterwarnings("ignore")
def test_side_by_side_runs_and_writes_its_results(tmp_path, capsys) -> None:
    path = tmp_path / "times.json"
    side_by_side.main(["--smoke", "--json", str(path)])
    found = json.loads(path.read_text())
    entries = [(r["size"], r["norm"], tuple(r["shape"]), r["direction"]) for r in found["results"]]
    expected = [(s, *e, d) for s, entries in SMOKE.items() for e in entries for d in DIRECTIONS]
    assert entries == expected
    for result in found["results"]:
        assert {FLOAT32, DEFAULT, PLAIN, FLOOR} <= set(result["times"])
        assert all(0 < t["min"] <= t["median"] for t in result["times"].values())
    assert "copy bandwidth" in capsys.readouterr().out
    assert set(found["setting"]) >= {"date", "processor", "cores", "versions", "blas"}


def test_bounds_run_and_count(tmp_path) -> None:
    path = tmp_path / "bounds.json"
    bounds.main(["--smoke", "--sizes", "large", "--json", str(path)])
    rows = json.loads(path.read_text())["rows"]
    assert len(rows) == 4 * len(SMOKE["large"])
    assert all(row["sweeps"] == 1 and row["calls"] > 5 for row in rows)


@pytest.mark.filterwarnings("ignore")
def test_passes_run_and_add_up(tmp_path) -> None:
    path = tmp_path / "passes.json"
    passes.main(["--smoke", "--json", str(path)])
    for row in json.loads(path.read_text())["rows"]:
        every = [row["ns"][name] for name in passes.PASSES[row["dtype"]]]
        assert row["sum"] == pytest.approx(sum(every))
        assert min(every) > 0


def test_an_array_larger_than_a_block_takes_two_sweeps_where_its_sets_are_parted() -> None:
    problem = Problem.of(Entry("batch", (30_000, 32)))
    whole = Problem.of(Entry("layer", (30_000, 32)))
    calls, calls_of_whole = (side_by_side.CONTENDERS[1].prepare(p) for p in (problem, whole))
    assert bounds.sweeps(calls.forward) == bounds.sweeps(calls.backward) == 2
    assert bounds.sweeps(calls_of_whole.forward) == bounds.sweeps(calls_of_whole.backward) == 1


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
    monkeypatch.setenv("NUMPY_NORMS_NUM_THREADS", "2")  # the stacks of threads count as well
    path = tmp_path / "memory.json"
    memory.main(["--smoke", "--scratch", str(tmp_path), "--json", str(path)])
    found = json.loads(path.read_text())
    for row in found["file"]:
        assert row["bytes"] > row["limit"]
        assert all(row["refused"].values())
        assert all(row["right"].values())
    assert {row["direction"] for row in found["cost"]} == set(DIRECTIONS)


@pytest.mark.parametrize("family", ["layer (n, 1024)", "batch (n, 128)"])
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_passes_allocate_their_outputs_and_little_more(family: str) -> None:
    found = memory.child("allocation", family=family, mebibytes=48, dtype=None)
    for direction in DIRECTIONS:
        assert found[direction]["outputs"] >= found["bytes"]
        assert found[direction]["traced"] <= memory.PER_THREAD * found["threads"]


@pytest.mark.parametrize("module", [side_by_side, bounds, passes, accuracy, memory])
def test_a_smoke_run_does_not_replace_results(module, capsys) -> None:
    with pytest.raises(SystemExit):
        module.main(["--smoke"])
    assert "pass --json FILE" in capsys.readouterr().err


def test_the_page_says_what_the_results_say() -> None:
    report.main(["--check"])


def test_a_page_without_a_part_is_refused() -> None:
    page = "<!-- begin aims -->\n\nold\n\n<!-- end aims -->"
    assert report.filled(page, {"aims": "new"}) == page.replace("old", "new")
    with pytest.raises(ValueError, match="no one part 'cost'"):
        report.filled(page, {"aims": "new", "cost": ""})

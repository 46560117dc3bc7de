"""How far it is from a public function to the arithmetic: few calls, few files."""

import os
import sys
from pathlib import Path

import pytest
from cases import batch_norm, group_norm, instance_norm, layer_norm, parametrize, rms_norm
from each import each

import numpy_norms

ROOT = Path(numpy_norms.__file__).parent
TINY = [
    layer_norm((2, 3)),
    rms_norm((2, 3)),
    batch_norm((4, 3)),
    batch_norm((4, 3, 2)),
    group_norm((2, 4, 3), 2),
    instance_norm((2, 3, 4)),
]


def way(function, *arguments, **options):
    """Count the calls within the package, and name the files outside the engine."""
    calls, files = [], set()

    def seen(frame, event, _):
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(f"{ROOT}{os.sep}"):
            calls.append(frame.f_code.co_name)
            files.add(path)

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        result = function(*arguments, **options)
    finally:
        sys.setprofile(before)
    return result, len(calls), {f for f in files if not Path(f).is_relative_to(ROOT / "engine")}


@pytest.mark.usefixtures("_without_programs")
@each("seed", [0, 1])
@parametrize(TINY)
def test_a_pass_over_a_tiny_array_is_60_calls_and_five_files_at_most(norm, seed):
    arrays, dy = norm.draw(seed, mean=0.0)
    _, cache = norm.forward(arrays)
    norm.backward(dy, cache)
    forward = getattr(numpy_norms, f"{norm.name}_forward")
    backward = getattr(numpy_norms, f"{norm.name}_backward")
    (_, cache), calls, files = way(forward, **arrays, **norm.options)
    assert calls <= 60 + 20 * (cache.statistics.pivot is not None)  # then it was reduced twice
    assert len(files) <= 5
    _, calls, files = way(backward, dy, cache)
    assert calls <= 60
    assert len(files) <= 5

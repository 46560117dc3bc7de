"""The same bits in a new process, however many threads the libraries below may use."""

import os
import subprocess
import sys

PROGRAM = """
import hashlib
import cases
for norm in (
    cases.batch_norm((100_001, 7)),
    cases.layer_norm((3, 300_001)),
    cases.group_norm((5, 61, 67, 12), 3, channel_axis=-1),
    cases.rms_norm((301, 1153)),
):
    for dtype in ("float32", "float64"):
        arrays, dy = norm.draw(dtype=dtype)
        y, gradients = norm.both(arrays, dy)
        digest = hashlib.sha256(y.tobytes())
        for gradient in gradients.values():
            digest.update(gradient.tobytes())
        print(norm, dtype, digest.hexdigest())
"""


def run(program, **environment):
    """Run a program in a new process and return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout + result.stderr


def test_threads_of_the_library_and_of_blas_change_no_bit():
    single = run(PROGRAM, NUMPY_NORMS_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    assert len(single.splitlines()) == 8
    assert run(PROGRAM, NUMPY_NORMS_NUM_THREADS="5", OPENBLAS_NUM_THREADS="2") == single


def test_the_environment_sets_the_number_of_threads():
    program = "import numpy_norms; print(numpy_norms.get_num_threads())"
    assert run(program, NUMPY_NORMS_NUM_THREADS="3") == "3\n"


def test_a_variable_that_is_no_number_of_threads_is_refused_by_name():
    program = """
import os, numpy_norms
for os.environ["NUMPY_NORMS_NUM_THREADS"] in ("0", "-1", "two", "1.5"):
    try:
        print(numpy_norms.get_num_threads())
    except ValueError as error:
        print(str(error).split()[0])
"""
    assert run(program) == "NUMPY_NORMS_NUM_THREADS\n" * 4

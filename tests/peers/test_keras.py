"""Keras' own tests of norms, from its wheel, with this library answering."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LEAST = 45  # version 3.15 has 50
REFUSED = {"test_renorm_inference"}  # whose running variances are drawn, and some of them negative
FILES = [
    "layers/normalization/batch_normalization_test.py",
    "layers/normalization/group_normalization_test.py",
    "layers/normalization/layer_normalization_test.py",
    "layers/normalization/rms_normalization_test.py",
    "layers/normalization/unit_normalization_test.py",
    "ops/nn_test.py",
]


def test_no_value_is_wrong_in_the_tests_of_keras(tmp_path):
    if find_spec("keras") is None:
        pytest.skip("needs keras: pip install '.[peers]'")
    source = Path(find_spec("keras").submodule_search_locations[0]) / "src"
    files = [str(source / name) for name in FILES if (source / name).exists()]
    if not files:
        pytest.skip("this wheel of Keras has no tests")
    written = tmp_path / "outcomes.json"
    paths = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    env = os.environ | {"KERAS_BACKEND": "numpy", "KERAS_ANSWERS": str(written)}
    env |= {"PYTHONPATH": paths, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "keras_answers", "-k", "norm"]
    options = [
        "-c",
        str(tmp_path / "pytest.ini"),
        "--rootdir",
        str(source),
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, *options, *files], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert written.exists(), done.stdout + done.stderr
    outcomes = json.loads(written.read_text())
    ran = {name: o for name, o in outcomes.items() if o.get("asked")}
    failed = sorted(name for name, o in outcomes.items() if o.get("outcome") == "failed")
    assert {name.rpartition("::")[2] for name in failed} <= REFUSED, done.stdout[-5000:]
    passed = sum(o["outcome"] == "passed" for o in ran.values())
    print(f"Keras {version('keras')}: {passed} tests asked this library, no value wrong")
    assert passed >= LEAST

"""Write golden.json: results of numpy_norms, which the explorer's own arithmetic has to equal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy_norms
from numpy_norms.groups import groups

# Norm, shape of x, and options; all sizes differ, so that no axis can be taken for another.
CASES: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("batch_norm", (3, 2), {}),
    ("batch_norm", (2, 3, 4, 1), {"eps": 0.1}),
    ("batch_norm_inference", (2, 3, 4), {}),
    ("layer_norm", (2, 5), {}),
    ("layer_norm", (2, 3, 4), {"axis": (2,), "eps": 1e-3}),
    ("layer_norm", (2, 5, 3, 4), {"axis": (1,)}),
    ("layer_norm", (2, 5, 3, 4), {"axis": (1, 2, 3)}),
    ("instance_norm", (3, 2, 4), {}),
    ("instance_norm", (1, 3, 2, 4), {"eps": 0.1}),
    ("group_norm", (2, 6, 3), {"num_groups": 3}),
    ("group_norm", (3, 6, 2, 4), {"num_groups": 2, "eps": 1e-3}),
    ("rms_norm", (2, 3, 4), {"axis": (2,)}),
    ("rms_norm", (3, 2, 4), {"axis": (0, 2), "eps": 0.1}),
]


def vectors(seed: int = 2024) -> list[dict[str, Any]]:
    """Return every case with random arguments and with the results of numpy_norms."""
    rng = np.random.default_rng(seed)
    return [_case(rng, *case) for case in CASES]


def _case(
    rng: np.random.Generator,
    norm: str,
    shape: tuple[int, ...],
    options: dict[str, Any],
) -> dict[str, Any]:
    options = {"eps": 1e-5} | options
    if norm in ("layer_norm", "rms_norm"):
        options = {"axis": (len(shape) - 1,)} | options
    features = tuple(shape[a] for a in options.get("axis", (1,)))
    given = {
        "x": 1 + 2 * rng.normal(size=shape),
        "gamma": rng.normal(size=features),
    }
    if norm != "rms_norm":
        given["beta"] = rng.normal(size=features)
    if norm == "batch_norm_inference":
        given |= {
            "running_mean": rng.normal(size=features),
            "running_var": rng.random(features),
        }
    dy = rng.normal(size=shape)
    y, cache = getattr(numpy_norms, f"{norm}_forward")(**given, **options)
    gradients = getattr(numpy_norms, f"{norm}_backward")(dy, cache)
    results = {
        "y": y,
        "dx": gradients[0],
        "dgamma": gradients[1 if norm == "rms_norm" else -2],
    }
    if norm != "rms_norm":
        results["dbeta"] = gradients[-1]
    if norm != "batch_norm_inference":
        sets = {name: value for name, value in options.items() if name != "eps"}
        results |= {"labels": groups(norm, shape, **sets), "rstd": cache.rstd}
    arrays = given | {"dy": dy} | results
    flat = {name: np.ravel(a).tolist() for name, a in arrays.items()}
    return {"norm": norm, "shape": shape} | options | flat


if __name__ == "__main__":
    path = (
        Path(sys.argv[1])
        if len(sys.argv) > 1
        else Path(__file__).with_name("golden.json")
    )
    path.write_text(json.dumps(vectors()), "utf-8")

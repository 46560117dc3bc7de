"""Writing the vectors: inputs, expected values, tolerances, their description and a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from numpy_norms.golden.cases import CASES_VERSION, Case, cases
from numpy_norms.golden.exact import PRECISION, expected, round_to
from numpy_norms.golden.files import write_json, write_manifest, write_npz
from numpy_norms.golden.flags import FLAGS
from numpy_norms.golden.formats import FORMATS, Array, encode, extra
from numpy_norms.golden.schema import SCHEMA, SCHEMA_VERSION
from numpy_norms.golden.tolerance import accumulator, tolerance

Progress = Callable[[str], None]


def export(out: Path, *, progress: Progress = lambda line: None, precision: int = PRECISION) -> int:
    """Write every vector to the folder `out`, and return the number of cases.

    Parameters
    ----------
    out : Path
        Made if it is not there. Files of the same names are replaced.
    progress : callable
        Told the name of each group before it is computed.
    precision : int
        Bits of the arithmetic. More than the default change no file but for the figure itself.

    Raises
    ------
    MissingExtra
        If mpmath or ml_dtypes is not installed.
    """
    for package in ("mpmath", "ml_dtypes"):
        extra(package)
    out.mkdir(parents=True, exist_ok=True)
    groups = []
    for (norm, dtype), members in groupby(cases(), key=lambda case: (case.norm, case.form.name)):
        name = f"{norm}-{dtype}.npz"
        progress(name)
        group = list(members)
        arrays = {
            f"{case.name}/{array}": values
            for case in group
            for array, values in _arrays(case, precision)
        }
        write_npz(out / name, arrays)
        groups.append(description(name, group))
    write_json(out / "cases.json", _contents(groups, precision))
    write_json(out / "cases.schema.json", SCHEMA)
    write_manifest(out, ["cases.json", "cases.schema.json", *(group["file"] for group in groups)])
    return sum(len(group["cases"]) for group in groups)


def output_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """Return the shape of every output, in the order of the gradients."""
    share = case.sharing
    shapes = {"y": case.shape, "mean": share.set_shape, "rstd": share.set_shape}
    shapes |= {"dx": case.shape}
    if case.norm == "batch_norm_inference":
        del shapes["mean"]
        shapes |= {"drunning_mean": share.set_shape, "drunning_var": share.set_shape}
    shapes |= {"dgamma": share.parameter_shape, "dbeta": share.parameter_shape}
    if case.norm == "rms_norm":
        del shapes["mean"], shapes["dbeta"]
    return shapes


def _arrays(case: Case, precision: int) -> Iterator[tuple[str, Array]]:
    numbers = expected(case.norm, case.arrays, case.eps, case.sharing, precision)
    shapes = output_shapes(case)
    wide = {
        name: round_to(numbers[name], FORMATS["float64"]).reshape(shape)
        for name, shape in shapes.items()
    }
    allowed = tolerance(case, wide)
    yield "eps", np.array(case.eps, dtype="<f8")
    for name, values in case.arrays.items():
        yield name, encode(values, case.form)
    for name, shape in shapes.items():
        yield name, encode(round_to(numbers[name], case.form).reshape(shape), case.form)
        yield f"{name}.float64", wide[name].astype("<f8")
        yield f"{name}.tolerance", allowed[name].astype("<f8")


def description(name: str, group: list[Case]) -> dict[str, Any]:
    """Return what `cases.json` says of the file `name`, which has these cases."""
    first = group[0]
    return {
        "file": name,
        "norm": first.norm,
        "dtype": first.form.name,
        "storage": encode(np.zeros(1), first.form).dtype.newbyteorder("<").str,
        "accumulate": accumulator(first.form),
        "cases": [
            {
                "name": case.name,
                "flags": list(case.flags),
                "shape": list(case.shape),
                "options": case.options,
                "eps": case.eps.hex(),
                "exact": case.exact,
                "inputs": ["eps", *case.arrays],
                "outputs": list(output_shapes(case)),
            }
            for case in group
        ],
    }


def _contents(groups: list[dict[str, Any]], precision: int) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "generator": {
            "name": "numpy_norms",
            "version": CASES_VERSION,
            "precision_bits": precision,
        },
        "flags": {name: flag._asdict() for name, flag in FLAGS.items()},
        "groups": groups,
    }

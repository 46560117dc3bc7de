"""What `cases.json` looks like, as JSON Schema; written beside it."""

from __future__ import annotations

from typing import Any

from numpy_norms.golden.formats import FORMATS
from numpy_norms.oracle.sets import SIX_NORMS

# Semantic versioning of the files: a reader of 1.x can read every 1.y.
SCHEMA_VERSION = "1.0.0"

NAME: dict[str, Any] = {"type": "string", "pattern": "^[A-Za-z0-9_]+$"}
ISSUE: dict[str, Any] = {"type": "string", "pattern": "^[^/#]+/[^/#]+#[0-9]+$"}


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    required = sorted(properties)
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        **more,
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


FLAG = _object(
    {
        "bug": {"type": "string", "description": "the mistake that the flagged cases are after"},
        "effect": {"type": "string", "description": "what it does to the results"},
        "issues": _list(ISSUE) | {"description": "public issues that had it, owner/repository#n"},
    }
)
OPTIONS: dict[str, Any] = {
    "type": "object",
    "description": "the axes that the norm is told; those of the arrays are in C order",
    "properties": {
        "axis": _list({"type": "integer"}) | {"description": "axes that share statistics"},
        "channel_axis": {"type": "integer"},
        "num_groups": {"type": "integer", "minimum": 1},
    },
    "additionalProperties": False,
}
CASE = _object(
    {
        "name": NAME,
        "flags": _list(NAME),
        "shape": _list({"type": "integer", "minimum": 1}) | {"description": "shape of x"},
        "options": OPTIONS,
        "eps": {"type": "string", "description": "C99 hexadecimal float; exact in float32"},
        "exact": {"type": "boolean", "description": "tolerance 0: any difference is a bug"},
        "inputs": _list(NAME) | {"description": "arrays CASE/NAME of the group's file"},
        "outputs": _list(NAME)
        | {
            "description": "for each: CASE/NAME, correctly rounded to the group's dtype; "
            "CASE/NAME.float64, correctly rounded to float64; CASE/NAME.tolerance, the largest "
            "distance from the latter that an honest kernel may have; NaN where NaN is expected"
        },
    }
)
GROUP = _object(
    {
        "file": {"type": "string", "pattern": r"^[a-z0-9_]+-[a-z0-9]+\.npz$"},
        "norm": {"enum": sorted(SIX_NORMS)},
        "dtype": {"enum": list(FORMATS)},
        "storage": {"enum": ["<f2", "<u2", "<f4", "<f8"]},
        "accumulate": {"enum": ["float32", "float64"]},
        "cases": _list(CASE),
    }
)
SCHEMA: dict[str, Any] = _object(
    {
        "schema_version": {"type": "string", "pattern": "^1\\.[0-9]+\\.[0-9]+$"},
        "generator": _object(
            {
                "name": {"const": "numpy_norms"},
                "version": {"type": "string"},
                "precision_bits": {"type": "integer", "minimum": 200},
            }
        ),
        "flags": {"type": "object", "additionalProperties": FLAG, "propertyNames": NAME},
        "groups": _list(GROUP),
    },
    title="Golden vectors for normalization layers",
    **{"$schema": "https://json-schema.org/draft/2020-12/schema"},
)

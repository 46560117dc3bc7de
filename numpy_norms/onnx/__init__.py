"""ONNX' normalization operators, for ``onnx.reference.ReferenceEvaluator``.

::

    from numpy_norms.onnx import evaluator

    outputs = evaluator("model.onnx").run(None, {"x": x})

The operators are those of all versions of the standard, and those that ONNX Runtime's optimizer
writes in their place. They compute float32 in float32, as the standard has it, with the equations
of this library: a large mean does not drown the variance. Half precision is computed in float64;
what is normalized is rounded to the type that `stash_type` names and then to that of X, and scale
and bias are applied in the type of X.
"""

from __future__ import annotations

try:
    import onnx as _onnx  # noqa: F401
except ImportError as error:
    raise ImportError("numpy_norms.onnx needs onnx: pip install onnx") from error

from .evaluator import evaluator, new_ops
from .folding import fold
from .fusion import Fused, fused

__all__ = ["Fused", "evaluator", "fold", "fused", "new_ops"]

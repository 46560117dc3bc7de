"""What all operators share: attributes by version, and errors that name the node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

import numpy as np
import onnx
from numpy.typing import DTypeLike, NDArray
from onnx.reference.op_run import OpRun

from .. import checks
from ..cache import Cache
from .graph import check_inputs, check_kinds, check_outputs, error_of, outputs_of, schema_of

Array = NDArray[Any]


def single(value: float) -> float:
    """The float32 next to `value`, which is how ONNX stores it."""
    return float(np.float32(value))


EPSILON = single(1e-5)
_KINDS = {  # of attributes, by what `compute` says of them
    "int": "INT",
    "int | None": "INT",
    "float": "FLOAT",
    "Sequence[int]": "INTS",
    "Array": "TENSOR",
}


class Operator(OpRun):
    """Checks the attributes and names the node in an error; a subclass computes the outputs.

    The positional arguments of its `compute` are the inputs, those annotated as ``Array`` needed;
    the keyword arguments are the attributes of all versions, with their defaults.
    """

    op_domain = ""
    op_schema = None  # of which ONNX' evaluator would take the newest version's defaults
    compute: Callable[..., tuple[Array | None, ...]]

    def __init__(self, node: onnx.NodeProto, run_params: dict[str, Any], schema: Any = None):
        super().__init__(node, run_params, schema)
        parameters = signature(self.compute).parameters
        inputs = [name for name, p in parameters.items() if p.kind is not p.KEYWORD_ONLY]
        needed = [name for name in inputs if parameters[name].annotation == "Array"]
        check_inputs(node, inputs, needed, len(inputs))
        self.version, known = self._registered(parameters)
        given = [attribute.name for attribute in node.attribute]
        for name in sorted(set(given) - set(known)):
            raise self._error(
                f"attribute {name!r} is unknown to version {self.version} of this operator, which "
                f"has {', '.join(sorted(known)) or 'none'}"
            )
        for name in known:
            if known[name].default is Parameter.empty and name not in given:
                raise self._error(f"attribute {name!r} is missing, and has no default")
        check_kinds(node, {name: _KINDS[p.annotation] for name, p in known.items()})

    def _registered(self, parameters: Mapping[str, Parameter]) -> tuple[int, dict[str, Parameter]]:
        """The operator's version for this opset, and its attributes."""
        ours = {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
        opset = self.run_params["opsets"].get(self.domain, 1)
        schema = schema_of(self.domain, self.op_type, opset)
        if schema is None:
            return 1, ours
        return schema.since_version, {name: ours[name] for name in schema.attributes}

    @property
    def outputs(self) -> int:
        """How many outputs are asked for, up to the last that has a name."""
        return outputs_of(self.onnx_node)

    def _run(self, *inputs: Array, **attributes: Any) -> tuple[Array | None, ...]:
        epsilon = attributes.get("epsilon", 0.0)
        if not 0 <= epsilon < np.inf:
            raise self._error(f"epsilon is {epsilon}, but a finite number >= 0 was expected")
        try:
            results = self.compute(*inputs, **attributes)
        except (ValueError, TypeError) as error:
            raise self._error(str(error)) from error
        check_outputs(self.onnx_node, len(results))
        return results

    def _error(self, message: str) -> ValueError:
        return error_of(self.onnx_node, message)


def work_of(x: Array) -> DTypeLike | None:
    """Float32 for float32, as the standard has it; wider for halves, rounded step by step."""
    return np.float32 if x.dtype == np.float32 else None


def channels_of(x: Array, **parameters: Array) -> int:
    """How many channels X has, on axis 1; each parameter has one number for each of them."""
    checks.channel_axis(1, x)
    channels: int = x.shape[1]
    for name, a in parameters.items():
        if a.shape != (channels,):
            raise ValueError(f"{name} has shape {a.shape}, but X has {channels} channels")
    return channels


def floats_that_fit(x: Array, **others: Array | None) -> None:
    """Refuse X of no floats, and what has none or does not broadcast to X."""
    checks.array("X", x)
    for name, a in others.items():
        if a is None:
            continue
        checks.array(name, a)
        pairs = zip(a.shape[::-1], x.shape[::-1], strict=False)
        if a.ndim > x.ndim or not all(n in (1, m) for n, m in pairs):
            raise ValueError(
                f"{name} has shape {a.shape}, which does not broadcast to that of X, {x.shape}"
            )


def axes_from(axis: int, x: Array) -> tuple[int, ...]:
    """The axes from `axis` to the last."""
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis is {axis}, but X has {x.ndim} axes, of shape {x.shape}")
    return tuple(range(axis % x.ndim, x.ndim))


def stash_dtype(stash_type: int) -> np.dtype[Any]:
    """The dtype with the number that ONNX gives to it."""
    kinds = onnx.TensorProto
    allowed = kinds.FLOAT, kinds.FLOAT16, kinds.DOUBLE, kinds.BFLOAT16
    if stash_type not in allowed:
        raise ValueError(
            f"stash_type is {stash_type}, but 1 (float32), 10 (float16), 11 (float64) or 16 "
            "(bfloat16) was expected"
        )
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(stash_type))


def staged(
    normalize: Callable[..., tuple[Array, Cache]],
    x: Array,
    scale: Array,
    bias: Array | None,
    exact: tuple[int, ...],
    along: tuple[int, ...] | None,
    stash_type: int,
) -> tuple[Array, Cache]:
    """Normalize in the type `stash_type`, round to that of x, then scale and shift.

    One pass does it where both types are the same, no half precision (whose results depend on every
    rounding), and the parameters have the `exact` shape. `along` is the shape in which parameters
    broadcast against x, if it is not theirs.
    """
    stash = stash_dtype(stash_type)
    shaped = [a if a is None or along is None else a.reshape(along) for a in (scale, bias)]
    floats_that_fit(x, scale=shaped[0], B=shaped[1])
    if (
        x.dtype == stash
        and stash.itemsize >= 4
        and all(a is None or (a.shape, a.dtype) == (exact, stash) for a in (scale, bias))
    ):
        return normalize(x, scale, bias)
    x_hat, cache = normalize(x.astype(stash))
    y = x_hat.astype(x.dtype) * shaped[0]
    if shaped[1] is not None:
        y = y + shaped[1]
    return y.astype(scale.dtype, copy=False), cache

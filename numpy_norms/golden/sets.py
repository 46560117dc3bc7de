"""Which positions of `x` share statistics, and which a parameter, straight from the definition.

Wu and He (2018), section 3.1: a norm is a rule that gives every position i a set S_i. Here the rule
is a key for each index; positions with the same key are in the same set.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Sharing(NamedTuple):
    """For every position of `x`, in C order: the number of its set and of its parameter."""

    sets: NDArray[np.intp]
    parameters: NDArray[np.intp]
    set_shape: tuple[int, ...]
    parameter_shape: tuple[int, ...]


def sharing(norm: str, shape: tuple[int, ...], options: Mapping[str, Any]) -> Sharing:
    """Number the sets and the parameters of `norm` on an array of this shape."""
    if norm in ("layer_norm", "rms_norm"):
        features = sorted(axis % len(shape) for axis in options["axis"])
        others = [axis for axis in range(len(shape)) if axis not in features]
        return Sharing(
            _numbers(shape, lambda i: tuple(i[a] for a in others)),
            _numbers(shape, lambda i: tuple(i[a] for a in features)),
            tuple(shape[a] for a in others),
            tuple(shape[a] for a in features),
        )
    channel_axis = options["channel_axis"] % len(shape)
    batch_axis = 1 if channel_axis == 0 else 0
    channels, batch = shape[channel_axis], shape[batch_axis]
    groups = options.get("num_groups", channels)
    in_group = channels // groups
    parameters = _numbers(shape, lambda i: (i[channel_axis],))
    if norm in ("batch_norm", "batch_norm_inference"):
        return Sharing(parameters, parameters, (channels,), (channels,))
    return Sharing(
        _numbers(shape, lambda i: (i[batch_axis], i[channel_axis] // in_group)),
        parameters,
        (batch, groups),
        (channels,),
    )


def _numbers(shape: tuple[int, ...], key: Any) -> NDArray[np.intp]:
    keys = [key(index) for index in np.ndindex(*shape)]
    number = {k: n for n, k in enumerate(sorted(set(keys)))}
    return np.array([number[k] for k in keys], dtype=np.intp)

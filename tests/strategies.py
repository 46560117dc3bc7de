"""What Hypothesis varies: the structure of a problem, not its raw numbers.

Each draw is a `Problem`: a norm with shape and axes, inputs of known mean, spread and pattern,
signed parameters, a random dy and an eps of known ratio to the variance.
"""

from dataclasses import dataclass

import cases
import numpy as np
from hypothesis import strategies as st

MEANS = (0.0, 1.0, -1e2, 1e4, 1e6)
SCALES = {
    np.float16: (1e-2, 1.0, 30.0),
    np.float32: (1e-30, 1e-10, 1.0, 1e10, 1e20),
    np.float64: (1e-100, 1e-30, 1.0, 1e20, 1e100),
}
EPS_RATIOS = (0.0, 1e-10, 1e-5, 0.3, 10.0, 1e3)


@dataclass(frozen=True)
class Problem:
    """A norm with inputs, dy and eps; ``scale`` is about the standard deviation of x."""

    norm: cases.Norm
    arrays: dict
    dy: np.ndarray
    eps: float
    scale: float


def shapes(min_rank=1):
    """Draw sides from 1 to 5, all different."""
    sides = st.permutations([1, 2, 3, 4, 5])
    return st.tuples(st.integers(min_rank, 4), sides).map(lambda drawn: tuple(drawn[1][: drawn[0]]))


@st.composite
def channel_norms(draw):
    """Draw a batch, group or instance norm with channels on any axis."""
    name = draw(st.sampled_from(["batch_norm", "group_norm", "instance_norm"]))
    shape = draw(shapes(min_rank=3 if name == "instance_norm" else 2))
    channel_axis = draw(st.integers(-len(shape), len(shape) - 1))
    if name != "group_norm":
        return getattr(cases, name)(shape, channel_axis)
    num_groups = draw(st.sampled_from([1, 2, 3]))
    channels = shape[channel_axis] * num_groups
    at = channel_axis % len(shape)
    shape = (*shape[:at], channels, *shape[at + 1 :])
    return cases.group_norm(shape, num_groups, channel_axis)


@st.composite
def axis_norms(draw):
    """Draw a layer or RMS norm over any axes, counted from either end, in any order."""
    shape = draw(shapes())
    axes = draw(
        st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=len(shape), unique=True)
    )
    axis = tuple(a - len(shape) * draw(st.booleans()) for a in axes)
    make = draw(st.sampled_from([cases.layer_norm, cases.rms_norm]))
    return make(shape, axis[0] if len(axis) == 1 else axis)


norms = st.one_of(channel_norms(), axis_norms())


def pattern(x, kind):
    """Give standard normal ``x`` ties, or a spike, or leave it."""
    if kind == "ties":
        return np.round(x)
    if kind == "spike":
        x.flat[x.size // 2] = 100.0
    return x


def parameter(rng, shape, kind):
    """Draw a parameter of both signs; ``edges`` puts a zero and a tiny entry into it."""
    values = rng.standard_normal(shape)
    if kind == "edges":
        values.flat[0] = 0.0
        values.flat[-1] = 2.0**-20
    return values


@st.composite
def problems(draw, dtype=np.float64, norms=norms):
    """Draw a problem in ``dtype``; eps is 0 only where no set is constant."""
    norm = draw(norms)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    narrow = dtype == np.float16
    mean, scale = draw(st.sampled_from(MEANS[:3] if narrow else MEANS)), draw(scales(dtype))
    noise = pattern(
        rng.standard_normal(norm.shape), draw(st.sampled_from(["plain", "ties", "spike"]))
    )
    arrays = {"x": (scale * (mean + noise)).astype(dtype)}
    for name in norm.parameters:
        if (kind := draw(st.sampled_from(["plain", "edges", None]))) is not None:
            arrays[name] = parameter(rng, norm.parameter_shape, kind).astype(dtype)
    dy = rng.standard_normal(norm.shape).astype(dtype)
    ratio = draw(st.sampled_from(EPS_RATIOS))
    if has_constant_set(norm, arrays["x"]):
        ratio = max(ratio, 1e-5)
    return Problem(norm, arrays, dy, ratio * scale**2, scale)


def scales(dtype):
    """Draw about the standard deviation of x."""
    return st.sampled_from(SCALES[dtype])


def has_constant_set(norm, x):
    """Say whether the positions of some set hold one and the same value."""
    return bool((np.ptp(norm.rows(x), axis=1) == 0).any())

"""The inputs of the vectors: one recipe per way to go wrong, each tried on every norm and format.

No random generator: NumPy's streams may change between releases, and the files must not. The bits
come from SHAKE-128 of a case's name, so that a new case changes no other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import shake_128
from typing import Any

import numpy as np

from numpy_norms.golden.formats import FORMATS, Array, Format, representable
from numpy_norms.oracle.sets import SIX_NORMS, Sharing, sharing

# To be raised when a recipe changes, so that the same version always means the same bytes.
CASES_VERSION = "1.0.0"
CHANNELS = {"channel_axis": 1}
GROUPS = {"channel_axis": 1, "num_groups": 2}
FEATURES = {"axis": [-1]}
# The sizes of a shape differ from each other, so that no axis can stand in for another.
LAYOUTS: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "batch_norm": ((4, 3, 5, 2), CHANNELS),
    "batch_norm_inference": ((4, 3, 5, 2), CHANNELS),
    "group_norm": ((5, 4, 3, 2), GROUPS),
    "instance_norm": ((5, 3, 7, 2), CHANNELS),
    "layer_norm": ((5, 13), FEATURES),
    "rms_norm": ((5, 13), FEATURES),
}
EIGHT: dict[str, tuple[int, ...]] = {  # positions in a set
    "batch_norm": (2, 3, 4),
    "batch_norm_inference": (2, 3, 4),
    "group_norm": (3, 4, 1, 4),
    "instance_norm": (2, 3, 8),
    "layer_norm": (3, 8),
    "rms_norm": (3, 8),
}
MANY: dict[str, tuple[int, ...]] = {  # 256 positions in a set
    "batch_norm": (64, 2, 4),
    "group_norm": (1, 4, 128),
    "instance_norm": (1, 2, 256),
    "layer_norm": (2, 256),
    "rms_norm": (2, 256),
}
ONE_EACH: dict[str, tuple[int, ...]] = {
    "batch_norm": (1, 3),
    "batch_norm_inference": (1, 3),
    "group_norm": (3, 2),
    "instance_norm": (2, 3, 1),
    "layer_norm": (5, 1),
    "rms_norm": (5, 1),
}
LONG: dict[str, tuple[int, ...]] = {
    "batch_norm": (131, 2),
    "batch_norm_inference": (131, 2),
    "group_norm": (1, 4, 131),
    "instance_norm": (1, 2, 131),
    "layer_norm": (2, 131),
    "rms_norm": (2, 131),
}
LONGER = {norm: tuple(1031 if size > 60 else size for size in LONG[norm]) for norm in MANY}
EPS = float(np.float32(1e-5))  # a kernel that takes a float sees the same number


@dataclass(frozen=True)
class Case:
    """Inputs of one vector: float64 arrays whose values are all numbers of the format."""

    norm: str
    form: Format
    name: str
    flags: tuple[str, ...]
    shape: tuple[int, ...]
    options: dict[str, Any]
    eps: float = EPS
    arrays: dict[str, Array] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether every result must be right to the last bit."""
        return "ExactArithmetic" in self.flags

    @property
    def sharing(self) -> Sharing:
        """Which positions share a set and a parameter."""
        return sharing(self.norm, self.shape, **self.options)

    def shake(self, array: str, size: int) -> Array:
        """Return numbers of [0, 1) with 52 bits each, always the same for this case and array."""
        key = f"{self.norm}/{self.form.name}/{self.name}/{array}".encode()
        bits = np.frombuffer(shake_128(key).digest(8 * size), dtype="<u8")
        return (bits >> np.uint64(12)).astype(np.float64) / 2.0**52

    def with_arrays(self, **arrays: Array) -> "Case":
        """Return a copy in which these arrays, rounded to the format, replace those before."""
        rounded = {name: representable(values, self.form) for name, values in arrays.items()}
        return replace(self, arrays=self.arrays | rounded)


def cases() -> Iterator[Case]:
    """Make every case of every norm and format."""
    for norm in sorted(SIX_NORMS):
        for form in FORMATS.values():
            for name, (shapes, flags, recipe) in RECIPES.items():
                shape, options = shapes.get(norm, (None, {}))
                if shape is None or not _has_a_point(norm, form, name):
                    continue
                marks = (*flags, *EXTRA.get((norm, name), ()))
                yield recipe(_ordinary(Case(norm, form, name, marks, shape, options)))


def _ordinary(case: Case) -> Case:
    """Fill in values of ordinary size: x around 0.5, gamma of both signs, dy never constant."""
    share = case.sharing
    x = 4 * case.shake("x", share.sets.size) - 1.5
    parameters = int(np.prod(share.parameter_shape))
    gamma = 4 * case.shake("gamma", parameters) - 2
    arrays = {
        "x": x.reshape(case.shape),
        "gamma": gamma.reshape(share.parameter_shape),
        "beta": (2 * case.shake("beta", parameters) - 1).reshape(share.parameter_shape),
        "dy": (4 * case.shake("dy", x.size) - 2).reshape(case.shape),
    }
    if case.norm == "rms_norm":
        del arrays["beta"]
    if case.norm == "batch_norm_inference":
        arrays["running_mean"] = 2 * case.shake("running_mean", parameters) - 1
        arrays["running_var"] = 0.5 + case.shake("running_var", parameters)
    return case.with_arrays(**arrays)


def _per_set(case: Case, values: Array) -> Array:
    """Spread one value per set over the positions of x."""
    return values[case.sharing.sets].reshape(case.shape)


def _scaled(case: Case, scale: float) -> Case:
    """Multiply x, and the given statistics with it, by a power of two."""
    arrays = {"x": case.arrays["x"] * scale}
    if case.norm == "batch_norm_inference":
        arrays["running_mean"] = case.arrays["running_mean"] * scale
        arrays["running_var"] = case.arrays["running_var"] * scale**2
    return case.with_arrays(**arrays)


def _large_mean(case: Case) -> Case:
    arrays = {"x": case.arrays["x"] + case.form.mean}
    if case.norm == "batch_norm_inference":
        arrays["running_mean"] = case.arrays["running_mean"] + case.form.mean
    return case.with_arrays(**arrays)


def _constant_sets(case: Case) -> Case:
    sets = int(case.sharing.sets.max()) + 1
    values = np.resize([0.1, 1234.1, -0.7], sets)
    return case.with_arrays(x=_per_set(case, values))


def _spike(case: Case) -> Case:
    x = case.arrays["x"].copy()
    first_of_each_set = np.unique(case.sharing.sets, return_index=True)[1]
    x.reshape(-1)[first_of_each_set] = case.form.spike
    return case.with_arrays(x=x)


def _gamma_zeros(case: Case) -> Case:
    gamma = case.arrays["gamma"].copy()
    gamma.reshape(-1)[::2] = 0
    return case.with_arrays(gamma=gamma)


def _not_a_number(case: Case) -> Case:
    x = case.arrays["x"].copy()
    x.reshape(-1)[1] = np.nan
    return case.with_arrays(x=x)


def _exact(case: Case) -> Case:
    """Make every set m - 1 and m + 1 in equal numbers, and var + eps = 4, so that rstd = 1/2."""
    share = case.sharing
    order = np.argsort(share.sets, kind="stable")
    signs = np.empty(order.size)
    signs[order] = np.tile([1.0, -1.0, -1.0, 1.0], order.size // 4)
    sets, channels = int(share.sets.max()) + 1, int(share.parameters.max()) + 1
    mean = np.zeros(sets) if case.norm == "rms_norm" else np.floor(100 * case.shake("mean", sets))
    powers = np.resize([1.0, -2.0, -1.0, 2.0, 1.0], channels)
    dy = np.floor(4 * case.shake("dy", order.size)) - 1
    arrays = {
        "x": signs.reshape(case.shape) + _per_set(case, mean),
        "gamma": powers.reshape(share.parameter_shape),
        "dy": dy.reshape(case.shape),
    }
    if "beta" in case.arrays:
        arrays["beta"] = np.resize([3.0, -1.0, 2.0], channels).reshape(share.parameter_shape)
    if case.norm == "batch_norm_inference":
        arrays |= {"running_mean": mean + 1, "running_var": np.resize([1.0, 13.0, 61.0], sets)}
    return replace(case.with_arrays(**arrays), eps=3.0)


Recipe = Callable[[Case], Case]
Shapes = dict[str, tuple[tuple[int, ...], dict[str, Any]]]


def _same_options(shapes: dict[str, tuple[int, ...]]) -> Shapes:
    return {norm: (shape, LAYOUTS[norm][1]) for norm, shape in shapes.items()}


LAST = {"channel_axis": -1}
CHANNELS_LAST: Shapes = {
    "batch_norm": ((4, 5, 2, 3), LAST),
    "batch_norm_inference": ((4, 5, 2, 3), LAST),
    "group_norm": ((3, 5, 2, 6), LAST | {"num_groups": 2}),
    "instance_norm": ((2, 5, 4, 3), LAST),
}
SEVERAL_AXES: Shapes = {
    "layer_norm": ((2, 3, 5, 4), {"axis": [-2, -1]}),
    "rms_norm": ((2, 3, 5, 4), {"axis": [-2, -1]}),
}
THREE_GROUPS: Shapes = {"group_norm": ((2, 12, 5), {"channel_axis": 1, "num_groups": 3})}

RECIPES: dict[str, tuple[Shapes, tuple[str, ...], Recipe]] = {
    "ordinary": (
        LAYOUTS,
        ("DroppedTerm", "GammaForgotten", "SwappedParameters", "UnbiasedVariance"),
        lambda case: replace(case, eps=0.25),
    ),
    "default_eps": (LAYOUTS, ("DroppedTerm", "GammaForgotten"), lambda case: case),
    "exact": (_same_options(EIGHT), ("ExactArithmetic", "DroppedTerm"), _exact),
    "exact_long": (_same_options(MANY), ("ExactArithmetic", "PartialBlock"), _exact),
    "large_mean": (LAYOUTS, ("LargeMean",), _large_mean),
    "long_sets": (_same_options(LONG), ("MaskedTail", "PartialBlock"), lambda case: case),
    "longer_sets": (_same_options(LONGER), ("PartialBlock",), lambda case: case),
    "constant_sets": (LAYOUTS, ("ConstantSet",), _constant_sets),
    "eps_dominates": (LAYOUTS, ("EpsPlacement",), lambda case: replace(case, eps=512.0)),
    "eps_comparable": (LAYOUTS, ("EpsPlacement",), lambda case: replace(case, eps=1.25)),
    "eps_tiny": (
        LAYOUTS,
        ("EpsUnderflow", "EpsPlacement"),
        lambda case: replace(_scaled(case, 2.0**-13), eps=2.0**-26),
    ),
    "small_values": (LAYOUTS, ("TinyValues",), lambda case: _scaled(case, case.form.small)),
    "large_values": (LAYOUTS, ("SquaresOverflow",), lambda case: _scaled(case, case.form.large)),
    "spike": (LAYOUTS, ("Spike",), _spike),
    "gamma_zeros": (LAYOUTS, ("GammaZero",), _gamma_zeros),
    "one_element": (_same_options(ONE_EACH), ("SingleElement",), lambda case: case),
    "not_a_number": (LAYOUTS, ("NaNSpreads",), _not_a_number),
    "channels_last": (CHANNELS_LAST, ("ChannelsLast", "AxisOrder"), lambda case: case),
    "several_axes": (SEVERAL_AXES, ("AxisOrder",), lambda case: case),
    "three_groups": (THREE_GROUPS, ("GroupOrder",), lambda case: case),
}
EXTRA = {
    ("batch_norm_inference", "ordinary"): ("InferenceBackward",),
    ("batch_norm_inference", "eps_comparable"): ("InferenceBackward",),
    ("group_norm", "ordinary"): ("GroupOrder",),
}


def _has_a_point(norm: str, form: Format, name: str) -> bool:
    if name == "exact_long":  # only these have the digits that its means need
        return form.digits >= 24
    if name == "longer_sets":  # large, and about lengths, not about formats
        return form.name == "float32"
    # Inference sums over no set, and its variance is an input that the format must hold.
    of_sets = ("constant_sets", "one_element", "small_values", "large_values", "eps_tiny")
    return norm != "batch_norm_inference" or name not in of_sets

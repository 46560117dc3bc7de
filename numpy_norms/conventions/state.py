"""A network's arrays: read from a file, and found by the names that a framework gives them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from os import PathLike, fspath
from typing import Any

from numpy.typing import NDArray

from .. import checks
from ..files import Damage, opened, read_npz, size_of
from .table import Convention, convention

Array = NDArray[Any]


def read_state(path: str | PathLike[str]) -> dict[str, Array]:
    """Read a file of arrays by name: NumPy's .npz, or .safetensors.

    Nothing in the file is executed: pickled objects are refused.

    Parameters
    ----------
    path : path
        Ends in ``.npz``, or in ``.safetensors`` (which needs the package safetensors).

    Returns
    -------
    dict
        Names to arrays.

    Raises
    ------
    ValueError
        If the file is not what its name says, is damaged, encrypted or no ordinary file, or would
        unpack to much more than its size.
    OSError
        If it cannot be opened.
    ImportError
        If safetensors is not installed.

    Examples
    --------
    >>> read_state("weights.pt")
    Traceback (most recent call last):
    ValueError: weights.pt is of no kind that is read here; save it as .npz or .safetensors
    """
    name = fspath(path)
    if name.endswith(".npz"):
        return read_npz(name)
    if name.endswith(".safetensors"):
        return _read_safetensors(name)
    raise ValueError(f"{name} is of no kind that is read here; save it as .npz or .safetensors")


def _read_safetensors(name: str) -> dict[str, Array]:
    try:
        from safetensors.numpy import load_file
    except ImportError:
        raise ImportError(f"{name} needs safetensors: pip install safetensors") from None
    with opened(name) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size_of(file) - 8:
            raise Damage("is not a .safetensors file: it ends within its header")
        try:
            return load_file(name)
        except Exception as error:
            raise Damage(f"is not a .safetensors file: {error}") from None


def load(
    state: Mapping[str, Any],
    framework: str,
    prefix: str = "",
    *,
    norm: str | None = None,
    without: Collection[str] = (),
) -> dict[str, Any]:
    """Return one norm's arrays, as keyword arguments for its pair, from a framework's state.

    Parameters
    ----------
    state : mapping
        Names to arrays, flat or nested: a PyTorch ``state_dict()``, Keras weights by ``path``,
        Flax ``variables``, ONNX arrays under the names of the operator's inputs.
    framework : {"pytorch", "keras", "flax", "onnx"}
        Whose names these are.
    prefix : str, default ""
        The layer: ``"layer1.0.bn1"`` in PyTorch, ``"batch_normalization"`` in Keras.
    norm : str, optional
        Left out, it is batch norm if there is a running statistic, and layer norm otherwise.
    without : collection of str
        Our names of parameters that this layer was built without, ``("beta",)`` for example.

    Returns
    -------
    dict
        gamma, beta, running_mean, running_var as far as the norm has them, and the framework's
        default `eps`, which no state holds: replace it if the network was built with another.

    Raises
    ------
    ValueError
        If a name is missing, a shape is off, a running statistic is not finite or a running
        variance is negative.
    TypeError
        If a value is no array of floats.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_norms.conventions import load
    >>> state = {"bn/gamma": np.ones(2), "bn/beta": np.zeros(2)}
    >>> load(state, "keras", "bn")
    {'gamma': array([1., 1.]), 'beta': array([0., 0.]), 'eps': 0.001}
    """
    arrays = dict(_flat(state, framework))
    path = prefix.rstrip("./") + _separator(framework) if prefix else ""
    row = convention(framework, norm or _guess(arrays, framework, path))
    if row.eps is None:
        raise ValueError(f"framework is {framework!r}, which has no arrays; pass another")
    unknown = set(without) - set(row.names)
    if unknown:
        raise ValueError(f"without names {min(unknown)!r}; {row.norm} has {', '.join(row.names)}")
    names = {ours: path + theirs for ours, theirs in row.names.items() if ours not in without}
    missing = [name for name in names.values() if name not in arrays]
    if missing:
        raise ValueError(f"{missing[0]!r} is missing for {row.norm}; {_cure(arrays, path, names)}")
    found = {ours: checks.array(name, arrays[name]) for ours, name in names.items()}
    _check_shapes(found, names, row)
    _check_statistics(found, names)
    return {**found, "eps": row.eps}


def _flat(state: Mapping[str, Any], framework: str, path: str = "") -> Iterator[tuple[str, Any]]:
    """Full names and arrays of a nested state."""
    for key, value in state.items():
        if isinstance(value, Mapping):
            yield from _flat(value, framework, f"{path}{key}{_separator(framework)}")
        else:
            name = f"{path}{key}"
            if framework == "flax":
                name = name.removeprefix("params/").removeprefix("batch_stats/")
            yield name.removesuffix(":0"), value  # as Keras 2 ends its names


def _separator(framework: str) -> str:
    return "/" if framework in ("keras", "flax") else "."


def _guess(arrays: Mapping[str, Any], framework: str, path: str) -> str:
    names = convention(framework, "batch_norm").names
    statistics = (path + names[ours] for ours in ("running_mean", "running_var"))
    return "batch_norm" if any(name in arrays for name in statistics) else "layer_norm"


def _cure(arrays: Mapping[str, Any], path: str, names: Mapping[str, str]) -> str:
    here = [name for name in arrays if name.startswith(path)]
    if here:
        return (
            f"under {path!r} there are {', '.join(sorted(here)[:8])}; name the parameters that the "
            "layer was built without in without=, or pass norm="
        )
    last = next(iter(names.values())).removeprefix(path)
    others = sorted(name.removesuffix(last)[:-1] for name in arrays if name.endswith(last))
    return f"no name begins with {path!r}; prefixes that do exist: {', '.join(others[:8]) or None}"


def _check_shapes(found: Mapping[str, Array], names: Mapping[str, str], row: Convention) -> None:
    shapes = {names[ours]: a.shape for ours, a in found.items()}
    for name, shape in shapes.items():
        first = next(iter(shapes))
        if row.shape == "C" and len(shape) != 1:
            raise ValueError(
                f"{name} has shape {shape}, but one number for each channel is expected"
            )
        if shape != shapes[first]:
            raise ValueError(
                f"{name} has shape {shape}, but {first} has {shapes[first]}; "
                "the arrays of one norm have one shape: look for a mix-up of layers"
            )


def _check_statistics(found: Mapping[str, Array], names: Mapping[str, str]) -> None:
    for ours in ("running_mean", "running_var"):
        if ours in found:
            checks.finite(names[ours], found[ours])
    if "running_var" in found:
        checks.variance(names["running_var"], found["running_var"], found["running_var"].shape)

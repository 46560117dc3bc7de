"""One norm's arrays, found in a state by the names that a framework gives them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import checks
from ..engine.rounding import round_to
from .refusals import (
    FACTOR,
    STATISTICS,
    check_kinds,
    check_shapes,
    check_statistics,
    check_unused,
    check_words,
    cure,
)
from .table import Convention, convention

Array = NDArray[Any]

_OLD = ("gamma", "beta")  # PyTorch's weight and bias in old transformers
_SAYS_BATCH = re.compile(r"batch_?norm[^./]*[./]?$", re.IGNORECASE)


def load(
    state: Mapping[str, Any],
    framework: str,
    prefix: str = "",
    *,
    norm: str | None = None,
    names: Mapping[str, str] | None = None,
    without: Collection[str] = (),
    eps: float | None = None,
    fix_gamma: bool | None = None,
) -> dict[str, Any]:
    """Return one norm's arrays, as keyword arguments for its pair, from a framework's state.

    **No array holds eps.** Where it is left out, the framework's default is taken, and many
    networks have another: `eps_from_config` reads it from their configuration.

    Parameters
    ----------
    state : mapping
        Names to arrays, flat or nested: a PyTorch ``state_dict()``, Keras weights by ``path``,
        Flax ``variables``, ONNX arrays under the names of the operator's inputs.
    framework : str
        Whose names these are; `convention` lists them.
    prefix : str, default ""
        The layer: ``"layer1.0.bn1"`` in PyTorch, ``"batch_normalization"`` in Keras.
    norm : str, optional
        Left out, it is batch norm if there is a running statistic or the prefix says so, and layer
        norm otherwise.
    names : mapping, optional
        Our names to those in this state, where they are not the framework's: whole names, or what
        follows the prefix.
    without : collection of str
        Our names of parameters that this layer was built without, ``("beta",)`` for example; or of
        those that are there and not to be used.
    eps : float, optional
        That of the network. Left out, it is the framework's default; for PyTorch's RMS norm the
        machine epsilon of float32, or of float64 if gamma is float64.
    fix_gamma : bool, optional
        MXNet's option: whether its batch norm takes gamma for 1, whatever is stored.

    Returns
    -------
    dict
        gamma, beta, running_mean, running_var as far as the norm has them, and `eps`. Caffe's mean
        and variance are divided by their factor. Darknet's eps, outside the root, is brought into
        the variance, and eps is 0.

    Raises
    ------
    ValueError
        If a name is missing, a shape is off, a running statistic is not finite or a running
        variance is negative; if there is an array that the norm would not use, though it changes
        the framework's results, such as the tracked statistics of an instance norm.
    TypeError
        If a value is no array of floats, or an argument of another kind.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_norms.conventions import load
    >>> state = {"ln/gamma": np.ones(2), "ln/beta": np.zeros(2)}
    >>> load(state, "keras", "ln")
    {'gamma': array([1., 1.]), 'beta': array([0., 0.]), 'eps': 0.001}
    """
    check_kinds(prefix, names, without, fix_gamma)
    without = tuple(without)
    arrays, said = {}, {}
    for name, a, expression in flat(state, framework):
        arrays[name], said[name] = a, expression
    given = dict(names or {})
    if norm is None:
        norm = _guess(arrays, framework, prefix, given)
    row = convention(framework, norm)
    if framework == "paper":
        raise ValueError(f"framework is {framework!r}, which has no arrays; pass another")
    wanted = {**row.names, **({FACTOR: "2"} if framework == "caffe" else {}), **given}
    check_words(row, given, without)
    path = _path(arrays, prefix, row.separator, wanted)
    places = {ours: n if n in arrays else path + n for ours, n in wanted.items()}
    if framework == "pytorch" and not arrays.keys() & {places[o] for o in _OLD if o in places}:
        places |= {o: path + o for o in _OLD if o in places and path + o in arrays}
    places = {ours: name for ours, name in places.items() if ours not in without}
    for name in places.values():
        if name not in arrays:
            raise getattr(state, "unread", {}).get(name) or ValueError(
                f"{name!r} is missing for {row.norm}; {cure(arrays, path, places)}"
            )
    check_unused(arrays, path, places, row, {*without, *given})
    shown = {ours: said[name] for ours, name in places.items()}
    found = {ours: checks.array(shown[ours], arrays[name]) for ours, name in places.items()}
    factor = found.pop(FACTOR, None)
    check_shapes(found, shown, row)
    check_statistics(found, shown)
    found = _as_used(found, row, shown, factor, fix_gamma)
    if eps is None and (row.framework, row.norm) == ("pytorch", "rms_norm"):
        work = np.promote_types(np.float32, found["gamma"].dtype if "gamma" in found else "f4")
        eps = float(np.finfo(work).eps)  # of the type that it computes in (pytorch#142848)
    return {**found, "eps": _eps(row, eps)}


def flat(
    state: Mapping[str, Any], framework: str, path: str = "", expression: str = "state"
) -> Iterator[tuple[str, Any, str]]:
    """Full names and arrays of a nested state, and what Python calls each."""
    if not hasattr(state, "items"):
        raise TypeError(
            f"state is a {type(state).__name__}, but names with their arrays were expected; pass "
            "a dict, as model.state_dict() and read_state return it"
        )
    separator = convention(framework, "batch_norm").separator
    for key, value in state.items():
        here = f"{expression}[{key!r}]"
        if isinstance(key, tuple):  # as Flax' flatten_dict has them
            key = separator.join(map(str, key))
        is_list = isinstance(value, list | tuple)
        if is_list and (framework == "caffe" or any(isinstance(a, Mapping) for a in value)):
            value = dict(enumerate(value))  # pycaffe's blobs, MLX' layers
        if isinstance(value, Mapping):
            yield from flat(value, framework, f"{path}{key}{separator}", here)
        else:
            yield _bare(f"{path}{key}", framework), value, here


def _bare(name: str, framework: str) -> str:
    """A name without the collection that it is in, and what TensorFlow puts behind it."""
    if framework == "flax":
        name = re.sub(r"^(?:params|batch_stats)[./]", "", name)
    if framework == "mxnet":
        name = name.removeprefix("arg:").removeprefix("aux:")
    return name.removesuffix("/.ATTRIBUTES/VARIABLE_VALUE").removesuffix(":0")


def _path(arrays: Mapping[str, Any], prefix: str, separator: str, names: Mapping[str, str]) -> str:
    """The prefix with what follows it in this state, a dot, a slash or an underscore."""
    if not prefix:
        return ""
    ends = dict.fromkeys((separator, ".", "/", "_"))
    paths = [*(prefix.rstrip("./") + end for end in ends), prefix]
    known = [p for p in paths if any(p + name in arrays for name in (*names.values(), *_OLD))]
    return known[0] if known else paths[0]


def _guess(arrays: Mapping[str, Any], framework: str, prefix: str, given: Mapping[str, str]) -> str:
    row = convention(framework, "batch_norm")
    names = {**row.names, **given}
    path = _path(arrays, prefix, row.separator, names)
    statistics = [names[ours] for ours in STATISTICS if ours in names]
    found = any(name in arrays or path + name in arrays for name in statistics)
    is_batch = found or framework in ("caffe", "darknet") or _SAYS_BATCH.search(prefix)
    return "batch_norm" if is_batch else "layer_norm"


def _as_used(
    found: dict[str, Array],
    row: Convention,
    names: Mapping[str, str],
    factor: Array | None,
    fix_gamma: bool | None,
) -> dict[str, Array]:
    """The arrays as the framework uses them, where that is not as they are stored."""
    if fix_gamma is not None and row.framework != "mxnet":
        raise ValueError(f"fix_gamma is MXNet's, but framework is {row.framework!r}; leave it out")
    if row.framework == "mxnet" and row.norm == "batch_norm" and "gamma" in found:
        if fix_gamma is None and (found["gamma"] != 1).any():
            raise ValueError(
                f"{names['gamma']} is not 1, and MXNet does not use it where fix_gamma is true, "
                "as it is by default; pass fix_gamma=True or False, as the network has it"
            )
        gamma = found["gamma"]
        return {**found, "gamma": np.ones_like(gamma) if fix_gamma else gamma}
    if factor is not None:
        if factor.size != 1:
            raise ValueError(
                f"{names[FACTOR]} has shape {factor.shape}, but one number is expected"
            )
        by = float(factor.reshape(())) or np.inf  # 0: of a layer that was never trained
        return {
            ours: round_to(a.astype(np.float64) / by, a.dtype) if ours in STATISTICS else a
            for ours, a in found.items()
        }
    if row.framework == "darknet" and row.eps is not None:
        var = found["running_var"]
        std = np.sqrt(var.astype(np.float64)) + row.eps
        return {**found, "running_var": round_to(std**2, var.dtype)}
    return found


def _eps(row: Convention, eps: float | None) -> float:
    if row.eps_place == "outside":
        if eps is not None:
            raise ValueError(
                f"eps is {eps}, but {row.framework} adds its own, {row.eps}, outside the root, and "
                "it is in running_var already; leave eps out"
            )
        return 0.0
    if eps is None and row.eps is None:
        raise ValueError(
            f"{row.framework}'s {row.norm} has no default eps, and a state does not hold it; "
            "pass eps="
        )
    return checks.epsilon(row.eps if eps is None else eps)  # type: ignore[arg-type]

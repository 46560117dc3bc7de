"""The eps of a network, from its configuration: no state holds it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from os import PathLike, fspath
from typing import Any

from .. import checks
from ..files import opened, read_bytes

_MOST = 16 << 20  # bytes

# What configurations call it; the name that is most the norm's own comes first.
_ANY = ("norm_eps", "norm_epsilon")
_LAYER = ("layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon", "layernorm_eps")
_RMS = ("rms_norm_eps", "rms_norm_epsilon", "rms_eps", "rmsnorm_eps", "layer_norm_rms_epsilon")
_KEYS = {
    "layer_norm": (*_LAYER, *_ANY),
    "rms_norm": (*_RMS, *_ANY, *_LAYER),  # T5 calls its RMS norm a layer norm
    "batch_norm": ("batch_norm_eps", "batch_norm_epsilon", "bn_eps", "batchnorm_eps", *_ANY),
    "group_norm": ("group_norm_eps", "group_norm_epsilon", "gn_eps", *_ANY),
    "instance_norm": ("instance_norm_eps", "instance_norm_epsilon", *_ANY),
}


def eps_from_config(path: str | PathLike[str], norm: str, *, section: str | None = None) -> float:
    """Read the eps of a network's norms from its ``config.json``.

    Parameters
    ----------
    path : path
        A configuration as transformers or diffusers write it.
    norm : str
        ``"layer_norm"``, ``"rms_norm"``, ``"batch_norm"``, ``"group_norm"`` or
        ``"instance_norm"``, each of which has several names there: ``layer_norm_eps``,
        ``layer_norm_epsilon``, ``rms_norm_eps``, ``norm_eps``, and more.
    section : str, optional
        The part of the network, as in ``"text_config"``; left out, it is the outermost that has
        one.

    Returns
    -------
    float
        To pass as ``eps=`` to `load`.

    Raises
    ------
    ValueError
        If there is none, if parts of the network differ, or if the file is no configuration.
    OSError
        If it cannot be opened.

    Examples
    --------
    >>> eps_from_config("config.json", "softmax")
    Traceback (most recent call last):
    ValueError: norm is 'softmax'; pass one of 'layer_norm', 'rms_norm', 'batch_norm', ...
    """
    if norm not in _KEYS:
        raise ValueError(f"norm is {norm!r}; pass one of {', '.join(map(repr, _KEYS))}")
    name = fspath(path)
    text = read_bytes(name, _MOST)
    with opened(name):
        config = json.loads(text)
    if not isinstance(config, dict):
        raise ValueError(f"{name} holds no configuration, but {type(config).__name__}")
    found = dict(_found(config, _KEYS[norm], ""))
    if section is not None:
        found = {s: entry for s, entry in found.items() if s == section}
    elif "" in found:
        found = {"": found[""]}
    if not found:
        there = sorted(set(_eps_like(config)))
        raise ValueError(
            f"{name} has no eps for {norm}{f' in {section!r}' if section else ''}; what it has of "
            f"the kind: {', '.join(there) or None}"
        )
    if len({value for _, value in found.values()}) > 1:
        parts = ", ".join(f"{s}.{key} = {value}" for s, (key, value) in found.items())
        raise ValueError(f"{name} has {parts}; pass section=, one of {', '.join(map(repr, found))}")
    key, value = next(iter(found.values()))
    try:
        return checks.epsilon(value)
    except TypeError as error:
        raise ValueError(f"{name} has a wrong {key}: {error}") from None


def _found(
    config: Mapping[str, Any], keys: tuple[str, ...], section: str
) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Each section that has an eps, under which key, and the value."""
    key = next((key for key in keys if config.get(key) is not None), None)
    if key is not None:
        yield section, (key, config[key])
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _found(value, keys, f"{section}.{name}" if section else name)


def _eps_like(config: Mapping[str, Any]) -> Iterator[str]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _eps_like(value)
        elif "eps" in name:
            yield f"{name} = {value}"

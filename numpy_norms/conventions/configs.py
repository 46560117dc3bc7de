"""The eps of a network, from its configuration, which some files of weights hold, too."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any

from .. import checks
from ..files import Damage, opened, read_bytes, size_of
from .read import OF_WEIGHTS, needed, opened_gguf

_MOST = 16 << 20  # bytes
_OF_KERAS = (".keras", ".h5", ".hdf5")

# What configurations call it; the name that is most the norm's own comes first.
_ANY = ("norm_eps", "norm_epsilon")
_LAYER = ("layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon", "layernorm_eps")
_RMS = ("rms_norm_eps", "rms_norm_epsilon", "rms_eps", "rmsnorm_eps", "layer_norm_rms_epsilon")
_SAYS_EPS = re.compile(r"(?:^|_)eps")  # not steps
_KEYS = {
    "layer_norm": (*_LAYER, *_ANY),
    "rms_norm": (*_RMS, *_ANY, *_LAYER),  # T5 calls its RMS norm a layer norm
    "batch_norm": ("batch_norm_eps", "batch_norm_epsilon", "bn_eps", "batchnorm_eps", *_ANY),
    "group_norm": ("group_norm_eps", "group_norm_epsilon", "gn_eps", *_ANY),
    "instance_norm": ("instance_norm_eps", "instance_norm_epsilon", *_ANY),
}


def eps_from_config(path: str | PathLike[str], norm: str, *, section: str | None = None) -> float:
    """Read the eps of a network's norms from its configuration.

    Parameters
    ----------
    path : path
        A ``config.json`` as transformers or diffusers write it; or a file that holds weights and
        configuration: ``.keras``, Keras' ``.h5`` of a whole model, ``.gguf``.
    norm : str
        ``"layer_norm"``, ``"rms_norm"``, ``"batch_norm"``, ``"group_norm"`` or
        ``"instance_norm"``, each of which has several names there: ``layer_norm_eps``,
        ``layer_norm_epsilon``, ``rms_norm_eps``, ``norm_eps``, and more.
    section : str, optional
        The part of the network, as in ``"text_config"``, or the layer in Keras, by its name or its
        path, which is the prefix in `load`; left out, it is the outermost that has one.

    Returns
    -------
    float
        To pass as ``eps=`` to `load`.

    Raises
    ------
    ValueError
        If there is none, if parts of the network differ, or if the file is no configuration.
    TypeError
        If `section` is no text.
    OSError
        If it cannot be opened.
    ImportError
        If the package that reads it is not installed.

    Examples
    --------
    >>> eps_from_config("config.json", "softmax")
    Traceback (most recent call last):
    ValueError: norm is 'softmax'; pass one of 'layer_norm', 'rms_norm', 'batch_norm', ...
    """
    checks.choice("norm", norm, _KEYS)
    if not isinstance(section, str | None):
        raise TypeError(
            f"section is {checks.shown(section)}, but text was expected; pass "
            "section='text_config', say"
        )
    name = os.fsdecode(path)
    config = _configuration(name)
    if name.lower().endswith(_OF_KERAS):
        found = dict(_of_layers(config, norm))
        if section is not None and section not in found:
            section = _within_model(section, config)
    else:
        found = dict(_found(config, _KEYS[norm], ""))
    if section is not None:
        ends = {s: entry for s, entry in found.items() if f"/{s}".endswith(f"/{section}")}
        found = {section: found[section]} if section in found else ends
    elif "" in found:
        found = {"": found[""]}
    if not found:
        there = sorted(set(_eps_like(config)))
        raise ValueError(
            f"{name} has no eps for {norm}{f' in {section!r}' if section else ''}; what it has of "
            f"the kind: {', '.join(there) or None}; pass the network's own as eps= to load, or "
            "leave it out there for the framework's default"
        )
    (key, value), *others = found.values()
    if any(other != value for _, other in others):
        few = dict(list(found.items())[:8])
        parts = ", ".join(f"{s}.{k} = {v}" for s, (k, v) in few.items())
        raise ValueError(f"{name} has {parts}; pass section=, one of {', '.join(map(repr, few))}")
    try:
        return checks.epsilon(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} has a wrong {key}: {error}") from None


def _configuration(name: str) -> dict[str, Any]:
    ending = name.lower()
    if ending.endswith(".gguf"):
        return _config_of_gguf(name)
    if ending.endswith(_OF_KERAS):
        needed("h5py", name)
        from .keras_files import config_of_model

        with opened(name) as file:
            config = config_of_model(file, size_of(file))
    elif ending.endswith(OF_WEIGHTS):
        raise ValueError(
            f"{name} holds weights, but no configuration; pass the config.json of the network"
        )
    else:
        text = read_bytes(name, _MOST)
        with opened(name):
            config = json.loads(text)
    if not isinstance(config, dict):
        raise ValueError(f"{name} holds no configuration, but {type(config).__name__}")
    return config


def _config_of_gguf(name: str) -> dict[str, Any]:
    with opened_gguf(name) as reader:
        config: dict[str, Any] = {}
        for key, field in reader.fields.items():
            if key.endswith("epsilon"):
                section, _, last = key.rpartition(".")
                if [kind.name for kind in field.types] not in (["FLOAT32"], ["FLOAT64"]):
                    raise Damage(f"has a wrong {key}: one float was expected")
                value = float(str(field.parts[field.data[0]][0]))  # float32, in its few digits
                config.setdefault(section, {})[last] = value
        return config


def _of_layers(config: Any, norm: str) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Each layer of Keras that is such a norm, and its eps."""
    from .keras_files import LAYERS, norm_layers

    for path, layer, own in norm_layers(config.get("config")):
        if layer == LAYERS[norm]:
            yield path, ("epsilon", own.get("epsilon"))


def _within_model(section: str, config: Mapping[str, Any]) -> str:
    """A path without the model's own name, with which it begins in the .h5 of a Sequential."""
    inner = config.get("config")
    own = inner.get("name") if isinstance(inner, dict) else None
    return section.removeprefix(f"{own}/")


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
        elif _SAYS_EPS.search(name):
            yield f"{name} = {value}"

"""Keras' HDF5 files: the paths of weights, as Keras gives them, from all ways of storing them.

Up to version 2, and in its ``.h5`` still, groups have the attribute ``weight_names``, or
``weight_names0`` and so on. From version 3 on, weights are numbered in their layer's group
``vars``, which has the layer's name: a norm's weights get their names back from the configuration
in a ``.keras``, or, where the group or the name is that of the class, from how many there are.
Version 2 numbers them without the name, which the configuration in a ``.keras`` tells by the order
of the layers.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count, takewhile
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..files import RATIO, SMALL, Damage

Array = NDArray[Any]


class Configured(NamedTuple):
    """What a model's configuration says of its layers."""

    weights: Mapping[str, tuple[str, ...]]  # the names of a norm's, by its path
    layers: Mapping[str, str]  # their names, by the groups in which Keras 2 has them


_AFFINE = ("gamma", "beta")
_STATISTICS = ("moving_mean", "moving_variance")
_RENORM = ("moving_stddev", "renorm_mean", "renorm_stddev")  # which inference does not use
_CERTAIN: dict[str, tuple[tuple[str, ...], ...]] = {  # where so many weights can be no others
    "batch_normalization": (
        (*_AFFINE, *_STATISTICS),
        _STATISTICS,
        (*_AFFINE, *_STATISTICS, *_RENORM),
        (*_STATISTICS, *_RENORM),
    ),
    "layer_normalization": (_AFFINE,),
    "group_normalization": (_AFFINE,),
    "rms_normalization": (("scale",),),
}


def _arrays_of(file: IO[bytes], size: int, configured: Configured) -> dict[str, Array]:
    """The arrays of an HDF5 file by name."""
    import h5py

    found, total = {}, 0
    with h5py.File(file) as root:
        for name, dataset in _datasets(root, configured, set()):
            if dataset is None or dataset.external or dataset.is_virtual:
                raise Damage(f"has {name!r} in another file, or nowhere; save all in one file")
            total += dataset.nbytes
            if total > max(SMALL, RATIO * size):
                raise Damage(f"would take {total} bytes of memory or more, but has {size} itself")
            found[name] = np.asarray(dataset[()])  # at once: many open ones are slow to close
        return found


def arrays_of_model(file: IO[bytes], size: int) -> dict[str, Array]:
    """The arrays of a file of Keras: an archive, or HDF5, whatever its name ends in."""
    if not _is_archive(file):
        return _arrays_of(file, size, Configured({}, {}))
    with _archive(file, size) as archive:
        config = json.loads(archive.read("config.json")).get("config")
        configured = Configured(dict(_weights(config)), dict(_layers(config)))
        weights = archive.read("model.weights.h5")
    return _arrays_of(io.BytesIO(weights), len(weights), configured)


def config_of_model(file: IO[bytes], size: int) -> Any:
    """The configuration in a file of Keras, which a file of weights alone has not."""
    import h5py

    if _is_archive(file):
        with _archive(file, size) as archive:
            return json.loads(archive.read("config.json"))
    with h5py.File(file) as root:
        if "model_config" not in root.attrs:
            raise Damage("holds weights, but no configuration; pass eps= as the network has it")
        return json.loads(_text(root.attrs["model_config"]))


def _is_archive(file: IO[bytes]) -> bool:
    return file.read(2) == b"PK"


def _archive(file: IO[bytes], size: int) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(file)
    members = {m.filename: m for m in archive.infolist()}
    if not {"config.json", "model.weights.h5"} <= members.keys():
        raise Damage("is not a .keras file: it lacks config.json or model.weights.h5")
    if sum(m.file_size for m in members.values()) > max(SMALL, RATIO * size):
        raise Damage("would take much more memory than its size")
    return archive


def norm_layers(config: Any, path: str = "") -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The path of each norm in what a model is made of, its class, and its own configuration."""
    if isinstance(config, dict):
        inner, layer = config.get("config"), config.get("class_name")
        if isinstance(inner, dict) and isinstance(layer, str):
            path = f"{path}/{inner.get('name')}".strip("/")
            if layer in LAYERS.values():
                yield path, layer, inner
    if isinstance(config, dict | list):
        for value in config.values() if isinstance(config, dict) else config:
            yield from norm_layers(value, path)


def _weights(config: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each norm layer's path, and the names of its weights in their order."""
    for path, layer, inner in norm_layers(config):
        flags = zip(_AFFINE, ("scale", "center"), strict=True)
        given = [name for name, flag in flags if inner.get(flag, True)]
        if layer == "RMSNormalization":
            yield path, ("scale",)
        elif not inner.get("rms_scaling"):  # which is no norm of ours: it divides x by its std
            statistics = _STATISTICS if layer == "BatchNormalization" else ()
            yield path, (*given, *statistics, *(_RENORM if inner.get("renorm") else ()))


def _layers(config: Any, group: str = "") -> Iterator[tuple[str, str]]:
    """The name of each layer, by its group, which is called after its class and counted."""
    seen: Counter[str] = Counter()
    layers = config.get("layers") if isinstance(config, dict) else None
    for layer in layers if isinstance(layers, list) else ():
        inner = layer.get("config") if isinstance(layer, dict) else None
        if isinstance(inner, dict):
            kind = _WORDS.sub("_", str(layer.get("class_name"))).lower()
            here = f"{group}/layers/{kind}" + (f"_{seen[kind]}" if seen[kind] else "")
            seen[kind] += 1
            yield here, str(inner.get("name"))
            yield from _layers(inner, here)


_WORDS = re.compile(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])")  # where one begins in CamelCase
LAYERS = {
    "batch_norm": "BatchNormalization",
    "layer_norm": "LayerNormalization",
    "group_norm": "GroupNormalization",
    "instance_norm": "GroupNormalization",  # of as many groups as channels
    "rms_norm": "RMSNormalization",
}


def _datasets(
    group: Any, configured: Configured, seen: set[Any], path: str = ""
) -> Iterator[tuple[str, Any]]:
    if group in seen:  # links can make more paths of a few groups than there is time for
        raise Damage(f"is damaged: it has the group {group.name} twice")
    seen.add(group)
    if weights := _weight_names(group.attrs):
        for name in map(_text, weights):
            yield name.removesuffix(":0"), group[name]
        return
    for key, value in group.items():
        here = f"{path}/{key}".strip("/")
        if value is None or hasattr(value, "shape"):  # a data set, or a link to nothing
            yield here, value
        elif not hasattr(value, "items") or here == "optimizer_weights":
            continue  # a type that has a name; what trained a model, under names as of its layers
        elif key == "vars" and ("name" in value.attrs or group.name in configured.layers):
            names = _names(value, group.name.rpartition("/")[2], configured.weights.get(path))
            for i, dataset in value.items():
                yield f"{path}/{names.get(i, f'vars/{i}')}".strip("/"), dataset
        elif key == "layers":
            yield from _datasets(value, configured, seen, path)
        else:
            own = value["vars"].attrs.get("name") if "vars" in value else None
            own = configured.layers.get(value.name) if own is None else own
            inner = f"{path}/{_text(own) if own is not None else key}".strip("/")
            yield from _datasets(value, configured, seen, inner)


def _weight_names(attrs: Any) -> list[Any]:
    """The names of a layer's weights, for which an attribute may be too short: then in several."""
    several = takewhile(attrs.__contains__, (f"weight_names{i}" for i in count()))
    keys = ["weight_names"] if "weight_names" in attrs else several
    return [name for key in keys for name in attrs[key]]


def _names(group: Any, kind: str, names: tuple[str, ...] | None) -> dict[str, str]:
    """The names of a norm's numbered weights; none where it is not certain which they are."""
    own = _text(group.attrs.get("name", ""))
    if names is None:
        norm = next((n for n in _CERTAIN if kind.startswith(n) or own.startswith(n)), "")
        names = next((ns for ns in _CERTAIN.get(norm, ()) if len(ns) == len(group)), ())
    return {str(i): name for i, name in enumerate(names)} if len(names) == len(group) else {}


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)

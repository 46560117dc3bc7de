"""A model from its file, and its weights from files beside that."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.external_data_helper import ExternalDataInfo

from ..checks import one_line
from ..files import Damage, opened, size_of
from .graph import Array


def path_of(model: Any) -> str:
    """The path that a model is given by."""
    if isinstance(model, str | os.PathLike):
        return os.fspath(model)
    cure = "onnx.load_from_string(model)" if isinstance(model, bytes) else "its file's name"
    raise TypeError(
        f"model is a {type(model).__name__}, but a path or an onnx.ModelProto was expected; "
        f"pass {cure}"
    )


@contextmanager
def told(name: str, done: str) -> Iterator[None]:
    """Tell whatever a damaged model makes ONNX raise as a ValueError with the file's name."""
    try:
        yield
    except NotImplementedError:
        raise
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    except Exception as error:
        what = f"{type(error).__name__}: {one_line(error)}"
        raise ValueError(f"{name} cannot be {done} ({what})") from error


def read(name: str, *, weights: bool = True) -> onnx.ModelProto:
    """Read a model; with its weights in files beside it, unless these are left where they are."""
    with opened(name) as file:
        try:
            model = onnx.load_model_from_string(file.read())
        except DecodeError as error:
            raise Damage(f"holds no ONNX model: {error}") from None
        if not model.graph.output:
            raise Damage("holds no ONNX model: it has no outputs")
        if weights:
            try:
                onnx.load_external_data_for_model(model, os.path.dirname(name))
            except onnx.checker.ValidationError as error:
                raise Damage(f"has weights in a file beside it: {error}") from None
    return model


def external_array(tensor: onnx.TensorProto, folder: str) -> Array:
    """The array of a tensor whose file is in `folder`; it takes memory where it is looked at.

    Nothing outside the folder is read, through a link neither.
    """
    info = ExternalDataInfo(tensor)
    path = os.path.join(folder, info.location)
    inside = os.path.commonpath(map(os.path.realpath, (folder or ".", path)))
    if os.path.isabs(info.location) or inside != os.path.realpath(folder or "."):
        raise ValueError(f"{tensor.name} is in {info.location!r}, which is outside its folder")
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    shape, offset = tuple(tensor.dims), info.offset or 0
    with opened(path, follow=False) as file:
        whole = math.prod(shape) * dtype.itemsize
        mapped = dtype.kind in "biufc" or dtype.name == "bfloat16"
        if not mapped or info.length not in (None, whole):  # text, or several numbers in a byte
            return onnx.numpy_helper.to_array(tensor, folder)
        if offset < 0 or offset + whole > size_of(file):
            raise Damage(f"ends before {tensor.name}, which has {whole} bytes from {offset} on")
        if not whole:
            return np.empty(shape, dtype)
        return np.asarray(np.memmap(path, dtype, "r", offset, shape))

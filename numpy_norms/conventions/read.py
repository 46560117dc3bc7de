"""A network's arrays, from the files in which frameworks keep them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import Damage, opened, read_bytes, read_npz, size_of

Array = NDArray[Any]

_MOST_GGUF = 1 << 16  # keys, and arrays; a model has some thousands


class State(dict[str, Array]):
    """Names to arrays; what NumPy has no type for raises when it is asked for.

    ``state.unread`` is the names of those, each with the error, ``state.unread_shapes`` with the
    shape.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unread: dict[str, Exception] = {}
        self.unread_shapes: dict[str, tuple[int, ...]] = {}

    def __missing__(self, name: str) -> Array:
        raise self.unread.get(name, KeyError(name))


def read_state(path: str | PathLike[str]) -> dict[str, Array]:
    """Read the arrays that a file holds, by name.

    ====================== ==================== =================================================
    ends in                needs                names
    ====================== ==================== =================================================
    ``.npz``                                    as they were saved
    ``.safetensors``       safetensors          as they were saved; those of all parts, of a
                                                ``.safetensors.index.json``
    ``.h5``, ``.hdf5``     h5py                 Keras' paths of weights, without the optimizer's;
                                                those of the file elsewhere
    ``.keras``             h5py                 ``layer/weight``
    ``.gguf``              gguf                 as they were saved
    ``.onnx``              onnx                 initializers
    ====================== ==================== =================================================

    Nothing in a file is executed: pickled objects are refused, and so are the files of PyTorch and
    checkpoints of TensorFlow, with the lines that convert them. bfloat16 needs the package
    ml_dtypes; two bytes without a type are taken for it. Arrays of other types that NumPy does not
    have (8-bit floats, quantized blocks) leave the rest readable: each raises an error when it is
    asked for by name. HDF5's own library can crash on a damaged file.

    Parameters
    ----------
    path : path
        The file.

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
        If the package that reads it is not installed.

    Examples
    --------
    >>> read_state(".")
    Traceback (most recent call last):
    ValueError: . is a folder; pass a file of weights in it
    """
    name = os.fsdecode(path)
    for ending, read in _READERS.items():
        if name.lower().endswith(ending):
            return _typed(read(name))
    if os.path.isdir(name):
        raise ValueError(f"{name} is a folder; pass a file of weights in it")
    checkpoint = _OF_CHECKPOINT.sub("", name)
    if any(map(_is_table, (checkpoint, f"{checkpoint}.index"))):
        raise ValueError(f"{name} {_CONVERT_TENSORFLOW.format(checkpoint, checkpoint + '.npz')}")
    with opened(name) as file:
        of_pytorch = file.read(1) in (b"P", b"\x80")  # zip, pickle
    if of_pytorch and name.lower().endswith(_OF_TORCH):
        raise ValueError(f"{name} {_CONVERT_TORCH.format(name, name.rpartition('.')[0] + '.npz')}")
    raise ValueError(f"{name} is of no kind that is read here; save it as .npz or .safetensors")


def _typed(state: dict[str, Array]) -> dict[str, Array]:
    """Give back its type to bfloat16, of which NumPy and HDF5 keep the two bytes alone."""
    untyped = [key for key, a in state.items() if a.dtype == "V2"]
    if untyped and find_spec("ml_dtypes") is not None:
        import ml_dtypes

        for key in untyped:
            state[key] = state[key].view(ml_dtypes.bfloat16)
    return state


def _is_table(name: str) -> bool:
    """Whether this is an ordinary file that ends as the table of a checkpoint does."""
    if not os.path.isfile(name):
        return False
    with opened(name) as file:
        file.seek(max(0, size_of(file) - len(_END_OF_TABLE)))
        return file.read() == _END_OF_TABLE


_OF_TORCH = (".pt", ".pth", ".bin", ".ckpt", ".pth.tar")
_CONVERT_TORCH = """is PyTorch's, and can run code when it is read; convert it where PyTorch is:
import numpy, torch; file = torch.load({!r}, map_location="cpu", weights_only=True)
dicts = lambda d: [d, *(e for v in d.values() for e in dicts(v))] if isinstance(d, dict) else \
dicts(d.state_dict()) if hasattr(d, "state_dict") else []
state = max((d for d in dicts(file) if any(map(torch.is_tensor, d.values()))), key=len)
numpy.savez({!r}, **{{k: (v if hasattr(numpy, str(v.dtype)[6:]) else v.float()).detach().numpy() \
for k, v in state.items() if torch.is_tensor(v)}})"""

_OF_CHECKPOINT = re.compile(r"\.(?:index|meta|data-\d+-of-\d+)$")  # one of its files
_END_OF_TABLE = 0xDB4775248B80FB57.to_bytes(8, "little")
_CONVERT_TENSORFLOW = """is of a checkpoint of TensorFlow; convert it where that is:
import numpy, tensorflow; file = tensorflow.train.load_checkpoint({!r})
kinds = file.get_variable_to_dtype_map()
numpy.savez({!r}, **{{k: numpy.asarray(file.get_tensor(k), "f4" if t.name == "bfloat16" else None) \
for k, t in kinds.items() if t.is_floating}})"""


def _read_safetensors(name: str) -> State:
    needed("safetensors", name)
    from safetensors import safe_open

    state = State()
    with opened(name) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > size_of(file) - 8:
            raise Damage("is not a .safetensors file: it ends within its header")
        try:
            with safe_open(name, framework="np") as tensors:
                for key in tensors.keys():  # noqa: SIM118 (it is no mapping)
                    held = tensors.get_slice(key)
                    shape = tuple(held.get_shape())
                    _add(state, name, key, held.get_dtype(), shape, tensors.get_tensor)
        except Exception as error:
            raise Damage(f"is not a .safetensors file: {error}") from None
    return state


def _read_parts(name: str) -> State:
    """The arrays of all files that an index names, which lie beside it."""
    text = read_bytes(name, _MOST)
    with opened(name):
        parts = sorted(set(json.loads(text)["weight_map"].values()))
        if not all(os.path.basename(part) == part for part in parts):
            raise Damage("names files that are not in its own folder")
    state = State()
    for part in parts:
        read = _read_safetensors(os.path.join(os.path.dirname(name), part))
        state.update(read)
        state.unread |= read.unread
        state.unread_shapes |= read.unread_shapes
    return state


_MOST = 64 << 20  # bytes
_OF_NUMPY = {"F64", "F32", "F16", "C64", "BOOL"} | {
    f"{s}{n}" for s in "IU" for n in (8, 16, 32, 64)
}


def _add(
    state: State,
    name: str,
    key: str,
    kind: str,
    shape: tuple[int, ...],
    get: Callable[[str], Array],
) -> None:
    """Read one array, or keep why it cannot be."""
    if kind == "BF16" and find_spec("ml_dtypes") is None:
        state.unread[key] = ImportError(
            f"{key!r} in {name} is bfloat16, which needs ml_dtypes: pip install ml_dtypes"
        )
    elif kind != "BF16" and kind not in _OF_NUMPY:
        state.unread[key] = ValueError(
            f"{key!r} in {name} has the type {kind}, which NumPy does not have; convert it to "
            "float32 where it was made"
        )
    else:
        if kind == "BF16":
            import ml_dtypes  # noqa: F401 (gives NumPy the type)
        state[key] = get(key)
        return
    state.unread_shapes[key] = shape


@contextmanager
def opened_gguf(name: str) -> Iterator[Any]:
    """The reader of a ``.gguf`` file."""
    needed("gguf", name)
    from gguf import GGUFReader

    class Reader(GGUFReader):  # type: ignore[misc]
        """Raises at the end of the file, where gguf's goes on with nothing, up to all memory."""

        def _get(self, offset: int, dtype: Any, count: int = 1, *more: Any, **options: Any) -> Any:
            there = super()._get(offset, dtype, count, *more, **options)
            if len(there) < count:
                raise Damage("is damaged: it ends early")
            return there

    with opened(name) as file:
        if file.read(4) != b"GGUF":
            raise Damage("is not a .gguf file")
        counts = np.frombuffer(file.read(20)[4:], "<u8")
        number = int(np.minimum(counts, counts.byteswap()).max(initial=0))
        if number > _MOST_GGUF:
            raise Damage(
                f"says that it has {number} keys or arrays; at most {_MOST_GGUF} were expected"
            )
        yield Reader(name)


def _read_gguf(name: str) -> State:
    state = State()
    with opened_gguf(name) as reader:
        for tensor in reader.tensors:
            shape = tuple(int(n) for n in tensor.shape[::-1])

            def get(_: str, tensor: Any = tensor, shape: tuple[int, ...] = shape) -> Array:
                data = np.array(tensor.data)
                if tensor.tensor_type.name == "BF16":
                    data = data.view("bfloat16")
                return data.reshape(shape)

            _add(state, name, tensor.name, tensor.tensor_type.name, shape, get)
    return state


def _read_onnx(name: str) -> dict[str, Array]:
    needed("onnx", name)
    from ..onnx.graph import array_of
    from ..onnx.read import read, told

    model = read(name)
    with told(name, "read"):
        return {tensor.name: array_of(tensor) for tensor in model.graph.initializer}


def _read_keras(name: str) -> dict[str, Array]:
    needed("h5py", name)
    from .keras_files import arrays_of_model

    with opened(name) as file:
        return arrays_of_model(file, size_of(file))


def needed(package: str, name: str) -> None:
    """Refuse what needs a package that is not installed."""
    if find_spec(package) is None:
        raise ImportError(f"{name} needs {package}: pip install {package}")


_READERS: dict[str, Callable[[str], dict[str, Array]]] = {
    ".npz": read_npz,
    ".safetensors": _read_safetensors,
    ".safetensors.index.json": _read_parts,
    ".h5": _read_keras,
    ".hdf5": _read_keras,
    ".keras": _read_keras,
    ".gguf": _read_gguf,
    ".onnx": _read_onnx,
}
OF_WEIGHTS = (*_READERS, *_OF_TORCH)

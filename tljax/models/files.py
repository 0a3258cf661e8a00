"""Files of tensors: safetensors, npz and torch's state dicts, of which nothing is executed."""

import io
import json
import math
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from tljax.errors import UserError, shown, wrong

Tensors = dict[str, np.ndarray]

_WHOLE = "a whole file of tensors: safetensors, npz or a torch state dict"
_DTYPES: dict[str, Any] = {  # in the order in which the safetensors library writes them
    **{"U64": np.uint64, "I64": np.int64, "F64": np.float64, "F32": np.float32},
    **{"U32": np.uint32, "I32": np.int32, "BF16": jnp.dtype("bfloat16"), "F16": np.float16},
    **{"U16": np.uint16, "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_},
}
_CODES = {np.dtype(kind): code for code, kind in _DTYPES.items()}
_STORAGES: dict[str, Any] = {
    **{"DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16},
    **{"BFloat16Storage": jnp.dtype("bfloat16"), "LongStorage": np.int64, "IntStorage": np.int32},
    **{"ShortStorage": np.int16, "CharStorage": np.int8, "ByteStorage": np.uint8},
    "BoolStorage": np.bool_,
}
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # how torch's files of before 1.6 begin


def read(path: str | os.PathLike) -> Tensors:
    """The tensors of a file by name, in the types that it holds them in.

    What kind of file it is, is told by what is in it, not by its name.

    Args:
      path: of safetensors (https://huggingface.co/docs/safetensors), npz, or a torch state dict
        of either of torch's formats, alone or under `state_dict` or `model`.

    Raises:
      UserError: a file that is not there, is cut short or damaged, or holds anything but tensors.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise wrong("weights", str(path), f"a file that can be read ({error.strerror})") from None
    try:
        if data[8:9] != b"{":  # where the length of a safetensors header may look like the others
            for begin, reader in ((b"PK", _zipped), (b"\x80", _torch_legacy)):
                if data.startswith(begin):
                    return reader(data)
        return _safetensors(data)
    except UserError as error:
        raise wrong("weights", str(path), f"{_WHOLE}; {error}") from None
    except Exception as error:  # a damaged pickle, zip or header raises almost anything
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise wrong("weights", str(path), f"{_WHOLE} ({reason[:200]})") from error


def _safetensors(data: bytes) -> Tensors:
    """The length of a header in eight bytes, the header in JSON, and the numbers end to end."""
    size = struct.unpack("<Q", data[:8])[0] if len(data) >= 8 else 0
    if not 2 <= size <= len(data) - 8:
        raise UserError(f"of {len(data)} bytes, it promises a header of {size}")
    header = json.loads(data[8 : 8 + size])
    if not isinstance(header, dict):
        raise UserError(f"its header is {shown(header)}")
    header.pop("__metadata__", None)
    numbers, end, tensors = memoryview(data)[8 + size :], 0, {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        if entry["dtype"] not in _DTYPES:
            raise UserError(f"{name!r} is of type {shown(entry['dtype'])}")
        dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), [int(n) for n in entry["shape"]]
        start, stop = entry["data_offsets"]
        fits = start == end and stop - start == math.prod(shape) * dtype.itemsize
        if not fits or min(shape, default=0) < 0 or stop > len(numbers):
            raise UserError(
                f"{name!r} of {entry['dtype']} {shape} is said to lie at {start}…{stop}, of "
                f"{len(numbers)} bytes, after {end}"
            )
        tensors[name] = np.frombuffer(numbers[start:stop], dtype).reshape(shape)
        end = stop
    if end != len(numbers):
        raise UserError(f"{len(numbers) - end} bytes at its end belong to no tensor")
    return {name: tensors[name] for name in header}


def write_safetensors(
    path: str | os.PathLike,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes tensors as the safetensors library does: widest types first, then by name.

    Args:
      path: of the file, which is whole or is not there.
      tensors: by name.
      metadata: strings by name, kept in the header.

    Raises:
      UserError: a tensor of a type that the format has not.
    """
    arrays = {name: np.ascontiguousarray(each) for name, each in tensors.items()}
    arrays = {name: each.reshape(np.shape(tensors[name])) for name, each in arrays.items()}
    order = list(_DTYPES)
    for name, each in arrays.items():
        if each.dtype not in _CODES:
            raise wrong(f"weights: {name}", str(each.dtype), f"one of {', '.join(order)}")
    names = sorted(arrays, key=lambda name: (order.index(_CODES[arrays[name].dtype]), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        start, end = end, end + arrays[name].nbytes
        kind, shape = _CODES[arrays[name].dtype], list(arrays[name].shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    partial = Path(f"{path}.{os.getpid()}.partial")
    with open(partial, "wb") as file:
        file.writelines([struct.pack("<Q", len(text)), text])
        file.writelines(arrays[name].tobytes() for name in names)
    partial.replace(path)


def _zipped(data: bytes) -> Tensors:
    """An npz, or torch's format of today: `data.pkl` and `data/KEY` for each storage."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith("/data.pkl")]
        if not pickles:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return {name: _array(name, arrays[name]) for name in arrays.files}
        root = pickles[0].removesuffix("data.pkl")
        order = f"{root}byteorder"
        if order in names and archive.read(order) != b"little":
            raise UserError("its numbers are big-endian")
        loader = _Restricted(io.BytesIO(archive.read(pickles[0])))
        found = loader.load()
        return _resolved(found, lambda key: archive.read(f"{root}data/{key}"))


def _array(name: str, array: Any) -> np.ndarray:
    if not isinstance(array, np.ndarray):
        raise UserError(f"{name!r} is no array")
    return array


def _torch_legacy(data: bytes) -> Tensors:
    """Torch's format of before 1.6: four pickles, a list of keys, and the storages in its order."""
    file = io.BytesIO(data)
    for expected in (_MAGIC, _PROTOCOL):
        if _Restricted(file).load() != expected:
            raise UserError("it is a pickle, and none of torch's")
    _Restricted(file).load()  # what the machine was that wrote it
    loader = _Restricted(file)
    found, storages = loader.load(), {}
    for key in _Restricted(file).load():
        (count,) = struct.unpack("<q", file.read(8))
        size = count * loader.storages[key].dtype.itemsize
        storages[key] = file.read(size)
        if len(storages[key]) != size:
            raise UserError(f"it ends within storage {key!r}")
    return _resolved(found, lambda key: storages[key])


class _Storage(NamedTuple):
    """Numbers of one type; where they are is known when they are read."""

    key: str
    dtype: np.dtype
    offset: int  # of a view, in numbers


class _Tensor(NamedTuple):
    """A view of a storage, counted in numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, data: bytes) -> np.ndarray:
        """The array, if it lies within its storage."""
        numbers, first = np.frombuffer(data, self.storage.dtype), self.storage.offset + self.offset
        steps = [(n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)]
        size = math.prod(self.shape)
        if min((first, *self.shape, *self.strides)) < 0 or (
            size and max(first + sum(steps) + 1, size) > len(numbers)
        ):
            raise UserError(
                f"a tensor of shape {self.shape}, strides {self.strides} and offset {first} "
                f"goes beyond its {len(numbers)} numbers"
            )
        if not size:
            return np.zeros(self.shape, numbers.dtype)
        strides = [stride * numbers.itemsize for stride in self.strides]
        return np.array(np.lib.stride_tricks.as_strided(numbers[first:], self.shape, strides))


def _rebuild_tensor(storage: _Storage, offset: int, size: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise UserError(f"a tensor of {shown(storage)}")
    return _Tensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def _rebuild_parameter(data: _Tensor, *_: Any) -> _Tensor:
    return data


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    **{("torch", name): np.dtype(kind) for name, kind in _STORAGES.items()},
}


class _Restricted(pickle.Unpickler):
    """Unpickles the names of `_KNOWN` and no other, so that nothing of the file is executed."""

    def __init__(self, file: Any):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise UserError(f"it asks for {module}.{name}; nothing but tensors is read")
        return _KNOWN[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, _, *view = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise UserError(f"it refers to {shown(pid)}")
        offset = int(view[0][1]) if view and view[0] else 0
        self.storages.setdefault(str(key), _Storage(str(key), dtype, 0))
        return _Storage(str(key), dtype, offset)


def _resolved(found: Any, storage: Any) -> Tensors:
    """The tensors of a state dict, which may stand beside other things under a name of its own."""
    for wrapper in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict):
        raise UserError(f"it holds {type(found).__name__}, not a state dict")
    for name, each in found.items():
        if not isinstance(each, _Tensor):
            raise UserError(f"{shown(name)} is {type(each).__name__}, not a tensor")
    return {str(name): each.of(storage(each.storage.key)) for name, each in found.items()}

"""Files of tensors: what is read of them, and what is refused."""

import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import jax.numpy as jnp
import numpy as np
import pytest

from tljax.errors import UserError
from tljax.models.files import read, write_safetensors

TENSORS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.float16([1.5, -2]),
    "c": np.asarray([1.5, -2, 3], jnp.dtype("bfloat16")),
    "count": np.asarray(7),
    "none": np.zeros((0, 3), np.float32),
    "flags": np.asarray([True, False]),
}


def alike(one, other):
    assert list(one) == list(other) or set(one) == set(other)
    for name in one:
        assert one[name].dtype == other[name].dtype and one[name].shape == other[name].shape
        np.testing.assert_array_equal(one[name], other[name])


def test_safetensors_by_hand(tmp_path):
    """Two numbers of two types, written byte by byte."""
    header = {
        "__metadata__": {"format": "pt"},
        "x": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
        "y": {"dtype": "BF16", "shape": [], "data_offsets": [4, 6]},
    }
    text = json.dumps(header).encode()
    # 1.0 is 0x3F800000 in float32; bfloat16 is its upper half.
    data = struct.pack("<Q", len(text)) + text + b"\x00\x00\x80\x3f" + b"\x80\x3f"
    (tmp_path / "x").write_bytes(data)
    tensors = read(tmp_path / "x")
    assert tensors["x"].shape == (1, 1) and tensors["y"].shape == ()
    assert float(tensors["x"][0, 0]) == float(tensors["y"]) == 1.0


def test_safetensors_come_back(tmp_path):
    write_safetensors(tmp_path / "x", TENSORS, {"format": "pt"})
    alike(read(tmp_path / "x"), TENSORS)
    assert os.listdir(tmp_path) == ["x"]


def test_safetensors_are_the_librarys(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    tensors = {name: each for name, each in TENSORS.items() if name != "c"}
    library.save_file(tensors, tmp_path / "theirs", {"format": "pt"})
    write_safetensors(tmp_path / "ours", tensors, {"format": "pt"})
    alike(read(tmp_path / "theirs"), tensors)
    alike(library.load_file(tmp_path / "ours"), tensors)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_npz_comes_back(tmp_path):
    tensors = {name: each for name, each in TENSORS.items() if name != "c"}
    np.savez(tmp_path / "x.npz", **tensors)
    alike(read(tmp_path / "x.npz"), tensors)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("wrapper", ["", "state_dict", "model"])
def test_torch_state_dicts(tmp_path, zipped, wrapper):
    """Both formats; parameters, transposed and cut views that share a storage, all types."""
    torch = pytest.importorskip("torch")
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    state = OrderedDict(
        whole=base,
        turned=base.t(),
        cut=base[1:3, ::2],
        parameter=torch.nn.Parameter(base[3]),
        half=base.half(),
        brain=base.bfloat16(),
        count=torch.tensor(3),
        empty=torch.zeros(0, 2),
        flags=torch.tensor([True, False]),
        bytes=torch.tensor([1, 255], dtype=torch.uint8),
    )
    saved = {wrapper: state, "epoch": 3} if wrapper else state
    torch.save(saved, tmp_path / "x", _use_new_zipfile_serialization=zipped)
    tensors = read(tmp_path / "x")
    theirs = torch.load(tmp_path / "x", weights_only=True)
    theirs = theirs[wrapper] if wrapper else theirs
    assert list(tensors) == list(theirs)
    for name, tensor in theirs.items():
        assert tensors[name].shape == tuple(tensor.shape)
        assert tensors[name].dtype.name == str(tensor.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(tensors[name].astype("float64"), tensor.detach().double())


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_modules_keep_their_names(tmp_path, zipped):
    """A state dict of a module has attributes of its own beside the tensors."""
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    torch.save(module.state_dict(), tmp_path / "x", _use_new_zipfile_serialization=zipped)
    assert list(read(tmp_path / "x")) == list(module.state_dict())


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


class Storage:
    """Stands in a pickle for a storage of torch's."""

    def __init__(self, *pid):
        self.pid = pid


class Rebuilt:
    def __init__(self, storage, offset, size, stride):
        self.arguments = storage, offset, size, stride, False, OrderedDict()


class Global:
    def __init__(self, name):
        self.name = name


def pickled(thing, protocol=2):
    """A pickle that names torch's functions without having them."""

    class Pickler(pickle._Pickler):
        def persistent_id(self, each):
            return each.pid if isinstance(each, Storage) else None

        def save(self, each, *rest, **kwargs):
            if isinstance(each, Global):
                module, _, name = each.name.rpartition(".")
                self.write(b"c" + f"{module}\n{name}\n".encode())
            elif isinstance(each, Rebuilt):
                self.save(Global("torch._utils._rebuild_tensor_v2"))
                self.save(each.arguments)
                self.write(pickle.REDUCE)
            else:
                super().save(each, *rest, **kwargs)

    file = io.BytesIO()
    Pickler(file, protocol).dump(thing)
    return file.getvalue()


def tensor(offset, size, stride, dtype="torch.FloatStorage", key="0", count=6):
    storage = Storage("storage", Global(dtype), key, "cpu", count)
    return Rebuilt(storage, offset, size, stride)


SIX = np.arange(6, dtype=np.float32)


def legacy(state, numbers=SIX, key="0"):
    begin = [pickled(0x1950A86A20F9469CFC6C), pickled(1001), pickled({"little_endian": True})]
    data = struct.pack("<q", len(numbers)) + numbers.tobytes()
    return b"".join([*begin, pickled(state), pickled([key]), data])


def zipped(state, numbers=SIX, order=None):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(state))
        archive.writestr("archive/data/0", numbers.tobytes())
        if order:
            archive.writestr("archive/byteorder", order)
    return file.getvalue()


def test_strides_and_offsets_by_hand(tmp_path):
    """Of 0…5 from 1 on: rows one apart, columns two apart."""
    for made in (legacy, zipped):
        (tmp_path / "x").write_bytes(made({"w": tensor(1, (2, 2), (1, 2))}))
        np.testing.assert_array_equal(read(tmp_path / "x")["w"], [[1, 3], [2, 4]])


def header(text, data=b""):
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return struct.pack("<Q", len(text)) + text + data


def one(**changes):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    return {"x": {**entry, **changes}}


def archive(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


WHOLE = header(one(), b"\0" * 8)
REFUSED = {
    "nothing": (b"", "of 0 bytes, it promises a header of 0"),
    "a long header": (struct.pack("<Q", 10**12) + b"{}", "it promises a header of 1000000000000"),
    "no JSON": (header(b"{x}"), "JSONDecodeError"),
    "no header": (header([1, 2]), r"its header is \[1, 2\]"),
    "no offsets": (header({"x": {"dtype": "F32", "shape": [2]}}), "KeyError 'data_offsets'"),
    "cut short": (WHOLE[:-3], r"'x' of F32 \[2\] is said to lie at 0…8, of 5 bytes"),
    "too much": (WHOLE + b"\0", "1 bytes at its end belong to no tensor"),
    "other offsets": (header(one(data_offsets=[0, 4]), b"\0" * 8), r"\[2\] is said to lie at 0…4"),
    "a hole": (header(one(data_offsets=[1, 9]), b"\0" * 9), "lie at 1…9, of 9 bytes, after 0"),
    "negative": (header(one(shape=[-1, -2]), b"\0" * 8), r"'x' of F32 \[-1, -2\]"),
    "an unknown type": (header(one(dtype="F4"), b"\0" * 8), "'x' is of type 'F4'"),
    "a pickle": (pickle.dumps({"x": np.ones(2)}), "and none of torch's|it asks for numpy"),
    "a plain pickle": (pickle.dumps([1, 2], 2), "it is a pickle, and none of torch's"),
    "an object in an npz": (archive(x=np.asarray([{}], object)), "allow_pickle=False"),
    "a damaged zip": (archive(x=np.ones(9))[:-30], "BadZipFile"),
    "code, legacy": (legacy({"w": Evil()}), "it asks for posix.system; nothing but tensors"),
    "code, zip": (zipped({"w": Evil()}), "it asks for posix.system; nothing but tensors"),
    "code in place of a number": (pickle.dumps(Evil(), 2), "it asks for posix.system"),
    "a builtin": (zipped({"w": Global("builtins.eval")}), "it asks for builtins.eval"),
    "a name in a name": (zipped({"w": Global("torch.FloatStorage.x")}), "asks for torch.Float"),
    "numpy's scalars": (zipped({"w": np.float32(1)}), "it asks for numpy"),
    "beyond": (zipped({"w": tensor(1, (6,), (1,))}), r"offset 1 goes beyond its 6 numbers"),
    "before": (zipped({"w": tensor(-1, (2,), (1,))}), r"offset -1 goes beyond"),
    "backwards": (zipped({"w": tensor(3, (2,), (-1,))}), r"strides \(-1,\)"),
    "blown up": (legacy({"w": tensor(0, (10**9,), (0,))}), "beyond its 6 numbers"),
    "half a shape": (zipped({"w": tensor(0, (2, 3), (1,))}), "ValueError zip"),
    "no storage": (zipped({"w": tensor(0, (2,), (1,), key="1")}), "KeyError"),
    "no type": (zipped({"w": tensor(0, (2,), (1,), "collections.OrderedDict")}), "it refers to"),
    "no tensor": (zipped({"w": 3}), "'w' is int, not a tensor"),
    "no state dict": (zipped([3]), "it holds list, not a state dict"),
    "ends within": (legacy({"w": tensor(0, (6,), (1,))})[:-1], "it ends within storage '0'"),
    "big-endian": (zipped({}, order="big"), "its numbers are big-endian"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_holds_anything_else_is_refused_in_a_line(kind, tmp_path, monkeypatch):
    """By its content, whatever it is called, and nothing is executed."""
    monkeypatch.chdir(tmp_path)
    data, says = REFUSED[kind]
    for name in ("x.npz", "x.safetensors"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=says) as caught:
            read(name)
        assert str(caught.value).startswith(f"weights: got '{name}'; expected a whole file of ")
        assert len(str(caught.value)) < 500
    assert set(os.listdir(tmp_path)) == {"x.npz", "x.safetensors"}


def test_every_cut_of_a_file_is_refused(tmp_path):
    state = legacy({"w": tensor(0, (6,), (1,))})
    write_safetensors(tmp_path / "w", {"w": np.arange(6.0)})
    for data in (state, zipped({"w": tensor(0, (6,), (1,))}), (tmp_path / "w").read_bytes()):
        for end in range(len(data)):
            (tmp_path / "x").write_bytes(data[:end])
            with pytest.raises(UserError, match="^weights: got "):
                read(tmp_path / "x")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"weights: got '.*none'; expected .*\(No such file"):
        read(tmp_path / "none")
    with pytest.raises(UserError, match=r"\(Is a directory\)"):
        read(tmp_path)


def test_a_type_that_safetensors_has_not(tmp_path):
    with pytest.raises(UserError, match="weights: z: got 'complex64'; expected one of U64, I64"):
        write_safetensors(tmp_path / "x", {"z": np.ones(2, np.complex64)})
    assert not os.listdir(tmp_path)

"""`resident_megabytes` holds for arrays, which are mapped; headers are not believed."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest

from tljax import experiment
from tljax.data.lazy import Lazy
from tljax.data.sources import load
from tljax.errors import UserError
from tljax.experiment.build import build
from tljax.experiment.check import check


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (40, 8, 8, 1), dtype=np.uint8), np.arange(40) % 4


def idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.tobytes())


@pytest.mark.parametrize("kind", ["npz", "idx", "fortran", "floats"])
def test_an_array_beyond_the_limit_stays_in_its_file(tmp_path, arrays, kind):
    images, label = arrays
    if kind == "idx":
        idx(tmp_path / "train-images-idx3-ubyte", images[..., 0])
        idx(tmp_path / "train-labels-idx1-ubyte", label.astype(np.uint8))
    else:
        images = images / np.float64(255) if kind == "floats" else images
        images = np.asfortranarray(images) if kind == "fortran" else images
        np.savez(tmp_path / "a.npz", image=images, label=label)
    source = f"idx:{tmp_path}" if kind == "idx" else f"npz:{tmp_path}/a.npz"
    whole = load(source, "train[10:30]")
    mapped = load(source, "train[10:30]", limit_bytes=100)
    assert isinstance(mapped.input, Lazy) and not isinstance(whole.input, Lazy)
    np.testing.assert_array_equal(np.stack([mapped.input[i] for i in range(20)]), whole.input)
    np.testing.assert_array_equal(mapped.label, whole.label)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_run_streams_what_is_beyond_the_limit_to_the_same_result(tmp_path, arrays, compressed):
    (np.savez_compressed if compressed else np.savez)(
        tmp_path / "a.npz", image=arrays[0], label=arrays[1]
    )
    config = experiment.blank()
    config.streams.source = dict(data=f"npz:{tmp_path}/a.npz", batch=8)
    config.evaluate.target = dict(data=f"npz:{tmp_path}/a.npz")
    config.network.trunk = dict(name="mlp", features=(8,))
    config.terms.label = dict(term="cross_entropy")
    config.update(steps=4, figures=False, resident_megabytes=0.001)
    assert list(build(check(config)).readers["train"]) == ["source"]
    result = experiment.run(config, tmp_path / "run")["evaluations"]["target"]
    assert result["examples"] == 40


def test_the_bundled_arrays_are_held_to_the_limit(tmp_path):
    config = experiment.blank()
    config.streams.source = dict(data="digits", size=8, split="train[:600]", batch=32)
    config.evaluate.target = dict(data="digits", size=8, split="train[1400:]")
    config.terms.label = dict(term="cross_entropy")
    config.resident_megabytes = 0.001
    assert list(build(check(config)).readers["train"]) == ["source"]
    config.resident_megabytes = 1.0
    assert not build(check(config)).readers["train"]


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), -1.0, "2048"])
def test_a_limit_that_is_none_is_refused(limit):
    config = experiment.blank()
    config.streams.source = dict(data="digits")
    config.evaluate.target = dict(data="digits")
    plain = {**config.to_dict(), "resident_megabytes": limit}
    with pytest.raises(UserError, match="resident_megabytes: got"):
        check(plain)


@pytest.mark.parametrize("count", [10**6, 10**12, 2**31 - 1])
def test_an_idx_header_that_promises_more_than_there_is(tmp_path, count):
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", min(count, 2**32 - 1), 28, 28)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(header + bytes(100))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + bytes(100)))
    for split in ("train", "test"):
        with pytest.raises(UserError, match="ubyte.*(100|holds)"):
            load(f"idx:{tmp_path}", split, labelled=False)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("shape", [(10**9, 8, 8, 1), (10**13, 8, 8, 1)])
def test_an_npy_header_that_promises_more_than_there_is(tmp_path, shape, compression):
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        member, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        archive.writestr("image.npy", member.getvalue() + bytes(64))
    with pytest.raises(UserError, match=r"a\.npz.*promises"):
        load(f"npz:{tmp_path}/a.npz", "train", labelled=False)

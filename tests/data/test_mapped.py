"""What is larger than the limit stays where it is: arrays are mapped, and streamed by rows."""

import gzip
import pickle
import struct
import subprocess
import sys
import zipfile

import jax
import numpy as np
import pytest

import tljax.data
from tljax.data import streams
from tljax.data.lazy import Lazy
from tljax.data.sources import load
from tljax.errors import UserError
from tljax.experiment import blank
from tljax.experiment.build import build
from tljax.experiment.check import check

IMAGES = np.arange(8 * 6 * 5, dtype=np.uint8).reshape(8, 6, 5)


def idx(path, array, head=None):
    shape = head or array.shape
    path.write_bytes(struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(array))


@pytest.fixture
def stored(tmp_path):
    """Saves arrays and loads them with little room."""

    def save(save=np.savez, limit=16, split="train", **arrays):
        save(tmp_path / "a.npz", **arrays)
        data, field = f"npz:{tmp_path}/a.npz", "streams.source.data"
        options = dict(labelled=any(name.startswith(("y", "label")) for name in arrays))
        return tljax.data.load(data, split, field=field, limit_bytes=limit, **options)

    return save


def mapped(table):
    """Whether the inputs are in their file, and no copy of them in memory."""
    return isinstance(table.input, Lazy) and "Stored" in repr(table.input.decode)


@pytest.mark.parametrize(
    "array",
    [
        IMAGES.astype(np.float64) / 3,
        np.asfortranarray(IMAGES.astype(np.float32)),
        IMAGES.astype(">i4"),
        IMAGES.astype(np.int64),
        IMAGES,
        np.arange(8.0),
    ],
)
def test_arrays_are_mapped_in_the_type_of_a_table(stored, array):
    table, whole = stored(input=array), stored(input=array, limit=10**6)
    assert mapped(table) and whole.resident
    assert table.input.shape == whole.input.shape
    for i in (0, 3, 7, -1):
        assert table.input[i].dtype == whole.input.dtype
        np.testing.assert_array_equal(table.input[i], whole.input[i])
    assert table.nbytes == whole.nbytes


def test_images_and_their_labels(stored):
    arrays = dict(x_train=IMAGES, y_train=np.arange(8) % 3)
    table = stored(**arrays)
    assert mapped(table) and table.input.shape == (8, 6, 5, 1)
    assert table[[5, 2]].label.tolist() == [2, 2] and table[[5, 2]].input[0][0, 0, 0] == 150
    few = tljax.data.load(f"npz:{table.input.decode.keywords['array'].path}", "train[2:4]",
                          limit_bytes=100, size=3)  # fmt: skip
    assert few.resident and few.input.shape == (2, 3, 3, 1)  # it fits, so small


def test_splits_are_joined(stored, tmp_path):
    arrays = dict(x_train=IMAGES, y_train=[0] * 8, x_test=IMAGES[:3] + 1, y_test=[1] * 3)
    table = stored(split="train[:50%]+test", limit=100, **arrays)
    assert not table.resident and table.label.tolist() == [0] * 4 + [1] * 3
    np.testing.assert_array_equal(table.input[4], IMAGES[0, :, :, None] + 1)
    assert table[np.array([6, 0])].input[0][0, 0, 0] == 61
    together = stored(split="train+test", limit=10**6, **arrays)
    assert [table.input[i].sum() for i in range(4)] == [x.sum() for x in together.input[:4]]


def test_compressed_arrays_are_read(stored):
    table = stored(np.savez_compressed, input=IMAGES)
    assert not table.resident and not mapped(table) and table.input[7].sum() == IMAGES[7].sum()


def test_values_are_checked_row_by_row(stored):
    bad = IMAGES.astype(np.float32)
    bad[5, 0, 0] = np.nan
    table = stored(input=bad)
    assert mapped(table)
    with pytest.raises(UserError, match="streams.source.data: got 'input 5'; expected finite"):
        table.input[5]


def test_idx_is_mapped(tmp_path):
    idx(tmp_path / "train-images-idx3-ubyte", IMAGES)
    idx(tmp_path / "train-labels-idx1-ubyte", np.arange(8, dtype=np.uint8))
    table = tljax.data.load(f"idx:{tmp_path}", "train", limit_bytes=100)
    assert mapped(table) and table.label.tolist() == list(range(8))
    np.testing.assert_array_equal(table.input[6], IMAGES[6, :, :, None])
    assert load(f"idx:{tmp_path}", "train").resident


def test_a_mapped_table_travels_without_its_values(stored):
    table = stored(input=np.zeros((4000, 100), np.uint8))
    table.input[3]
    content = pickle.dumps(table)
    assert len(content) < 100_000  # the numbers of rows alone
    assert mapped(pickle.loads(content)) and pickle.loads(content).input[2].shape == (100,)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_mapped_table_flows(stored, workers):
    table = stored(x_train=IMAGES, y_train=np.arange(8))
    feed = streams.Feed({"source": streams.reader(table, 4, seed=0)}, 0, workers)
    batch = feed.take(2, 2)["source"]
    assert batch.input.shape == (2, 4, 6, 5, 1) and sorted(batch.label.ravel()) == list(range(8))
    np.testing.assert_array_equal(batch.input[1, 2, :, :, 0], IMAGES[batch.label[1, 2]])


# Headers that promise more than there is.


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("shape", [(2**32 - 1, 2**32 - 1, 2**31), (2**31, 28, 28), (9, 6, 5)])
def test_idx_that_promises_too_much(tmp_path, shape, zipped):
    path = tmp_path / "train-images-idx3-ubyte"
    idx(path, IMAGES, shape)
    if zipped:
        path.write_bytes(gzip.compress(path.read_bytes()))
    for limit in (0, 10**9):
        with pytest.raises(UserError, match="as its header says.*it holds 240"):
            load(f"idx:{tmp_path}", "train", labelled=False, limit_bytes=limit)


@pytest.mark.parametrize("packing", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("shape", ["(10000000000, 1000)", "(9, 6, 5)", "(-1, 6, 5)", "(7, 6, 5)"])
def test_npz_that_promises_too_much(tmp_path, shape, packing):
    head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
    head = head.ljust(117) + "\n"
    raw = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + IMAGES.tobytes()
    with zipfile.ZipFile(tmp_path / "a.npz", "w", packing) as archive:
        archive.writestr("input.npy", raw)
    for limit in (0, 10**9):
        with pytest.raises(UserError, match="a.npz.*undamaged array 'input'"):
            load(f"npz:{tmp_path}/a.npz", "train", labelled=False, limit_bytes=limit)


# A run.


def config(data, **source):
    made = blank()
    made.streams.source = dict(data=data, batch=4, **source)
    made.evaluate.source = dict(data=data, **source)
    made.network.trunk = dict(name="mlp", features=(4,))
    made.terms.label = dict(term="cross_entropy", stream="source")
    made.steps = 2
    return made


@pytest.mark.parametrize("megabytes", [0.001, 0.0, 1, 1e30])
def test_any_table_beyond_the_limit_is_streamed(megabytes):
    made = config("digits", split="train[:600]")
    made.resident_megabytes = megabytes
    built = build(check(made))
    streamed = ["source"] if megabytes < 0.01 else []
    assert sorted(built.readers["train"]) == streamed
    assert bool(built.data) != bool(streamed)
    assert built.splits["source"].table.resident == (not streamed)


def test_a_limit_that_is_no_number_is_refused():
    made = config("digits")
    made.resident_megabytes = float("nan")
    with pytest.raises(UserError, match="^resident_megabytes: got nan; expected a finite number"):
        check(made)


def test_a_streamed_run_learns_what_a_resident_one_does(tmp_path):
    """Evaluations do not tell where their examples lie."""
    from tljax.phase import evaluate

    np.savez(tmp_path / "a.npz", x_train=IMAGES / 255, y_train=np.arange(8) % 2)
    outputs = []
    for megabytes in (0.0, 1.0):
        made = config(f"npz:{tmp_path}/a.npz", split="train")
        made.resident_megabytes = megabytes
        built = build(check(made))
        phase, split = built.phases["train"], built.splits["source"]
        state = tljax.start(phase, {"source": load(f"npz:{tmp_path}/a.npz", "train")},
                            jax.random.key(0))  # fmt: skip
        outputs.append(evaluate.outputs(phase.network, state.params, {}, split).logits)
    np.testing.assert_array_equal(*outputs)


PEAK = """
import resource, sys
import tljax.data, tljax.data.sources
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
table = tljax.data.load(sys.argv[1], "train[:90%]", limit_bytes=2**20, labelled=False)
assert not table.resident and table.input[0].shape == table.input[150].shape
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base)
"""


def test_a_large_file_is_not_read_into_memory(tmp_path):
    """200 MB, of which two rows are needed."""
    head = "{'descr': '|u1', 'fortran_order': False, 'shape': (200, 1000, 1000), }".ljust(117)
    raw = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + head.encode() + b"\n"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        with archive.open("x_train.npy", "w", force_zip64=True) as member:
            member.write(raw)
            for _ in range(200):
                member.write(bytes(10**6))
    command = [sys.executable, "-c", PEAK, f"npz:{tmp_path}/a.npz"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(said) < 100_000  # kilobytes, of which TFDS's parser of splits has the most


def test_what_is_read_ahead_has_a_bound(stored, monkeypatch):
    """Batches of 120 bytes: 20 of them are read ahead within 2,400, two at the least."""
    asked = []
    options = streams.grain.ReadOptions
    monkeypatch.setattr(streams.grain, "ReadOptions",
                        lambda **said: asked.append(said) or options(**said))  # fmt: skip
    monkeypatch.setattr(streams, "cores", lambda: 3)
    reader = streams.reader(stored(input=IMAGES), 4, seed=0)
    for ahead in (2_400, 10, 2**28):
        monkeypatch.setattr(streams, "AHEAD", ahead)
        streams.Feed({"source": reader}, 0).take(1, 1)
    assert [said["prefetch_buffer_size"] for said in asked] == [20, 2, 500]
    assert [said["num_threads"] for said in asked] == [4, 2, 4]  # of three cores

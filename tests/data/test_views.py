"""Views on the host: torchvision's windows, and streams whose randomness is (seed, place) alone."""

import io
import math
import re
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import tljax
from tljax.data import pictures, views
from tljax.data.decoded import materialise, readable
from tljax.data.sources import load
from tljax.data.streams import SKIPPED, Feed, reader
from tljax.errors import Noticed, UserError
from tljax.experiment import blank
from tljax.experiment.build import build
from tljax.experiment.check import check
from tljax.models.checkpoints import CHECKPOINTS

RANDOM = dict(name="random_resized_crop", size=6, scale=(0.3, 1.0))
FIELD = "streams.source.data"


def ramp(height, width):
    """A picture whose red is its row and whose green is its column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)


def view(image, seed=0, **fields):
    return views.parse(fields, "view")(image, np.random.default_rng(seed))


@pytest.fixture
def folder(tmp_path):
    """Twelve pictures of differing sizes in two classes, each of its own grey."""
    for i in range(12):
        path = tmp_path / "train" / "ab"[i % 2] / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ramp(10 + i, 20 - i) // 2 + 10 * i).save(path)
    return tmp_path


def table_of(folder, **options):
    return load(f"folder:{folder}", "train", field=FIELD, **options)


def hurt(folder, *numbers):
    for i in numbers:
        path = folder / "train" / "ab"[i % 2] / f"{i:02d}.png"
        path.write_bytes(path.read_bytes()[:60])


# What a view does.


def test_resize_crop_cuts_the_middle():
    """30 × 20 to 15 × 10, of which rows 5 // 2 = 2.5, rounded to 2, to 12 are kept."""
    image = ramp(30, 20)
    whole = np.asarray(Image.fromarray(image).resize((10, 15), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(view(image, name="resize_crop", resize=10, size=10), whole[2:12])


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 375), (333, 500), (256, 256)])
def test_resize_crop_has_torchvisions_sizes(height, width):
    """Resize(256): the longer side is int(256 · long / short); CenterCrop(224): round(… / 2)"""
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    long = int(256 * max(height, width) / min(height, width))
    size = (256, long) if width <= height else (long, 256)
    whole = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    top, left = (int(round((side - 224) / 2.0)) for side in whole.shape[:2])
    seen = view(image, name="resize_crop", interpolation="bicubic")
    np.testing.assert_array_equal(seen, whole[top : top + 224, left : left + 224])


def test_windows_have_the_areas_and_proportions_that_are_asked_for():
    rng = np.random.default_rng(0)
    found = [views._window((300, 400, 3), rng, (0.1, 0.5), (0.5, 2.0)) for _ in range(2000)]
    top, left, height, width = np.array(found).T
    assert (top >= 0).all() and (top + height <= 300).all()
    assert (left >= 0).all() and (left + width <= 400).all()
    share, ratio = height * width / 120_000, width / height
    assert 0.099 < share.min() and share.max() < 0.503
    assert 0.49 < ratio.min() and ratio.max() < 2.03
    assert abs(np.log(ratio).mean()) < 0.05  # as often upright as lying
    assert len(np.unique(top)) > 100 and len(np.unique(left)) > 100


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((10, 400), (0, 193, 10, 13)), ((400, 10), (193, 0, 13, 10)), ((1, 1), (0, 0, 1, 1))],
)
def test_where_no_window_fits_the_middle_is_taken(shape, expected):
    """10 × 400: ten tries at half the area fail; 10 rows of 4/3 · 10 = 13 columns remain."""
    rng = np.random.default_rng(0)
    scale = (1.0, 1.0) if shape == (1, 1) else (0.5, 1.0)
    assert views._window(shape, rng, scale, (3 / 4, 4 / 3)) == expected


def test_a_window_is_resized_as_if_nothing_lay_beside_it():
    image = ramp(40, 50)
    rng = np.random.default_rng(3)
    top, left, height, width = views._window(image.shape, rng, (0.08, 1.0), (3 / 4, 4 / 3))
    window = Image.fromarray(image[top : top + height, left : left + width].copy())
    expected = np.asarray(window.resize((9, 9), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(view(image, 3, name="random_resized_crop", size=9), expected)
    mirrored = view(image, 3, name="random_resized_crop", size=9, flip=1.0)
    np.testing.assert_array_equal(mirrored, expected[:, ::-1])


def test_floats_and_greys_are_taken():
    image = ramp(12, 9)
    seen = view(image, name="resize_crop", resize=6, size=5)
    grey = view(image[..., :1], name="resize_crop", resize=6, size=5)
    floats = view(image.astype(np.float32), name="resize_crop", resize=6, size=5)
    np.testing.assert_array_equal(grey[..., 0], seen[..., 0])
    np.testing.assert_allclose(floats, seen, atol=0.51)
    assert floats.dtype == np.float32


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (dict(name="resize_crop", size=300), r"^view: size: got 300; expected at most resize=256"),
        (dict(name="random_resized_crop", scale=(1.0, 0.5)), "^view: scale: got .*two numbers"),
        (dict(name="random_resized_crop", scale=(0.5,)), "^view: scale: got .*two numbers"),
        (dict(name="random_resized_crop", ratio=(0.0, 1.0)), r"^view\.ratio\[0\]: got 0.0"),
        (dict(name="random_resized"), r"^view\.name: .*Did you mean 'random_resized_crop'"),
        (dict(size=3), "^view: got .*; expected a name and its parameters"),
        (dict(name="os:system"), r"^view\.name: got 'os:system'; expected a function \(image"),
    ],
)
def test_what_is_no_view_is_refused(fields, says):
    with pytest.raises(UserError, match=says):
        view(ramp(20, 30), **fields)


# Tables and streams.


def third(image, *, rng):
    return image[:3, :3] + rng.integers(3, dtype=np.uint8)


def flat(image):
    return image.mean()


def test_a_view_of_ones_own(folder):
    table = table_of(folder, view=dict(name=third))
    assert table.input.random and table.input.shape == (12, 3, 3, 3)
    assert len({bytes(table.input.seen(0, np.random.default_rng(i))) for i in range(20)}) == 3
    with pytest.raises(UserError, match=r"^streams\.source\.view: returned: got 'float64'"):
        table_of(folder, view=dict(name=flat)).input[0]


def test_a_view_that_draws_nothing_may_be_in_memory(folder):
    lazy = table_of(folder, view=dict(name="resize_crop", resize=8, size=6))
    table = materialise(lazy, 10**6)
    assert table.resident and not lazy.input.random and table.input.shape == (12, 6, 6, 3)
    np.testing.assert_array_equal(table.input[7], lazy.input[7])
    streamed = reader(lazy, 12, 0).batches[0]["input"]
    assert sorted(map(bytes, streamed)) == sorted(map(bytes, table.input))


def test_a_random_view_is_never_in_memory(folder):
    assert not materialise(table_of(folder, view=RANDOM), 10**9).resident
    digits = load("digits", "train[:20]", view=dict(RANDOM, size=4))
    assert not materialise(digits, 10**9).resident and digits.input[3].shape == (4, 4, 1)
    cut = load("digits", "train[:20]", view=dict(name="resize_crop", resize=8, size=4))
    np.testing.assert_array_equal(cut.input, load("digits", "train[:20]").input[:, 2:6, 2:6])


def test_without_a_stream_an_example_always_looks_the_same(folder):
    table = table_of(folder, view=RANDOM)
    np.testing.assert_array_equal(table.input[5], table_of(folder, view=RANDOM).input[5])
    assert not np.array_equal(table.input[5] - table.input[5].min(), table.input[7])


def steps_of(table, batch, steps, **options):
    batches = reader(table, batch, **options).batches
    return [batches[i] for i in range(steps)]


def test_a_look_is_of_the_seed_and_the_place(folder):
    """Five epochs show an example in five ways; another seed in others, `looks` the same rows."""
    table = table_of(folder, view=RANDOM)
    once, again = (steps_of(table, 4, 15, seed=1) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, once, again)
    epochs = np.concatenate([batch["input"] for batch in once]).reshape(5, 12, -1)
    assert len(np.unique(epochs.reshape(60, -1), axis=0)) > 50
    other = steps_of(table, 4, 15, seed=1, looks=9)
    labels = [np.concatenate([batch["label"] for batch in each]) for each in (once, other)]
    np.testing.assert_array_equal(*labels)
    assert not np.array_equal(once[0]["input"], other[0]["input"])


@pytest.mark.parametrize("parts", [2, 4])
def test_looks_do_not_depend_on_the_processes(folder, parts):
    hurt(folder, 3)
    table = table_of(folder, view=RANDOM, damaged=0.1)
    whole = steps_of(table, 4, 9, seed=1)
    shares = [steps_of(table, 4, 9, seed=1, part=i, parts=parts) for i in range(parts)]
    for batch, *pieces in zip(whole, *shares, strict=True):
        joined = jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)
        jax.tree.map(np.testing.assert_array_equal, batch, joined)


@pytest.mark.parametrize(("start", "workers"), [(0, 0), (7, 0), (7, 2)])
def test_what_is_read_from_a_step_on_is_the_same(folder, start, workers):
    """Exact on resume, whatever reads, also where a damaged picture is passed over."""
    hurt(folder, 2)
    read = reader(table_of(folder, view=RANDOM, damaged=0.1), 5, seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Noticed)
        fed = Feed({"source": read}, start, workers).take(4, 4)["source"]
    for i in range(4):
        np.testing.assert_array_equal(fed.input[i], read.batches[start + i]["input"])
        np.testing.assert_array_equal(fed.label[i], read.batches[start + i]["label"])
    assert set(fed.columns) == {"input", "label"}


# Damage.


def test_the_next_of_the_order_stands_for_a_damaged_picture(folder):
    whole = reader(table_of(folder, size=4), 6, seed=2)
    rows = [whole.order.rows[place] for place in range(36)]
    hurt(folder, 4, 5)
    table = table_of(folder, size=4, damaged=0.2)
    lost = [[path[-6:-4] for path in table.input.items].index(name) for name in ("04", "05")]
    batches = [reader(table, 6, seed=2).batches[i] for i in range(4)]
    places, expected = range(24), []
    for place in places:
        expected.append(next(row for row in rows[place:] if row not in lost))
    np.testing.assert_array_equal(
        np.concatenate([batch["label"] for batch in batches]), table.label[expected]
    )
    seen = np.concatenate([batch["input"] for batch in batches])
    np.testing.assert_array_equal(seen, [table.input[row] for row in expected])
    assert sum(batch[SKIPPED].sum() for batch in batches) >= 4


def test_each_damaged_picture_is_named_once(folder):
    hurt(folder, 4, 5)
    feed = Feed({"source": reader(table_of(folder, size=4, damaged=0.2), 6, seed=2)}, 0)
    with pytest.warns(Noticed) as noticed:
        feed.take(6, 6)
    said = sorted(str(each.message) for each in noticed)
    assert len(said) == 2 and "/a/04.png is damaged; another is shown" in said[0]
    assert "/b/05.png" in said[1] and all(line.startswith("streams.source: ") for line in said)


def test_more_damaged_pictures_than_may_be_are_refused(folder):
    hurt(folder, 4, 5, 6)
    feed = Feed({"source": reader(table_of(folder, size=4, damaged=0.2), 6, 2)}, 0)
    says = r"^streams\.source\.damaged: got 0\.2; expected at most 2 of 12 pictures .* of 3$"
    with pytest.warns(Noticed), pytest.raises(UserError, match=says):
        feed.take(9, 9)
    feed = Feed({"source": reader(table_of(folder, size=4), 6, seed=2)}, 0)
    with pytest.raises(UserError, match=r"streams\.source\.data: got '.*/0[456]\.png'; .* image"):
        feed.take(9, 9)


def test_in_memory_and_in_evaluations_they_are_left_out(folder):
    hurt(folder, 0, 7)
    table = table_of(folder, view=dict(name="resize_crop", resize=6, size=6), damaged=0.2)
    with pytest.warns(Noticed, match=r"2 of 12 are damaged and left out: .*a/00.png, .*b/07.png"):
        resident, streamed = materialise(table, 10**6, FIELD), readable(table, FIELD)
    assert len(resident) == len(streamed) == 10 and resident.label.tolist() == [0] * 5 + [1] * 5
    np.testing.assert_array_equal(resident.input[9], streamed.input[9])
    hurt(folder, 3)
    with pytest.raises(UserError, match="^streams.source.damaged: got 0.2; expected at most 2 of"):
        materialise(table, 10**6, FIELD)
    with pytest.raises(UserError, match="^streams.source.data: got .*a readable image"):
        materialise(table_of(folder, size=6), 10**6, FIELD)


# Both decoders.


def jpeg(image, **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.fixture(params=["simplejpeg", "pillow"])
def decoder(request, monkeypatch):
    if request.param == "pillow":
        monkeypatch.setattr(pictures, "simplejpeg", lambda: None)
    else:
        pytest.importorskip("simplejpeg")
    return lambda data: pictures.decode(data, "a.jpg", FIELD, (255, 255, 255))


PHOTO = np.random.default_rng(0).integers(0, 255, (8, 6, 3), np.uint8).repeat(9, 0).repeat(9, 1)


def test_a_jpeg_is_decoded_alike(decoder):
    """Both are libjpeg-turbo; another build may round its transform by a step or two."""
    for options in (dict(quality=90), dict(quality=70, progressive=True), dict(subsampling=0)):
        data = jpeg(PHOTO, **options)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        assert np.abs(decoder(data).astype(int) - expected).max() <= 2
    grey = decoder(jpeg(PHOTO[..., 0], quality=95))
    assert grey.shape == PHOTO.shape and (grey[..., 0] == grey[..., 2]).all()
    turned = Image.Exif()
    turned[0x0112] = 6
    assert decoder(jpeg(PHOTO, exif=turned)).shape == (54, 72, 3)
    with pytest.raises(pictures.Damaged, match="got 'a.jpg'; expected a readable image"):
        decoder(jpeg(PHOTO)[:-300])


def test_the_benchmark_measures_the_same_windows(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    from benchmarks.pipeline import VIEW, photographs, window

    for i, path in enumerate(photographs(tmp_path, 3)):
        image = pictures.decode(Path(path).read_bytes(), path, FIELD, (255, 255, 255))
        expected = view(image, i, **VIEW)
        np.testing.assert_array_equal(window(path, np.random.default_rng(i), "pillow"), expected)
    assert len(load(f"folder:{tmp_path}", "many", view=VIEW)) == 300


# Configs.


@pytest.fixture
def config(folder):
    config = blank()
    views_ = dict(source=RANDOM, second=RANDOM)
    config.streams = {
        "source": dict(data=f"folder:{folder}", view=views_["source"], batch=4),
        "second": dict(of="source", view=views_["second"]),
    }
    config.evaluate = {
        "target": dict(
            data=f"folder:{folder}", view=dict(name="resize_crop", resize=8, size=6), batch=5
        )
    }
    config.network.trunk = dict(name="mlp", features=(4,))
    config.terms = dict(label=dict(term="cross_entropy", stream="source"))
    config.steps = 3
    config.log_every = config.evaluate_every = config.checkpoint_every = 3
    config.figures = False
    return config


def test_the_second_view_has_randomness_of_its_own(config):
    readers = build(check(config)).readers["train"]
    one, two = (readers[name].batches[2] for name in ("source", "second"))
    np.testing.assert_array_equal(one["label"], two["label"])
    assert not np.array_equal(one["input"], two["input"])


def test_a_run_of_two_views_mixed_and_damaged(config, folder, tmp_path):
    hurt(folder, 5)
    for each in (config.streams.source, config.evaluate.target):
        each.damaged = 0.1
    config.streams.source.mix = dict(name="cutmix")
    config.terms.twins = dict(
        term="nt_xent", weight=0.1, head="label", first="source", second="second"
    )
    with pytest.warns(Noticed, match="b/05.png"):
        found = tljax.experiment.run(config, tmp_path / "run")
    assert found["evaluations"]["target"]["accuracy"] >= 0


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("streams.source.view", dict(name="resize_crop", resize=6, size=6), "streams.second.view"),
        ("streams.source.size", 6, r"streams\.source\.size: got 6; expected None, as the view"),
        ("streams.source.balanced", True, r"streams\.source\.balanced: .*of no random view"),
        ("streams.second.damaged", 0.1, r"streams\.second\.damaged: got 0.1; expected nothing"),
        ("streams.second.neighbour", True, r"streams\.second\.view: .*neighbours are in memory"),
        ("streams.source.view", dict(name="checkpoint", of="vgg"), r"streams\.source\.view\.of"),
        ("streams.source.view", dict(name="checkpoint"), r"streams\.source\.view: .*of="),
        ("streams.source.mix", dict(name="mixip"), r"streams\.source\.mix\.name: .*'mixup'"),
        ("streams.source.data", "digits", r"streams\.second"),
    ],
)
def test_what_does_not_fit_a_view_is_refused(config, path, value, says):
    if value == "digits":  # in memory, as its view draws nothing
        del config.streams.source.view
    section, _, field = path.rpartition(".")
    config[section.split(".")[0]][section.split(".")[1]][field] = value
    with pytest.raises(UserError, match=f"^{says}"):
        build(check(config))


def test_the_pages_config_reads_pictures(config, folder):
    page = (Path(__file__).parents[2] / "docs" / "pictures.md").read_text()
    first, own = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {"tljax": tljax}
    exec(first + own, names)
    shown = names["get_config"]()
    shown.streams.source.update(data=f"folder:{folder}", batch=4, damaged=0.1)
    shown.evaluate.target.data = f"folder:{folder}"
    config.streams, config.evaluate = shown.streams, shown.evaluate
    built = build(check(config))
    assert built.readers["train"]["source"].batches[0]["input"].shape == (4, 224, 224, 3)
    assert built.splits["target"].table.input.shape == (12, 224, 224, 3)
    config.streams.source.view = dict(name=names["corner"], size=8)
    assert build(check(config)).tables["source"].input.random


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_says_how_pictures_are_seen(config, name):
    known = CHECKPOINTS[name]
    config.evaluate.target.view = dict(name="checkpoint", of=name)
    config.evaluate.target.transforms = (dict(name="checkpoint", of=name),)
    split = build(check(config)).splits["target"]
    [standardise] = split.stream.transforms
    assert split.table.input.shape[1:] == (known.size, known.size, 3)
    grey = np.full((1, 1, 3), 0.5, np.float32)
    expected = (0.5 - np.array(known.mean)) / np.array(known.std)
    np.testing.assert_allclose(standardise(grey, None)[0, 0], expected, rtol=1e-6)
    assert math.isclose(known.size, 224)

"""Pictures of every mode, as a viewer shows them."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tljax.data import pictures
from tljax.data.sources import load
from tljax.errors import UserError

INK = np.zeros((6, 6), np.uint8)
INK[1:3, 1:3] = 255  # opaque there, transparent elsewhere


@pytest.fixture
def shown(tmp_path):
    """Saves an image in a class directory and gives what is loaded of it."""

    def save(image, name="a.png", background="white", **options):
        path = tmp_path / "train" / "drawn" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in path.parent.iterdir():
            other.unlink()
        image.save(path, **options)
        table = load(f"folder:{tmp_path}", "train", background=background)
        return table.input[0]

    return save


def refused(tmp_path, name, *says):
    with pytest.raises(UserError) as caught:
        load(f"folder:{tmp_path}", "train", field="streams.source.data").input[0]
    for each in ("streams.source.data: got", name, *says):
        assert each in str(caught.value), str(caught.value)


@pytest.mark.parametrize("hidden", [0, 120, 255])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize(("background", "grey"), [("white", 255), ("black", 0), ("#808080", 128)])
def test_transparency_lies_over_the_background(shown, mode, background, grey, hidden):
    colours = np.where(INK > 0, 50, hidden).astype(np.uint8)
    image = Image.merge("LA", [Image.fromarray(colours), Image.fromarray(INK)]).convert(mode)
    got = shown(image, background=background)
    np.testing.assert_array_equal(got[..., 0], np.where(INK > 0, 50, grey))
    assert got.shape == (6, 6, 3) and got.dtype == np.uint8


def test_half_transparent(shown):
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 128))
    assert abs(int(shown(image)[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize("several", [False, True])
def test_palettes(shown, several):
    """A palette's colours; one of them transparent, or with an alpha of each."""
    image = Image.fromarray(np.where(INK > 0, 1, 0).astype(np.uint8))
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([0, 0, 0, 200, 100, 50])
    assert shown(image)[1, 1].tolist() == [200, 100, 50] and not shown(image)[0, 0].any()
    got = shown(image, transparency=bytes([0, 255]) if several else 0)
    assert got[1, 1].tolist() == [200, 100, 50] and (got[0, 0] == 255).all()
    got = shown(image, "a.gif", "red", transparency=0)
    assert got[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_one_transparent_colour(shown, mode):
    image = Image.fromarray(INK).convert(mode)
    got = shown(image, transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert (got == 255).all()


def test_sixteen_bits(shown):
    values = np.array([[0, 257, 3000, 32768, 65535]], np.uint16)
    for name in ("a.png", "a.tiff"):
        got = shown(Image.fromarray(values), name)
        assert got[0, :, 0].tolist() == [0, 1, 12, 128, 255] and got.shape == (1, 5, 3)
    got = shown(Image.fromarray(values.astype(np.int32)), "a.pgm")
    assert got[0, :, 0].tolist() == [0, 1, 12, 128, 255]


def test_sixteen_bits_with_a_transparent_value(shown):
    values = np.array([[0, 3000, 65535]], np.uint16)
    got = shown(Image.fromarray(values), transparency=0)
    assert got[0, :, 0].tolist() == [255, 12, 255]


@pytest.mark.parametrize("values", [np.float32(0.5), np.int32(70_000), np.int32(-1)])
def test_values_without_a_range_are_refused(tmp_path, shown, values):
    with pytest.raises(UserError, match=r"a.tiff'; expected .*8 or 16 bits"):
        shown(Image.fromarray(np.full((4, 4), values)), "a.tiff")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(shown, orientation):
    """The values of EXIF, by what they say of row 0 and column 0 of what is stored."""
    upright = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.T, 6: np.rot90(upright), 7: np.rot90(upright, 2).T, 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.png", "a.webp", "a.tiff"):
        more = {"lossless": True} if name == "a.webp" else {}
        image = Image.fromarray(np.ascontiguousarray(stored)).convert("RGB")
        np.testing.assert_array_equal(shown(image, name, exif=exif, **more)[..., 0], upright)
    deep = Image.fromarray(stored.astype(np.uint16) * 257)
    np.testing.assert_array_equal(shown(deep, exif=exif)[..., 0], upright)


def test_damaged_exif_is_no_matter(shown):
    assert (shown(Image.new("RGB", (4, 4), (9, 9, 9)), exif=b"Exif\0\0nonsense") == 9).all()


def test_cmyk(shown):
    """No ink is white, as PIL reads it in TIFF and in Adobe's JPEG, which is inverted."""
    for name in ("a.jpg", "a.tiff"):
        assert shown(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), name).min() > 250
        assert shown(Image.new("CMYK", (8, 8), (0, 0, 0, 255)), name).max() < 5


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp", "a.tiff"])
def test_the_first_frame(shown, name):
    frames = [Image.new("RGB", (4, 4), (value, value, value)) for value in (40, 200)]
    more = {"lossless": True} if name == "a.webp" else {}
    got = shown(frames[0], name, save_all=True, append_images=frames[1:], **more)
    assert (got == 40).all()


def _chunk(kind, content):
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize("side", [10_000, 50_000])
def test_a_decompression_bomb(tmp_path, side):
    path = tmp_path / "train" / "a" / "bomb.png"
    path.parent.mkdir(parents=True)
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", b""))
    refused(tmp_path, "bomb.png", "decompression bomb")


@pytest.mark.parametrize("kept", [0, 1, 30, -30])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tiff", "a.webp"])
def test_truncated_files(tmp_path, shown, name, kept):
    noise = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    shown(Image.fromarray(noise), name)
    path = tmp_path / "train" / "drawn" / name
    path.write_bytes(path.read_bytes()[:kept])
    refused(tmp_path, name)


@pytest.mark.parametrize("name", ["whit", "#12", "#ffffff80", "", "rgb(1)", None, 3])
def test_backgrounds_that_are_none(name):
    with pytest.raises(UserError, match="streams.source.background: got .*an opaque colour"):
        load("digits", "train", field="streams.source.data", background=name)


def test_colours_by_name():
    assert pictures.colour("white", "f") == (255, 255, 255)
    assert pictures.colour("hsl(0, 100%, 50%)", "f") == (255, 0, 0)

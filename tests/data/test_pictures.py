"""Pictures as people see them: upright, over a background, of 8 bits, the first frame."""

import numpy as np
import pytest
from PIL import Image

from tljax.data.sources import load
from tljax.errors import UserError


def seen(root, image, name="0.png", background="white", **how):
    path = root / "train" / "a" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **how)
    table = load(f"folder:{root}", "train", background=background)
    return np.asarray(table.input[0])


def test_a_drawing_on_a_transparent_ground_is_seen(tmp_path):
    pixels = np.zeros((4, 4, 4), np.uint8)  # black, and nothing of it opaque
    pixels[1, :, 3] = 255  # but a line
    shown = seen(tmp_path, Image.fromarray(pixels))
    assert shown[1].max() == 0 and shown[0].min() == 255
    assert seen(tmp_path, Image.fromarray(pixels), background="#204060")[0, 0].tolist() == [
        *(0x20, 0x40, 0x60)
    ]


def test_hidden_colour_has_no_say(tmp_path):
    hidden = np.random.default_rng(0).integers(0, 255, (4, 4, 4), dtype=np.uint8)
    hidden[..., 3] = 0
    assert seen(tmp_path, Image.fromarray(hidden)).min() == 255


def test_half_transparent_pixels_are_mixed(tmp_path):
    half = np.full((2, 2, 2), (0, 128), np.uint8)  # black ink of half strength: LA
    assert abs(int(seen(tmp_path, Image.fromarray(half, "LA"))[0, 0, 0]) - 127) <= 1


def test_a_palette_and_its_transparent_entry(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    assert seen(tmp_path, image)[:, :, :].tolist() == [
        [[255, 0, 0], [0, 255, 0]],
        [[0, 0, 255], [0, 255, 0]],
    ]
    assert seen(tmp_path, image, transparency=1)[0, 1].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("value", "shown"), [(0, 0), (65535, 255), (32768, 128), (3000, 12)])
def test_16_bits_are_scaled_not_clipped(tmp_path, value, shown):
    assert seen(tmp_path, Image.fromarray(np.full((2, 2), value, np.uint16)))[0, 0, 0] == shown


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_exif_says_is_up_is_up(tmp_path, orientation):
    upright = np.arange(2 * 3).reshape(2, 3).astype(np.uint8) * 40
    turned = {  # how a camera stores it that was held so; the EXIF standard's table
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.T, 6: upright.T[::-1], 7: upright.T[::-1, ::-1], 8: upright.T[:, ::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    shown = seen(tmp_path, Image.fromarray(np.ascontiguousarray(turned)), exif=exif)
    np.testing.assert_array_equal(shown[..., 0], upright)


def test_cmyk_is_shown_in_its_colours(tmp_path):
    image = Image.new("RGB", (8, 8), (250, 10, 10)).convert("CMYK")
    red, green, blue = seen(tmp_path, image, "0.jpg", quality=95)[4, 4].astype(int)
    assert red > 200 and green < 60 and blue < 60


def test_of_an_animation_the_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    shown = seen(tmp_path, frames[0], "0.gif", save_all=True, append_images=frames[1:])
    assert shown[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_white_is_white_in_every_mode(tmp_path, mode):
    assert seen(tmp_path, Image.new("RGBA", (3, 3), "white").convert(mode)).min() == 255


def test_floats_have_no_range_that_a_file_tells(tmp_path):
    with pytest.raises(UserError, match=r"0\.tif.*'F', whose values have no range"):
        seen(tmp_path, Image.fromarray(np.ones((2, 2), np.float32)), "0.tif")


@pytest.mark.parametrize("colour", ["whyte", "#12", (1, 2, 3), "#ffffff00"])
def test_a_background_is_a_colour(tmp_path, colour):
    with pytest.raises(UserError, match="background: got"):
        seen(tmp_path, Image.new("L", (2, 2)), background=colour)

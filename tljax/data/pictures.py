"""Pictures as a viewer shows them: through simplejpeg where it is installed, through PIL else."""

import contextlib
import functools
import importlib
import io
import re
from typing import Any, NamedTuple

import numpy as np

from tljax.data.formats import Request, check_file
from tljax.data.lazy import Damaged, Lazy
from tljax.errors import UserError, reading, wrong


class Member(NamedTuple):
    """A picture within a larger file."""

    shard: str
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"


@functools.cache
def suffixes() -> frozenset[str]:
    """The endings, in lower case, of the files that PIL decodes."""
    from PIL import Image, ImageFile

    Image.init()
    decoded = set()
    for name, (opener, _) in Image.OPEN.items():
        stub = isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile)
        if not stub and name != "MPEG":  # of these PIL knows the size alone
            decoded.add(name)
    return frozenset(end for end, name in Image.registered_extensions().items() if name in decoded)


def colour(name: Any, field: str) -> tuple[int, int, int]:
    """The red, green and blue of a colour that PIL knows: `white`, `#f0f0f0`, `rgb(9, 9, 9)`."""
    from PIL import ImageColor

    try:
        parts: Any = ImageColor.getrgb(name)
    except (ValueError, AttributeError, TypeError):  # of no colour, of no string
        parts = ()
    if len(parts) != 3:
        raise wrong(field, name, "an opaque colour by PIL's names: 'white', '#f0f0f0'")
    return parts


def files(items: list[str] | list[Member], request: Request) -> Lazy:
    """The pictures of some paths, or members of shards, decoded when they are asked for."""
    field, behind = request.field, request.background
    read = functools.partial(_read, field=field, background=behind)
    return Lazy(read, items, field)


def _read(item: str | Member, field: str, background: tuple[int, int, int]) -> np.ndarray:
    return decode(content(item, field), str(item), field, background)


def content(item: str | Member, field: str) -> bytes:
    """The bytes of a picture; of a file that is not there, a line."""
    if isinstance(item, str):
        check_file(item, field)
    path, offset, size = (item, 0, -1) if isinstance(item, str) else (item[0], *item[2:])
    with reading(field, path), open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)


def decode(data: bytes, name: str, field: str, background: tuple[int, int, int]) -> np.ndarray:
    """A picture's first frame, upright, over `background` where it is transparent.

    Returns:
      uint8 `[height, width, 3]`; 16 bits a channel are scaled to 8.

    Raises:
      Damaged: nothing that PIL decodes in whole, or floats, whose range no file tells.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or 0):  # PIL only warns
                raise ValueError(f"{image.width} × {image.height} pixels, a decompression bomb")
            if (pixels := _by_simplejpeg(image, data)) is not None:
                return pixels
            image.load()
            return np.asarray(_flat(_upright(_eight_bits(image)), background))
    except Exception as error:  # each of PIL's decoders fails in its own way
        raise _damaged(name, field, error) from None


def header(item: str | Member, field: str) -> tuple[tuple[int, int], str]:
    """A picture's width and height, and PIL's mode; no pixel is decoded."""
    from PIL import Image

    data = content(item, field)
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.size, image.mode
    except Exception as error:
        raise _damaged(str(item), field, error) from None


def _damaged(name: str, field: str, error: Exception) -> UserError:
    reason = re.sub(r" ?<_io\.BytesIO object at \w+>", "", str(error))
    return wrong(field, name, f"a readable image ({reason})", Damaged)


@functools.cache
def simplejpeg() -> Any:
    """The library, where it is installed; it decodes faster than PIL, which has to do else."""
    try:
        return importlib.import_module("simplejpeg")
    except ImportError:
        return None


def _by_simplejpeg(image: Any, data: bytes) -> np.ndarray | None:
    """The pixels of an upright JPEG in grey or colour; None of others, which are left to PIL."""
    if image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB") or not simplejpeg():
        return None
    try:
        if image.getexif().get(_ORIENTATION, 1) != 1:
            return None
        return simplejpeg().decode_jpeg(data, "RGB")
    except Exception:  # PIL tells what is damaged from what is merely odd
        return None


_ORIENTATION = 0x0112  # its number in EXIF


def _eight_bits(image: Any) -> Any:
    """An image of 8 bits a channel: of 16, scaled; of integers beyond them and floats, none."""
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(
            f"PIL's mode {image.mode!r}, whose values have no range known; 8 or 16 bits"
        )
    grey = Image.fromarray(((values.astype(np.int64) * 255 + 32767) // 65535).astype(np.uint8))
    grey.info.update(image.info)  # its EXIF
    if isinstance(hidden := grey.info.pop("transparency", None), int):
        grey.putalpha(Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8)))
    return grey


def _upright(image: Any) -> Any:
    from PIL import ImageOps

    with contextlib.suppress(Exception):  # viewers show one whose EXIF is damaged as it lies
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _flat(image: Any, background: tuple[int, int, int]) -> Any:
    """The image in RGB; what its transparent pixels hide has no say."""
    from PIL import Image

    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("LA") if image.mode == "La" else image
    behind = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")

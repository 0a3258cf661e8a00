"""Picture files as a viewer shows them, through PIL."""

import functools
from typing import Any

import numpy as np

from tljax.data.formats import Request, check_file
from tljax.data.lazy import Lazy
from tljax.errors import UserError, wrong


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


def files(paths: list[str], request: Request) -> Lazy:
    """The pictures of some paths, decoded when they are asked for."""
    field, behind = request.field, request.background
    read = functools.partial(decode, field=field, background=behind)
    return Lazy(read, paths, field)


def decode(path: str, field: str, background: tuple[int, int, int]) -> np.ndarray:
    """A picture's first frame, upright, over `background` where it is transparent.

    Returns:
      uint8 `[height, width, 3]`; 16 bits a channel are scaled to 8.

    Raises:
      UserError: no ordinary file, none that PIL decodes in whole, or floats, whose range no file
        tells.
    """
    from PIL import Image

    check_file(path, field)
    try:
        with Image.open(path) as image:
            if image.width * image.height > (Image.MAX_IMAGE_PIXELS or 0):  # PIL only warns
                raise ValueError(f"{image.width} × {image.height} pixels, a decompression bomb")
            image.load()
            return np.asarray(_flat(_upright(_eight_bits(image)), background))
    except UserError:
        raise
    except Exception as error:  # each of PIL's decoders fails in its own way
        raise wrong(field, path, f"a readable image ({error})") from None


def header(path: str, field: str) -> tuple[tuple[int, int], str]:
    """A picture's width and height, and PIL's mode; no pixel is decoded."""
    from PIL import Image

    check_file(path, field)
    try:
        with Image.open(path) as image:
            return image.size, image.mode
    except Exception as error:
        raise wrong(field, path, f"a readable image ({error})") from None


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

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # viewers show a picture whose EXIF is damaged as it lies
        return image


def _flat(image: Any, background: tuple[int, int, int]) -> Any:
    """The image in RGB; what its transparent pixels hide has no say."""
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("LA") if image.mode == "La" else image
    behind = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")

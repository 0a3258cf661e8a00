"""Views on the host: what makes pictures of differing sizes alike, before they are a batch.

A view is `view(image, ...) -> image` on a uint8 picture `[height, width, channels]` as it was
decoded; floats in [0, 1] are taken as well. One that has a parameter `rng`, a numpy Generator, is
random: a stream shows every example by a generator of its own, made of the stream's seed and the
example's place in the stream's endless order alone, and an evaluation shows it always in one way.
Sizes are rounded as torchvision rounds them; pixels are resampled by PIL, antialiased.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np

from tljax.bind import Bound
from tljax.checks import Positive, Range, Share
from tljax.data.formats import first
from tljax.data.lazy import Lazy, rows_of
from tljax.data.specs import named
from tljax.data.table import Table
from tljax.errors import calling, wrong

Side = Annotated[int, Range(1, 4096, whole=True)]
Interpolation = Literal["bilinear", "bicubic"]
TRIES = 10  # at a window that fits


def random_resized_crop(
    image: np.ndarray,
    *,
    rng: np.random.Generator,
    size: Side = 224,
    scale: tuple[Annotated[float, Range(0, 1, "(]")], ...] = (0.08, 1.0),
    ratio: tuple[Positive, ...] = (3 / 4, 4 / 3),
    interpolation: Interpolation = "bilinear",
    flip: Share = 0.0,
) -> np.ndarray:
    """Resizes a random window to `size` × `size`, and mirrors it with probability `flip`.

    The window's share of the area is uniform in `scale`, the logarithm of width by height uniform
    in that of `ratio`, its place uniform; where none of ten fits, the largest in the middle whose
    proportions do (Szegedy et al. 2015, as torchvision has it).

    Args:
      image: `[height, width, channels]`.
      rng: draws the window.
      size: of the sides of the outcome.
      scale, ratio: the least and the greatest.
      interpolation: antialiased.
      flip: of mirroring left to right.

    Returns:
      `[size, size, channels]`, of the image's type.
    """
    scales, ratios = _pair("scale", scale), _pair("ratio", ratio)
    top, left, height, width = _window(image.shape, rng, scales, ratios)
    window = resized(image[top : top + height, left : left + width], size, size, interpolation)
    return window[:, ::-1] if flip and rng.random() < flip else window


def _pair(name: str, values: tuple[float, ...]) -> tuple[float, float]:
    if len(values) != 2 or values[0] > values[1]:
        raise wrong(name, values, "two numbers, the least and the greatest")
    return values[0], values[1]


def _window(
    shape: tuple[int, ...],
    rng: np.random.Generator,
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random window."""
    rows, columns = shape[:2]
    for _ in range(TRIES):
        area = rows * columns * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= columns and 0 < height <= rows:
            top, left = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
            return int(top), int(left), height, width
    width, height = columns, rows
    if columns / rows < ratio[0]:
        height = min(rows, max(1, round(columns / ratio[0])))
    elif columns / rows > ratio[1]:
        width = min(columns, max(1, round(rows * ratio[1])))
    return (rows - height) // 2, (columns - width) // 2, height, width


def resize_crop(
    image: np.ndarray,
    *,
    resize: Side = 256,
    size: Side = 224,
    interpolation: Interpolation = "bilinear",
) -> np.ndarray:
    """Resizes the shorter side to `resize`, then cuts `size` × `size` out of the middle.

    Args:
      image: `[height, width, channels]`.
      resize: of the shorter side; the longer one is cut to whole pixels.
      size: of the sides of the outcome, at most `resize`.
      interpolation: antialiased.

    Returns:
      `[size, size, channels]`, of the image's type.
    """
    if size > resize:
        raise wrong("size", size, f"at most resize={resize}")
    rows, columns = image.shape[:2]
    height, width = (resize * side // min(rows, columns) for side in (rows, columns))
    image = resized(image, height, width, interpolation)
    top, left = round((height - size) / 2), round((width - size) / 2)
    return image[top : top + size, left : left + size]


def resized(
    image: np.ndarray, height: int, width: int, interpolation: Interpolation = "bilinear"
) -> np.ndarray:
    """An image `[H, W, C]` as `[height, width, C]`, of the same type, antialiased (PIL's)."""
    from PIL import Image

    if image.shape[:2] == (height, width):
        return image
    filter_ = Image.Resampling[interpolation.upper()]
    if image.dtype == np.uint8 and image.shape[-1] == 3:
        return np.asarray(Image.fromarray(image).resize((width, height), filter_))
    planes = [Image.fromarray(plane) for plane in np.moveaxis(image, -1, 0)]
    return np.stack([np.asarray(plane.resize((width, height), filter_)) for plane in planes], -1)


VIEWS: dict[str, Callable[..., np.ndarray]] = {
    function.__name__: function for function in (random_resized_crop, resize_crop)
}


@dataclasses.dataclass(frozen=True)
class HostView:
    """A view with its fields filled in."""

    bound: Bound
    field: str

    @functools.cached_property
    def random(self) -> bool:
        """Whether it draws."""
        return takes_rng(self.bound.function)

    def __call__(self, image: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        with calling(self.field):
            seen = self.bound(image, rng=rng) if self.random else self.bound(image)
            if not isinstance(seen, np.ndarray) or seen.ndim != image.ndim:
                raise wrong("returned", type(seen).__name__, "an array [height, width, channels]")
        return seen


def takes_rng(function: Callable) -> bool:
    return "rng" in inspect.signature(function).parameters


def parse(spec: Mapping[str, Any], field: str) -> HostView:
    """Reads a view from a config: `dict(name="resize_crop", size=224)`.

    Args:
      spec: `name`, of `VIEWS` or `package.module:function`, and the fields of that function.
      field: where it was given, for error messages.

    Raises:
      UserError: an unknown view or field, or a value out of its kind or range.
    """
    return HostView(named(spec, VIEWS, field, ("image",), skip=("image", "rng")), field)


def fitted(
    images: np.ndarray | Lazy, size: int | None, channels: int | None, field: str
) -> np.ndarray | Lazy:
    """Images of the given size and channels: arrays at once, lazy ones as they are decoded."""
    fit = functools.partial(_fit, size=size, channels=channels, field=field)
    if isinstance(images, Lazy):
        decode = functools.partial(_decode_and_fit, decode=images.decode, fit=fit)
        return dataclasses.replace(images, decode=decode)
    return np.stack([fit(image) for image in images])


def _decode_and_fit(item: Any, decode: Callable, fit: Callable) -> np.ndarray:
    return fit(decode(item))  # not a lambda: loader processes need to pickle it


_LUMA = np.array([19595, 38470, 7471])  # .299, .587, .114 in units of 2**-16, as PIL has them


def _fit(image: np.ndarray, size: int | None, channels: int | None, field: str) -> np.ndarray:
    """One image [H, W, C] as [size, size, channels], of the same type."""
    if channels and image.shape[-1] != channels:
        if image.shape[-1] not in (1, 3):
            raise wrong(field, image.shape, "images of 1 or 3 channels, to convert them")
        if channels == 3:
            image = np.repeat(image, 3, axis=-1)
        elif image.dtype == np.uint8:
            image = ((image @ _LUMA + 2**15) >> 16).astype(np.uint8)[..., None]
        else:
            image = (image @ (_LUMA / 2**16).astype(np.float32))[..., None]
    return resized(image, size, size) if size else image


def viewed(table: Table, view: HostView, field: str) -> Table:
    """A table whose images are seen through a view; in memory if they were, unless it is random."""
    images = table.input
    if not isinstance(images, Lazy):
        images = rows_of(np.asarray(images), first, field)
    images = dataclasses.replace(images, view=view)
    if table.resident and not view.random:
        return table.with_column("input", np.stack([images[i] for i in range(len(images))]))
    return table.with_column("input", images)

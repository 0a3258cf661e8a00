"""What adapters have in common, and those that are put behind modules: they cannot be merged."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from tljax.checks import Count

Leaves = Mapping[str, Array]  # by path


@dataclasses.dataclass(frozen=True)
class Adaptation:
    """What is adapted: `only` are patterns of the kernels, or of the modules it is put behind."""

    merges: ClassVar[bool] = True
    part: ClassVar[str] = ""  # of what does not merge: a name that its own parameters have
    only: tuple[str, ...] = ("trunk/**/kernel",)

    def begin(self, path: str, shape: Sequence[int], key: Array) -> Any:
        """The first parameters of a kernel of this shape, or behind a module of this output."""
        raise NotImplementedError

    def behind(self, y: Array, own: Any) -> Array:
        """What stands in the place of an output y, of what does not merge."""
        raise NotImplementedError

    def merge(self, path: str, leaves: Leaves, own: Any) -> Leaves:
        """The leaves that change: the kernel at a path, as the network computes with it."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Bottleneck(Adaptation):
    """y + up(gelu(down(y))) of `width`, behind modules whose output is y; `up` starts at 0.

    Houlsby et al. 2019, fig. 2. It cannot be merged into what it is put behind.
    """

    merges: ClassVar[bool] = False
    part: ClassVar[str] = "down"
    only: tuple[str, ...] = ("trunk/**/attention", "trunk/**/mlp")
    width: Count = 64

    def begin(self, path: str, shape: Sequence[int], key: Array) -> Any:
        size = shape[-1]
        down = {"kernel": jax.random.normal(key, (size, self.width)) / math.sqrt(size)}
        up = {"kernel": jnp.zeros((self.width, size)), "bias": jnp.zeros(size)}
        return {"down": {**down, "bias": jnp.zeros(self.width)}, "up": up}

    def behind(self, y: Array, own: Any) -> Array:
        z = nn.gelu(_dense(y, own["down"]), approximate=False)
        return y + _dense(z, own["up"])


@dataclasses.dataclass(frozen=True)
class LHUC(Adaptation):
    """y · 2 sigmoid(a), a scale for each channel of a module's output y; a starts at 0, scale 1.

    Learning hidden unit contributions, Swietojanski & Renals 2014, eq. 3: of hidden units, so it is
    put behind blocks, after their nonlinearity.
    """

    merges: ClassVar[bool] = False
    part: ClassVar[str] = "amplitude"
    only: tuple[str, ...] = ("trunk/block_*",)

    def begin(self, path: str, shape: Sequence[int], key: Array) -> Any:
        return {"amplitude": jnp.zeros(shape[-1])}

    def behind(self, y: Array, own: Any) -> Array:
        return y * (2 * nn.sigmoid(own["amplitude"])).reshape((1,) * (y.ndim - 1) + (-1,))


def _dense(x: Array, layer: Mapping[str, Array]) -> Array:
    return x @ layer["kernel"] + layer["bias"].reshape((1,) * (x.ndim - 1) + (-1,))

"""Convolutions of a CPU by shape, in their forms: python -m benchmarks.convolutions.

`models/convolution.py` chooses between slices with a product, XLA's own and tiles by what this
prints. Forward, and the gradients of map and kernel. On one core (`taskset -c 1`) processor time is
measured, which another process on that core stretches little; on several, what a clock shows.
"""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import frame
from tljax.memory import cores, keep_freed
from tljax.models.convolution import Form, chosen, convolve


class Shape(NamedTuple):
    """A convolution."""

    batch: int
    pixels: int  # of a side
    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1


SHAPES = [
    # ResNet-18 at 224 pixels, then at 64
    *(Shape(8, 224, 3, 64, 7, 2), Shape(8, 56, 64, 64), Shape(8, 56, 64, 128, 3, 2)),
    *(Shape(8, 28, 128, 128), Shape(8, 14, 256, 256), Shape(8, 7, 512, 512)),
    *(Shape(16, 64, 3, 64, 7, 2), Shape(16, 16, 64, 64), Shape(16, 8, 128, 128)),
    *(Shape(16, 4, 256, 256), Shape(16, 2, 512, 512)),
    # MobileNetV2 at 128: the stem, a product, depthwise
    *(Shape(20, 128, 3, 32, 3, 2), Shape(20, 64, 16, 96, 1), Shape(20, 64, 32, 32, 3, 1, 32)),
    *(Shape(20, 64, 96, 96, 3, 2, 96), Shape(20, 16, 192, 192, 3, 1, 192)),
    # the demo
    *(Shape(128, 16, 3, 16), Shape(128, 8, 16, 32)),
]


WAYS = ("slices", "XLA", "tiles")


def ways(shape: Shape) -> dict[str, dict[str, Callable[[], Any]]]:
    """Pass -> way -> a function that computes it and waits for it."""
    draw = np.random.default_rng(0).normal
    batch, pixels, inputs, outputs, size, stride, groups = shape
    x = jnp.asarray(draw(size=(batch, pixels, pixels, inputs)), jnp.float32)
    kernel = jnp.asarray(draw(size=(size, size, inputs // groups, outputs)), jnp.float32)
    side = -(-pixels // stride)
    dy = jnp.asarray(draw(size=(batch, side, side, outputs)), jnp.float32)

    def of(form: Form) -> dict[str, Callable[[], Any]]:
        def run(x: Any, kernel: Any) -> Any:
            return convolve(x, kernel, stride, form=form, groups=groups)

        forward = jax.jit(run)
        to_map = jax.jit(lambda x, k, dy: jax.vjp(lambda x: run(x, k), x)[1](dy))
        to_kernel = jax.jit(lambda x, k, dy: jax.vjp(lambda k: run(x, k), k)[1](dy))
        return {
            "forward": lambda: jax.block_until_ready(forward(x, kernel)),
            "to the map": lambda: jax.block_until_ready(to_map(x, kernel, dy)),
            "to the kernel": lambda: jax.block_until_ready(to_kernel(x, kernel, dy)),
        }

    forms: dict[str, Form] = {"slices": "slices", "XLA": "xla"}
    if (size, stride, groups) == (3, 1, 1):
        forms["tiles"] = "tiles"
    made = {name: of(form) for name, form in forms.items()}
    return {name: {way: made[way][name] for way in made} for name in made["slices"]}


def main() -> None:
    """Times everything and prints a table."""
    options = frame.flags(__doc__, rounds=7).parse_args()
    one = cores() == 1
    clock = time.process_time if one else time.perf_counter
    measure = functools.partial(frame.seconds, clock=clock)
    keep_freed()
    with frame.measured("convolutions", options) as record:
        record["clock"], record["rows"] = clock.__name__, []
        names = ("batch, pixels, in → out, kernel, stride, groups", "pass", "slices: ms", "XLA: ms")
        record.head(*names, "tiles: ms", "XLA / slices", "chosen")
        for shape in SHAPES:
            batch, pixels, inputs, outputs, size, stride, groups = shape
            form = chosen((batch, pixels, pixels, inputs), size, stride, groups)
            named = f"{batch}, {pixels}, {inputs} → {outputs}, {size}, {stride}, {groups}"
            for name, functions in ways(shape).items():
                times = frame.rounds(functions, options.rounds, measure, scale=1e3)
                ours, xlas = (statistics.median(times[way]) for way in ("slices", "XLA"))
                spreads = [frame.spread(times[way]) if way in times else "–" for way in WAYS]
                record.row(named, name, *spreads, f"{xlas / ours:.2f}", form)
                record["rows"].append({"shape": shape, "pass": name, "ms": times})


if __name__ == "__main__":
    main()

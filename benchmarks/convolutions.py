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
    differentiated: bool = False  # XLA's own is timed too, as differentiation writes it: it is slow


SHAPES = [
    # ResNet-18 at 224 pixels, then at 64
    *(Shape(8, 224, 3, 64, 7, 2), Shape(8, 56, 64, 64), Shape(8, 56, 64, 128, 3, 2)),
    *(Shape(8, 28, 128, 128), Shape(8, 14, 256, 256), Shape(8, 7, 512, 512)),
    *(Shape(16, 64, 3, 64, 7, 2), Shape(16, 16, 64, 64), Shape(16, 8, 128, 128)),
    *(Shape(16, 4, 256, 256), Shape(16, 2, 512, 512)),
    # MobileNetV2 at 128: the stem, a product, depthwise
    *(Shape(20, 128, 3, 32, 3, 2), Shape(20, 64, 16, 96, 1), Shape(20, 64, 32, 32, 3, 1, 32, True)),
    *(Shape(20, 64, 96, 96, 3, 2, 96), Shape(20, 16, 192, 192, 3, 1, 192)),
    # MobileNetV2 at 96, 32 at once: the stem
    Shape(32, 96, 3, 32, 3, 2),
    # the demo
    *(Shape(128, 16, 3, 16), Shape(128, 8, 16, 32, differentiated=True)),
    # MNIST-M by Ganin's network
    *(Shape(128, 28, 3, 32, 5), Shape(128, 14, 32, 48, 5)),
    # garments by four layers
    *(Shape(64, 28, 1, 16), Shape(64, 14, 16, 32), Shape(64, 7, 32, 64), Shape(64, 3, 64, 64)),
]


WAYS = ("slices", "forward", "tiles", "xla")
TIMES = 4  # in a loop, as steps are: what is fast outside of one may be slow within


def looped(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """Computes it `TIMES` in a loop, before which XLA can move none of it."""

    @jax.jit
    def run(*arguments: Any) -> Any:
        def body(_: Any, total: Any) -> Any:
            now = jax.lax.optimization_barrier(tuple(each + 0 * total for each in arguments))
            return total + 1e-20 * jnp.abs(function(*now)).sum()

        return jax.lax.fori_loop(0, TIMES, body, jnp.float32(0))

    return lambda: jax.block_until_ready(run(*arguments))


def ways(shape: Shape) -> dict[str, dict[str, Callable[[], Any]]]:
    """Pass -> way -> a function that computes it and waits for it."""
    draw = np.random.default_rng(0).normal
    batch, pixels, inputs, outputs, size, stride, groups, differentiated = shape
    x = jnp.asarray(draw(size=(batch, pixels, pixels, inputs)), jnp.float32)
    kernel = jnp.asarray(draw(size=(size, size, inputs // groups, outputs)), jnp.float32)
    side = -(-pixels // stride)
    dy = jnp.asarray(draw(size=(batch, side, side, outputs)), jnp.float32)

    def of(form: Form) -> dict[str, Callable[[], Any]]:
        def run(x: Any, kernel: Any) -> Any:
            return convolve(x, kernel, stride, form=form, groups=groups)

        def gradient(x: Any, kernel: Any, dy: Any, of: int) -> Any:
            return jax.vjp(run, x, kernel)[1](dy)[of]

        passes = {
            "forward": looped(run, x, kernel),
            "to the map": looped(functools.partial(gradient, of=0), x, kernel, dy),
            "to the kernel": looped(functools.partial(gradient, of=1), x, kernel, dy),
        }
        return passes if inputs > 3 else {n: f for n, f in passes.items() if n != "to the map"}

    forms: dict[str, Form] = {"slices": "slices"}
    if groups == 1 and size > 1:
        forms["forward"] = "forward"
    if (size, stride, groups) == (3, 1, 1):
        forms["tiles"] = "tiles"
    if differentiated:
        forms["xla"] = "xla"
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
        head = ("batch, pixels, in → out, kernel, stride, groups", "pass")
        record.head(*head, *(f"{way}: ms" for way in WAYS), "forward / slices", "chosen")
        for shape in SHAPES:
            batch, pixels, inputs, outputs, size, stride, groups, _ = shape
            form = chosen((batch, pixels, pixels, inputs), size, stride, groups)
            named = f"{batch}, {pixels}, {inputs} → {outputs}, {size}, {stride}, {groups}"
            for name, functions in ways(shape).items():
                times = frame.rounds(functions, options.rounds, measure, scale=1e3 / TIMES)
                each = {way: statistics.median(found) for way, found in times.items()}
                ratio = f"{each['forward'] / each['slices']:.2f}" if "forward" in each else "–"
                spreads = [frame.spread(times[way]) if way in times else "–" for way in WAYS]
                record.row(named, name, *spreads, ratio, form)
                record["rows"].append({"shape": shape, "pass": name, "ms": times})


if __name__ == "__main__":
    main()

"""Running statistics: that stay while others move, or stand in for those of a batch."""

import contextlib
import inspect
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

_holders: ContextVar[Collection[str]] = ContextVar("holders", default=())


def stays(path: str) -> bool:
    """Whether the statistics of the module at a path stay: for a module that asks beforehand."""
    return path in _holders.get()


@contextmanager
def staying(holders: Collection[str]) -> Iterator[None]:
    """Within it the modules at these paths normalise by the statistics that they hold.

    They are told as linen's own are: by `use_running_average`, or by `train`, whichever they take.

    Args:
      holders: paths of modules, "trunk/norm_0/statistics".
    """

    def intercept(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__" or "/".join(module.path) not in holders:
            return call(*args, **kwargs)
        bound = inspect.signature(type(module).__call__).bind(module, *args, **kwargs)
        known = inspect.signature(type(module).__call__).parameters
        bound.arguments |= {"train": False} if "train" in known else {}
        if "use_running_average" not in known:
            return call(*bound.args[1:], **bound.kwargs)
        bound.arguments["use_running_average"] = True
        own = getattr(module, "use_running_average", None)
        try:  # linen refuses a field and an argument together
            object.__setattr__(module, "use_running_average", None)
            return call(*bound.args[1:], **bound.kwargs)
        finally:
            object.__setattr__(module, "use_running_average", own)

    token = _holders.set(holders)
    try:
        with nn.intercept_methods(intercept):
            yield
    finally:
        _holders.reset(token)


@contextmanager
def stochastic(share: Any, key: Array) -> Iterator[None]:
    """Within it batch normalisation takes the running statistics for some of its channels.

    StochNorm (Kou et al. 2020, "Stochastic Normalization", section 3.2). The statistics are those
    of before the batch, and move as they do without it.

    Args:
      share: the probability of a channel's, a number; None: nothing is changed.
      key: of the draw, which every module makes for itself.
    """

    def intercept(call: Callable, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__" or not isinstance(module, nn.BatchNorm):
            return call(*args, **kwargs)
        held: list[Any] = [module.get_variable("batch_stats", name) for name in ("mean", "var")]
        mean, var = held
        x = args[0]
        shape = (1,) * (x.ndim - 1) + (-1,)
        y = (x - mean.reshape(shape)) * jax.lax.rsqrt(var.reshape(shape) + module.epsilon)
        for name, moved in (("scale", jnp.multiply), ("bias", jnp.add)):
            leaf: Any = module.get_variable("params", name)
            y = y if leaf is None else moved(y, leaf.reshape(shape))
        own = jax.random.fold_in(key, zlib.crc32("/".join(module.path).encode()))
        chosen = jax.random.bernoulli(own, share, x.shape[-1:]).reshape(shape)
        of_batch = call(*args, **kwargs)
        return jnp.where(chosen, y.astype(of_batch.dtype), of_batch)

    with nn.intercept_methods(intercept) if share is not None else contextlib.nullcontext():
        yield

"""Running statistics that stay as they are while others move."""

import inspect
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import flax.linen as nn


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

    with nn.intercept_methods(intercept):
        yield

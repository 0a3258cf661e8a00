"""The switchboard: every loss, wired to a view of the step, under its config name.

A term reads features from the view, calls one pure loss and returns a scalar, or `[batch]` to be
averaged. Its keyword parameters are its config fields: one whose default is a float is a number
that may be swept without compiling anew.
"""

import importlib
import importlib.util
from collections.abc import Callable

import jax
import optax

from tljax.errors import UserError, unknown
from tljax.losses import adversarial
from tljax.objective import View


def cross_entropy(
    view: View, *, stream: str = "source", head: str = "label", smoothing: float = 0.0
) -> jax.Array:
    """Softmax cross-entropy with the stream's labels, smoothed by `smoothing` in [0, 1]."""
    logits = view.net.head(head, view.features[stream])
    targets = jax.nn.one_hot(view.batch[stream]["label"], logits.shape[-1])
    return optax.losses.softmax_cross_entropy(logits, optax.smooth_labels(targets, smoothing))


def domain_adversarial(
    view: View,
    *,
    source: str = "source",
    target: str = "target",
    head: str = "domain",
    scale: float = 1.0,
    gamma: float = 10.0,
) -> jax.Array:
    """DANN: a discriminator behind a gradient reversed by λ = `scale` · ramp(progress, `gamma`)."""
    reversal = scale * adversarial.ramp(view.progress, gamma)
    logits = [
        view.net.head(head, adversarial.reverse_gradient(view.features[name], reversal))
        for name in (source, target)
    ]
    return adversarial.domain_confusion(*logits)


TERMS: dict[str, Callable] = {
    "cross_entropy": cross_entropy,
    "domain_adversarial": domain_adversarial,
}


def find(name: str, field: str) -> Callable:
    """The term of a config name, or of an importable `package.module:function`.

    Raises:
      UserError: an unknown name, or a module or function that is not there.
    """
    if ":" not in name:
        if name not in TERMS:
            raise unknown(field, name, (*TERMS, "package.module:function"))
        return TERMS[name]
    module_name, _, function = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise UserError(
            f"{field}: cannot import {module_name!r} of {name!r} ({error}); "
            "expected a module that can be imported from here"
        ) from None
    if not callable(getattr(module, function, None)):
        callables = [each for each in vars(module) if callable(getattr(module, each))]
        raise unknown(field, function, callables)
    return getattr(module, function)

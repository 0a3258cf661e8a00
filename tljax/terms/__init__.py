"""The switchboard: every loss, wired to a view of the step, under its config name.

A term reads features from the view, calls one pure loss and returns a scalar, or `[batch]` to be
averaged. Its keyword parameters are its config fields: one whose default is a float is a number
that may be swept without compiling anew.
"""

from collections.abc import Callable
from typing import Any

from tljax.bind import defaults, find, scalar, split
from tljax.errors import unknown
from tljax.phase.phase import Term
from tljax.terms import adaptation, conservative, supervised, text, unsupervised
from tljax.terms.adaptation import domain_adversarial
from tljax.terms.supervised import cross_entropy

__all__ = ["TERMS", "cross_entropy", "domain_adversarial", "term"]


TERMS: dict[str, Callable] = {
    function.__name__: function
    for function in (
        supervised.cross_entropy,
        supervised.binary_cross_entropy,
        supervised.squared_error,
        supervised.huber,
        supervised.attributes,
        supervised.compatibility,
        conservative.l2_sp,
        conservative.l2_penalty,
        conservative.ewc,
        conservative.distillation,
        conservative.delta,
        conservative.spectral_shrinkage,
        conservative.co_tuning,
        conservative.bi_tuning,
        adaptation.domain_adversarial,
        adaptation.conditional_adversarial,
        adaptation.margin_disparity,
        adaptation.mk_mmd,
        adaptation.joint_mmd,
        adaptation.coral,
        adaptation.class_confusion,
        unsupervised.reconstruction,
        unsupervised.nt_xent,
        unsupervised.barlow_twins,
        unsupervised.vicreg,
        unsupervised.scan,
        unsupervised.self_label,
        unsupervised.embedded_clustering,
        text.span,
        text.masked_language_model,
        text.info_nce,
    )
}

APART = (conservative.co_tuning,)
"""Those whose head has other classes than their stream."""


def term(
    name: str | Callable[..., Any],
    *,
    weight: float = 1.0,
    ramp: float | None = None,
    field: str = "term",
    **fields: Any,
) -> Term:
    """A term with its fields filled in: `term("domain_adversarial", weight=0.3)`.

    Args:
      name: of `TERMS`, `package.module:function`, or a function of a view itself.
      weight: of its loss in the sum, at least 0.
      ramp: γ, with which the weight rises as 2 / (1 + exp(−γ · progress)) − 1; None: it does not.
      field: where it was given, for error messages.
      **fields: keywords of the function; those left out take their defaults.

    Raises:
      UserError: an unknown term or field, or a value that does not fit.
    """
    function = find(name, TERMS, f"{field}.term", takes=("view",))
    for key in fields:
        if key not in defaults(function, {"view"}):
            raise unknown(field, key, ("term", "weight", "ramp", *defaults(function, {"view"})))
    static, numbers = split(function, fields, field, skip={"view"})
    numbers["weight"] = scalar(f"{field}.weight", weight)
    if ramp is not None:
        numbers["ramp"] = scalar(f"{field}.ramp", ramp)
    return Term(function, static, numbers)

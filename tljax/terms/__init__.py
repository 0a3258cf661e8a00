"""The switchboard: every loss, wired to a view of the step, under its config name.

A term reads features from the view, calls one pure loss and returns a scalar, or `[batch]` to be
averaged. Its keyword parameters are its config fields: one whose default is a float is a number
that may be swept without compiling anew.
"""

from collections.abc import Callable

from tljax import signature
from tljax.terms import adaptation, conservative, supervised, unsupervised
from tljax.terms.adaptation import domain_adversarial
from tljax.terms.supervised import cross_entropy

__all__ = ["TERMS", "cross_entropy", "domain_adversarial", "find"]


TERMS: dict[str, Callable] = {
    function.__name__: function
    for function in (
        supervised.cross_entropy,
        supervised.attributes,
        supervised.compatibility,
        conservative.l2_sp,
        conservative.l2_penalty,
        conservative.distillation,
        conservative.delta,
        conservative.spectral_shrinkage,
        conservative.co_tuning,
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
    )
}


def find(name: str, field: str) -> Callable:
    """The term of a config name, or of an importable `package.module:function`."""
    return signature.find(name, TERMS, field)

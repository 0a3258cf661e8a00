"""Zero-shot learning without training: closed forms, and predictors that use a trained classifier.

An unseen class is known by its row of attributes (or any other embedding) only. Under `jax.jit`
shapes are checked, values are not.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Integer, Scalar

from tljax import checks
from tljax.errors import wrong
from tljax.solvers import arrays
from tljax.typed import shaped


@shaped
def eszsl(
    features: Float[Array, "batch width"],
    labels: Integer[Array, "batch"],
    class_attributes: Float[Array, "classes attributes"],
    gamma: float | Scalar = 1.0,
    lam: float | Scalar = 1.0,
    negative: float | Scalar = -1.0,
) -> Float[Array, "width attributes"]:
    """The bilinear map V of ESZSL: a class scores x V s(class), the largest wins.

    V minimises ‖X V Sᵀ − Y‖² + γ‖V Sᵀ‖² + λ‖X V‖² + γλ‖V‖², sums and not means, so that
    V = (XᵀX + γI)⁻¹ Xᵀ Y S (SᵀS + λI)⁻¹. There is no intercept. It is computed as two ridge
    regressions by QR, which float32 can do where it cannot invert XᵀX.

    Args:
      features: X `[batch, width]`, of seen classes.
      labels: `[batch]`, integers: rows of `class_attributes`.
      class_attributes: S `[classes, attributes]`, of the seen classes.
      gamma: γ > 0, against large classifiers in feature space.
      lam: λ > 0, against a large image of the features in attribute space.
      negative: the target of the wrong classes; that of the right one is 1. The paper's is −1.

    Returns:
      V `[width, attributes]`.

    Raises:
      UserError: outside of a trace, numbers not finite, labels that are no rows, γ or λ not > 0.

    Romera-Paredes & Torr 2015, "An Embarrassingly Simple Approach to Zero-Shot Learning", eq. 5.
    """
    x = arrays.finite("features", features)
    s = arrays.finite("class_attributes", class_attributes)
    arrays.within("labels", labels, len(s))
    for name, value in (("gamma", gamma), ("lam", lam)):
        if not isinstance(value, jax.core.Tracer):
            checks.positive(name, value)
    hot = jax.nn.one_hot(labels, len(s), dtype=x.dtype)
    targets = hot + (1 - hot) * jnp.asarray(negative, x.dtype)
    classifiers_DxC = _ridge(x, targets, jnp.asarray(gamma, x.dtype))
    return _ridge(s.astype(x.dtype), classifiers_DxC.T, jnp.asarray(lam, x.dtype)).T


@jax.jit
def _ridge(x_BxD: Array, y_BxK: Array, penalty: Array) -> Array:
    """(XᵀX + penalty·I)⁻¹ Xᵀ Y `[D, K]`, without squaring the condition of X."""
    width = x_BxD.shape[1]
    with jax.default_matmul_precision("highest"):
        tall = jnp.concatenate([x_BxD, jnp.sqrt(penalty) * jnp.eye(width, dtype=x_BxD.dtype)])
        q, r = jnp.linalg.qr(tall)
        return jax.scipy.linalg.solve_triangular(r, q[: len(x_BxD)].T @ y_BxK)


@shaped
def sae(
    features: Float[np.ndarray, "batch width"],
    semantics: Float[np.ndarray, "batch attributes"],
    lam: float = 1.0,
) -> Float[np.ndarray, "attributes width"]:
    """The tied linear auto-encoder W of SAE: features → W x in attribute space → Wᵀ s back.

    With examples as columns, X `[width, batch]` and S `[attributes, batch]`, W minimises
    ‖X − WᵀS‖² + λ‖WX − S‖², so that it solves S Sᵀ W + W (λ X Xᵀ) = (1 + λ) S Xᵀ. Both matrices
    on the left are symmetric, so the Sylvester equation is solved in their eigenvectors; where it
    has many solutions (fewer examples than features, fewer classes than attributes) this gives
    the smallest, where a general solver gives noise. There is no intercept.

    Args:
      features: `[batch, width]`, examples as rows.
      semantics: `[batch, attributes]`, each example's row of attributes.
      lam: λ > 0, the weight of the way to attributes; that of the way back is 1.

    Returns:
      W `[attributes, width]`, float64. `cosine_scores(features @ W.T, class_attributes)` predicts
      in attribute space, `cosine_scores(features, class_attributes @ W)` in feature space.

    Raises:
      UserError: λ that is not above 0.

    Kodirov, Xiang & Gong 2017, "Semantic Autoencoder for Zero-Shot Learning", eq. 6.
    """
    from scipy import linalg  # slow to import

    x_DxB, s_AxB, lam = features.T, semantics.T, checks.positive("lam", lam)
    left, u_AxA = linalg.eigh(s_AxB @ s_AxB.T)
    right, v_DxD = linalg.eigh(lam * (x_DxB @ x_DxB.T))
    sums_AxD = left[:, None] + right[None]
    target_AxD = (1 + lam) * (u_AxA.T @ s_AxB) @ (v_DxD.T @ x_DxB).T
    floor = sums_AxD.max() * np.finfo(np.float64).eps * max(sums_AxD.shape)
    inner_AxD = np.where(sums_AxD > floor, target_AxD / np.where(sums_AxD > floor, sums_AxD, 1), 0)
    return u_AxA @ inner_AxD @ v_DxD.T


@shaped
def dap(
    attribute_logits: Float[Array, "batch attributes"],
    class_attributes: Float[Array, "classes attributes"],
    prior: Float[Array, "attributes"] | None = None,
) -> Float[Array, "batch classes"]:
    """Direct attribute prediction: Σ_m log p(a_m | x) − log p(a_m), at the class's own attributes.

    The logarithm of the paper's product, up to a term that is the same for every class.

    Args:
      attribute_logits: `[batch, attributes]`, log-odds that an attribute is there.
      class_attributes: `[classes, attributes]`, 0 or 1.
      prior: `[attributes]`, the part of the *seen* classes that have it:
        `seen_attributes.mean(axis=0)`, as in the paper. One of exactly 0 or 1 says nothing and
        would make the score infinite: it counts as ½. None is ½ for all.

    Returns:
      `[batch, classes]`, finite; the largest wins.

    Raises:
      UserError: outside of a trace, attributes other than 0 and 1, or priors outside of [0, 1].

    Lampert, Nickisch & Harmeling 2009, "Learning to Detect Unseen Object Classes by Between-Class
    Attribute Transfer", eq. 2.
    """
    logits = arrays.finite("attribute_logits", attribute_logits)
    prior = jnp.full(logits.shape[1], 0.5) if prior is None else prior
    if not isinstance(class_attributes, jax.core.Tracer):
        checks.bits("class_attributes", np.asarray(class_attributes))
    if not isinstance(prior, jax.core.Tracer) and not ((prior >= 0) & (prior <= 1)).all():
        raise wrong("prior", [float(prior.min()), float(prior.max())], "numbers in [0, 1]")
    there, chance = class_attributes.astype(logits.dtype), prior.astype(logits.dtype)
    chance = jnp.where((chance > 0) & (chance < 1), chance, 0.5)[None]
    present = jax.nn.log_sigmoid(logits) - jnp.log(chance)
    absent = jax.nn.log_sigmoid(-logits) - jnp.log1p(-chance)
    return present @ there.T + absent @ (1 - there).T


@shaped
def conse(
    probabilities: Float[Array, "batch seen"],
    seen_embeddings: Float[Array, "seen attributes"],
    top: int = 10,
) -> Float[Array, "batch attributes"]:
    """The mean of the embeddings of the most probable seen classes, weighted by probability.

    The embeddings are not normalised inside the sum. Rank classes by `cosine_scores` with it.

    Args:
      probabilities: `[batch, seen]` ≥ 0, a classifier's over the seen classes.
      seen_embeddings: `[seen, attributes]`.
      top: T ≥ 1, how many of the classes take part; more than there are is all of them.

    Returns:
      `[batch, attributes]`; zero where the probabilities are.

    Raises:
      UserError: `top` below 1; outside of a trace, numbers that are not finite.

    Norouzi et al. 2014, "Zero-Shot Learning by Convex Combination of Semantic Embeddings", eq. 2.
    """
    p = arrays.finite("probabilities", probabilities)
    embeddings = arrays.finite("seen_embeddings", seen_embeddings)
    if top < 1:
        raise wrong("top", top, "at least 1")
    largest_BxT, which_BxT = jax.lax.top_k(p, min(top, p.shape[1]))
    total_Bx1 = largest_BxT.sum(axis=-1, keepdims=True)
    weights_BxT = largest_BxT / jnp.where(total_Bx1 > 0, total_Bx1, 1)
    return jnp.einsum("bt,bta->ba", weights_BxT, embeddings.astype(p.dtype)[which_BxT])


@shaped
def cosine_scores(
    vectors: Float[Array, "batch attributes"], class_embeddings: Float[Array, "classes attributes"]
) -> Float[Array, "batch classes"]:
    """The cosine of every vector with every class.

    Returns:
      `[batch, classes]` in [−1, 1]; 0 where either is the zero vector.

    Raises:
      UserError: outside of a trace, numbers that are not finite.
    """
    x = arrays.finite("vectors", vectors)
    s = arrays.finite("class_embeddings", class_embeddings)
    return arrays.unit(x) @ arrays.unit(s).T


@shaped
def calibrated_stacking(
    scores: Float[Array, "batch classes"], seen: Bool[Array, "classes"], gamma: float | Scalar
) -> Float[Array, "batch classes"]:
    """The scores with γ taken off those of the seen classes.

    Args:
      scores: `[batch, classes]`, over seen and unseen classes.
      seen: `[classes]`, Boolean.
      gamma: a scalar, chosen on held-out *seen* classes, never on unseen ones
        (`generalised.best_gamma`). At −∞ every example is called seen, at ∞ unseen.

    Returns:
      `[batch, classes]`.

    Raises:
      UserError: outside of a trace, numbers that are not finite.

    Chao et al. 2016, "An Empirical Study and Analysis of Generalized Zero-Shot Learning for
    Object Recognition in the Wild", eq. 3.
    """
    scores = arrays.finite("scores", scores)
    return scores - jnp.where(seen, jnp.asarray(gamma, scores.dtype), 0)[None]

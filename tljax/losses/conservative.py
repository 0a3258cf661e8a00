"""Conservative training and fine-tuning: stay near a start, in weights, outputs or features."""

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jaxtyping import Float, Integer, Scalar

from tljax.errors import UserError, wrong
from tljax.half import single
from tljax.typed import at_least

Maps = Float[Array, "batch h w c"]


@single
def l2_sp(params: object, anchor: object) -> Array:
    """Half the squared distance of the parameters from where they started: ½ Σ‖w − w⁰‖².

    Summed over all elements, not averaged; with the ½, so that weight α moves w by α (w − w⁰).
    Give it the leaves that have a start: new layers get `l2_penalty`, and running statistics are
    no parameters.

    Args:
      params: w, any pytree of arrays.
      anchor: w⁰, a pytree with the same paths and shapes.

    Returns:
      A scalar ≥ 0; it and its gradient are 0 at w = w⁰.

    Raises:
      UserError: a path that only one of the trees has, or shapes that differ.

    Li, Grandvalet & Davoine 2018, "Explicit Inductive Bias for Transfer Learning with
    Convolutional Networks", section 3.
    """
    moving, fixed = (dict(jax.tree.flatten_with_path(tree)[0]) for tree in (params, anchor))
    differences = [f"- {_name(path)}" for path in moving if path not in fixed]
    differences += [f"+ {_name(path)}" for path in fixed if path not in moving]
    for path in filter(fixed.__contains__, moving):
        shapes = jnp.shape(moving[path]), jnp.shape(fixed[path])
        if shapes[0] != shapes[1]:
            differences.append(f"! {_name(path)} {shapes[0]} against {shapes[1]}")
    if differences:
        raise UserError(
            "l2_sp: expected an anchor like the parameters (- it lacks, + only it has, ! shapes): "
            + ", ".join(differences)
        )
    return l2_penalty([moving[path] - fixed[path] for path in moving])


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


@single
def ewc(params: object, anchor: object, fisher: object) -> Array:
    """Half the squared distance from the start, each parameter by what it mattered: ½ Σ F(w − w⁰)².

    Args:
      params, anchor: see `l2_sp`.
      fisher: F ≥ 0, a pytree of the same structure: the diagonal of the Fisher information.

    Returns:
      A scalar ≥ 0; `l2_sp` where F is 1.

    Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", eq. 3.
    """
    roots = jax.tree.map(lambda f: jnp.sqrt(jax.lax.stop_gradient(f)), fisher)
    scaled = (jax.tree.map(jnp.multiply, roots, tree) for tree in (params, anchor))
    return l2_sp(*scaled)


@single
def l2_penalty(params: object) -> Array:
    """Half the sum of squares of all parameters: ½ Σ‖w‖².

    Args:
      params: w, any pytree of arrays.

    Returns:
      A scalar ≥ 0.

    Li, Grandvalet & Davoine 2018, section 3: the penalty of the layers that have no start.
    """
    # Squares and no norm: a norm has no gradient at 0, where every run of l2_sp starts.
    squares = [jnp.square(leaf).sum() for leaf in jax.tree.leaves(params)]
    return 0.5 * jnp.asarray(sum(squares, 0.0))


@single
def distillation(
    logits: Float[Array, "*batch classes"],
    teacher_logits: Float[Array, "*batch classes"],
    temperature: float | Scalar = 3.0,
) -> Float[Array, "*batch"]:
    """KL(teacher ‖ student) of the predictions, both softened by the temperature.

    Without the factor T² of Hinton et al. 2015: the weight of the loss stands for it. It differs
    from the cross-entropy of the paper by the teacher's entropy, so that it is 0 where the two
    agree. Give it teacher's logits that carry no gradient.

    Args:
      logits, teacher_logits: `[batch, classes]`, the student's and the teacher's.
      temperature: T > 0, a scalar.

    Returns:
      `[batch]`, each ≥ 0.

    Li & Hoiem 2016, "Learning without Forgetting", eqs. 2 and 3.
    """
    student = jax.nn.log_softmax(logits / temperature)
    teacher = jax.nn.log_softmax(teacher_logits / temperature)
    return optax.losses.kl_divergence_with_log_targets(student, teacher)


@single
def feature_map_distance(
    maps: Maps, anchor_maps: Maps, channel_weights: Float[Array, "c"] | None = None
) -> Float[Array, "batch"]:
    """Half the squared distance between feature maps, with channel weights or without.

    Without weights it is ½ Σ(m − m⁰)² over space and channels. With weights a it is
    ½ Σ_c (C/(h·w)) · a_c · Σ_hw (m − m⁰)²: the mean over positions, times C so that weights which
    sum to 1 are 1 on average.

    Args:
      maps, anchor_maps: m and m⁰, `[batch, h, w, c]`.
      channel_weights: a, `[c]`, as of `channel_importance`.

    Returns:
      `[batch]`, each ≥ 0 where the weights are.

    Li et al. 2019, "DELTA: Deep Learning Transfer using Feature Map with Attention for
    Convolutional Networks", section 3.
    """
    squares_BxC = jnp.square(maps - anchor_maps).sum((-3, -2))
    if channel_weights is None:
        return 0.5 * squares_BxC.sum(-1)
    _, height, width, channels = maps.shape
    scale = 0.5 * channels / (height * width)
    return scale * (squares_BxC * channel_weights[None, :]).sum(-1)


@single
def channel_importance(
    increases: Float[Array, "c"], temperature: float | Scalar = 5.0
) -> Float[Array, "c"]:
    """How much each channel mattered to the source task: a softmax of standardised loss increases.

    Standardised with the biased deviation, as the authors' code does. Equal increases, one
    channel included, give equal weights.

    Args:
      increases: `[c]`, by how much the source loss rises when that channel is zeroed.
      temperature: a scalar > 0.

    Returns:
      `[c]`, positive, with sum 1; it carries no gradient.

    Li et al. 2019 (DELTA), section 3, "attention"; the 5 is from the authors' code.
    """
    centred = increases - increases.mean()
    deviation = jnp.sqrt(jnp.square(centred).mean())
    standard = centred / jnp.where(deviation > 0, deviation, 1)
    return jax.lax.stop_gradient(jax.nn.softmax(standard / temperature))


@single
def batch_spectral_shrinkage(features: Float[Array, "batch width"], k: int = 1) -> Scalar:
    """The sum of squares of the k smallest singular values of a batch of features.

    A matrix has min(batch, width) singular values; with fewer examples than features the smallest
    of them depends on the batch size. Only its first derivative is right.

    Args:
      features: `[batch, width]`, not centred.
      k: how many singular values, static, 1 ≤ k ≤ min(batch, width).

    Returns:
      A scalar ≥ 0. Where singular values coincide its gradient is a limit of those nearby.

    Raises:
      UserError: k is out of range, or a batch of one.

    Chen et al. 2019, "Catastrophic Forgetting Meets Negative Transfer: Batch Spectral Shrinkage
    for Safe Transfer Learning", section 4.
    """
    at_least(2, features=features)  # a single one has its own length alone
    if not 1 <= k <= min(features.shape):
        raise wrong("batch_spectral_shrinkage: k", k, f"1…{min(features.shape)}, min(batch, width)")
    x_NxM = features
    if x_NxM.shape[0] < x_NxM.shape[1]:
        x_NxM = x_NxM.T
    gram_MxM = jnp.matmul(x_NxM.T, x_NxM, precision="highest")
    # ∂‖Xv‖²/∂X = 2Xvvᵀ at a singular vector v held still: the exact gradient, without the
    # 1/(σᵢ² − σⱼ²) of differentiating v.
    _, vectors_MxM = jnp.linalg.eigh(jax.lax.stop_gradient(gram_MxM))
    smallest_MxK = jax.lax.stop_gradient(vectors_MxM)[:, :k]
    return jnp.square(jnp.matmul(x_NxM, smallest_MxK, precision="highest")).sum()


@single
def co_tuning(
    source_logits: Float[Array, "batch source"],
    relationship: Float[Array, "target source"],
    labels: Integer[Array, "batch"],
) -> Float[Array, "batch"]:
    """Cross-entropy of the source head with the source classes that a target label stands for.

    −Σ_s p(s|y) · log softmax(source_logits)_s, unweighted; the usual weight is 2.3.

    Args:
      source_logits: `[batch, source classes]`, of the pretrained head.
      relationship: p(s|y), `[target classes, source classes]`, rows with sum 1.
      labels: y, `[batch]`, integers in [0, target classes).

    Returns:
      `[batch]`, each ≥ 0.

    You et al. 2020, "Co-Tuning for Transfer Learning", section 3.
    """
    return optax.losses.softmax_cross_entropy(source_logits, relationship[labels])


@single
def categorical_contrast(
    projections: Float[Array, "batch width"],
    keys: Float[Array, "keys width"],
    labels: Integer[Array, "batch"],
    key_labels: Integer[Array, "keys"],
    temperature: float | Scalar = 0.07,
) -> Float[Array, "batch"]:
    """Cross-entropy of each example with the keys of its class, among all keys, by their cosines.

    −1/|K⁺| Σ_{k ∈ K⁺} log softmax(cos(z, ·)/τ)_k, K⁺ the keys with the example's label.

    Args:
      projections: z, `[batch, width]`.
      keys: `[keys, width]`; they get no gradient.
      labels: of the examples, `[batch]`.
      key_labels: `[keys]`.
      temperature: τ > 0, a scalar.

    Returns:
      `[batch]`, each ≥ 0; 0 where no key is of the class.

    Zhong et al. 2021, "Bi-tuning of Pre-trained Representations", section 3.2: the categorical
    contrastive loss.
    """
    cosines = _unit(projections) @ jax.lax.stop_gradient(_unit(keys)).T
    return _contrast(cosines / temperature, labels, key_labels)


@single
def class_contrast(
    features: Float[Array, "batch width"],
    kernel: Float[Array, "width classes"],
    bias: Float[Array, "classes"] | None,
    labels: Integer[Array, "batch"],
    temperature: float | Scalar = 0.07,
) -> Float[Array, "batch"]:
    """Cross-entropy of each class's weights with its examples, among all examples of the batch.

    As `categorical_contrast`, but that what is compared with the features of all examples are the
    weights of an example's class, with the bias, as the authors' code has it.

    Args:
      features: `[batch, width]`.
      kernel, bias: of a linear classifier; they get no gradient.
      labels: `[batch]`.
      temperature: τ > 0, a scalar.

    Returns:
      `[batch]`, each ≥ 0.

    Zhong et al. 2021, section 3.1: the half of the contrastive cross-entropy that is no ordinary
    one, its keys being those of the batch.
    """
    if bias is not None:
        kernel = jnp.concatenate([kernel, bias[None]])
        features = jnp.concatenate([features, jnp.ones_like(features[:, :1])], axis=-1)
    weights = jax.lax.stop_gradient(_unit(kernel.T))[labels]
    return _contrast(weights @ _unit(features).T / temperature, labels, labels)


def _contrast(logits: Array, labels: Array, key_labels: Array) -> Array:
    alike = (labels[:, None] == key_labels[None]).astype(logits.dtype)
    return -(alike * jax.nn.log_softmax(logits)).sum(-1) / jnp.maximum(alike.sum(-1), 1)


def _unit(rows: Array) -> Array:
    return rows * jax.lax.rsqrt(jnp.maximum(jnp.square(rows).sum(-1, keepdims=True), 1e-24))

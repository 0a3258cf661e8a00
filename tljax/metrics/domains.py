"""How far apart two domains are."""

import numpy as np
from jaxtyping import Float

from tljax.typed import at_least, shaped


@shaped
def proxy_a_distance(
    source_features: Float[np.ndarray, "n_s width"],
    target_features: Float[np.ndarray, "n_t width"],
    seed: int = 0,
) -> float:
    """2(1 − 2·error) of a fresh logistic regression that tells two domains apart.

    Its error is that on the half it was not fitted on, averaged over both halves and, so that
    unequal domains have no say, over both domains. Features are standardised.

    Args:
      source_features: `[n_s, width]`, n_s ≥ 2.
      target_features: `[n_t, width]`, n_t ≥ 2.
      seed: ≥ 0, of the halves.

    Returns:
      2 for domains that are told apart, 0 for those that are not, or a little below by chance.

    Raises:
      UserError: fewer than 2 of a domain.

    Ben-David et al. 2007, "Analysis of Representations for Domain Adaptation", section 4; Ganin
    et al. 2016, section 5.1.6.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    at_least(2, source_features=source_features, target_features=target_features)
    x = np.concatenate([source_features, target_features])
    y = np.repeat([0, 1], [len(source_features), len(target_features)])
    model = make_pipeline(
        StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000)
    )
    halves = StratifiedKFold(2, shuffle=True, random_state=seed)
    wrong = cross_val_predict(model, x, y, cv=halves) != y
    error = (wrong[y == 0].mean() + wrong[y == 1].mean()) / 2
    return float(2 * (1 - 2 * error))

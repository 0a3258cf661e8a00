"""Networks in flax.linen: stems, a trunk and heads."""

from tljax.models.network import Network, build

__all__ = ["Network", "build"]

"""tljax: transfer learning as phases of streams, terms, starting points and moving parameters."""

__version__ = "0.1.0"

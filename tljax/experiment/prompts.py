"""Class vectors from words: what a text tower says of sentences about each class."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tljax.data.tokens import read_tokenizer, special
from tljax.errors import wrong
from tljax.experiment.fields import TableFields
from tljax.models import weights
from tljax.models.clip import TextTower, class_vectors
from tljax.models.network import module
from tljax.models.trunks import TRUNKS

SCHEME = "prompts:"


def vectors(fields: TableFields, classes: Sequence[str], root: str, field: str) -> np.ndarray:
    """The rows `[classes, features]` of a table by which images are classified without examples.

    Args:
      fields: `data`, "prompts:DIR", a directory with `tokenizer.json` and `model.safetensors` (or
        `pytorch_model.bin`), as public checkpoints of CLIP and SigLIP come; `templates`, sentences
        with `{}` in the place of a name, of which a class has the mean; `tower`,
        `dict(name="text_tower", ...)`.
      classes: their names; `_` becomes a space.
      root: the directory that a relative one starts from.
      field: where all this was given, for error messages.

    Raises:
      UserError: files that are missing or do not fit, or a template without `{}`.
    """
    templates, tower = fields.templates, fields.tower
    for i, template in enumerate(templates):
        if not isinstance(template, str) or template.count("{}") != 1:
            raise wrong(f"{field}.templates[{i}]", template, "a sentence with one {}, a class")
    if not templates:
        raise wrong(f"{field}.templates", templates, "at least one sentence with {}")
    text = module(TRUNKS, tower, f"{field}.tower")
    if not isinstance(text, TextTower):
        raise wrong(f"{field}.tower.name", tower["name"], "text_tower")
    where = Path(root, fields.data.removeprefix(SCHEME))
    return _vectors(where, tuple(classes), templates, text, field)


@functools.lru_cache(maxsize=4)  # a sweep asks for every member
def _vectors(
    where: Path, classes: tuple[str, ...], templates: tuple[str, ...], text: Any, field: str
) -> np.ndarray:
    names = [name.replace("_", " ") for name in classes]
    sentences = [template.format(name) for name in names for template in templates]
    tokens = _tokens(where / "tokenizer.json", sentences, text, f"{field}.data")
    files = [where / name for name in ("model.safetensors", "pytorch_model.bin")]
    file = next((path for path in files if path.exists()), files[0])
    params = weights.load(text, file)["params"]["trunk"]
    tokens = tokens.reshape(len(classes), len(templates), text.length)
    return np.asarray(jax.jit(functools.partial(class_vectors, text))(params, tokens))


def _tokens(path: Path, sentences: list[str], text: Any, field: str) -> np.ndarray:
    """Token numbers `[sentences, length]`, by the tokenizer of a checkpoint."""
    tokenizer = read_tokenizer(path, field)
    pad = special(tokenizer).get("pad", 0)
    tokenizer.enable_truncation(text.length)
    tokenizer.enable_padding(length=text.length, pad_id=pad)
    numbers = np.array([each.ids for each in tokenizer.encode_batch(sentences)], np.int32)
    if numbers.max() >= text.vocabulary:
        expected = f"token numbers below {text.vocabulary}, the tower's vocabulary"
        raise wrong(field, int(numbers.max()), expected)
    if text.pool == "end" and not (numbers == text.end).any(axis=1).all():
        first = int(np.argmin((numbers == text.end).any(axis=1)))
        raise wrong(field, sentences[first], f"a tokenizer that ends sentences by {text.end}")
    return numbers

"""Rows of a zero-shot table from sentences about classes, by a text tower of public weights."""

import drawing
import jax.numpy as jnp
import numpy as np
import pytest

from tljax.errors import UserError
from tljax.experiment import prompts
from tljax.experiment.fields import TableFields
from tljax.models import weights
from tljax.models.clip import TextTower, class_vectors

tokenizers = pytest.importorskip("tokenizers")
WORDS = ["<pad>", "<end>", "a", "photo", "of", "cat", "dog", "big"]
TOWER = dict(
    name="text_tower", vocabulary=8, length=7, width=8, depth=1, heads=2, end=1, projection=4
)
FIELDS = {key: value for key, value in TOWER.items() if key != "name"}


@pytest.fixture
def checkpoint(tmp_path):
    """A directory as checkpoints come in: a tower of random weights, and words for tokens."""
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<pad>")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A <end>", special_tokens=[("<end>", 1)]
    )
    made.save(str(tmp_path / "tokenizer.json"))
    tower = TextTower(**FIELDS)
    params = drawing.variables(tower, jnp.zeros((1, 7), jnp.int32), train=False)["params"]
    variables = {"params": {"trunk": params}, "batch_stats": {}}
    weights.save(tower, variables, tmp_path / "model.safetensors", "transformers")
    return tmp_path, tower, params


def vectors(folder, classes, templates, tower):
    fields = TableFields(data=f"prompts:{folder.name}", templates=templates, tower=tower)
    return prompts.vectors(fields, classes, str(folder.parent), "tables.words")


def test_a_class_has_the_mean_of_its_sentences(checkpoint):
    folder, tower, params = checkpoint
    templates = ("a photo of a {}", "a {}")
    rows = vectors(folder, ("cat", "big_dog"), templates, TOWER)
    tokens = [
        [[2, 3, 4, 2, 5, 1, 0], [2, 5, 1, 0, 0, 0, 0]],  # a photo of a cat; a cat
        [[2, 3, 4, 2, 7, 6, 1], [2, 7, 6, 1, 0, 0, 0]],  # a photo of a big dog; a big dog
    ]
    expected = class_vectors(tower, params, jnp.array(tokens))
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "templates, tower, message",
    [
        (("a photo",), TOWER, "templates.0.: got 'a photo'; expected a sentence with one {}"),
        ((), TOWER, "templates: got .*at least one"),
        (("{}",), dict(name="bert"), "tower.name: got 'bert'; expected text_tower"),
        (("{}",), dict(TOWER, vocabulary=7, end=6), "expected token numbers below 7"),
        (("{}",), dict(TOWER, end=3), "ends sentences by 3"),
        (("{}",), dict(TOWER, width=6), "does not hold a TextTower"),
    ],
)
def test_a_mistake_gets_one_line(checkpoint, templates, tower, message):
    with pytest.raises(UserError, match=message):
        vectors(checkpoint[0], ("big_dog",), templates, tower)


def test_files_that_are_missing_are_named(checkpoint, tmp_path):
    folder, *_ = checkpoint
    how = (("cat",), ("{}",), TOWER)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="model.safetensors"):
        vectors(folder, *how)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tables.words.data: got .*a tokenizer.json"):
        vectors(folder, *how)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="tokenizer.json"):
        vectors(folder, *how)

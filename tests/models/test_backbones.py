"""The table of docs/backbones_transformers.md: its trunks are there, and their names are whole."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tljax import trees
from tljax.models import build

PAGE = Path(__file__).parents[2] / "docs" / "backbones_transformers.md"
TABLE = [
    [cell.strip().strip("`") for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().splitlines()
    if "| `dict(" in line
]
# Names of whole files, as published: ViT-B/16 of timm and of transformers, with the classifier.
TENSORS = {"vit_base_patch16_224.augreg_in1k": 152, "google/vit-base-patch16-224": 200}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_a_checkpoint_of_the_table(row):
    checkpoint, fields, naming, *_ = row
    trunk = build({}, eval(fields, {"dict": dict}), {}).trunk
    family = sys.modules[type(trunk).__module__]
    x = family.EXAMPLE(trunk) if hasattr(family, "EXAMPLE") else jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(lambda x: trunk.init(jax.random.key(0), x, train=False), x)
    leaves = [f"params/trunk/{path}" for path in trees.flatten(shapes["params"])]
    entries = family.NAMINGS[naming](trunk)
    heads = [f"params/heads/HEAD/output/{leaf}" for leaf in ("kernel", "bias")]
    assert sorted(entry.path for entry in entries) == sorted(leaves + heads)
    names = [name for entry in entries for name in entry.names]
    assert len(set(names)) == len(names) == TENSORS.get(checkpoint, len(names))

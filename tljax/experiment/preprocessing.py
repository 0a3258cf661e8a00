"""How pictures are seen and sounds heard: on the host, and by transforms; also as a checkpoint or a
front end expects them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tljax.bind import Bound
from tljax.data import tokens, transforms, views
from tljax.data.sound import is_sound
from tljax.data.table import Table
from tljax.errors import unknown, wrong
from tljax.experiment.fields import EvaluationFields, StreamFields
from tljax.models.checkpoints import CHECKPOINTS, Checkpoint
from tljax.models.network import module
from tljax.models.stems import STEMS


def view_of(fields: StreamFields | EvaluationFields, field: str) -> views.HostView | None:
    """The view that is named, if any; of a checkpoint, as it was trained to see."""
    spec, here = fields.view, f"{field}.view"
    if spec.get("name") == "checkpoint":
        of = _checkpoint(spec, here)
        sizes = dict(resize=of.resize, size=of.size, interpolation=of.interpolation)
        spec = {"name": "resize_crop", **sizes}
    return views.parse(spec, here) if spec else None


def sound_of(
    fields: StreamFields | EvaluationFields, stems: Mapping[str, Any], field: str
) -> dict[str, Any]:
    """The rate and the length of sounds; the rate that is left out is what turns them into mels
    expects.

    Raises:
      UserError: another rate than that.
    """
    if not is_sound(fields.data):  # what is at hand is as it is to be
        named = isinstance(fields.data, str)
        return {"rate": fields.rate, "seconds": fields.seconds} if named else {}
    wanted = []
    if fields.stem in stems:
        where = f"network.stems.{fields.stem}"
        wanted.append((where, getattr(module(STEMS, stems[fields.stem], where), "rate", None)))
    for i, look in enumerate(transforms_of(fields.transforms, f"{field}.transforms")):
        wanted.append((f"{field}.transforms[{i}]", dict(look.static).get("rate")))
    rate = fields.rate
    for where, expected in wanted:
        if expected and rate not in (None, expected):
            raise wrong(f"{field}.rate", rate, f"{expected}, as {where} expects")
        rate = rate or expected
    return {"rate": rate, "seconds": fields.seconds}


def transforms_of(specs: Sequence[Any], field: str, tokenizer: str = "") -> tuple[Bound, ...]:
    """Transforms as functions; those of tokens with the numbers that a tokenizer.json has."""
    named = [_transform(spec, f"{field}[{i}]") for i, spec in enumerate(specs)]
    if tokenizer:
        numbers = tokens.of_transforms(tokenizer)
        named = [
            {**numbers.get(str(spec.get("name")), {}), **spec}
            if isinstance(spec, Mapping)
            else spec
            for spec in named
        ]
    return transforms.parse(named, field)


def _transform(spec: Any, field: str) -> Any:
    """The transform that is named; of a checkpoint, its mean and deviation."""
    if not isinstance(spec, Mapping) or spec.get("name") != "checkpoint":
        return spec
    of = _checkpoint(spec, field)
    return {"name": "standardise_channels", "mean": of.mean, "std": of.std}


def _checkpoint(spec: Mapping[str, Any], field: str) -> Checkpoint:
    if spec.keys() != {"name", "of"}:
        raise wrong(field, dict(spec), 'dict(name="checkpoint", of="mobilenet_v2")')
    if not isinstance(spec["of"], str) or spec["of"] not in CHECKPOINTS:
        raise unknown(f"{field}.of", spec["of"], CHECKPOINTS)
    return CHECKPOINTS[spec["of"]]


def another_look(table: Table, stream: StreamFields, field: str) -> Table:
    """The table of another stream, whose view is random, through a view of this one's own."""
    if table.resident or not table.input.random:
        expected = f"a random view of {stream.of!r} too, which else stays as it is first seen"
        raise wrong(f"{field}.view", stream.view, expected)
    images = dataclasses.replace(table.input, view=view_of(stream, field))
    return table.with_column("input", images)

"""A trained model for other programs: safetensors, npz, StableHLO, ONNX."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export as exporting

from tljax import trees
from tljax.data.table import Table
from tljax.errors import UserError, calling, warn, wrong
from tljax.experiment.model import BLIND, Model, load
from tljax.experiment.using import checked
from tljax.experiment.workdir import TOKENIZER
from tljax.models import weights
from tljax.models.heads import Linear
from tljax.phase import evaluate as judging
from tljax.phase.scoring import Split
from tljax.train import files


def export(
    run: str | os.PathLike,
    out: str | os.PathLike,
    *,
    like: str = "",
    naming: str = "",
    force: bool = False,
    **fields: Any,
) -> None:
    """Writes what a run has trained; the suffix of the file says how.

    `.safetensors`: the trunk, and a linear head as its classifier, under the public names of the
    family, with `classes` and `preprocessing` as JSON in its metadata. `.npz`: every variable by
    its path, `classes` and `preprocessing` beside them. `.stablehlo`: the program that
    `jax.export.deserialize` reads, and `.onnx`: the same by jax2onnx; both take a batch of any
    length, of inputs as decoded, resized and made grey or coloured, and their mask if they have
    one, and give the head's outputs: transforms and stem are in them. What they take is in a file
    beside them, `FILE.json`. The tokenizer of a run on texts is written beside any of them.

    Args:
      run: its directory, or that of a member of a sweep.
      out: the file.
      like: the evaluation whose head and preprocessing are exported; see `load`.
      naming: of a safetensors' tensors, where a family has several; "": the first.
      force: whether a file that is there is replaced.
      **fields: of an evaluation, that differ from those of `like`.

    Raises:
      UserError: no such run, a file that is there, a network that the format cannot express.
    """
    suffix = checked(out, tuple(FORMATS), force)
    model = load(run, like=like).changed(**BLIND | fields)
    if naming and suffix != ".safetensors":
        raise wrong("--naming", naming, "nothing: tensors of a safetensors file alone have one")
    with calling("export"):
        FORMATS[suffix](model, Path(out), naming)
    if (kept := Path(run) / TOKENIZER).exists():
        files.write(Path(f"{out}.{TOKENIZER}"), kept.read_bytes())


def _told(model: Model) -> dict[str, Any]:
    """What a user of the file should know."""
    fields = model.config.fields.evaluate[model.like]
    kept = model.kept.get(f"evaluate.{model.like}", {})
    kind, *shape = kept.get("input", [None])
    return {
        "classes": model.classes.get(fields.head, ()),
        "preprocessing": model.preprocessing,
        "input": {"type": kind, "shape": shape},
        **(
            {"mask": {"type": "bool", "shape": shape[:1]}}
            if "mask" in kept.get("columns", ())
            else {}
        ),
    }


def _safetensors(model: Model, out: Path, naming: str) -> None:
    fields, network = model.config.fields.evaluate[model.like], model.network
    linear = isinstance(dict(network.heads.modules).get(fields.head), Linear)
    if fields.head and not linear:
        warn(f"export: head {fields.head!r} is no linear layer: {out} holds the trunk alone")
    separate = model.config.fields.statistics == "separate"
    told = {name: json.dumps(value) for name, value in _told(model).items()}
    weights.save(
        network.trunk,
        model.variables,
        out,
        naming,
        head=fields.head if linear else "",
        stream=(fields.statistics or model.like) if separate else "",
        metadata={"format": "pt", **told},
    )


def _npz(model: Model, out: Path, naming: str) -> None:
    told, partial = _told(model), out.with_name(f"{out.name}.{os.getpid()}.partial")
    arrays: dict[str, Any] = {
        path: np.asarray(leaf) for path, leaf in trees.flatten(model.variables).items()
    }
    with open(partial, "wb") as file:
        names = np.array(list(told["classes"]), str)
        np.savez(file, classes=names, preprocessing=json.dumps(told["preprocessing"]), **arrays)
    partial.replace(out)


def _split(model: Model) -> Split:
    """The split of one input of zeros."""
    told = _told(model)["input"]
    if told["type"] is None:
        expected = "a run that keeps what its inputs are, as those of this version do"
        raise wrong("--run", f"one that keeps {list(model.kept)}", expected)
    zeros = np.zeros((1, *told["shape"]), told["type"])
    mask = np.ones(zeros.shape[:2], bool) if "mask" in _told(model) else None
    table = Table(input=zeros, mask=mask)
    return model.split(table, size=None, channels=None, scale=None)


def _program(model: Model) -> tuple[Callable[..., jax.Array], list[np.ndarray]]:
    """Inputs, and their mask if they have one, to outputs; and such arrays."""
    split = _split(model)
    run = judging.program(model.network, *model.of_network(), split)
    examples, structure = jax.tree.flatten(split.table.inputs(slice(1)))
    return (lambda *arrays: run(jax.tree.unflatten(structure, arrays))[0]), examples


def _stablehlo(model: Model, out: Path, naming: str) -> None:
    program, examples = _program(model)
    [batch] = exporting.symbolic_shape("batch")
    inputs = [jax.ShapeDtypeStruct((batch, *each.shape[1:]), each.dtype) for each in examples]
    made = exporting.export(jax.jit(program), platforms=("cpu", "cuda", "tpu"))(*inputs)
    files.write(out, bytes(made.serialize()))
    files.write_json(Path(f"{out}.json"), _told(model))


def _onnx(model: Model, out: Path, naming: str) -> None:
    try:
        from jax2onnx import to_onnx
    except ImportError as error:
        raise UserError(
            f"jax2onnx is not installed ({error.name}); pip install --no-deps jax2onnx, and "
            "pip install onnx onnx-ir: it asks for an older orbax than tljax, and needs none"
        ) from None
    program, examples = _program(model)
    inputs = [jax.ShapeDtypeStruct(("batch", *each.shape[1:]), each.dtype) for each in examples]
    made = to_onnx(program, inputs, input_params=None, model_name="tljax")
    files.write(out, made.SerializeToString())
    files.write_json(Path(f"{out}.json"), _told(model))


FORMATS: dict[str, Callable[[Model, Path, str], None]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".stablehlo": _stablehlo,
    ".onnx": _onnx,
}

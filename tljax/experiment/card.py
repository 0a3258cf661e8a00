"""The card of a run: `README.md` in its directory, in the form of the Hugging Face hub."""

import hashlib
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tljax import __version__, metrics
from tljax.experiment.check import check
from tljax.experiment.workdir import TOKENIZER, kept, recorded
from tljax.models.checkpoints import known
from tljax.train.files import write

NUMBERS = (int, float)
USE = """```python
import tljax

model = tljax.load(".")  # in this directory; or a path to it
model.classes  # {{head: names of its outputs}}
shares = model.predict({inputs})
```

The same from a shell: `tljax predict --run . --data {source} --out predictions.csv`;
`tljax evaluate` and `tljax export` take `--run .` too."""


def write_card(workdir: Path, result: Mapping[str, Any]) -> None:
    """Writes the card of a run that has ended, or has ended again.

    Args:
      workdir: of the run.
      result: what `result.json` holds, or is about to.
    """
    write(workdir / "README.md", "\n".join(_lines(workdir, result)) + "\n")


def _lines(workdir: Path, result: Mapping[str, Any]) -> Iterator[str]:
    """The card's lines; they say the same wherever the directory lies, and whenever it was made."""
    config, data = check(recorded(workdir).config), kept(workdir)
    origins = {n.removeprefix("start "): e for n, e in data.items() if n.startswith("start ")}
    fields, licences = config.fields, [_licence(each) for each in origins.values()]
    image = any(len(each.get("input", ())) == 4 for each in data.values())
    sound = any(each.data.startswith("wav:") for each in fields.streams.values())
    text = (workdir / TOKENIZER).exists()
    yield "---"
    yield "library_name: tljax"
    yield f"license: {_spdx(licences)}"
    tags = ["transfer-learning", *filter(None, [fields.family.replace(" ", "-")])]
    yield f"tags: [{', '.join(tags)}]"
    kind = "audio" if sound else "text" if text else "image" if image else ""
    if kind and any(name.startswith("heads.") for name in data):
        yield f"pipeline_tag: {kind}-classification"
    yield "---"
    yield f"# {fields.method or 'A run of tljax'}"
    yield ""
    size, trunk = f"{result['parameters']:,}", fields.network.trunk["name"]
    yield f"A `{trunk}` and its heads, {size} parameters, seed {fields.seed}. Phases:"
    yield ", ".join(f"{name} ({each.steps:,} steps)" for name, each in config.phases.items()) + "."
    yield ""
    yield "## Use"
    yield ""
    source = "wav:NEW" if sound else "text:NEW.jsonl" if text else "folder:NEW"
    yield USE.format(inputs=f'"{source}"' if kind else "inputs", source=source)
    for head, names in ((n, e["classes"]) for n, e in data.items() if n.startswith("heads.")):
        listed = ", ".join(map(_plain, names[:50])) + (", …" if len(names) > 50 else "")
        yield f"\nOutputs of head `{head.removeprefix('heads.')}`: {listed}."
    yield ""
    yield "## What it reaches"
    yield ""
    yield from _table(("evaluation", "of", "examples", "metric", "value", "95 % interval"), (
        (name, fields.evaluate[name].data, each.get("examples", "–"), *row)
        for name, each in result["evaluations"].items()
        for row in _reached(each)
    ))  # fmt: skip
    yield ""
    yield "Intervals are Wilson's, of a share of these examples: what another seed or other"
    yield "training data would change is not in them. Numbers without one have none."
    yield ""
    for phase, best in result.get("selected", {}).items():
        stopped = f", having stopped at {best['stopped']}" if "stopped" in best else ""
        ended = f"its best step by {best['by']}, {best['step']}"
        ended = ended if best["step"] else f"its last step, as {best['by']} chose none"
        yield f"Phase {phase} ended as {ended}{stopped}."
        yield ""
    yield "## Data"
    yield ""
    sections = {f"streams.{n}": e for n, e in fields.streams.items() if not e.of}
    sections |= {f"evaluate.{n}": e for n, e in fields.evaluate.items()}  # type: ignore[misc]
    yield from _table(("", "source", "split", "labels read", "examples", "fingerprint"), (
        (name, each.data, each.split, "yes" if each.labelled else "no",
         data.get(name, {}).get("examples", "–"), data.get(name, {}).get("fingerprint", "–"))
        for name, each in sections.items()
    ))  # fmt: skip
    yield ""
    yield "## Weights it began with, and licences"
    yield ""
    for (origin, each), licence in zip(origins.items(), licences, strict=True):
        told = "; ".join(f"{key} {value}" for key, value in each.items() if key != "licence")
        yield f"- `{origin}`: {told}; licence: {licence or 'not known'}"
    yield f"{'Nothing else' if origins else 'None'}. The licences of the data hold as well."
    yield ""
    yield "## How it was made"
    yield ""
    sums = hashlib.sha256((workdir / "config.json").read_bytes()).hexdigest()
    yield f"By tljax {__version__} from `config.json` (SHA-256 {sums});"
    libraries = ("jax", "flax", "optax", "numpy", "orbax-checkpoint", "grain")
    yield ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries) + "."


def _reached(evaluation: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(metric, value, interval) of an evaluation; why, of one that failed."""
    if "failed" in evaluation:
        return [("failed", _plain(evaluation["failed"]), "")]
    rows = []
    for name, value in evaluation.items():
        if name == "examples" or not isinstance(value, NUMBERS) or name == "classes":
            continue
        ends = ""
        if name == "accuracy" and "loss" in evaluation:  # a share of the examples
            low, high = metrics.wilson(value, evaluation["examples"])
            ends = f"{low:.3f} to {high:.3f}"
        rows.append((name, f"{value:.4f}", ends))
    return rows


def _licence(origin: Mapping[str, str]) -> str:
    """The licence of what a phase started from, as far as it is known; "": not."""
    checkpoint = known(origin.get("sha256", ""))
    return origin.get("licence") or (checkpoint.licence if checkpoint else "")


def _spdx(licences: Sequence[str]) -> str:
    """The one licence by the hub's names: known where all weights have the same simple one."""
    names = {each.lower() for each in licences}
    if len(names) == 1 and (name := names.pop()) and " " not in name:
        return name
    return "other" if any(licences) else "unknown"


def _table(columns: Sequence[str], rows: Any) -> Iterator[str]:
    for row in (columns, ["---"] * len(columns), *rows):
        yield f"| {' | '.join(_plain(cell) for cell in row)} |"


def _plain(value: Any) -> str:
    """A cell of a table: in one line, no bar in it."""
    return " ".join(str(value).split()).replace("|", "\\|")

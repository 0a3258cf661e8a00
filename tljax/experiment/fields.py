"""The one schema of a config: every field's type, range, default and meaning.

From it come the blank config, the checks, the lines of refusal and `docs/fields.md`. What belongs to
a function (a term, an optimiser, a transform, a module) has the fields of that function.
"""

import ast
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

import ml_collections
import pydantic
from annotated_types import Ge, Lt
from pydantic import BeforeValidator, Field, ValidationError

from tljax.errors import UserError, unknown, wrong

FAMILIES = {
    "baseline": "the baselines that a method is held against",
    "fine-tuning": "source labelled, target labelled",
    "multitask": "source labelled, target labelled",
    "domain-adversarial": "source labelled, target unlabelled",
    "zero-shot": "source labelled, target unlabelled",
    "self-taught learning": "source unlabelled, target labelled",
    "self-taught clustering": "source unlabelled, target unlabelled",
}
"""The families of methods, and the cell of the field's table that each stands in."""


class Expected(str):
    """What a refusal says that a field takes."""


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _pairs(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise ValueError("not a list")
    for pair in value:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError("not pairs")
    return tuple((pattern, given) for pattern, given in value)


Count = Annotated[int, Ge(1), Expected("an integer of at least 1")]
Whole = Annotated[int, Ge(0), Expected("an integer of at least 0")]
Seed = Annotated[int, Ge(0), Lt(2**32), Expected("an integer from 0 to 4294967295")]
Number = Annotated[
    float, Ge(0), Field(allow_inf_nan=False), Expected("a finite number of at least 0")
]
Decay = Annotated[float, Ge(0), Lt(1), Expected("a decay in [0, 1); 0 keeps no average")]
Flag = Annotated[bool, Expected("True or False")]
Text = Annotated[str, Expected("a string")]
Names = Annotated[tuple[str, ...], BeforeValidator(_tuple), Expected("a list of names")]
Classes = Annotated[
    tuple[str | int, ...],
    BeforeValidator(_tuple),
    Expected("a list of names or numbers of classes, at least one, or None"),
]
Rules = Annotated[
    tuple[tuple[str, Any], ...],
    BeforeValidator(_pairs),
    Expected("pairs ((pattern, value), ...)"),
]
Section = Annotated[dict[str, Any], Expected("dict(...)")]
Sections = Annotated[dict[str, Any], Expected("dict(...) by name")]
Specs = Annotated[
    tuple[Any, ...], BeforeValidator(_tuple), Expected("a list of dict(name=..., ...)")
]


def doc(default: Any, text: str) -> Any:
    """A field with its default and its meaning."""
    if isinstance(default, dict):
        return Field(default_factory=lambda: dict(default), description=text)
    return Field(default, description=text)


class Fields(pydantic.BaseModel):
    """A section of a config."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class StreamFields(Fields):
    """What flows; `streams.NAME`."""

    data: Text = doc("", "source: digits, pairs, idx:DIR, folder:DIR, npz:FILE or tfds:NAME")
    split: Text = doc("train", "in TFDS's grammar: train[:80%]+test")
    labelled: Flag = doc(True, "whether labels are read; those of an unlabelled stream never are")
    classes: Classes | None = doc(None, "keeps these alone, by name or number")
    per_class: Count | None = doc(None, "draws that many examples of each class")
    seed: Seed | None = doc(None, "of that draw; None: the run's")
    size: Count | None = doc(None, "resizes images to size × size pixels")
    channels: Literal[1, 3] | None = doc(None, "makes images grey or coloured")
    of: Text = doc("", "another stream, whose examples it shows through transforms of its own")
    neighbour: Flag = doc(False, "shows a nearest neighbour of each of them instead")
    balanced: Flag = doc(False, "draws all classes equally often")
    transforms: Specs = doc((), "a list of dict(name=..., ...), applied in the compiled step")
    batch: Count = doc(64, "examples in a step")
    stem: Text = doc("", "the stem that its inputs pass")


class EvaluationFields(Fields):
    """What is evaluated; `evaluate.NAME`."""

    data: Text = StreamFields.model_fields["data"]
    split: Text = StreamFields.model_fields["split"]
    labelled: Flag = doc(True, "whether labels are read; without them validators judge")
    classes: Classes | None = doc(None, "those that are shown, and that compete")
    size: Count | None = StreamFields.model_fields["size"]
    channels: Literal[1, 3] | None = StreamFields.model_fields["channels"]
    transforms: Specs = StreamFields.model_fields["transforms"]
    batch: Count = doc(256, "examples at a time")
    stem: Text = StreamFields.model_fields["stem"]
    head: Text = doc("label", 'the head that is judged; "": the features')
    statistics: Text | None = doc(
        None, "the stream whose batch statistics are used where each keeps its own; None: its name"
    )
    phase: Text = doc("", 'whose result is judged; "": the last')
    readout: Text = doc("logits", "how a head's outputs are read: phase.evaluate.READOUTS")
    table: Text = doc("", "the class × attribute table of the readout")
    unseen: Annotated[
        tuple[str | int, ...], BeforeValidator(_tuple), Expected("a list of classes")
    ] = doc((), "classes that no labelled stream holds")
    among: Literal["all", "unseen"] = doc("all", "which classes compete")
    calibrate: Text = doc("", "the evaluation on which the factor of calibrated stacking is chosen")
    top: Count = doc(10, "ConSE's number of seen classes")
    validation: Flag = doc(False, "whether a choice between runs may read its labels")


class TableFields(Fields):
    """A class × attribute table; `tables.NAME`."""

    data: Text = doc("", "garments, segments, pair_digits, csv:, npz:, glove: or word2vec:FILE")
    like: Text = doc("", 'the stream or evaluation whose classes are its rows; "": the first')
    standardise: Flag = doc(False, "gives every attribute mean 0 and deviation 1")
    normalise: Flag = doc(False, "gives every class's row length 1")
    permute: Seed | None = doc(None, "the seed of a permutation of its rows: a control")


class NetworkFields(Fields):
    """The network: every module is dict(name=..., ...)."""

    stems: Sections = doc({}, "what inputs pass before the trunk, where they differ")
    trunk: Section = doc({"name": "cnn"}, "shared by all streams")
    heads: Sections = doc({"label": {"name": "linear"}}, "by the names that terms call")


class MeshFields(Fields):
    """The devices of one run."""

    data: Count = doc(1, "devices that split every batch")
    shard: Count = doc(1, "devices that split batches, parameters and optimiser state")


class PhaseFields(Fields):
    """What a phase may set for itself; what it leaves out is that of the config's top level."""

    flow: Names = doc((), "names of the streams that flow; (): all")
    terms: Sections = doc({}, "NAME=weight, or dict(term=, weight=, ramp=, …)")
    balance: Section = doc({"name": "sum"}, "how tasks are weighed against each other")
    start: Rules = doc(
        (), '(pattern, origin): "fresh", a phase, "run:WORKDIR" or "run:WORKDIR@STEP"; (): before'
    )
    prepare: Sections = doc({}, "NAME=dict(solver=, ...), fitted before step 0")
    train: Rules = doc((("**", 1.0),), "(pattern, factor on the learning rate); 0 freezes")
    freeze_statistics: Flag = doc(False, "batch statistics are the running ones, and stay")
    steps: Whole = doc(1000, "0: nothing but what is prepared")
    restarts: Count = doc(1, "runs of the phase, of which the one of the lowest loss is kept")
    optimizer: Section = doc(
        {
            "name": "sgd",
            "learning_rate": 0.01,
            "schedule": {"name": "constant"},
            "warmup": 0.0,
        },
        "its name, learning_rate, schedule, warmup, clip, weight_decay, decayed, and its own",
    )
    average: Decay = doc(0.0, "decay of an exponential moving average to evaluate; 0: none")


class ConfigFields(PhaseFields):
    """A whole config. Phases, named in `phases`, are sections beside these fields."""

    method: Text = doc("", "the method's name in `tljax methods`")
    family: Literal[("", *FAMILIES)] = doc("", "one of FAMILIES")  # type: ignore[valid-type]
    seed: Seed = doc(0, "of parameters, data order, transforms and few-shot draws")
    streams: dict[str, StreamFields] = doc({}, "what flows, by name")
    evaluate: dict[str, EvaluationFields] = doc({}, "what is evaluated, by name")
    tables: dict[str, TableFields] = doc({}, "class × attribute tables, by name")
    data_dir: Text = doc("", "where relative paths start and TFDS keeps its data")
    mesh: MeshFields = doc({"data": 1, "shard": 1}, "the devices of one run")
    resident_megabytes: Annotated[float, Ge(0), Expected("a number of at least 0")] = doc(
        2048.0, "larger sets are streamed from disk"
    )
    workers: Whole = doc(0, "processes that read streamed sets; 0: threads")
    network: NetworkFields = doc(
        {"stems": {}, "trunk": {"name": "cnn"}, "heads": {"label": {"name": "linear"}}},
        "stems, trunk and heads",
    )
    precision: Literal["float32", "bfloat16"] = doc("float32", "in which stems and trunk compute")
    remat: Literal["none", "products", "all"] = doc(
        "none", "what a backward pass computes again: nothing; all but products; all"
    )
    accumulate: Count = doc(1, "parts of a batch, taken one after another to save memory")
    statistics: Literal["joint", "separate"] = doc(
        "joint", "batch statistics of all streams together, or of each"
    )
    phases: Names = doc((), "names of the phases; (): one, of the top level")
    log_every: Count = doc(50, "steps")
    evaluate_every: Count = doc(250, "steps")
    checkpoint_every: Count = doc(250, "steps")
    keep: Count = doc(2, "checkpoints of each phase")
    steps_per_dispatch: Count | None = doc(None, "None: the fastest")
    figures: Flag = doc(True, "whether figures are drawn")
    tensorboard: Flag = doc(False, "whether TensorBoard events are written")


PHASE_FIELDS = tuple(PhaseFields.model_fields)
ORDER = (
    *("method", "family", "seed", "streams", "evaluate", "tables", "data_dir", "mesh"),
    *("resident_megabytes", "workers", "network", "precision", "remat", "accumulate"),
    *("statistics", "phases", *PHASE_FIELDS, "log_every", "evaluate_every", "checkpoint_every"),
    *("keep", "steps_per_dispatch", "figures", "tensorboard"),
)  # in which a blank config shows them


def blank() -> ml_collections.ConfigDict:
    """A config with every field and its default, for a config file to fill in.

    The fields of a phase (`PHASE_FIELDS`) stand at the top level. A config of several phases lists
    their names in `phases` and gives each a `dict(...)` of that name with the fields that differ.
    """
    config = ml_collections.ConfigDict()
    for name in ORDER:
        default = ConfigFields.model_fields[name].get_default(call_default_factory=True)
        if default is None:
            config[name] = ml_collections.config_dict.placeholder(int)
        else:
            config[name] = (
                ml_collections.ConfigDict(default) if isinstance(default, dict) else default
            )
    return config


Config = ml_collections.ConfigDict | Mapping[str, Any]


def plain(config: Config) -> dict[str, Any]:
    """A config as plain dictionaries, with every field of the top level."""
    fields = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else dict(config)
    return {**blank().to_dict(), **fields}


class Checked:
    """A config that has been checked: its fields, those of its phases, and the plain dictionaries
    that `config.json` holds."""

    def __init__(self, plain: dict[str, Any], fields: ConfigFields, phases: dict[str, PhaseFields]):
        self.plain, self.fields, self.phases = plain, fields, phases


def check(config: Config) -> Checked:
    """Every field known, every value of its type and in its range.

    Raises:
      UserError: naming the first field that is wrong, with its phase.
    """
    fields = plain(config)
    phases = _phases(fields)
    for name in fields:
        if name not in ConfigFields.model_fields and name not in phases:
            raise unknown("config", name, (*ConfigFields.model_fields, *phases))
    top = {name: fields[name] for name in ConfigFields.model_fields}
    checked, own = _validated(ConfigFields, top, ""), {}
    for name in phases:
        section = fields.get(name)
        if not isinstance(section, Mapping):
            raise wrong(name, section, f"dict(...) of {PHASE_FIELDS}, named in phases")
        for field in section:
            if field not in PHASE_FIELDS:
                raise unknown(name, field, PHASE_FIELDS)
        merged = {field: section.get(field, top[field]) for field in PHASE_FIELDS}
        own[name] = _validated(PhaseFields, merged, f"{name}.")
    own = own or {"train": PhaseFields(**{name: getattr(checked, name) for name in PHASE_FIELDS})}
    for name, phase in own.items():
        if not phase.steps and not phase.prepare:
            expected = "an integer of at least 1, or something to prepare"
            raise wrong(place(name, "steps"), 0, expected)
    for field in ("streams", "evaluate"):
        if not fields[field]:
            raise wrong(field, fields[field], 'at least one: dict(NAME=dict(data="digits", …))')
    return Checked(fields, checked, own)


def resolve(config: Config) -> dict[str, Any]:
    """A config as plain dictionaries, checked; see `check`."""
    return check(config).plain


def _phases(fields: Mapping[str, Any]) -> tuple[str, ...]:
    phases = fields["phases"]
    if not isinstance(phases, list | tuple) or not all(isinstance(name, str) for name in phases):
        raise wrong("phases", phases, "names of phases: ('pretrain', 'adapt')")
    for i, name in enumerate(phases):
        taken = (*ConfigFields.model_fields, "fresh")
        if name in taken or not name.isidentifier() or name in phases[:i]:
            expected = "a name of its own for each phase: no field's, not 'fresh', no signs in it"
            raise wrong(f"phases[{i}]", name, expected)
    return tuple(phases)


def place(phase: str, field: str) -> str:
    """Where a field of a phase stands: a config without phases has it at the top."""
    return field if phase == "train" else f"{phase}.{field}"


def _validated(model: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """The section's fields, or the first mistake of them in one line."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _refusal(model, error.errors(include_url=False)[0], prefix) from None


def _refusal(model: Any, error: Any, prefix: str) -> UserError:
    """The line for one of pydantic's errors: the field, its value, and what was expected."""
    section, info, names = model, None, []
    for key in error["loc"]:
        if section is None:
            break  # within the value of a field
        names.append(str(key))
        if isinstance(section, tuple):  # sections by name
            section, info = section[0], None
        elif key in section.model_fields:
            info = section.model_fields[key]
            section = _section(info.annotation)
        else:
            return unknown(prefix + ".".join(names[:-1]), key, section.model_fields)
    field, value = prefix + ".".join(names), error["input"]
    if info is not None and error["type"] == "literal_error" and isinstance(value, str):
        return unknown(field, value, [choice for choice in _choices(info.annotation) if choice])
    if info is None and isinstance(section, type):
        expected = f"dict(...) of the fields {', '.join(sorted(section.model_fields))}"
    else:
        expected = _expected(info)
    return wrong(field, value, expected)


def _section(annotation: Any) -> Any:
    """The section that a field holds, in a tuple if it holds several by name; else None."""
    if isinstance(annotation, type) and issubclass(annotation, Fields):
        return annotation
    for inner in get_args(annotation):
        if isinstance(inner, type) and issubclass(inner, Fields):
            return (inner,)
    return None


def _expected(info: Any) -> str:
    """What a field takes, in words."""
    found = [item for item in info.metadata if isinstance(item, Expected)]
    choices = [choice for choice in _choices(info.annotation) if choice]
    for inner in get_args(info.annotation):
        found += [item for item in getattr(inner, "__metadata__", ()) if isinstance(item, Expected)]
    optional = type(None) in get_args(info.annotation)
    words = str(found[0]) if found else " or ".join(map(str, choices)) or "dict(...)"
    return f"{words}, or None" if optional and "None" not in words else words


def _choices(annotation: Any) -> list[Any]:
    """The values of a Literal, also of one that may be None."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [choice for inner in get_args(annotation) for choice in _choices(inner)]


def change(config: Mapping[str, Any], path: str, value: Any, flag: str) -> dict[str, Any]:
    """A config, as plain dictionaries, with one field set, whether a file wrote it or not.

    Args:
      config: plain.
      path: "terms.domain.weight", "streams.target.transforms.0.strength".
      value: of the field.
      flag: "--over" or "--config", for error messages.

    Raises:
      UserError: a section, stream, term or phase that is not there. (Fields are checked with the
        whole config.)
    """
    keys = path.split(".")
    config = {**blank().to_dict(), **config}
    phases = tuple(config["phases"]) if isinstance(config["phases"], list | tuple) else ()
    if keys[0] not in config:
        raise unknown(f"{flag} {path}: config", keys[0], (*ConfigFields.model_fields, *phases))
    if keys[0] in phases and len(keys) > 2 and keys[1] in PHASE_FIELDS:
        # A phase that does not have the field itself has that of the top level.
        config[keys[0]] = {keys[1]: config[keys[1]], **config[keys[0]]}
    return _changed(config, keys, value, f"{flag} {path}", ())


def _changed(tree: Any, keys: list[str], value: Any, field: str, above: tuple[str, ...]) -> Any:
    """The tree with a new value at the keys; only fields of sections are added."""
    key, rest = keys[0], keys[1:]
    here = ".".join(above) or "config"
    if isinstance(tree, list | tuple):
        if not key.isdigit() or int(key) >= len(tree):
            raise unknown(f"{field}: {here}", key, map(str, range(len(tree))))
        at = int(key)
        inner = _changed(tree[at], rest, value, field, (*above, key)) if rest else value
        return (*tree[:at], inner, *tree[at + 1 :])
    if not isinstance(tree, Mapping):
        # A weight or a name that stands for a section: terms.label=1.0, schedule="cosine".
        tree = {"weight" if isinstance(tree, int | float) else "name": tree}
    if rest and key not in tree:
        raise unknown(f"{field}: {here}", key, tree)
    if not rest:
        before = tree.get(key) if isinstance(tree, dict) else None
        if isinstance(before, str) and isinstance(value, bool | int | float):
            value = str(value)
        return {**tree, key: value}
    return {**tree, key: _changed(tree[key], rest, value, field, (*above, key))}


def literal(text: str) -> Any:
    """A value as it is typed: a Python literal, true or false, or else a string."""
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def reference() -> str:
    """`docs/fields.md`: every field of a config, its type, its default and its meaning."""
    sections = {
        "": (ConfigFields, "The top level, which holds the fields of its one phase as well."),
        "PHASE": (PhaseFields, PhaseFields.__doc__),
        "streams.NAME": (StreamFields, StreamFields.__doc__),
        "evaluate.NAME": (EvaluationFields, EvaluationFields.__doc__),
        "tables.NAME": (TableFields, TableFields.__doc__),
        "network": (NetworkFields, NetworkFields.__doc__),
        "mesh": (MeshFields, MeshFields.__doc__),
    }
    lines = [
        "# Fields of a config",
        "",
        "Written by `python -m tljax.experiment.fields`. Each can be set in a config file, by",
        "`--config.FIELD=VALUE`, and swept by `--over FIELD=VALUES`.",
    ]
    for name, (model, text) in sections.items():
        lines += ["", f"## {name or 'config'}", "", str(text).partition("\n")[0], ""]
        lines += ["| field | takes | default | meaning |", "| --- | --- | --- | --- |"]
        for field, info in model.model_fields.items():
            if not name and field in PHASE_FIELDS:
                continue
            default = info.get_default(call_default_factory=True)
            cells = (f"`{field}`", _expected(info), f"`{default!r}`", info.description)
            lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    from pathlib import Path

    page = Path(__file__).parents[2] / "docs" / "fields.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(reference())

"""The one schema of a config: every field's type, range, default and meaning.

From it come the blank config, the checks, the lines of refusal and `docs/fields.md`. What belongs
to a function (a term, an optimiser, a transform, a module) has the fields of that function.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias, get_args

import ml_collections
from pydantic import BeforeValidator

from tljax.checks import Count, Decay, NotNegative, Positive, Share, Whole
from tljax.experiment.kinds import (
    Channels,
    Classes,
    Dispatch,
    Expected,
    Fields,
    Flag,
    Names,
    Rules,
    Section,
    Sections,
    Seed,
    Size,
    Specs,
    Text,
    Workers,
    as_tuple,
    doc,
)

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


class StreamFields(Fields):
    """What flows; `streams.NAME`."""

    data: Text = doc(
        "", "digits, pairs, idx:DIR, folder:DIR, tar:PATTERN, wav:DIR, npz:FILE or tfds:NAME"
    )
    split: Text = doc("train", "in TFDS's grammar: train[:80%]+test")
    labelled: Flag = doc(True, "whether labels are read; those of an unlabelled stream never are")
    stratified: Flag = doc(False, "percents of every class, in an order that names of files decide")
    where: Section = doc({}, 'keeps examples: dict(COLUMN=a value, a list, or ("not", value))')
    classes: Classes | None = doc(None, "keeps these alone, by name or number")
    per_class: Count | None = doc(None, "draws that many examples of each class")
    seed: Seed | None = doc(None, "of that draw; None: the run's")
    size: Size | None = doc(None, "resizes images to size × size pixels")
    view: Section = doc({}, "instead: dict(name=..., ...), which crops pictures as they are read")
    channels: Channels | None = doc(None, "makes images grey or coloured")
    length: Count | None = doc(None, "tokens of a text, cut or padded; None: of the longest")
    scale: Positive | None = doc(None, "divides float images; None: they are in [0, 1]")
    rate: Count | None = doc(
        None, "resamples sounds to so many samples a second; None: as log_mel expects, or as stored"
    )
    seconds: Positive | None = doc(None, "cuts and fills up sounds; None: as long as the longest")
    background: Text = doc("white", "the colour behind transparent pictures, by PIL's names")
    damaged: Share = doc(0.0, "the share of pictures that may be damaged, and are skipped")
    of: Text = doc("", "another stream, whose examples it shows through transforms of its own")
    neighbour: Flag = doc(False, "shows a nearest neighbour of each of them instead")
    balanced: Flag = doc(False, "draws all classes equally often")
    transforms: Specs = doc((), "a list of dict(name=..., ...), applied in the compiled step")
    mix: Section = doc({}, "dict(name=..., ...): mixes a batch after that, and its labels")
    batch: Count = doc(64, "examples in a step")
    stem: Text = doc("", "the stem that its inputs pass")


def _same(name: str) -> Any:
    """A field as streams have it."""
    return StreamFields.model_fields[name]


class EvaluationFields(Fields):
    """What is evaluated; `evaluate.NAME`."""

    data: Text = _same("data")
    split: Text = _same("split")
    labelled: Flag = doc(True, "whether labels are read; without them validators judge")
    stratified: Flag = _same("stratified")
    where: Section = _same("where")
    classes: Classes | None = doc(None, "those that are shown, and that compete")
    per_class: Count | None = doc(None, "draws that many of each class, as a stream of that seed")
    skip: Whole = doc(0, "leaves out the first so many of that draw: what a stream has of it")
    seed: Seed | None = _same("seed")
    size: Size | None = _same("size")
    view: Section = _same("view")
    channels: Channels | None = _same("channels")
    length: Count | None = _same("length")
    scale: Positive | None = _same("scale")
    rate: Count | None = _same("rate")
    seconds: Positive | None = _same("seconds")
    background: Text = _same("background")
    damaged: Share = _same("damaged")
    transforms: Specs = _same("transforms")
    batch: Count = doc(256, "examples at a time")
    stem: Text = _same("stem")
    head: Text = doc("label", 'the head that is judged; "": the features')
    layer: Text = doc("", 'the map of the trunk that the head reads, as "tokens"; "": the features')
    statistics: Text | None = doc(None, "whose batch statistics are used; None: of its own name")
    phase: Text = doc("", 'whose result is judged; "": the last')
    readout: Text = doc("logits", "how a head's outputs are read: phase.scoring.READOUTS")
    table: Text = doc("", "the class × attribute table of the readout")
    unseen: Annotated[
        tuple[str | int, ...], BeforeValidator(as_tuple), Expected("a list of classes")
    ] = doc((), "classes that no labelled stream holds")
    among: Literal["all", "unseen"] = doc("all", "which classes compete")
    calibrate: Text = doc("", "the evaluation on which the factor of calibrated stacking is chosen")
    top: Count = doc(10, "ConSE's number of seen classes")
    validation: Flag = doc(False, "whether a choice between runs may read its labels")


class TableFields(Fields):
    """A class × attribute table; `tables.NAME`."""

    data: Text = doc(
        "", "garments, segments, pair_digits; csv:, npz:, glove: or word2vec:FILE; prompts:DIR"
    )
    templates: Names = doc(("a photo of a {}.",), "of prompts: sentences about a class")
    tower: Section = doc({"name": "text_tower"}, "of prompts: the network that reads them")
    like: Text = doc("", 'the stream or evaluation whose classes are its rows; "": the first')
    standardise: Flag = doc(False, "gives every attribute mean 0 and deviation 1")
    normalise: Flag = doc(False, "gives every class's row length 1")
    permute: Seed | None = doc(None, "the seed of a permutation of its rows: a control")


class TokenizerFields(Fields):
    """How texts become tokens, the same for all of a run."""

    file: Text = doc("", 'a public tokenizer.json; "": one is learned from the streams')
    vocabulary: Count = doc(8000, "how many tokens one that is learned has at most")
    lowercase: Flag = doc(True, "whether letters become small and lose accents, of one learned")


class NetworkFields(Fields):
    """The network: every module is dict(name=..., ...)."""

    stems: Sections = doc({}, "what inputs pass before the trunk, where they differ")
    trunk: Section = doc({"name": "cnn"}, "shared by all streams")
    heads: Sections = doc({"label": {"name": "linear"}}, "by the names that terms call")


class MeshFields(Fields):
    """The devices of one run."""

    data: Count = doc(1, "devices that split every batch")
    shard: Count = doc(1, "devices that split batches, parameters and optimiser state")


class SelectFields(Fields):
    """Which step of a phase is what it ends as."""

    by: Text = doc(
        "", 'EVALUATION/METRIC without labels or for validation: its best step; "": the last step'
    )
    patience: Whole = doc(0, "evaluations without a better one that end the phase; 0: none do")


class PhaseFields(Fields):
    """What a phase may set for itself; what it leaves out is that of the config's top level."""

    flow: Names = doc((), "names of the streams that flow; (): all")
    terms: Sections = doc({}, "NAME=weight, or dict(term=, weight=, ramp=, …)")
    mixing: Positive | None = doc(
        None, "T: weighs terms by n^(1/T) of their streams' examples, of mean 1; None: not at all"
    )
    balance: Section = doc({"name": "sum"}, "how tasks are weighed against each other")
    start: Rules = doc(
        (),
        "(pattern, origin): fresh, a phase, run:DIR[@STEP], weights:FILE, hf:REPO or timm:NAME",
    )
    adapters: Sections = doc({}, "NAME=dict(name=, only=, ...), parameters beside the trunk's")
    prepare: Sections = doc({}, "NAME=dict(solver=, ...), fitted before step 0")
    train: Rules = doc((("**", 1.0),), "(pattern, factor on the learning rate); 0 freezes")
    freeze_statistics: Flag | None = doc(
        None, "running statistics stay: True: all; False: none; None: those of frozen modules"
    )
    stochastic_norm: Share = doc(0.0, "StochNorm: the part of channels with running statistics")
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
    select: SelectFields = doc({"by": "", "patience": 0}, "which step of a phase it ends as")
    average: Decay = doc(0.0, "decay of an exponential moving average to evaluate; 0: none")


class ConfigFields(PhaseFields):
    """A whole config. Phases, named in `phases`, are sections beside these fields."""

    method: Text = doc("", "the method's name in `tljax methods`")
    family: Literal[("", *FAMILIES)] = doc("", "one of FAMILIES")  # type: ignore[valid-type]
    seed: Seed = doc(0, "of parameters, data order, transforms and few-shot draws")
    streams: dict[str, StreamFields] = doc({}, "what flows, by name")
    evaluate: dict[str, EvaluationFields] = doc({}, "what is evaluated, by name")
    tables: dict[str, TableFields] = doc({}, "class × attribute tables, by name")
    tokenizer: TokenizerFields = doc(
        {"file": "", "vocabulary": 8000, "lowercase": True}, "how texts become tokens"
    )
    data_dir: Text = doc("", "where relative paths start and TFDS keeps its data")
    features_dir: Text = doc("", "where features of frozen trunks are kept; '': beside the run")
    compiled_dir: Text = doc(
        "user", "where compiled programs are kept; 'user': the user's cache directory; '': nowhere"
    )
    mesh: MeshFields = doc({"data": 1, "shard": 1}, "the devices of one run")
    resident_megabytes: NotNegative = doc(2048.0, "larger sets are streamed from disk")
    workers: Workers = doc(0, "processes that read streamed sets; 0: threads")
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
    steps_per_dispatch: Dispatch | None = doc(None, "None: the fastest")
    figures: Flag = doc(True, "whether figures are drawn")
    tensorboard: Flag = doc(False, "whether TensorBoard events are written")


PHASE_FIELDS = tuple(PhaseFields.model_fields)
CACHES = ("features_dir", "compiled_dir")  # where copies lie: no part of what a run is
ORDER = (
    *(
        "method",
        "family",
        "seed",
        "streams",
        "evaluate",
        "tables",
        "tokenizer",
        "data_dir",
        "features_dir",
        "compiled_dir",
        "mesh",
    ),
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
            kind = get_args(get_args(ConfigFields.model_fields[name].annotation)[0])[0]
            config[name] = ml_collections.config_dict.placeholder(kind)
        else:
            config[name] = (
                ml_collections.ConfigDict(default) if isinstance(default, dict) else default
            )
    return config


Config: TypeAlias = ml_collections.ConfigDict | Mapping[str, Any]


def plain(config: Config) -> dict[str, Any]:
    """A config as plain dictionaries, with every field of the top level."""
    fields = config.to_dict() if isinstance(config, ml_collections.ConfigDict) else dict(config)
    return {**blank().to_dict(), **fields}

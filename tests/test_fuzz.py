"""Every field of the schema and of every shipped function, given what does not fit: one line that
names it, whatever it is, before anything is computed; and given what fits, taken.

What fits is written apart from what does not (`GOOD`), so that a check which grows too strict fails
here as one does that lets through what it should not.
"""

import functools
import inspect
import math
import typing

import numpy as np

from tljax.bind import defaults
from tljax.errors import UserError, shown
from tljax.experiment import fields, grid, sweep
from tljax.experiment.build import build
from tljax.experiment.check import check
from tljax.experiment.fields import plain
from tljax.experiment.opening import Opened
from tljax.main import main
from tljax.report.reference import FUNCTIONS

NAN, INF, HUGE = math.nan, math.inf, 10**30


class Odd:
    """Neither hashable nor fit to be shown."""

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self):
        raise RuntimeError("no repr")


ENDLESS: list = []
ENDLESS.append(ENDLESS)
DEEP = functools.reduce(lambda inner, _: {"a": inner}, range(2000), {})
# Of no kind that a field of a number, a name, a list or a section takes.
STRANGE = (object(), Odd(), b"x", 1j, {1, 2}, np.ones(2), len, int, ..., range(3), ENDLESS, DEEP)
WRONG = {
    bool: (0, 1, 1.0, "True", "yes", None, [], {}, NAN, [True], (False,)),
    int: (True, False, 1.5, 1e3, "3", "", NAN, INF, -INF, [], [3], {}, {"a": 1}, None, HUGE, -HUGE)
    + (10**5000, -1, 2**63, -(2**31) - 1, np.float32(2)),
    float: (True, False, "0.1", "", "nan", None, NAN, INF, -INF, [], [0.1], {}, {"a": 1})
    + (10**400, 1e39, -1e39, 10**5000),
    str: (3, 0.5, True, None, [], ["label"], {}, {"label"}, NAN, HUGE),
    tuple: (3, 0.5, True, "a word", {}, {"a": 1}, NAN, [[[{}]]], [object()], HUGE),
    dict: (3, 0.5, True, "name", [], [1, 2], (("name", "cnn"),), NAN, HUGE, {3: 4}, {None: 1}),
}
# What lies beside the ends of a range. The names mean the same wherever they occur.
BESIDE = {
    **dict.fromkeys(
        ("smoothing", "momentum", "b1", "b2", "average", "c"), (1.0, 1, 1.5, 1 - 1e-12)
    ),
    **dict.fromkeys(("warmup", "probability", "threshold"), (1.001, 2, 1e30)),
    **dict.fromkeys(("temperature", "delta", "alpha", "clip", "eps", "penalty", "lam"), (0, 1e-50)),
    **dict.fromkeys(("k", "channels", "features", "hidden", "outputs", "epoch", "restarts"), (0,)),
    **dict.fromkeys(("log_every", "batch", "keep", "accumulate", "per_class", "top"), (0, 2**31)),
    "size": (HUGE,),
    "seed": (2**32, 2**40),
    "permute": (2**32,),
    "workers": (257,),
    "steps_per_dispatch": (0, 10_001),
    "min_scale": (0.0, 0.001, 1.01),
    "std": (-1e-3,),
    "degrees": (361,),
    "scale": (-0.1, 1e39),
    "learning_rate": (-1e-6,),
    "weight": (-0.5,),
}
ANY_SIGN = {"mean", "snr_decibel"}  # numbers that may be below 0: what images are standardised by
# Whose α may be 0; a prototype's may not.
POSITIVE_ALPHA = dict.fromkeys(("gradnorm", "mixup", "cutmix"), False)
OPTIONAL = {
    "freeze_statistics",  # where None says that there is none
    *("classes", "per_class", "seed", "size", "channels", "scale", "statistics", "permute"),
    *("steps_per_dispatch", "clip", "weight_decay", "outputs", "length", "rate", "mixing"),
    "seconds",
    "separator",
}
# What fits, and why.
GOOD = {
    "terms.label.smoothing": (0, 0.0, 0.5, 0.999),  # 1 would leave nothing of the labels
    "terms.label.weight": (0, 1, 0.25, 1e6, np.float32(2)),  # 0: it is watched
    "terms.label.ramp": (0, 10.0),
    "optimizer.momentum": (0, 0.9),
    "optimizer.warmup": (0, 0.5, 1, 1.0),  # 1: it rises throughout
    "optimizer.clip": (None, 1e-3, 5),
    "optimizer.weight_decay": (None, 0, 0.0, 1e-4),
    "optimizer.learning_rate": (0, 0.0, 1e-12, 1),  # 0: nothing but statistics moves
    "optimizer.schedule": ("cosine", {"name": "inverse", "gamma": 0}),
    "network.trunk.features": ((1,), [4, 3], (1000,), ()),  # (): the pixels themselves
    "network.heads.label.outputs": (None, 10, 12, np.int64(11)),
    "streams.source.batch": (1, 40),
    "streams.source.size": (1, 4, 8, None),
    "streams.source.per_class": (1, 2, None),
    "streams.source.seed": (0, 2**32 - 1, None),
    "seed": (0, 2**31, 2**32 - 1),
    "steps": (1, 2**31 - 1),
    "average": (0, 0.0, 0.999),
    "resident_megabytes": (0.5, 1, 1e30),
    "log_every": (1, 2**31 - 1),
    "evaluate.target.batch": (1, 7, 2**31 - 1),  # filled up to what there is
    "train": ((("**", 1),), [["**", 0.5]], (("trunk/**", 0), ("**", 1.0))),
    "start": ((), (("**", "fresh"),)),
    "accumulate": (1, 2, 8),
    "streams.source.transforms": ((), [], ({"name": "shift", "pixels": 0},)),
}


@functools.cache
def base():
    """A config of one phase, as plain dictionaries."""
    digits = {"data": "digits", "size": 4}
    return plain(
        {
            "streams": {
                "source": {**digits, "split": "train[:60]", "batch": 8},
                "target": {**digits, "split": "train[600:660]", "batch": 8},
            },
            "evaluate": {"target": {**digits, "split": "train[1400:1440]", "batch": 40}},
            "tables": {"attributes": {"data": "segments"}},
            "network": {
                "trunk": {"name": "mlp", "features": (6,)},
                "heads": {"label": {"name": "linear"}, "other": {"name": "linear"}},
                "stems": {},
            },
            "terms": {
                "label": {"term": "cross_entropy", "weight": 1.0, "stream": "source"},
                "other": {"term": "cross_entropy", "weight": 1.0, "head": "other"},
            },
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "schedule": {"name": "constant"}},
            "steps": 2,
        }
    )


OPENED = Opened({}, {})


def built(config):
    return build(check(config), OPENED)


def put(tree, path, value):
    """The tree with a value at a path, sections on the way made; what is there is not asked."""
    key, _, rest = path.partition(".")
    if isinstance(tree, tuple):
        at = int(key)
        return (*tree[:at], put(tree[at], rest, value) if rest else value, *tree[at + 1 :])
    return {**tree, key: put(tree.get(key, {}), rest, value) if rest else value}


def kind_of(name, default, annotation=None):
    """The kind of a field, by its default; of one that may be None, by its annotation."""
    if default is None or default is inspect.Parameter.empty:
        text = str(annotation)
        kinds = {"bool": bool, "float": float, "int": int, "tuple": tuple, "str": str}
        return next((kind for word, kind in kinds.items() if word in text), int)
    return {list: tuple}.get(type(default), type(default))


def wrong_values(name, kind, owner=""):
    """What a field of that name and kind does not take."""
    values = [*WRONG[kind], *STRANGE]
    if kind is float and name not in ANY_SIGN:
        values += [-1, -0.5, -1e-3]
    if name != "alpha" or POSITIVE_ALPHA.get(owner, True):
        values += BESIDE.get(name, ()) if kind in (int, float) else ()
    if name in OPTIONAL:
        values = [value for value in values if value is not None]
    if kind is tuple and name in ("features", "channels", "hidden"):  # of sizes
        values += [[0], [HUGE], [-1], [1.5], [True], ["3"], [NAN], [None], [[3]]]
    return values


SECTIONS = {
    "": fields.ConfigFields,
    "streams.source.": fields.StreamFields,
    "evaluate.target.": fields.EvaluationFields,
    "tables.attributes.": fields.TableFields,
    "network.": fields.NetworkFields,
    "tokenizer.": fields.TokenizerFields,
    "mesh.": fields.MeshFields,
}


def of_schema():
    """(path, value, config) of every field of every section of the schema."""
    for section, model in SECTIONS.items():
        for name, info in model.model_fields.items():
            default = info.get_default(call_default_factory=True)
            text = str(info.annotation) + str(info.metadata)
            kind = kind_of(name, default, text)
            if name == "channels":
                kind = int
            for value in wrong_values(name, kind):
                yield f"{section}{name}", value, base()


# Where a function of each family stands in a config, and the sections that name it.
PLACES = {
    "terms": ("terms.label", lambda name: {"term": name}),
    "optimizer,": ("optimizer", lambda name: {"name": name, "learning_rate": 0.1}),
    "optimizer.schedule": ("optimizer.schedule", lambda name: {"name": name}),
    "transforms": ("streams.source.transforms.0", lambda name: {"name": name}),
    "view": ("streams.source.view", lambda name: {"name": name}),
    "mix": ("streams.source.mix", lambda name: {"name": name}),
    "prepare": ("prepare.x", lambda name: {"solver": name}),
    "adapters": ("adapters.x", lambda name: {"name": name}),
    "network.trunk": ("network.trunk", lambda name: {"name": name}),
    "network.heads": ("network.heads.label", lambda name: {"name": name}),
    "network.stems": ("network.stems.x", lambda name: {"name": name}),
    "balance": ("balance", lambda name: {"name": name, "tasks": ("label", "other")}),
}
NAMED = {"terms": "term", "prepare": "solver"}
NO_NAMES = (3, 0.5, True, None, [], ["sgd"], {}, {"a": 1}, NAN, HUGE, "no such thing", "a.b:c")
NO_NAMES += (":f", "x:", ".x:y", "..:y", "os:system", "sys:exit", "time:sleep", "jax.numpy:mean")
NO_NAMES += (
    "tljax.losses:coral",
    "math:pi",
    "os:no",
    "builtins:print",
    "json:JSONDecoder",
    "a b:c",
)


def of_functions():
    """(path, value, config) of every field of every shipped function, and of their names."""
    for title, functions, skip in FUNCTIONS:
        family = next(key for key in PLACES if title.startswith(key))
        place, made = PLACES[family]
        start = base()
        if family == "transforms":
            start = put(start, "streams.source.transforms", ({},))
        if family == "view":
            start = put(start, "streams.source.size", None)
        key = NAMED.get(family, "name")
        first = next(iter(functions))
        for value in (*NO_NAMES, *STRANGE[:4]):
            if family != "balance" or not isinstance(value, str) or ":" not in value:
                yield f"{place}.{key}", value, put(start, place, {**made(first), key: value})
        for value in WRONG[dict]:
            if not (family == "terms" and isinstance(value, int | float)):  # a weight is a term
                if not (family == "optimizer.schedule" and isinstance(value, str)):
                    yield place, value, put(start, place, value)
        for name, function in functions.items():
            section, parameters = made(name), inspect.signature(function).parameters
            yield place, "nonsense", put(start, place, {**section, "nonsense": 1})
            for field, default in defaults(function, skip).items():
                kind = kind_of(field, default, parameters[field].annotation)
                for value in wrong_values(field, kind, name):
                    yield f"{place}.{field}", value, put(start, place, {**section, field: value})
                if typing.get_origin(parameters[field].annotation) is typing.Literal:
                    yield f"{place}.{field}", "x", put(start, place, {**section, field: "x"})


def names_it(line, path):
    """Whether a line says where the mistake is: the field, or at least its section."""
    place = path.replace(".0", "[0]")
    return "\n" not in line and (place in line or path.rpartition(".")[2] in line)


def refusals(cases):
    """Those of the cases that are not refused in a line that names the field, and their number."""
    count, failures = 0, []
    for path, value, config in cases:
        count += 1
        try:
            built(config)
            failures.append((path, shown(value), "accepted"))
        except UserError as error:
            if not names_it(str(error), path):
                failures.append((path, shown(value), str(error)))
        except Exception as error:
            failures.append((path, shown(value), f"{type(error).__name__}: {error}"[:200]))
    return count, failures


def test_no_field_of_a_section_takes_what_does_not_fit():
    fits = {"streams.source.classes": [3], "evaluate.target.classes": [3]}  # a class's number
    cases = [
        (path, value, put(config, path, value))
        for path, value, config in of_schema()
        if not (path in fits and isinstance(value, list) and value == fits[path])
    ]
    count, failures = refusals(cases)
    assert not failures and count > 1000, failures


def test_no_field_of_a_function_takes_what_does_not_fit():
    count, failures = refusals(of_functions())
    assert not failures and count > 2000, failures


def test_what_fits_is_taken():
    for path, values in GOOD.items():
        for value in values:
            config = put(base(), path, value)
            built(config)


# Over the command line, and as values of a sweep: what can be typed.
TYPED = (
    "-1",
    "nan",
    "1e999",
    "10**3",
    "{}",
    "[[1]]",
    "[nan]",
    "1e39",
    str(10**40),
    "{1: 2}",
    "(,",
    "",
)
PATHS = (
    *("steps", "log_every", "seed", "accumulate", "average", "keep", "workers", "figures"),
    *("streams.source.batch", "streams.source.per_class", "streams.source.scale", "mesh.data"),
    *("evaluate.target.batch", "terms.label.smoothing", "terms.label.weight", "optimizer.momentum"),
    *("optimizer.warmup", "optimizer.nesterov", "optimizer.clip", "network.trunk.features"),
    *("network.heads.label.outputs", "streams.source.labelled", "phases", "train", "start"),
)
FILE = """
import test_fuzz

def get_config():
    return test_fuzz.typed()
"""


def typed():
    """A config in which every path of PATHS is there."""
    config = base()
    for path, value in (("optimizer.momentum", 0.9), ("terms.label.smoothing", 0.1)):
        config = put(config, path, value)
    return config


def test_the_command_line_refuses_what_does_not_fit(tmp_path, capsys):
    file = tmp_path / "config.py"
    file.write_text(FILE)
    failures = []
    for path in PATHS:
        for text in TYPED:
            command = [f"--config={file}", f"--workdir={tmp_path / 'run'}", "--quiet"]
            code = main(["tljax", *command, f"--config.{path}={text}"])
            line = capsys.readouterr().err
            if code != 2 or line.count("\n") != 1 or path.rpartition(".")[2] not in line:
                failures.append((path, text, code, line))
    assert not failures


def test_a_sweep_refuses_what_does_not_fit_before_any_member_runs(tmp_path):
    failures = []
    for path in PATHS:
        for text in TYPED[:-2]:
            try:
                points = grid.parse([f"{path}={typed_default(path)},{text}"])
                sweep.built(sweep.members(typed(), points), tmp_path)
                failures.append((path, text, "accepted"))
            except UserError as error:
                if path.rpartition(".")[2] not in str(error) and "--over" not in str(error):
                    failures.append((path, text, str(error)))
    assert not failures and not list(tmp_path.iterdir())


def typed_default(path):
    """A value that fits, as it is typed."""
    fits = {"phases": "()", "train": "(('**', 1.0),)", "start": "()", "features": "(3,)"}
    return fits.get(path.rpartition(".")[2], "1" if path not in FLAGS else "True")


FLAGS = ("figures", "optimizer.nesterov", "streams.source.labelled")

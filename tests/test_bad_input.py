"""Mistakes in a config: one line that names the field and the value, exit code 2, nothing lost."""

import json
import sys

import numpy as np
import pytest

from tljax.main import main

BASE = """
from tljax.experiment import blank

def get_config():
    config = blank()
    digits = dict(data="digits", size=4)
    config.streams.source = dict(digits, split="train[:40]", batch=8)
    config.streams.target = dict(digits, split="train[600:640]", batch=8)
    config.evaluate.target = dict(digits, split="train[1400:1440]", batch=40)
    config.tables.segments = dict(data="segments")
    config.network.trunk = dict(name="mlp", features=(6,))
    config.network.heads.label = dict(name="linear")
    config.network.heads.other = dict(name="linear")
    config.network.heads.embed = dict(name="linear", outputs=7, bias=False)
    config.network.heads.cluster = dict(name="prototypes", outputs=41)
    config.network.heads.bank = dict(name="neighbours", k=41)
    config.terms.label = dict(term="cross_entropy", weight=1.0, stream="source")
    config.optimizer.learning_rate = 0.1
    config.update(steps=2, log_every=2, evaluate_every=2, checkpoint_every=2, figures=False)
    target = dict(config.evaluate.target)
    {lines}
    return config
"""

THEIRS = """
import flax.linen as nn

def nothing(context): ...
def nothing_of(view): ...
def two(view, other): ...
def blind(image, key): return image
def tearing(image, key, *, held_out=False): return image / (1 // 0)
def raising(view): return {}["not there"]
def looking(view): return 1.0 if view.features["source"].sum() > 0 else 2.0

class Broken(nn.Module):
    @nn.compact
    def __call__(self, x, *, train, stream=None):
        return x.no_such_thing
"""
PREPARED = "config.steps = 0; config.prepare = "
EMBED = 'config.terms.c = dict(term="compatibility", head="embed", table="segments"); '
ZERO = 'config.evaluate.zero = dict(target, head="embed", readout="compatibility", table="segments"'
VIEW = 'config.streams.view = dict(of="target"'
TWO = (
    'config.phases = ("first", "second"); config.first = dict(flow=("source",)); '
    'config.second = dict(flow=("source",)); '
)


@pytest.fixture(autouse=True)
def own_path(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture
def tljax(tmp_path, capsys):
    """Runs a config with more lines in it: its exit code, and what it wrote on stderr."""

    def run(lines="", workdir="run", *arguments):
        path = tmp_path / "config.py"
        path.write_text(BASE.replace("{lines}", lines))
        where = f"--workdir={tmp_path / workdir}"
        code = main(["tljax", f"--config={path}", where, "--quiet", *arguments])
        return code, capsys.readouterr().err

    return run


def refused(answer, *needles):
    code, line = answer
    assert code == 2
    assert line.startswith("tljax: error: ") and line.count("\n") == 1 and line[-1] == "\n", line
    assert "Traceback" not in line
    for needle in needles:
        assert needle in line, line


CASES = {
    "start: no match": [
        'config.start = (("trnk/**", "fresh"), ("**", "fresh"))',
        *["start: pattern 'trnk/**' matches no parameter", "trunk/dense_0/kernel"],
    ],
    "train: no match": [
        'config.train = (("heads/labl/**", 0.0), ("**", 1.0))',
        *["train: pattern 'heads/labl/**' matches no parameter", "heads/label/output/kernel"],
    ],
    "train: contradiction": [
        'config.train = (("trunk/**", 0.0), ("trunk/dense_0/**", 1.0), ("**", 1.0))',
        "train: pattern 'trunk/dense_0/**' never applies: 'trunk/**' before it matches all that it "
        "does, with another value",
    ],
    "train: contradicting factors": [
        'config.train = (("trunk/**", 0.1), ("trunk/dense_0/*", 1.0), ("**", 1.0))',
        "train: pattern 'trunk/dense_0/*' never applies: 'trunk/**' before it",
    ],
    "train: contradiction in a phase": [
        TWO + 'config.first.train = (("**", 0.1), ("trunk/**", 1.0))',
        "first.train: pattern 'trunk/**' never applies: '**' before it",
    ],
    "start: contradiction": [
        'config.start = (("**", "fresh"), ("trunk/**", "run:nowhere"))',
        *["start[1]", "run:nowhere"],
    ],
    "train: not a rule": ['config.train = ("trunk/**",)', *["train", "pairs ((pattern, value)"]],
    "train: negative": ['config.train = (("**", -1.0),)', *["train[0]", "-1.0", "at least 0"]],
    "train: nothing moves": ['config.train = (("**", 0.0),)', "train", "freezes every parameter"],
    "start: unknown phase": [
        'config.start = (("**", "frehs"),)',
        *["start[0]", "'frehs'", "Did you mean 'fresh'?"],
    ],
    "only: no match": [
        'config.terms.near = dict(term="l2_sp", only=("trnk/**",))',
        *["terms.near", "only", "trnk/**", "trunk/dense_0/kernel"],
    ],
    "shared: no match": [
        'config.terms.b = dict(term="cross_entropy", head="other"); '
        'config.balance = dict(name="pcgrad", shared=("trnk/**",))',
        *["balance.shared", "trnk/**", "trunk/dense_0/kernel"],
    ],
    "classes without attributes": [
        'config.tables.few = dict(data="csv:few.csv")',
        *["tables.few.data", "no row in", "'2'", "'9'", "one for every class"],
    ],
    "attributes that are no numbers": [
        'config.tables.nan = dict(data="csv:nan.csv")',
        *["tables.nan.data", "'nan'", "finite number", "line 4, column 'wings'"],
    ],
    "attributes that are no numbers in an archive": [
        'config.tables.nan = dict(data="npz:nan.npz")',
        *["tables.nan.data", "nan", "finite number", "'3'"],
    ],
    "missing words": [
        'config.tables.words = dict(data="glove:words.txt")',
        *["tables.words.data", "no vector in", "'8', '9'"],
    ],
    "unknown table of attributes": [
        'config.tables.x = dict(data="segmnts")',
        *["tables.x.data", "'segmnts'", "Did you mean 'segments'?"],
    ],
    "unknown like": [
        'config.tables.x = dict(data="segments", like="sorce")',
        *["tables.x.like", "'sorce'", "Did you mean 'source'?"],
    ],
    "unseen classes in training labels": [
        EMBED + ZERO + ", classes=(8, 9), unseen=(8, 9), among='unseen')",
        *["evaluate.zero.unseen", "['8', '9']", "stream 'source' holds them"],
    ],
    "seen examples among the unseen": [
        EMBED + 'config.streams.source.classes = (0, 1, 2, 3); config.flow = ("source",); '
        "" + ZERO + ", unseen=(8, 9), among='unseen')",
        *["evaluate.zero.classes", "'0'", "unseen classes alone"],
    ],
    "unseen classes that no example has": [
        EMBED + 'config.streams.source.classes = (0, 1); config.flow = ("source",); '
        "" + ZERO + ", classes=(0, 1), unseen=(8, 9))",
        *["evaluate.zero.unseen", "['8', '9']", "some of the classes of its examples"],
    ],
    "an unknown unseen class": [
        ZERO + ", unseen=('nine',))",
        *["evaluate.zero.unseen", "'nine'", "expected one of: 0, 1"],
    ],
    "calibrated by what is judged": [
        EMBED + 'config.streams.source.classes = (0, 1, 2, 3); config.flow = ("source",); '
        "" + ZERO + ", unseen=(8, 9), calibrate='zero')",
        *["evaluate.zero.calibrate", "'zero'", "without the unseen classes ['8', '9']"],
    ],
    "calibrated by nothing": [
        ZERO + ", calibrate='targt')",
        *["evaluate.zero.calibrate", "'targt'", "Did you mean 'target'?"],
    ],
    "unknown readout": [
        'config.evaluate.target.readout = "cosin"',
        *["evaluate.target.readout", "'cosin'", "Did you mean 'cosine'?"],
    ],
    "readout without its table": [
        'config.evaluate.target.readout = "dap"; config.evaluate.target.table = "segmets"',
        *["evaluate.target.table", "'segmets'", "Did you mean 'segments'?"],
    ],
    "a head of another width than the table": [
        'config.evaluate.target.update(readout="cosine", table="segments")',
        *["evaluate.target.head", "'label' has 10 outputs; 7 are read by 'cosine'"],
    ],
    "a head of another width than the classes": [
        'config.evaluate.target.update(readout="conse", table="segments", head="embed")',
        *["evaluate.target.head", "'embed' has 7 outputs; 10 are read by 'conse'"],
    ],
    "class scores without a head": [
        'config.evaluate.target.head = ""',
        *["evaluate.target.head", "''", "one, for 'logits'"],
    ],
    "dap with scaled attributes": [
        'config.tables.scaled = dict(data="segments", normalise=True); config.evaluate.dap = '
        'dict(target, head="embed", readout="dap", table="scaled")',
        *["evaluate.dap.readout", "'dap'", "0 and 1 only"],
    ],
    "a term with a table of other classes": [
        'config.tables.few = dict(data="csv:few.csv", like="two"); config.streams.two = dict('
        'data="npz:two.npz", split="all", batch=8, size=4); config.terms.attributes = '
        'dict(head="embed", table="few")',
        *["tables.few.data", "no row in", "'9'"],
    ],
    "more neighbours than examples": [
        "config.prepare = dict(neighbours=dict(stream='source', k=40))",
        *["prepare.neighbours", "k: got 40", "1…39"],
    ],
    "more voters than examples": [
        PREPARED + "dict(knn=dict(stream='source', head='bank'))",
        *["prepare.knn", "network.heads.bank.k: got 41", "40 examples of source"],
    ],
    "more clusters than examples": [
        PREPARED + "dict(kmeans=dict(stream='source'))",
        *["prepare.kmeans", "clusters: got 41", "1…40"],
    ],
    "unknown solver": [
        PREPARED + "dict(fit=dict(solver='rigde'))",
        *["prepare.fit.solver", "'rigde'", "Did you mean 'ridge'?"],
    ],
    "a number of a solver": [
        PREPARED + "dict(ridge=dict(stream='source', penalty='much'))",
        *["prepare.ridge.penalty", "'much'", "finite number"],
    ],
    "a count of a solver": [
        PREPARED + "dict(kmeans=dict(stream='source', restarts=2.5))",
        *["prepare.kmeans.restarts", "2.5", "an integer"],
    ],
    "a head of another kind": [
        PREPARED + "dict(ridge=dict(stream='source', head='cluster'))",
        *["prepare.ridge", "network.heads.cluster", "Prototypes"],
    ],
    "a field of a solver": [
        PREPARED + "dict(ridge=dict(stream='source', penlty=1.0))",
        *["prepare.ridge", "'penlty'", "Did you mean 'penalty'?"],
    ],
    "not a preparation": [PREPARED + "dict(ridge=3)", *["prepare.ridge", "3", "dict(solver=..."]],
    "nothing to do": ["config.steps = 0", *["steps", "0", "something to prepare"]],
    "no restarts": ["config.restarts = 0", *["restarts", "0", "at least 1"]],
    "no restarts of a phase": [
        TWO + "config.second.restarts = 0",
        *["second.restarts", "0", "at least 1"],
    ],
    "half frozen statistics": [
        TWO + "config.first.freeze_statistics = 1",
        *["first.freeze_statistics", "1", "True or False"],
    ],
    "an evaluation of a head that no term creates": [
        'config.evaluate.target.head = "other"',
        *["evaluate.target.head", "'other'", "expected one of: label"],
    ],
    "an evaluation of a head that there is not": [
        'config.evaluate.target.head = "labl"',
        *["evaluate.target.head", "'labl'", "Did you mean 'label'?"],
    ],
    "an evaluation of a phase that there is not": [
        TWO + 'config.evaluate.target.phase = "frist"',
        *["evaluate.target.phase", "'frist'", "Did you mean 'first'?"],
    ],
    "a balanced task that is no term": [
        'config.terms.b = dict(term="cross_entropy", head="other"); '
        'config.balance = dict(name="pcgrad", tasks=("label", "bb"))',
        *["balance.tasks", "'bb'", "Did you mean 'b'?"],
    ],
    "one task to be balanced": [
        'config.balance = dict(name="mgda")',
        *["balance.tasks", "at least two of the terms ['label']"],
    ],
    "unknown balance": [
        'config.balance = dict(name="pcgrda")',
        *["balance.name", "'pcgrda'", "Did you mean 'pcgrad'?"],
    ],
    "a field of a balance": [
        'config.balance = dict(name="sum", temperature=2.0)',
        *["balance", "'temperature'", "name, shared, tasks"],
    ],
    "a table that no term finds": [
        EMBED.replace("segments", "segmets"),
        *["terms.c", "'segmets'", "Did you mean 'segments'?"],
    ],
    "views of one batch that differ": [
        VIEW + ", batch=4)",
        *["streams.view.batch", "4", "8, that of 'target'"],
    ],
    "views with data of their own": [
        VIEW + ', data="digits")',
        *["streams.view.data", "'digits'", "its data is 'target'"],
    ],
    "a view of nothing": [
        'config.streams.view = dict(of="targt")',
        *["streams.view.of", "'targt'", "Did you mean 'target'?"],
    ],
    "a view of a view": [
        VIEW + '); config.streams.other = dict(of="view")',
        *["streams.other.of", "'view'", "data of its own"],
    ],
    "neighbours of nothing": [
        "config.streams.target.neighbour = True",
        *["streams.target.neighbour", "True", "of="],
    ],
    "neighbours that nobody looked for": [
        VIEW + ', neighbour=True); config.terms.scan = dict(neighbour="view", head="other")',
        *["streams.view", "'target' has no neighbours", "neighbours=dict("],
    ],
    "two streams of different batches as views": [
        "config.streams.target.batch = 6; config.terms.agree = "
        'dict(term="nt_xent", first="source", second="target", head="other")',
        *["terms.agree", "second", "batch of 6", "of 8", "streams.target.of='source'"],
    ],
    "a phase called as a field": [
        'config.phases = ("train",)',
        *["phases[0]", "'train'", "no field's"],
    ],
    "a phase called fresh": ['config.phases = ("fresh",)', *["phases[0]", "'fresh'"]],
    "a phase that comes twice": [TWO + 'config.phases = ("first",) * 2', "phases[1]", "'first'"],
    "a phase with a sign": [
        'config.phases = ("a/b",); config["a/b"] = dict(flow=("source",))',
        *["phases[0]", "'a/b'"],
    ],
    "a phase that is not given": [
        'config.phases = ("pretrain",)',
        *["pretrain", "None", "dict(...)"],
    ],
    "a field of a phase": [
        TWO + "config.second.step = 3",
        *["second", "'step'", "Did you mean 'steps'?"],
    ],
    "a flow of a stream that is not": [
        TWO + 'config.first.flow = ("sorce",)',
        *["first.flow", "'sorce'", "Did you mean 'source'?"],
    ],
    "terms that are no dict": [
        TWO + "config.second.terms = 3",
        *["second.terms", "3", "dict(...)"],
    ],
    "a balance without its dict": [
        TWO + 'config.second.balance = "pcgrad"',
        *["second.balance", "'pcgrad'", "dict(...)"],
    ],
    "an optimizer without its dict": [
        TWO + 'config.second.optimizer = "adam"',
        *["second.optimizer", "'adam'", "dict(...)"],
    ],
    "a flow that is a word": [
        'config.phases = ("first",); config.first = dict(flow="source")',
        *["first.flow", "'source'", "a list"],
    ],
    "tasks that are a word": [
        'config.balance = dict(name="pcgrad", tasks="label")',
        *["balance.tasks", "'label'", "a list of names"],
    ],
    "a start that is no name": [
        'config.start = (("**", ["fresh"]),)',
        *["start[0]", "['fresh']", "'run:WORKDIR'"],
    ],
    "an empty module": [PREPARED + 'dict(x=dict(solver=":f"))', *["prepare.x.solver", "':f'"]],
    "a function that is no preparation": [
        PREPARED + 'dict(x=dict(solver="builtins:print"))',
        *["prepare.x.solver", "'builtins:print'", "a function (context, *, ...)"],
    ],
    "a preparation that gives none": [
        PREPARED + 'dict(x=dict(solver="theirs:nothing"))',
        *["prepare.x", "got None", "Prepared"],
    ],
    "a loss for a term": [
        'config.terms.x = dict(term="tljax.losses:coral")',
        *["terms.x.term", "'tljax.losses:coral'", "a function (view, *, ...)"],
    ],
    "a class for a term": ['config.terms.x = dict(term="json:JSONDecoder")', "terms.x.term"],
    "a term of two views": ['config.terms.x = dict(term="theirs:two")', "terms.x.term"],
    "a function for a trunk": [
        'config.network.trunk = dict(name="theirs:nothing")',
        *["network.trunk.name", "'theirs:nothing'", "flax.linen.Module of __call__(self, x, *, tr"],
    ],
    "a head for a trunk": [
        'config.network.trunk = dict(name="tljax.models:Linear")',
        *["network.trunk.name", "'tljax.models:Linear'", "__call__(self, x, *, train, stream)"],
    ],
    "a loss for an optimizer": [
        'config.optimizer = dict(name="tljax.losses:coral", learning_rate=0.1)',
        *["optimizer.name", "'tljax.losses:coral'", "a function (rate or learning_rate, *, ...)"],
    ],
    "a loss for a schedule": [
        'config.optimizer.schedule = dict(name="math:cos")',
        *["optimizer.schedule.name", "'math:cos'", "a function (progress, *, ...)"],
    ],
    "a transform without held_out": [
        'config.streams.source.transforms = (dict(name="theirs:blind"),)',
        *["streams.source.transforms[0].name", "a function (input, key, *, held_out, ...)"],
    ],
    "a term that raises": [
        'config.terms.x = dict(term="theirs:raising")',
        *["terms.x: KeyError: 'not there'"],
    ],
    "a term that asks what it does not know": [
        'config.terms.x = dict(term="theirs:looking")',
        *["terms.x: TracerBoolConversionError: "],
    ],
    "a term that gives nothing": ['config.terms.x = dict(term="theirs:nothing_of")', "terms.x: "],
    "a transform that raises": [
        'config.streams.source.transforms = (dict(name="theirs:tearing"),)',
        *["streams.source.transforms: ZeroDivisionError: "],
    ],
    "a trunk that raises": [
        'config.network.trunk = dict(name="theirs:Broken")',
        *["network: AttributeError: "],
    ],
    "a module that raises": [
        'config.terms.x = dict(term="raising:term")',
        *["terms.x.term", "'raising'", "no numbers today"],
    ],
    "a module that exits": [
        'config.terms.x = dict(term="exiting:term")',
        "terms.x.term",
        "'exiting'",
    ],
    "more pixels than memory": [
        "config.streams.source.size = 10**30",
        *["streams.source.size", "an integer from 1 to 4096"],
    ],
    "a layer wider than memory": [
        "config.network.trunk.features = (10**30,)",
        *["network.trunk.features[0]", "an integer from 1 to 1000000"],
    ],
    "layers that memory does not hold": [
        "config.network.trunk.features = (10**6, 10**6)",
        *["network: got 1,0", "parameters, most of them in trunk/dense_1/kernel"],
    ],
    "a head wider than memory": [
        "config.network.heads.label = dict(name='linear', outputs=10**9)",
        *["network.heads.label.outputs", "from 1 to 1000000"],
    ],
    "more steps than a count holds": [
        "config.log_every = 10**30",
        *["log_every", "an integer of at least 1 that 32 bits hold"],
    ],
    "an image moved out of itself": [
        'config.streams.source.transforms = (dict(name="shift", pixels=5),)',
        *["streams.source.transforms", "pixels: got 5", "at most 4"],
    ],
    "an evaluation of an image cut out": [
        'config.evaluate.target.transforms = (dict(name="cutout", size=5),)',
        *["target.transforms", "size: got 5", "at most 4"],
    ],
    "contrast of one": [
        VIEW + '); config.terms.c = dict(term="nt_xent", first="target", head="embed"); '
        "config.accumulate = 8",
        *["terms.c", "z1: got [1, ", "at least 2"],
    ],
    "a correlation of one": [
        VIEW + ", batch=1); config.streams.target.batch = 1; config.terms.c = dict("
        'term="barlow_twins", first="target", head="embed")',
        *["terms.c", "z1: got [1, ", "at least 2"],
    ],
    "clusters of one": [
        'config.streams.target.batch = 1; config.terms.c = dict(term="embedded_clustering")',
        *["terms.c", "q: got [1, ", "at least 2"],
    ],
    "batch statistics of one": [
        'config.network.trunk.norm = "batch"; config.accumulate = 8; config.flow = ("source",)',
        *["network: norm", "at least 2 examples"],
    ],
    "images that are halved to nothing": [
        'config.network.trunk = dict(name="cnn", channels=(2, 2, 2))',
        *["trunk: a map to halve: got (1, 1)", "(2, 2) at least, of larger inputs"],
    ],
    "float images of 255": [
        "config.streams.source = dict(data='npz:floats.npz', split='all', batch=8)",
        *["streams.source", "from 0 to 255", "[0, 1]", "streams.source.scale"],
    ],
    "float images below 0": [
        "config.evaluate.target = dict(data='npz:signed.npz', split='all')",
        *["evaluate.target", "from -1 to 1", "[0, 1]"],
    ],
    "float images over too small a number": [
        "config.streams.source = dict(data='npz:floats.npz', split='all', batch=8, scale=2)",
        *["streams.source", "from 0 to 127.5 after division by streams.source.scale=2"],
    ],
    "a scale of integers": [
        "config.streams.source.scale = 255.0",
        *["streams.source.scale", "255.0", "no float images"],
    ],
    "half labelled": [
        'config.streams.source.labelled = "no"',
        *["streams.source.labelled", "'no'", "True or False"],
    ],
    "an evaluation of other images": [
        "config.evaluate.target.size = 8",
        *["evaluate.target", "inputs (8, 8, 1)", "phase 'train'", "(64, 6)"],
    ],
    "an evaluation through a stem that nothing passed": [
        'config.network.stems.x = dict(name="adapter", features=1); config.evaluate.x = '
        'dict(target, stem="x")',
        *["evaluate.x", "the stem", "phase 'train'", "/stems/x"],
    ],
    "labels of another number": [
        "config.network.heads.label.outputs = 4",
        *["evaluate.target", "label 9", "'label'", "from 0 to 3"],
    ],
}


@pytest.fixture(autouse=True, scope="module")
def files(tmp_path_factory):
    """A directory with what the configs above read, to be in."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "few.csv").write_text("class,legs\n0,1\n1,0\n")
    rows = [f"{i},{i},{'nan' if i == 2 else 1}\n" for i in range(10)]
    (folder / "nan.csv").write_text("class,legs,wings\n" + "".join(rows))
    spoilt = np.ones((10, 2))
    spoilt[3, 1] = np.nan
    np.savez(folder / "nan.npz", classes=[str(i) for i in range(10)], attributes=spoilt)
    images = np.zeros((40, 4, 4, 1), np.uint8)
    np.savez(folder / "two.npz", images=images, labels=np.arange(40) % 2)
    floats = np.linspace(0, 255, 640, dtype=np.float32).reshape(40, 4, 4, 1)
    np.savez(folder / "floats.npz", images=floats, labels=np.arange(40) % 2)
    np.savez(folder / "signed.npz", images=floats / 127.5 - 1, labels=np.arange(40) % 2)
    (folder / "theirs.py").write_text(THEIRS)
    (folder / "raising.py").write_text("raise ArithmeticError('no numbers today')")
    (folder / "exiting.py").write_text("raise SystemExit(0)")
    (folder / "words.txt").write_text("".join(f"{i} 0.5 {i}\n" for i in range(8)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_gets_one_line(name, tljax, tmp_path):
    lines, *needles = CASES[name]
    refused(tljax(lines), *needles)
    files = {path.relative_to(tmp_path / "run").parts[0] for path in (tmp_path / "run").rglob("*")}
    assert files <= {"config.json", "metrics.jsonl", "data.json", ".lock", "features"}


def test_the_base_is_no_mistake_and_a_mistake_leaves_a_finished_run_as_it_is(tljax, tmp_path):
    """Then a run starts from it, of another shape, or of damaged files."""
    assert tljax() == (0, "")
    run = tmp_path / "run"
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    refused(tljax('config.train = (("trnk/**", 0.0), ("**", 1.0))'), "workdir", "train", "trnk")
    refused(tljax('config.phases = ("train",)'), "phases[0]")
    origin = f'config.start = (("**", "run:{run}"),)'
    refused(
        tljax(origin + "; config.network.trunk.features = (5,)", "other"),
        *[
            f"start: 'run:{run}' does not hold",
            "! trunk/dense_0/kernel (16, 5) against (16, 6)",
        ],
    )
    refused(
        tljax(
            origin + '; config.network.trunk.name = "cnn"; del config.network.trunk.features', "o"
        ),
        *["start", "- trunk/conv_0/kernel", "- trunk/conv_1/bias"],
    )
    refused(
        tljax(origin.replace("**", "trunk/**"), "other"),
        *["start: no pattern matches parameter 'heads/label/output/bias'", "last rule ('**', …)"],
    )
    assert before == {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert tljax(origin, "other") == (0, "")  # the same directory: nothing had begun there


def test_a_mistake_that_has_been_put_right_needs_no_other_workdir(tljax, tmp_path):
    refused(tljax("config.terms.label.weight = -1.0"), "terms.label.weight", "-1.0")
    assert tljax() == (0, "")
    refused(tljax("config.seed = 1"), "workdir", "seed (0 there, 1 here)")


@pytest.mark.parametrize(
    ("line", "needle"),
    [
        ("int('seven')", "invalid literal for int() with base 10: 'seven'"),
        ("config.streams.sorce", 'Did you mean "source" instead of "sorce"?'),
        ("config['stpes'] = 3; config.no.thing = 2", "'no'"),
        ("{}['absent']", "unknown field absent"),
        ("import not_there", "No module named 'not_there'"),
        ("def", "invalid syntax"),
    ],
)
def test_a_mistake_in_the_code_of_a_config_gets_one_line(line, needle, tljax):
    refused(tljax(line), needle)


def test_a_config_that_is_not_there_is_named(tmp_path, capsys):
    for arguments in (["--config=no/such.py"], ["params", "--config=no/such.py"]):
        code = main(["tljax", *arguments, f"--workdir={tmp_path / 'run'}"])
        refused((code, capsys.readouterr().err), "--config: got 'no/such.py'; expected --config F")
    refused((main(["tljax"]), capsys.readouterr().err), "--config: got None; expected --config FI")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"name": "a package"}', "{}"])
def test_a_config_json_of_something_else_is_left_alone(text, tljax, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(text)
    refused(tljax(), "workdir", "config.json", "or take another workdir")
    assert (tmp_path / "run" / "config.json").read_text() == text


def test_no_confident_example_is_no_mistake(tljax, tmp_path):
    """The loss is 0, without NaN, and training goes on."""
    lines = VIEW + '); config.terms = dict(own=dict(term="self_label", augmented="view", '
    lines += "head='other', threshold=1.0)); config.evaluate.target.head = 'other'"
    assert tljax(lines) == (0, "")
    records = [json.loads(line) for line in open(tmp_path / "run" / "metrics.jsonl")]
    train = next(record for record in records if record["kind"] == "train")
    assert train["step"] == 2 and train["own"] == train["loss"] == train["gradient_norm"] == 0.0


def test_a_mistake_in_params_gets_one_line(tmp_path, capsys):
    path = tmp_path / "config.py"
    lines = TWO + 'config.second.start = (("**", "frist"),)'
    path.write_text(BASE.replace("{lines}", lines))
    code = main(["tljax", "params", f"--config={path}"])
    refused((code, capsys.readouterr().err), "second.start[0]", "'frist'", "mean 'first'?")


def test_float_images_over_their_scale_are_those_of_integers(tljax, tmp_path):
    """As uint8 is divided by 255 in the step. Feature vectors may hold any numbers."""
    of = "data='npz:{}.npz', split='all', {}"
    of = f"config.streams.source = dict({of}, batch=8); config.evaluate.target = dict({of}); "
    of += "config.flow = ('source',)"
    pixels = (np.arange(640).reshape(40, 4, 4, 1) % 256).astype(np.uint8)
    np.savez("pixels.npz", images=pixels, labels=np.arange(40) % 2)
    np.savez("scaled.npz", images=pixels.astype(np.float32), labels=np.arange(40) % 2)
    np.savez("vectors.npz", input=pixels.reshape(40, 16) * 3.0 - 99, labels=np.arange(40) % 2)
    losses = []
    for name, fields in (
        ("pixels", "scale=None"),
        ("scaled", "scale=255"),
        ("vectors", "scale=None"),
    ):
        assert tljax(of.format(*(name, fields) * 2), name) == (0, ""), name
        result = json.loads((tmp_path / name / "result.json").read_text())
        losses.append(result["evaluations"]["target"]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)

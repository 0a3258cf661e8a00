"""Runs on texts, from files to predictions: three tasks, hidden words and pairs in one network."""

import csv
import json

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax import experiment, losses
from tljax.data import hiding, tokens
from tljax.errors import UserError
from tljax.experiment import export, sweep, using
from tljax.experiment.build import build
from tljax.experiment.check import check
from tljax.main import main
from tljax.models import BERT, Linear
from tljax.phase import objective

SENTENCES = (
    "The red fox runs.",
    "A river is wide.",
    "Far away the fox sleeps.",
    "No fox, no river.",
)
TRUNK = dict(name="bert", vocabulary=90, length=32, width=16, depth=1, heads=2, separator=3)


def write(root, shuffled=False):
    """Pairs of sentences with a label, and with a span: the first word of the second."""
    for split, count in (("train", 20), ("test", 7)):
        rows = []
        for i in range(count):
            first, second = SENTENCES[i % 4], SENTENCES[i % 3]
            label = "same" if first == second else "other"
            span = dict(start=0, end=second.index(" "))
            rows.append(dict(text=first, text_pair=second, label=label, page=str(i % 5), **span))
        if shuffled:
            labels = [row["label"] for row in rows]
            rows = [{**row, "label": label} for row, label in zip(rows, labels[::-1], strict=True)]
        (root / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    for name in ("pairs", "bare", "shuffled"):
        (root / name).mkdir()
        write(root / name, shuffled=name == "shuffled")
    (root / "new.txt").write_text("The fox.\nA river is\n")
    return root


def config(root, bare="bare"):
    config = experiment.blank()
    config.update(data_dir=str(root), steps=3, log_every=1, evaluate_every=3, checkpoint_every=3)
    config.figures = False
    config.tokenizer.vocabulary = 90
    config.streams = dict(
        pairs=dict(data="text:pairs", batch=4),
        words=dict(
            **dict(data=f"text:{bare}", labelled=False, batch=4, length=24),
            transforms=(dict(name="mask_tokens", probability=0.5),),
        ),
        left=dict(data=f"text:{bare}", labelled=False, batch=5),
        right=dict(of="left", transforms=(dict(name="sentence", which="second"),)),
    )
    config.streams.left.transforms = (dict(name="sentence"),)
    test = dict(data="text:pairs", split="test")
    config.evaluate = dict(label=test, span=dict(test, head="span", layer="tokens", readout="span"))
    config.network.trunk = TRUNK
    config.network.heads = {name: dict(name="linear") for name in ("label", "span", "words")}
    config.terms = dict(
        label=dict(term="cross_entropy", stream="pairs"),
        span=dict(stream="pairs"),
        words=dict(term="masked_language_model", stream="words"),
        sides=dict(term="info_nce", first="left", second="right"),
    )
    config.optimizer = dict(name="adamw", learning_rate=1e-2)
    return config


@pytest.fixture(scope="module")
def run(root):
    experiment.run(config(root), root / "run")
    return root / "run"


def left_by(workdir):
    return tuple((workdir / name).read_text() for name in ("metrics.jsonl", "result.json"))


def test_a_run_keeps_its_tokenizer_and_reads_new_texts_by_it(root, run, capsys):
    result = json.loads((run / "result.json").read_text())
    assert set(result["evaluations"]["span"]) == {"exact_match", "f1", "examples"}
    kept = tokens.read_tokenizer(run / "tokenizer.json", "kept")
    texts = [text for name in ("pairs", "bare", "bare") for text in texts_of(root / name)]
    assert kept.to_str() == tokens.learned(texts, 90).to_str()
    model = tljax.load(run)
    shares = model.predict([("The fox.", "A river is")])
    assert shares.shape == (1, 2) and model.classes["label"] == ("other", "same")
    command = ["tljax", "predict", "--run", str(run), "--data", f"text:{root}/new.txt", "--quiet"]
    assert main([*command, "--out", str(root / "out.csv")]) == 0
    rows = list(csv.DictReader(open(root / "out.csv")))
    assert [row["text"] for row in rows] == ["The fox.", "A river is"]
    for row, expected in zip(rows, model.predict(["The fox.", "A river is"]), strict=True):
        np.testing.assert_allclose([float(row[n]) for n in ("other", "same")], expected, atol=1e-5)
    assert using.predict(run, f"text:{root}/pairs", root / "out.jsonl", split="test", like="span")
    for line in (root / "out.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["text_pair"][row["start"] : row["end"]] == row["span"] != ""
    assert "pipeline_tag: text-classification" in (run / "README.md").read_text()


def test_what_is_exported_reads_tokens_of_the_tokenizer_beside_it(root, run):
    file = root / "label.stablehlo"
    export.export(run, file, like="label")
    told = json.loads((root / "label.stablehlo.json").read_text())
    program = jax.export.deserialize(bytearray(file.read_bytes()))
    pair, length = [("The fox.", "A river is")], told["input"]["shape"][0]
    table = tokens.tokenised(pair, root / "label.stablehlo.tokenizer.json", length)
    logits = program.call(table.input.stacked(), table.mask)
    shares = tljax.load(run, like="label").predict(pair)
    np.testing.assert_allclose(jax.nn.softmax(logits), shares, rtol=1e-5)


def texts_of(folder):
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    return [row[name] for row in rows for name in ("text", "text_pair")]


def test_labels_of_unlabelled_texts_change_nothing(root, run):
    experiment.run(config(root, "shuffled"), root / "other")
    assert left_by(root / "other") == left_by(run)


def test_a_sweep_does_what_single_runs_do(root, run):
    """To rounding: two members in a program are compiled otherwise, and so added up."""
    sweep.run(config(root), [{"seed": 0}, {"seed": 1}], root / "sweep")
    members = list((root / "sweep" / "members").iterdir())
    assert all((each / "tokenizer.json").read_text() for each in members)
    first = next(each for each in members if json.loads(left_by(each)[1])["seed"] == 0)
    ours, theirs = (left_by(each)[0].splitlines() for each in (run, first))
    for one, other in zip(map(json.loads, ours), map(json.loads, theirs), strict=True):
        assert one.pop("phase") == other.pop("phase") and one.pop("kind") == other.pop("kind")
        assert one == pytest.approx(other, rel=1e-5)


def test_text_terms_are_their_losses():
    """Each on a batch that the network has passed apart from it."""
    numbers = jnp.array([[2, 7, 8, 3, 9, 3], [2, 6, 3, 5, 4, 3]])
    mask = jnp.array([[True] * 5 + [False], [True] * 6])
    draw = [hiding.mask_tokens(x, jax.random.key(3), mask=m, probability=0.9, cover=4,
            special=(2, 3), vocabulary=12) for x, m in zip(numbers, mask, strict=True)]  # fmt: skip
    shown, told = map(jnp.stack, zip(*draw, strict=True))
    span = jnp.array([[1, 2], [3, 4]])
    batch = {
        "source": {"input": numbers, "mask": mask, "span": span},
        "hidden": {"input": shown, "mask": told},
    }
    trunk = BERT(vocabulary=12, length=6, width=8, depth=1, heads=2)
    phase = tljax.Phase(
        network=tljax.Network(trunk=trunk, heads={"span": Linear(), "words": Linear()}),
        streams=[tljax.Stream("source", 2), tljax.Stream("hidden", 2)],
        terms={
            "span": tljax.term("span"),
            "words": tljax.term("masked_language_model", stream="hidden"),
        },
    )
    tables = {name: tljax.Table(input=np.zeros((2, 6), np.int32)) for name in batch}
    variables = objective.initialise(phase, batch, tables, jax.random.key(0))
    params = variables["params"]
    assert params["heads"]["words"]["output"]["kernel"].shape == (8, 12)
    rest = (variables["batch_stats"], batch, tables, {}, jnp.zeros(()), jax.random.key(0))
    _, (values, _) = objective.apply(phase, params, *rest)

    def logits(x, mask, head):
        _, maps = trunk.apply({"params": params["trunk"]}, x, train=False, mask=mask)
        layer = params["heads"][head]["output"]
        return maps["tokens"] @ layer["kernel"] + layer["bias"].reshape(1, 1, -1)

    expected = losses.span_cross_entropy(logits(numbers, mask, "span"), span, mask).mean()
    np.testing.assert_allclose(values["span"], expected, rtol=1e-5)
    found = losses.hidden_cross_entropy(logits(shown, mask, "words"), numbers, told >= 2)
    np.testing.assert_allclose(values["words"], found, rtol=1e-5)
    with pytest.raises(UserError, match="terms.words: .*hides no words; expected dict.name='mask_"):
        objective.initialise(phase, {**batch, "hidden": batch["source"]}, tables, jax.random.key(0))


REFUSED = {
    "length": ("streams.pairs.length = 40", r"length: got 32; expected at least 40, the tokens of"),
    "vocabulary": ("network.trunk.vocabulary = 50", "trunk.vocabulary: got 50; expected at least"),
    "no file": ("tokenizer.file = 'none.json'", r"tokenizer.file: got '.*none.json'; expected an"),
    "no such column": ("streams.pairs.where = dict(pag='1')", "where: unknown name 'pag'.*'page'"),
    "cut": ("evaluate.span.length = 4", "span.length: got 4; expected a length that cuts away no"),
    "no text": (
        "streams.pairs.data = 'digits'; c.streams.pairs.length = 8",
        "as the inputs are no",
    ),
    "layer": ("evaluate.span.layer = 'token'", "layer: unknown name 'token'.*'tokens'"),
    "features": (
        "evaluate.span.layer = ''",
        "evaluate.span.head: got 'span'; expected a head of two",
    ),
    "mixing": ("mixing = 0.0", "mixing: got 0.0; expected a finite number above 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case, root, tmp_path):
    code, expected = REFUSED[case]
    c = config(root)
    exec(f"c.{code}", {"c": c})
    with pytest.raises(UserError, match=expected) as refused:
        experiment.run(c, tmp_path)
    assert "\n" not in str(refused.value)


def test_mixing_weighs_terms_by_their_streams(root):
    """20 and 5 examples at T = 2: √20 and √5, so 4/3 and 2/3; the term of two streams stays."""
    c = config(root)
    c.mixing = 2.0
    c.streams.words.split = "train[:5]"
    c.terms.words.weight = 0.3
    del c.terms["span"], c.evaluate["span"]
    terms = build(check(c)).phases["train"].terms
    weights = {name: term.numbers["weight"] for name, term in terms.items()}
    assert weights == pytest.approx(dict(label=4 / 3, words=0.3 * 2 / 3, sides=1.0), rel=1e-5)

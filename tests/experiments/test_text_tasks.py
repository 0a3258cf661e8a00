"""`experiments/text_tasks`: descriptions of packages as tasks."""

import json
import random

import numpy as np
import pytest

from experiments.report import Results
from experiments.text_tasks import run, texts
from experiments.text_tasks.texts import Package

CONTROL = """Package: lmod
Section: science
Description-en: Lua based environment modules
 Lmod loads modules
 .
 of an environment.

Package: bash
Section: shells
"""
KNOWN = [
    Package("lmod", "science", "Lmod is a system of modules"),
    Package("gem", "sound", "plays gems, as gem does, and gem"),
    Package("tone", "sound", "tonearm and x-tone make tone of it"),
]


def test_entries_have_their_long_description_as_one_line():
    first, second = texts.entries(CONTROL)
    assert first["Description-en"] == "Lmod loads modules of an environment."
    assert second == {"Package": "bash", "Section": "shells"}


def test_a_name_is_found_as_a_word_that_stands_once():
    """ "gem" stands twice; "tone" also within "tonearm" and behind "x-", which are other words."""
    lmod, tone = texts.names(KNOWN, random.Random(0))
    assert lmod["text"][lmod["start"] : lmod["end"]] == "Lmod"
    assert tone["text"][tone["start"] :] == "tone of it"


def test_halves_of_a_pair_are_of_one_section():
    for line in texts.pairs(KNOWN * 5, random.Random(0)):
        firsts = {texts.half(each.text)[0]: each for each in KNOWN}
        seconds = {texts.half(each.text)[1]: each for each in KNOWN}
        one, other = firsts[line["text"]], seconds[line["text_pair"]]
        assert one.section == other.section
        assert (one == other) == (line["label"] == "together")


def test_only_sections_of_a_purpose_are_told():
    assert [line["label"] for line in texts.sections(KNOWN, random.Random(0))] == [
        *("science", "sound", "sound")
    ]
    assert texts.half("a b c d e") == ("a b", "c d e")


def test_a_pair_is_told_by_the_difference_and_the_product_of_its_vectors(monkeypatch):
    monkeypatch.setattr(
        run, "vectors", lambda texts: np.array([[len(text), 1.0] for text in texts])
    )
    pair = [dict(text="abc", text_pair="a", label="apart")]
    np.testing.assert_array_equal(run.by_vectors(pair)(pair), [[2, 0, 3, 1]])
    np.testing.assert_array_equal(run.by_vectors(pair)([dict(text="abc")]), [[3, 1]])


def test_it_runs_and_one_network_has_all_tasks(tmp_path, monkeypatch):
    pytest.importorskip("tokenizers")
    sections = [("maps draw hills", "science"), ("drums beat loud", "sound")]
    for task in run.TASKS:
        (tmp_path / "descriptions" / task).mkdir(parents=True)
    for split, count in (("train", 16), ("test", 4)):
        lines = {task: [] for task in run.TASKS}
        for i in range(count):
            text, section = sections[i % 2]
            lines["section"].append(dict(text=text, label=section))
            together = "together" if i % 4 < 2 else "apart"
            lines["pair"].append(dict(text=text, text_pair=sections[0][0], label=together))
            lines["name"].append(dict(text=text, start=0, end=text.index(" ")))
        for task, of_task in lines.items():
            path = tmp_path / "descriptions" / task / f"{split}.jsonl"
            path.write_text("\n".join(map(json.dumps, of_task)))
    monkeypatch.setenv("TLJAX_CACHE", str(tmp_path))
    small = dict(HELD=4, LENGTH=16, BATCH=4, STEPS=2, COUNTS=(8,), TUNED_ON=8)
    few = dict(WAYS={"from scratch": (0.01, 0.02)}, TOGETHER={"all three": "sum"})
    few["PLAIN"] = {"words": run.by_words}  # the other reads MiniLM's weights
    for name, value in {**small, **few}.items():
        monkeypatch.setattr(run, name, value)
    run.total.cache_clear()

    def shrink(config):
        config.tokenizer.vocabulary = 100
        config.network.trunk.update(vocabulary=100, length=16, width=8, depth=1, heads=2)

    scratch = "from scratch"
    names = {"section": ["section"], "all three": list(run.TASKS)}
    tuned = Results(
        dict(way=scratch, method=f"{method}, {scratch}", rate=rate, **dict.fromkeys(of, reached))
        for method in (*run.TASKS, "all three")
        for of in [names.get(method, [method])]
        for rate, reached in ((0.01, 0.5), (0.02, 0.7))
    )
    assert run.chosen(tuned, "from scratch", "section") == 0.02
    monkeypatch.setattr(run.Experiment, "read", lambda _: tuned)
    declared = run.EXPERIMENT._replace(seeds=range(2))
    only = {"method": ["all three, from scratch", "logistic regression, words"]}
    lines = declared.collect(tmp_path / "runs", shrink=shrink, only=only)
    ours, plain = lines.where(method="all three, from scratch"), lines.where(way="words")
    assert len(ours) == len(plain) == 2
    assert all(0 <= line[task] <= 1 for line in lines for task in run.TASKS)
    assert all(line["rate"] == 0.02 for line in ours)
    assert all(line["name"] == 1.0 for line in plain)  # every text begins with it
    assert "| from scratch | all three | pair | – |" in run.tables(lines)["gains"]
    run.total.cache_clear()

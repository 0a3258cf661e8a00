"""`experiments/text_tasks`: descriptions of packages as tasks."""

import random

from experiments.text_tasks import texts
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

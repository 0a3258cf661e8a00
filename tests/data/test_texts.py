"""Texts in files, and the tokens that they become."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tljax
from tljax.data import decoded, hiding, sources, tokens
from tljax.errors import Noticed, UserError

ROWS = [
    dict(text="The red fox runs.", label="animal", page="1"),
    dict(text="A quick brown fox!", label="animal", page="2"),
    dict(text="The river runs wide and far.", label="place", page="2"),
]
SPANS = [
    dict(question="Which animal?", context="The red fox runs.", start=8, end=11),
    dict(question="Which way?", context="It runs far", start=8, end=11),
]


def lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return f"text:{path}"


@pytest.fixture(scope="module")
def tokenizer():
    return tokens.learned([row["text"] for row in ROWS], 120)


def test_every_format_holds_the_same(tmp_path):
    names = list(ROWS[0])
    for suffix, gap in (("csv", ","), ("tsv", "\t")):
        table = "\n".join(
            gap.join(row[name] for name in names) for row in [dict.fromkeys(names)][:0]
        )
        body = "\n".join(gap.join(row[name] for name in names) for row in ROWS)
        (tmp_path / f"rows.{suffix}").write_text(f"{gap.join(names)}\n{table}{body}\n")
    lines(tmp_path / "rows.jsonl", ROWS)
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    for suffix in ("csv", "tsv", "jsonl", "json"):
        table = sources.load(f"text:{tmp_path}/rows.{suffix}", "train")
        assert [words.text for words in table.input.items] == [row["text"] for row in ROWS]
        assert table.classes == ("animal", "place")
        np.testing.assert_array_equal(table.label, [0, 0, 1])
    (tmp_path / "rows.txt").write_text("one\r\ntwo words\n")
    table = sources.load(f"text:{tmp_path}/rows.txt", "all", labelled=False)
    assert [tuple(words) for words in table.input.items] == [("one", None), ("two words", None)]


def test_columns_to_choose_by_and_classes_of_all_splits(tmp_path):
    lines(tmp_path / "train.jsonl", ROWS[:2])
    lines(tmp_path / "test.jsonl", ROWS[2:])
    table = sources.load(f"text:{tmp_path}", "train+test", where=dict(page=2))
    assert table.classes == ("animal", "place")
    np.testing.assert_array_equal(table.label, [0, 1])


def test_names_of_glue_and_squad(tmp_path):
    pair = [
        dict(premise="a b", hypothesis="c", label=1),
        dict(premise="d", hypothesis="e", label=0),
    ]
    table = sources.load(lines(tmp_path / "a.jsonl", pair), "train")
    assert [tuple(words) for words in table.input.items] == [("a b", "c"), ("d", "e")]
    assert table.classes == ("0", "1") and table.label.tolist() == [1, 0]
    scores = [
        dict(sentence1="a", sentence2="b", label=3.0),
        dict(sentence1="a", sentence2="b", label=2.5),
    ]
    np.testing.assert_array_equal(
        sources.load(lines(tmp_path / "b.jsonl", scores), "train").value, np.float32([3, 2.5])
    )
    hidden = [dict(sentence="a", label=-1)]
    with pytest.raises(UserError, match="labels in its split 'train', or labelled=False"):
        sources.load(lines(tmp_path / "c.jsonl", hidden), "train")
    answer = dict(text=["red fox"], answer_start=[4])
    squad = [dict(question="Which animal?", context="The red fox runs.", answers=answer)]
    table = sources.load(lines(tmp_path / "d.jsonl", squad), "train")
    np.testing.assert_array_equal(table.span, [[4, 11]])


def test_tokens_have_a_mask_and_a_length(tokenizer, tmp_path):
    table = tokens.tokenised(sources.load(lines(tmp_path / "a.jsonl", ROWS), "train"), tokenizer)
    table = decoded.materialise(table, 1e9)
    numbers = [tokenizer.encode(row["text"]).ids for row in ROWS]
    assert table.input.shape == (3, tokens.bucket(max(map(len, numbers))))
    for row, mask, expected in zip(table.input, table.mask, numbers, strict=True):
        assert row[mask].tolist() == expected and not row[~mask].any()
        assert expected[0] == 2 and expected[-1] == 3  # [CLS], [SEP]
    cut = tokens.tokenised(["The red fox runs.", "The"], tokenizer, 5)
    assert cut.input[0][-1] == 3  # what is cut ends as a text does
    assert cut.mask.sum(1).tolist() == [5, 3]
    assert [tokens.bucket(n) for n in (1, 8, 9, 17, 33, 64, 65)] == [8, 8, 16, 32, 64, 64, 96]


def test_of_a_pair_the_longer_text_is_cut_first(tokenizer):
    [row] = tokens.tokenised(
        [("The river runs wide and far.", "fox")], tokenizer, 7
    ).input.stacked()
    fox = tokenizer.encode("fox", add_special_tokens=False).ids
    assert row[-1 - len(fox) : -1].tolist() == fox


def test_the_same_texts_teach_the_same_tokenizer(tokenizer):
    """Other hashes in another process change nothing; here its vocabulary stands for that."""
    again = tokens.learned([row["text"] for row in ROWS], 120)
    assert again.to_str() == tokenizer.to_str()
    assert tokens.special(again) == dict(pad=0, unknown=1, first=2, separator=3, hidden=4)


def test_spans_of_characters_become_places(tokenizer, tmp_path):
    read = sources.load(lines(tmp_path / "a.jsonl", SPANS), "train")
    made = tokens.tokenised(read, tokenizer)
    for row, (first, last), asked in zip(made.input.items, made.span, SPANS, strict=True):
        assert row.characters(first, last) == (asked["start"], asked["end"])
        assert tokenizer.decode(row.numbers[first : last + 1]).strip() in ("fox", "far")
    # The second context loses its last word, the first keeps all up to "fox".
    longer = dict(SPANS[1], context="It runs on and on and on and on far", start=32, end=35)
    read = sources.load(lines(tmp_path / "b.jsonl", [SPANS[0], longer]), "train")
    length = len(made.input.items[0].numbers)
    with pytest.warns(Noticed, match="1 of 2 spans, the first of example 1, are cut away"):
        assert len(tokens.tokenised(read, tokenizer, length)) == 1
    with pytest.raises(
        UserError, match=r"table\.length: got .*expected a length that cuts away no"
    ):
        tokens.tokenised(read, tokenizer, length, leave_out=False)


REFUSED = {
    "a.jsonl: '{'": (".jsonl", "{", "an object of JSON in every line in UTF-8"),
    "no text": (".jsonl", '{"texts": "a"}', r"a column of texts, .*; is it 'texts'\?"),
    "no string": (".jsonl", '{"text": 3}', "got 3; expected a text, 'text' of row 1 of split"),
    "empty": (".jsonl", "", "texts; it is empty"),
    "suffix": (".parquet", "a", r"a file that ends in one of \.jsonl, "),
    "too wide": (".csv", "text,label\na,b,c\n", "no more than the columns named, in row 1"),
    "half": (".jsonl", '{"text": "a", "label": "x"}\n{"text": "b"}', "a label in row 2 of split"),
    "span": (
        *(".jsonl", '{"text": "abc", "start": 2, "end": 4}'),
        r"got \(2, 4\); expected 0 ≤ start < end ≤ 3, the characters of its text, in row 1",
    ),
    "value": (".jsonl", '{"text": "abc", "value": "much"}', "a finite number, 'value' of row 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case, tmp_path):
    suffix, content, expected = REFUSED[case]
    path = tmp_path / f"a{suffix}"
    path.write_text(content)
    with pytest.raises(UserError, match=expected) as refused:
        sources.load(f"text:{path}", "train")
    assert "\n" not in str(refused.value) and str(refused.value).startswith("data: ")


def test_refusals_of_directories_and_tokenizers(tmp_path, tokenizer):
    with pytest.raises(UserError, match="a directory of train.jsonl and the like"):
        sources.load(f"text:{tmp_path}", "train")
    lines(tmp_path / "a.jsonl", ROWS)
    (tmp_path / "a.csv").write_text("text\na\n")
    with pytest.raises(UserError, match="one file of a split, not "):
        sources.load(f"text:{tmp_path}", "a")
    with pytest.raises(UserError, match="tokenizer: got .*a.csv'; expected a tokenizer.json"):
        tokens.read_tokenizer(tmp_path / "a.csv", "tokenizer")
    with pytest.raises(UserError, match=r"vocabulary: got 0; expected texts with words"):
        tokens.learned(["", "  "], 100)
    with pytest.raises(UserError, match=r"vocabulary: got 8; expected at least \d+: the bytes"):
        tokens.learned(["The red fox runs."], 8)
    with pytest.raises(UserError, match=r"texts: expected tokens; tljax\.data\.tokenised"):
        tljax.data.load(f"text:{tmp_path}/a.jsonl", "train").input[0]
    with pytest.raises(UserError, match=r"size: got 8; expected None, as split 'train' holds no"):
        sources.load(f"text:{tmp_path}/a.jsonl", "train", size=8)


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"needs tokenizers: pip install 'tljax\[text\]'"):
        tokens.learned(["a"], 10)


def test_hidden_words_are_told_by_the_mask():
    """Of 4,000 words 15 % are chosen; of those 80 % become [MASK], 10 % another, 10 % stay."""
    words = np.tile(np.arange(10, 50), 100)
    words[::40] = 2
    mask = np.ones(len(words), bool)
    mask[-400:] = False
    fields = dict(cover=4, special=(0, 1, 2, 3), vocabulary=1000)
    shown, told = map(
        np.asarray, hiding.mask_tokens(jnp.array(words), jax.random.key(0), mask=mask, **fields)
    )
    chosen = told >= 2
    np.testing.assert_array_equal(told[chosen] - 2, words[chosen])
    np.testing.assert_array_equal(told[~chosen], mask[~chosen])
    np.testing.assert_array_equal(shown[~chosen], words[~chosen])
    assert not chosen[::40].any() and not chosen[-400:].any()
    # 3,510 words may be chosen: 526 ± 21 are; of about 526, 53 ± 7 stay, so three deviations.
    assert abs(chosen.sum() - 526) < 64
    hidden, same = (shown == 4)[chosen].mean(), (shown == words)[chosen].mean()
    assert abs(hidden - 0.8) < 0.06 and abs(same - 0.1) < 0.04


def test_halves_of_a_pair():
    """[CLS] 7 8 [SEP] 9 [SEP] and two of padding: [CLS] 7 8 [SEP], and [CLS] 9 [SEP]."""
    pair = jnp.array([2, 7, 8, 3, 9, 3, 0, 0])
    mask, fields = pair > 0, dict(separator=3)
    first, of_first = hiding.sentence(pair, None, mask=mask, which="first", **fields)
    second, of_second = hiding.sentence(pair, None, mask=mask, which="second", **fields)
    assert np.asarray(first)[of_first].tolist() == [2, 7, 8, 3]
    assert np.asarray(second)[of_second].tolist() == [2, 9, 3]

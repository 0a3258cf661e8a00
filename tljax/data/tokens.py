"""Texts as token numbers: by a public tokenizer.json, or by one that is learned from the texts."""

import functools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tljax.data.lazy import Lazy
from tljax.data.table import Table
from tljax.data.texts import Words, is_text, of_list
from tljax.errors import UserError, reading, warn, wrong

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # 0 to 4 of a vocabulary that is learned
NAMES = {"pad": ("[PAD]", "<pad>"), "first": ("[CLS]", "<s>"), "separator": ("[SEP]", "</s>"),
    "hidden": ("[MASK]", "<mask>"), "unknown": ("[UNK]", "<unk>")}  # fmt: skip
"""What tokens that are no words of a text are called, as BERT has them and as RoBERTa has them."""


class Encoded(NamedTuple):
    """An input of tokens, and what they are of."""

    words: Words
    numbers: np.ndarray  # int32 [tokens]
    ends: np.ndarray  # int32 [tokens, 2]: from which character up to which, of the last text; or 0

    def characters(self, first: int, last: int) -> tuple[int, int]:
        """From which character up to which the span of two places goes; (0, 0) of no text."""
        ends = self.ends[first : last + 1]
        ends = ends[ends[:, 1] > 0]
        return (int(ends[0, 0]), int(ends[-1, 1])) if len(ends) else (0, 0)


def library(field: str) -> Any:
    """The library of tokenizers, an extra."""
    try:
        import tokenizers
    except ImportError:
        raise UserError(f"{field}: needs tokenizers: pip install 'tljax[text]'") from None
    return tokenizers


def read_tokenizer(path: str | os.PathLike, field: str) -> Any:
    """The tokenizer of a public tokenizer.json.

    Raises:
      UserError: no such file, one of something else, an empty vocabulary.
    """
    with reading(field, path, "an existing tokenizer.json"):
        text = Path(path).read_text()
    return parsed(text, field, str(path))


def parsed(text: str, field: str, told: str = "") -> Any:
    """The tokenizer of what a tokenizer.json holds."""
    try:
        tokenizer = library(field).Tokenizer.from_str(text)
    except UserError:
        raise
    except Exception as error:  # of the library, which has no class of its own for it
        raise wrong(field, told or text, f"a tokenizer.json ({error})") from None
    if not tokenizer.get_vocab_size():
        raise wrong(field, told, "a tokenizer with a vocabulary; this one's is empty")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def learned(
    texts: Iterable[str], vocabulary: int, lowercase: bool = True, field: str = "tokenizer"
) -> Any:
    """A tokenizer of byte pairs that is learned from texts; the same texts give the same one.

    As GPT-2's (Radford et al. 2019) it merges bytes that stand beside each other, the most frequent
    first; around a text stand [CLS] and [SEP], as around BERT's. WordPiece, as the library learns
    it, is another each time: it breaks ties by the order of a table of hashes.

    Args:
      texts: to learn from.
      vocabulary: the size at most, with the bytes that occur and `SPECIAL`.
      lowercase: whether letters become small, and lose their accents.
      field: for error messages.

    Raises:
      UserError: texts without a letter, or a vocabulary that does not hold their bytes.
    """
    tokenizers = library(field)
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = tokenizers.decoders.ByteLevel()
    options = dict(special_tokens=list(SPECIAL), show_progress=False)
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocabulary, **options)
    made.train_from_iterator(texts, trainer)
    size = made.get_vocab_size()
    if not any(token.strip("Ġ") for token in made.get_vocab() if token not in SPECIAL):
        raise wrong(f"{field}.vocabulary", 0, "texts with words to learn from")
    if size > vocabulary:
        expected = f"at least {size}: the bytes of the texts and {len(SPECIAL)} special tokens"
        raise wrong(f"{field}.vocabulary", vocabulary, expected)
    around = dict(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1")
    ends = [(name, SPECIAL.index(name)) for name in ("[CLS]", "[SEP]")]
    kinds = tokenizers.processors
    steps = [
        kinds.ByteLevel(trim_offsets=True),
        kinds.TemplateProcessing(**around, special_tokens=ends),
    ]
    made.post_processor = kinds.Sequence(steps)
    return made


def special(tokenizer: Any) -> dict[str, int]:
    """The numbers of tokens that are no words, by what they are for, those that there are."""
    numbers = {
        name: [n for n in map(tokenizer.token_to_id, names) if n is not None]
        for name, names in NAMES.items()
    }
    return {name: found[0] for name, found in numbers.items() if found}


@functools.cache
def of_transforms(tokenizer: str) -> dict[str, dict[str, Any]]:
    """Transform -> the fields that a tokenizer.json tells."""
    read = parsed(tokenizer, "tokenizer")
    numbers = special(read)
    ends = {"separator": numbers["separator"]} if "separator" in numbers else {}
    if "hidden" not in numbers:
        return {"sentence": ends}
    hiding = {"cover": numbers["hidden"], "special": tuple(sorted(numbers.values()))}
    return {"sentence": ends, "mask_tokens": {**hiding, "vocabulary": read.get_vocab_size()}}


def texts_of(table: Table) -> Iterator[str]:
    """All texts of a table."""
    for words in table.input.items:
        yield from (text for text in words if text is not None)


def tokenised(
    table: Table | Sequence[str | tuple[str, str]],
    tokenizer: Any,
    length: int | None = None,
    *,
    leave_out: bool = True,
    field: str = "table",
) -> Table:
    """Texts as tokens of one length, with a mask, and spans of characters as places.

    Args:
      table: of texts, from `tljax.data.load`; or a list of texts or of pairs of them.
      tokenizer: a tokenizer of the library `tokenizers`, or the path of a tokenizer.json.
      length: of an input, with what the tokenizer puts around it: what is longer is cut, of a pair
        the longer text first. None: that of the longest, up to a bucket.
      leave_out: whether an example whose span is cut away is left out, and a warning says so.
      field: for error messages.

    Returns:
      A table whose `input` is int32 `[n, length]`, with `mask` and, of spans, the first and the
      last place `[n, 2]`. Inputs stay `Lazy`, as are those of `load`, until `decoded.materialise`.

    Raises:
      UserError: a span that is cut away, unless those are left out; none that is left.
    """
    named = f"{field}.tokenizer".removeprefix("table.")
    if isinstance(tokenizer, str | os.PathLike):
        tokenizer = read_tokenizer(tokenizer, named)
    table = table if isinstance(table, Table) else of_list(table, field)
    if not is_text(table):
        raise wrong(field, table, "a table of texts, as tljax.data.load gives of text:FILE")
    words: Sequence[Words] = table.input.items
    tokenizer = parsed(tokenizer.to_str(), named)  # a copy, of its own length
    if length:
        tokenizer.enable_truncation(length, strategy="longest_first")
    read = [each.text if each.pair is None else (each.text, each.pair) for each in words]
    try:
        found = tokenizer.encode_batch(read)
    except Exception as error:  # of the library: no room for the special tokens, bad surrogates
        raise wrong(f"{field}.length", length, f"tokens of the texts ({error})") from None
    encoded = [_encoded(*each) for each in zip(words, found, strict=True)]
    longest = max(len(each.numbers) for each in encoded)
    width = length or bucket(longest)
    mask = np.arange(width)[None] < np.array([[len(each.numbers)] for each in encoded])
    read_as = functools.partial(_padded, width=width, pad=special(tokenizer).get("pad", 0))
    columns = {**table.columns, "input": Lazy(read_as, encoded, table.input.field), "mask": mask}
    kept = np.ones(len(encoded), bool)
    if table.span is not None:
        places = np.array(list(map(_places, encoded, np.asarray(table.span))), np.int32)
        kept, columns["span"] = places[:, 0] >= 0, places
    made = Table(**columns, classes=table.classes or None, field=field)
    if kept.all():
        return made
    lost = f"{(~kept).sum()} of {len(kept)} spans, the first of example {kept.argmin()}"
    if not leave_out or not kept.any():
        raise wrong(f"{field}.length", length, f"a length that cuts away no span; it does {lost}")
    warn(f"{field}: {lost}, are cut away by length={length}: they are left out")
    return made[kept]


def bucket(length: int) -> int:
    """The length that inputs are padded to: 8, 16, 32, or a multiple of 32, so that few compile."""
    return next((size for size in (8, 16) if length <= size), -(-length // 32) * 32)


def _encoded(words: Words, found: Any) -> Encoded:
    """An input of tokens; those of the last text know where in it they stand."""
    last = int(words.pair is not None)
    ends = [
        e if of == last else (0, 0) for of, e in zip(found.sequence_ids, found.offsets, strict=True)
    ]
    return Encoded(words, np.array(found.ids, np.int32), np.array(ends, np.int32).reshape(-1, 2))


def _padded(each: Encoded, width: int, pad: int) -> np.ndarray:
    return np.pad(each.numbers, (0, width - len(each.numbers)), constant_values=pad)


def _places(each: Encoded, span: np.ndarray) -> tuple[int, int]:
    """The first and the last token of a span of characters; (−1, −1) if any of it is cut away."""
    start, end = span
    within = np.flatnonzero((each.ends[:, 1] > start) & (each.ends[:, 0] < end))
    cut = not within.size or each.ends[within[-1], 1] < end and each.ends[:, 1].max() < end
    return (-1, -1) if cut else (int(within[0]), int(within[-1]))

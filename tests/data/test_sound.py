"""Recordings: what names say, what is read of files, and what is refused in a line."""

import csv
import pickle
import sys

import jax
import numpy as np
import pytest
import soundfile

import tljax
from tljax.data import describe, sound, sources, streams
from tljax.errors import UserError
from tljax.main import main

RATE = 4000


def tone(samples=400, hertz=300, rate=RATE, by=0.3):
    return (by * np.sin(2 * np.pi * hertz * np.arange(samples) / rate)).astype(np.float32)


def save(path, wave=None, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, tone() if wave is None else wave, rate, **options)
    return path


def load(place, split="train", **options):
    return tljax.data.load(f"wav:{place}", split, **options)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """As the Free Spoken Digit Dataset: two words by two speakers, 300, 350 and 400 samples."""
    root = tmp_path_factory.mktemp("digits")
    for word in "01":
        for speaker in ("anna", "bert"):
            for take in range(3):
                wave = tone(300 + 50 * take, 300 + 200 * int(word))
                save(root / f"{word}_{speaker}_{take}.wav", wave)
    return root


class TestNames:
    def test_of_files(self, digits):
        table = load(digits)
        assert table.classes == ("0", "1") and table.label.tolist() == [0] * 6 + [1] * 6
        assert table.input.shape == (12, 400) and table.input.dtype == np.float32
        assert table.mask.sum(1).tolist() == [300, 350, 400] * 4
        assert not table.input[~table.mask].any()
        np.testing.assert_allclose(table.input[2], tone(400), atol=1e-4)

    def test_speakers_and_takes_choose(self, digits):
        anna = load(digits, where=dict(speaker="anna"))
        others = load(digits, where=dict(speaker=("not", "anna"), take=(0, 1)))
        assert len(anna) == 6 and others.mask.sum(1).tolist() == [300, 350] * 2
        with pytest.raises(UserError, match="where.speaker: unknown name 'ana'.*mean 'anna'"):
            load(digits, where=dict(speaker="ana"))

    @pytest.mark.parametrize(
        ("names", "labels", "speakers"),
        [
            (["anna/yes/1", "bert/no/1"], ["yes", "no"], ["anna", "bert"]),
            (["no/f1e2_nohash_0", "yes/a_b_nohash_1"], ["no", "yes"], ["f1e2", "a_b"]),
            (["anna/yes_anna_1", "bert/no_bert_2"], ["yes", "no"], ["anna", "bert"]),
            (["yes/yes_anna_1", "no/no_bert_2"], ["yes", "no"], ["anna", "bert"]),
            (["good_day_anna_1", "no_bert_2"], ["good_day", "no"], ["anna", "bert"]),
        ],
    )
    def test_of_directories(self, names, labels, speakers, tmp_path):
        for name in names:
            save(tmp_path / f"{name}.wav")
        table = load(tmp_path)
        told = dict(zip([table.classes[i] for i in table.label], speakers, strict=False))
        assert sorted(told) == sorted(labels)
        for label, speaker in zip(labels, speakers, strict=True):
            one = load(tmp_path, where=dict(speaker=speaker))
            assert [one.classes[i] for i in one.label] == [label]

    def test_directories_of_labels_alone_have_no_speakers(self, tmp_path):
        for name in ("no/a", "yes/b"):
            save(tmp_path / f"{name}.flac")
        assert load(tmp_path).label.tolist() == [0, 1]
        with pytest.raises(UserError, match="where: unknown name 'speaker'"):
            load(tmp_path, where=dict(speaker="a"))

    def test_splits_are_directories_and_of_one_length(self, tmp_path):
        save(tmp_path / "train" / "0_anna_0.wav", tone(300))
        save(tmp_path / "test" / "1_bert_0.wav", tone(500))
        assert load(tmp_path, "train").input.shape == (1, 500)
        both = load(tmp_path, "test+train")
        assert both.label.tolist() == [1, 0] and both.mask.sum(1).tolist() == [500, 300]

    def test_of_a_list(self, tmp_path):
        for name in "abc":
            save(tmp_path / f"sounds/{name}.wav")
        rows = [("path", "label", "speaker", "split", "accent")]
        rows += [
            ("sounds/a.wav", "hi", "eva", "train", "west"),
            ("sounds/b.wav", "oh", "max", "", ""),
        ]
        rows += [("sounds/c.wav", "oh", "eva", "test", "west")]
        with (tmp_path / "list.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        table = load(tmp_path / "list.csv")
        assert table.classes == ("hi", "oh") and table.label.tolist() == [0, 1]
        assert len(load(tmp_path / "list.csv", "test", where=dict(accent="west"))) == 1

    def test_without_labels(self, tmp_path):
        for name in ("memo 1", "memo_2", "x_y_3"):
            save(tmp_path / f"{name}.wav")
        table = load(tmp_path, labelled=False)
        assert len(table) == 3 and table.label is None
        with pytest.raises(UserError, match="sounds in one way.*'.*memo 1.wav' is in another"):
            load(tmp_path)
        (tmp_path / "x_y_3.wav").unlink()
        with pytest.raises(UserError, match="labels in its split 'train', or labelled=False"):
            load(tmp_path)


class TestWaves:
    @pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
    def test_of_every_kind(self, suffix, tmp_path):
        save(tmp_path / f"0_anna_0.{suffix}", tone(4000, rate=8000), rate=8000)
        table = load(tmp_path)
        near = np.corrcoef(table.input[0, :4000], tone(4000, rate=8000))[0, 1]
        assert near > 0.99 and np.abs(table.input).max() <= 1

    def test_two_channels_are_their_mean(self, tmp_path):
        save(tmp_path / "0_anna_0.wav", np.stack([tone(by=0.4), tone(by=0.2)], -1))
        np.testing.assert_allclose(load(tmp_path).input[0], tone(by=0.3), atol=1e-4)

    def test_other_rates_are_resampled(self, tmp_path):
        """In the middle of a tone the samples are those of the same tone at the other rate."""
        save(tmp_path / "0_anna_0.wav", tone(800, rate=8000), rate=8000)
        save(tmp_path / "0_anna_1.wav", tone(400))
        table = load(tmp_path, rate=4000)
        assert table.mask.sum(1).tolist() == [400, 400]
        np.testing.assert_allclose(table.input[0, 50:-50], tone(400)[50:-50], atol=2e-3)
        with pytest.raises(UserError, match="^data.rate: got None|^rate: got None") as error:
            load(tmp_path)
        assert all(text in str(error.value) for text in ("_0.wav' has 8,000", "_1.wav' 4,000"))

    def test_cut_and_filled_up(self, digits):
        table = load(digits, seconds=0.08)  # 320 samples
        assert table.input.shape == (12, 320)
        assert table.mask.sum(1).tolist() == [300, 320, 320] * 4

    def test_lazy_ones_are_the_resident_ones(self, digits):
        """Also as a stream reads them, from files, position by position."""
        whole = load(digits)
        lazy = sources.load(f"wav:{digits}", "train", limit_bytes=0)
        assert not lazy.resident and whole.resident
        some = lazy[np.array([4, 0])].inputs(slice(None))
        np.testing.assert_array_equal(some.input, whole.input[[4, 0]])
        np.testing.assert_array_equal(some.mask, whole.mask[[4, 0]])
        one, other = (streams.reader(table, 4, seed=1).batches[5] for table in (lazy, whole))
        assert one.keys() == other.keys() >= {"input", "mask", "label"}
        jax.tree.map(np.testing.assert_array_equal, one, other)
        process = pickle.loads(pickle.dumps(lazy.columns))  # as a loader process has them
        np.testing.assert_array_equal(process["input"][3], whole.input[3])
        both = sources.load(f"wav:{digits}", "train[:2]+train[6:]", limit_bytes=0)
        np.testing.assert_array_equal(both.mask.stacked(), whole.mask[[0, 1, *range(6, 12)]])

    def test_a_list_of_files(self, digits):
        files = [digits / "1_bert_0.wav", digits / "0_anna_1.wav"]
        table = tljax.data.load(files, "train", labelled=False)
        assert table.mask.sum(1).tolist() == [300, 350]


def cut(path, keep=0.6):
    """A file of which the end is missing."""
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])


class TestRefusals:
    @pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
    def test_a_file_that_was_cut_off(self, suffix, tmp_path):
        save(tmp_path / "0_anna_0.wav")
        cut(save(tmp_path / f"0_anna_1.{suffix}"))
        with pytest.raises(UserError, match=f"anna_1.{suffix}'; expected a sound that soundfile"):
            load(tmp_path)
        assert len(load(tmp_path, damaged=0.5)) == 1

    def test_how_much_of_a_wav_is_missing(self, tmp_path):
        """400 samples of 2 bytes behind a header of 44; of 844 bytes 506 are left: 462."""
        cut(save(tmp_path / "0_anna_0.wav"))
        with pytest.raises(UserError, match="of 800 bytes that its header says it holds 462"):
            load(tmp_path)

    @pytest.mark.parametrize(
        ("wave", "says"),
        [
            (np.zeros(400), "a recording that is not silent"),
            (np.zeros(0), "there is no sample in it"),
            (30 * tone(), "its samples reach 9, and"),
            (tone() * np.nan, "its samples reach nan"),
        ],
    )
    def test_what_is_no_sound(self, wave, says, tmp_path):
        save(tmp_path / "0_anna_0.wav")
        save(tmp_path / "0_anna_1.wav", wave, subtype="FLOAT")
        with pytest.raises(UserError, match=f"anna_1.wav'; .*{says}"):
            load(tmp_path)

    def test_silence_in_the_part_that_is_heard(self, tmp_path):
        save(tmp_path / "0_anna_0.wav", np.concatenate([np.zeros(400, np.float32), tone()]))
        assert len(load(tmp_path)) == 1
        with pytest.raises(UserError, match="not silent"):
            load(tmp_path, seconds=0.1)

    def test_what_is_no_place_of_sounds(self, tmp_path):
        with pytest.raises(UserError, match="existing directory"):
            load(tmp_path / "nowhere")
        (tmp_path / "notes.txt").write_text("nothing")
        with pytest.raises(UserError, match="expected sounds in it, .aif"):
            load(tmp_path)
        (tmp_path / "0_anna_0.wav").write_bytes(b"")
        with pytest.raises(UserError, match="0_anna_0.wav'; expected a sound that soundfile reads"):
            load(tmp_path)

    def test_layouts_side_by_side(self, tmp_path):
        save(tmp_path / "0_anna_0.wav")
        save(tmp_path / "yes" / "1.wav")
        with pytest.raises(UserError, match="sounds in one way"):
            load(tmp_path)
        (tmp_path / "yes").rename(tmp_path / "test")
        with pytest.raises(UserError, match="splits alone or none; 'test' looks like one"):
            load(tmp_path)
        save(tmp_path / "a" / "b" / "c" / "1.wav")
        with pytest.raises(UserError, match="no deeper|splits alone"):
            load(tmp_path)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("file,label\na.wav,x\n", "to begin with names of columns"),
            ("path,label\n", "a recording in a line after the first"),
            ("path,label\na.wav\n", "2 cells in line 2"),
            ("path,label\nb.wav,x\n", "b.wav'; expected an existing file"),
            ("path,label\na.wav,x\na.wav,\n", "a label, as others of 'train' have"),
        ],
    )
    def test_lists(self, text, says, tmp_path):
        save(tmp_path / "a.wav")
        (tmp_path / "list.csv").write_text(text)
        with pytest.raises(UserError, match=says):
            load(tmp_path / "list.csv")

    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            (dict(rate=0), "rate: got 0"),
            (dict(seconds=0.0), "seconds: got 0"),
            (dict(size=8), "size: got 8; expected None, as split 'train' holds no images"),
        ],
    )
    def test_fields(self, fields, says, digits):
        with pytest.raises(UserError, match=says):
            load(digits, **fields)

    def test_sounds_alone_have_a_rate(self):
        with pytest.raises(UserError, match="rate: got 8000; expected None, as .* holds no sounds"):
            tljax.data.load("digits", "train", rate=8000)

    def test_a_library_that_is_not_there(self, digits, monkeypatch):
        monkeypatch.setitem(sys.modules, "soundfile", None)
        sound._library.cache_clear()
        with pytest.raises(UserError, match=r"sounds need soundfile: pip install 'tljax\[audio\]'"):
            load(digits)
        sound._library.cache_clear()


def test_what_was_understood_is_told(digits, capsys):
    assert main(["tljax", "data", f"--data=wav:{digits}"]) == 0
    told = capsys.readouterr().out
    for line in (
        "train: 12 examples of input, mask, label\n",
        "  rates: 4000 Hz (12)\n",
        "  speaker: anna (6), bert (6)\n",
        "  seconds: 0.07 to 0.10, median 0.09\n",
        "    0: 6\n",
    ):
        assert line in told
    assert list(describe.lines(f"wav:{digits}", "train"))


def test_a_damaged_one_is_told(digits, tmp_path):
    save(tmp_path / "0_anna_0.wav")
    cut(save(tmp_path / "0_anna_1.wav"))
    assert any("damaged, 1: " in line for line in describe.lines(f"wav:{tmp_path}"))

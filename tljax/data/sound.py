"""Waves of files of sound, WAV, FLAC, OGG, MP3: read by soundfile, resampled by soxr."""

import contextlib
import functools
import importlib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tljax.data.formats import Request, check_file
from tljax.data.lazy import Damaged, Lazy
from tljax.errors import UserError, wrong

SUFFIXES = frozenset(".wav .flac .ogg .oga .opus .mp3 .aif .aiff .au .w64".split())
_ENDLESS = 0x7FF00000  # bytes that a WAV has by its header if it was written to a pipe
_LOUDEST = 2.0  # of samples that clipping mends, as decoders of MP3 overshoot


class Header(NamedTuple):
    """What a file says of itself."""

    frames: int
    rate: int  # samples a second
    channels: int
    kind: str


def is_sound(data: Any) -> bool:
    """Whether a source is of recordings: `wav:`, or a list of such files."""
    if isinstance(data, str):
        return data.startswith("wav:")
    named = isinstance(data, list) and data and all(isinstance(p, str | os.PathLike) for p in data)
    return bool(named) and all(Path(path).suffix.lower() in SUFFIXES for path in data)


def files(paths: Sequence[str], request: Request) -> tuple[Lazy, Lazy]:
    """The waves of some files, and their masks; see `Waves`."""
    return Waves(paths, request)(paths)


class Waves:
    """The waves of recordings, all of one rate and length, and their masks.

    Args:
      paths: of the recordings that decide on a rate or a length that is not given.
      request: `rate` and `seconds`, None for what they decide.
    """

    def __init__(self, paths: Sequence[str], request: Request):
        self.paths, self.request = paths, request
        self._headers: dict[str, Header | None] = {}

    def __call__(self, paths: Sequence[str]) -> tuple[Lazy, Lazy]:
        """float32 `[length]`, mono, in [-1, 1]; and bool `[length]`: what is there."""
        field, (rate, length) = self.request.field, self.kind
        read = functools.partial(_wave, field=field, rate=rate, length=length)
        mask = functools.partial(self._there, rate=rate, length=length)
        return Lazy(read, list(paths), field), Lazy(mask, list(paths), field)

    @functools.cached_property
    def kind(self) -> tuple[int, int]:
        """Rate and length, in samples."""
        rate, seconds = self.request.rate or self._stored(), self.request.seconds
        if seconds:
            return rate, max(1, round(seconds * rate))
        longest = max(self._samples(path, rate) for path in self.paths)
        if not longest:
            header(self.paths[0], self.request.field)  # says what is wrong
        return rate, longest

    def _stored(self) -> int:
        """The one rate of all files."""
        headers = {path: each for path in self.paths if (each := self._header(path))}
        rates = {each.rate: path for path, each in headers.items()}
        if not rates:
            header(self.paths[0], self.request.field)
        if len(rates) > 1:
            (one, a), (other, b) = list(rates.items())[:2]
            field = f"{self.request.field.rpartition('.')[0]}.rate".lstrip(".")
            expected = f"samples a second to resample to: {a!r} has {one:,}, {b!r} {other:,}"
            raise wrong(field, None, expected)
        return next(iter(rates))

    def _header(self, path: str) -> Header | None:
        """None of a file that is refused, or skipped, when it is read."""
        if path not in self._headers:
            self._headers[path] = None
            with contextlib.suppress(Damaged):
                self._headers[path] = header(path, self.request.field)
        return self._headers[path]

    def _there(self, path: str, rate: int, length: int) -> np.ndarray:
        return np.arange(length) < self._samples(path, rate)

    def _samples(self, path: str, rate: int) -> int:
        each = self._header(path)
        return _resampled(each.frames, each.rate, rate) if each else 0


def _resampled(frames: int, stored: int, rate: int) -> int:
    """How many samples at a rate so many stored ones are."""
    return max(1, math.floor(frames * rate / stored + 0.5))


def _wave(path: str, field: str, rate: int, length: int) -> np.ndarray:
    """A recording, mono, resampled, cut or filled up with zeros: float32 `[length]`."""
    samples, stored = wave(path, field)
    there = min(_resampled(len(samples), stored, rate), length)
    if stored != rate:
        samples = np.clip(_library("soxr", field).resample(samples, stored, rate), -1, 1)
    samples = samples[:there]
    if not samples.any():
        raise wrong(field, path, "a recording that is not silent, samples beside 0", Damaged)
    return np.pad(samples, (0, length - len(samples)))


def wave(path: str, field: str) -> tuple[np.ndarray, int]:
    """The samples of a recording as it is stored, the mean of its channels, float32; its rate.

    Raises:
      Damaged: what soundfile does not read in whole, or samples far outside [-1, 1].
    """
    with _opened(path, field) as file:
        told = _told_by(file, path, field)
        samples = file.read(dtype="float32", always_2d=True)
    if len(samples) < told.frames:
        reason = f"of {told.frames} samples that its header says it holds {len(samples)}"
        raise _damaged(path, field, reason)
    mono = samples.mean(axis=1)
    loudest = float(np.abs(mono).max())
    if not loudest <= _LOUDEST:
        raise _damaged(path, field, f"its samples reach {loudest:g}, and [-1, 1] is all there is")
    return np.clip(mono, -1, 1), told.rate


def header(path: str, field: str) -> Header:
    """What a recording says of itself; no sample is decoded.

    Raises:
      Damaged: no sound, an empty one, or a WAV that was cut off.
    """
    with _opened(path, field) as file:
        return _told_by(file, path, field)


@contextlib.contextmanager
def _opened(path: str, field: str) -> Iterator[Any]:
    check_file(path, field)
    try:
        with _library("soundfile", field).SoundFile(path) as file:
            yield file
    except (RuntimeError, OSError) as error:  # soundfile's own is a RuntimeError
        raise _damaged(path, field, str(error)) from None


def _told_by(file: Any, path: str, field: str) -> Header:
    cut = re.search(r"data : (\d+) \(should be (\d+)\)", file.extra_info)
    if cut and int(cut[2]) < int(cut[1]) < _ENDLESS:
        raise _damaged(path, field, f"of {cut[1]} bytes that its header says it holds {cut[2]}")
    if not file.frames:
        raise _damaged(path, field, "there is no sample in it")
    return Header(file.frames, file.samplerate, file.channels, f"{file.format} {file.subtype}")


def _damaged(path: str, field: str, reason: str) -> UserError:
    return wrong(field, path, f"a sound that soundfile reads in whole ({reason})", Damaged)


@functools.cache
def _library(name: str, field: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):  # of a library of C that is not there
        raise UserError(f"{field}: sounds need {name}: pip install 'tljax[audio]'") from None


# What is told of a split.


def described(paths: Sequence[str], about: Mapping[str, np.ndarray], field: str) -> Iterator[str]:
    """Lines of a split: speakers, rates, lengths, channels and kinds of files."""
    headers, damaged = [], []
    for path in paths:
        try:
            headers.append(header(path, field))
        except UserError as error:
            damaged.append(str(error))
    for name, counts in (
        ("rates", [f"{each.rate} Hz" for each in headers]),
        ("channels", [str(each.channels) for each in headers]),
        ("kinds", [each.kind for each in headers]),
        *((name, column.tolist()) for name, column in about.items()),
    ):
        names, sizes = np.unique(counts, return_counts=True)
        shown = sorted(zip(names, sizes, strict=True), key=lambda pair: -pair[1])[:20]
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        yield f"{name}: {', '.join(f'{name} ({size})' for name, size in shown)}{more}"
    if headers:
        seconds = [each.frames / each.rate for each in headers]
        middle = float(np.median(seconds))
        yield f"seconds: {min(seconds):.2f} to {max(seconds):.2f}, median {middle:.2f}"
    if damaged:
        yield f"damaged, {len(damaged)}: {damaged[0]}"

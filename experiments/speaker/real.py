"""Real voices: is there a recogniser of eight actors whose knowledge a ninth could be served by?

There is one clip of each phrase by each actor, so of a ninth's phrases either all are tested, or
some are told and others tested.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.fft import dct
from scipy.spatial.distance import cdist

import tljax
from experiments import frame
from experiments.frame import Plain, Row, Run
from experiments.speaker.voices import PACKS, RATE
from tljax import spectra
from tljax.configs import tasks
from tljax.data.decoded import materialise

SECONDS, STEPS = 2.5, 1000
VARIED = (dict(name="time_shift"), dict(name="speed"), dict(name="white_noise", snr_decibel=20.0))


def heard(actors: Sequence[str]) -> dict[str, Any]:
    """The phrases of some actors."""
    where = dict(speaker=tuple(actors))
    return dict(data="wav:phrases", where=where, rate=RATE, seconds=SECONDS)


def known(config: Any, actor: str) -> None:
    """Lets a recogniser be trained on all actors but one, whom it is judged by."""
    others = [name for name in PACKS if name != actor]
    config.streams.target = dict(heard(others), stem="mel", transforms=VARIED, batch=64)
    config.evaluate.test = dict(heard([actor]), stem="mel")
    config.steps, config.log_every = STEPS, STEPS
    config.optimizer = {**tasks.sgd(0.05), "clip": 1.0}
    frame.judge_at_the_end(config)


def rows(recogniser: Any) -> dict[str, Row | Plain]:
    """Recognisers, with mels as they are and normalised; and the old way. Seeds are actors.

    Args:
      recogniser: normalised or not -> a config of the network alone.
    """

    def row(name: str, normalised: bool) -> Row:
        def edit(config: Any, run: Run) -> None:
            known(config, PACKS[run.seed])

        return Row(lambda: recogniser(normalised), edit=edit, columns=dict(method=name))

    named = {"untouched": False, "normalised: untouched": True}
    warping = "dynamic time warping, nearest clip"
    return {name: row(name, way) for name, way in named.items()} | {
        warping: Plain(by_warping, dict(method=warping))
    }


def by_warping(seed: int) -> dict[str, Any]:
    """The phrase of the other actors' clip to which a clip is warped at the least cost."""
    own = {actor: clips(actor) for actor in PACKS}
    asked, true = own.pop(PACKS[seed])
    others = [clip for each, _ in own.values() for clip in each]
    labels = np.concatenate([of for _, of in own.values()])
    found = np.array([labels[warped(clip, others).argmin()] for clip in asked])
    return {"test": (found, true)}


@functools.cache
def clips(actor: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Thirteen cepstra `[frames, 13]` of each of an actor's clips, of mean 0 and deviation 1; and
    the number of its phrase."""
    how = {name: value for name, value in heard([actor]).items() if name != "data"}
    table = tljax.data.load("wav:phrases", "train", root=tasks.cache(), **how)
    table = materialise(table, math.inf)
    config = tljax.experiment.blank()
    tasks.mels(config, RATE)
    mel = {name: value for name, value in config.network.stems.mel.items() if name != "name"}
    mels, there = map(np.asarray, spectra.log_mel(table.input, mask=table.mask, **mel))
    cepstra = [dct(of[mask], norm="ortho")[:, :13] for of, mask in zip(mels, there, strict=True)]
    return [(c - c.mean(0)) / c.std(0) for c in cepstra], np.asarray(table.label)


def warped(clip: np.ndarray, others: Sequence[np.ndarray]) -> np.ndarray:
    """What it costs to warp a clip `[frames, n]` onto each other one, over both lengths (Sakoe &
    Chiba 1978): the least sum of the distances of frames that are said to be the same."""
    lengths = np.array([len(other) for other in others])
    distances = np.full((len(clip), lengths.max(), len(others)), np.inf)
    for i, other in enumerate(others):
        distances[:, : len(other), i] = cdist(clip, other)
    reached = np.full((lengths.max() + 1, len(others)), np.inf)
    reached[0] = 0.0
    for row in distances:
        before, reached = reached, np.full_like(reached, np.inf)
        for j, distance in enumerate(row):
            best = np.minimum(np.minimum(before[j], before[j + 1]), reached[j])
            reached[j + 1] = distance + best
    return reached[lengths, np.arange(len(others))] / (len(clip) + lengths)

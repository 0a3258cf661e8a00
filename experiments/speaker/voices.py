"""Makes and fetches the recordings: synthetic voices of espeak-ng, and real ones of a game.

    python -m experiments.speaker.voices [NAME ...] [--cache DIR]

`voices`: 56 voices of espeak-ng, 20 words, ten takes of differing speed and pitch, as
`plain/{word}_{voice}_{take}.flac`. They are **synthetic**: variants of one synthesiser in four
accents. Two more kinds are of the same voices: in `tract` each has a vocal tract that is shorter or
longer by 8 to 15 %, in `microphone` a filter of its own.
`phrases`: the same short English phrases said by actors, a clip a phrase and voice, as
`{phrase}_{voice}_0.flac`, from a package of Debian's (hedgewars-data, GFDL).
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
import soxr
from scipy.signal import fftconvolve, firwin2

from experiments.fetched import Made, command, unpacked, whole
from tljax.errors import UserError

RATE = 11025  # samples a second of all recordings
WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"),
)
TAKES = 10
ACCENTS = ("en-us", "en-gb", "en-gb-scotland", "en-029")
VARIANTS = (  # of espeak-ng 1.51, without robots, whispers and jokes
    *("adam", "Alex", "Alicia", "Andrea", "Andy", "Annie", "antonio", "aunty", "belinda"),
    *("benjamin", "boris", "caleb", "david", "Denis", "Diogo", "ed", "edward", "edward2"),
    *("Gene", "Gene2", "Henrique", "Hugo", "iven", "iven2", "iven3", "iven4", "Jacky", "john"),
    *("Lee", "linda", "marcelo", "Marco", "Mario", "max", "Michael", "michel", "miguel"),
    *("Mike", "Nguyen", "pablo", "paul", "pedro", "quincy", "rob", "robert", "steph"),
    *("steph2", "steph3", "travis", "victor", "zac", "anika", "f2", "f5", "m3", "m7"),
)
VOICES = [f"{variant}-{ACCENTS[i % 4]}" for i, variant in enumerate(VARIANTS)]
KINDS = ("plain", "tract", "microphone")

ACTORS = "hedgewars-data"
PACKS = (  # Classic is left out: it shares most of its clips with Default
    *("British", "Default", "HillBilly", "Mobster", "Pirate"),
    *("Robot", "Russian", "Singer", "Surfer"),
)
# Phrases of words that all packs say, without grunts (ow, ooff, jump), laughter and shouts.
PHRASES = (
    *("byebye", "comeonthen", "coward", "cutitout", "enemydown", "firstblood", "flawless"),
    *("hello", "hurry", "illgetyou", "incoming", "kamikaze", "leavemealone", "melon", "missed"),
    *("nutter", "oops", "reinforcements", "sameteam", "stupid", "takecover", "traitor"),
    *("uh-oh", "victory", "watchit", "yessir", "youllregretthat"),
)


@whole("voices")
def voices(partial: Path, place: Path) -> None:
    """Fills a directory with the synthetic voices; it takes about two minutes.

    Raises:
      UserError: espeak-ng is not installed, or lacks a voice.
    """
    for kind in KINDS:
        (partial / kind).mkdir(parents=True, exist_ok=True)

    def make(number: int) -> None:
        voice, rng = VOICES[number], np.random.default_rng((0, number))
        factor = 1 + rng.uniform(0.08, 0.15) * (-1) ** number
        taps = firwin2(65, np.linspace(0, 1, 7), 10 ** (rng.uniform(-12, 12, 7) / 20))
        for word in WORDS:
            for take in range(TAKES):
                speed, pitch = int(rng.integers(120, 221)), int(rng.integers(30, 71))
                name = f"{word}_{voice}_{take}.flac"
                sound = said(word, voice, speed, pitch)
                write(partial / "plain" / name, sound)
                write(partial / "microphone" / name, fftconvolve(sound, taps, "same"))
                # Played faster, formants rise by the factor; it is said so much slower.
                slower = said(word, voice, round(speed / factor), pitch)
                write(partial / "tract" / name, soxr.resample(slower, factor, 1.0))

    with ThreadPoolExecutor() as pool:
        list(pool.map(make, range(len(VOICES))))


def said(word: str, voice: str, speed: int, pitch: int) -> np.ndarray:
    """A word as a voice of espeak-ng says it, float32 `[n]`, without the silence around it.

    Args:
      word: what is said.
      voice: a variant and an accent.
      speed: in words a minute.
      pitch: 0 to 99.
    """
    variant, _, accent = voice.partition("-")
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        options = ["-v", f"{accent}+{variant}", "-s", str(speed), "-p", str(pitch)]
        command = ["espeak-ng", *options, "-w", file.name, word]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            raise UserError(
                "speaker: espeak-ng is not installed; apt-get install espeak-ng"
            ) from None
        if done.returncode or done.stderr:
            raise UserError(f"speaker: espeak-ng cannot say it as {voice!r} ({done.stderr})")
        sound, rate = soundfile.read(file.name, dtype="float32")
    loud = np.flatnonzero(np.abs(sound) > 0.01 * np.abs(sound).max())
    return soxr.resample(sound[loud[0] : loud[-1] + 1], rate, RATE)


def write(path: Path, sound: np.ndarray) -> None:
    """A recording of which the loudest sample is 0.9."""
    soundfile.write(path, 0.9 * sound / np.abs(sound).max(), RATE)


@whole("phrases")
def phrases(partial: Path, place: Path) -> None:
    """Fills a directory with the actors' phrases; copies of another voice's clip are left out.

    Raises:
      UserError: a package that cannot be had.
    """
    with unpacked("phrases", ACTORS, place) as there:
        for name, sound in clips(there / "usr/share/games/hedgewars/Data/Sounds/voices"):
            write(partial / name, sound)


def clips(root: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The phrases of all packs, each clip once."""
    for phrase in PHRASES:
        known: list[np.ndarray] = []
        for pack in PACKS:
            [path] = (p for p in (root / pack).glob("*.ogg") if p.stem.lower() == phrase)
            sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
            sound = soxr.resample(sound.mean(1), rate, RATE)
            if not any(same(sound, other) for other in known):
                yield f"{phrase}_{pack}_0.flac", sound
            known.append(sound)


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two clips are of one recording, at any loudness and delay."""
    scale = np.linalg.norm(one) * np.linalg.norm(other)
    return bool(np.abs(fftconvolve(one, other[::-1])).max() > 0.9 * scale)


MADE: dict[str, Made] = {
    "voices": (voices, "synthetic: espeak-ng, GPL-3"),
    "phrases": (phrases, f"actors' voices of Debian's {ACTORS}, GFDL"),
}

if __name__ == "__main__":
    sys.exit(command(__doc__, "speaker", MADE))

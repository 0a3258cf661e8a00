"""Log-mels: by hand, against scipy's windows and numpy's transform, and against librosa."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from tljax import spectra
from tljax.errors import UserError

SMALL = dict(rate=4000, window=100, hop=40, n_fft=128, mels=10)
RNG = np.random.default_rng(0)
WAVE = (0.1 * RNG.standard_normal(1000)).astype(np.float32)


def mels(wave, mask=None, **fields):
    y, there = spectra.log_mel(jnp.asarray(wave), mask=mask, **(SMALL | fields))
    return np.asarray(y), None if there is None else np.asarray(there)


def test_a_tone_by_hand():
    """A cosine of amplitude ½ at bin 16 of 128 samples, 500 Hz, under a Hann window as long.

    Its bin has |X| = ½ · 128/4 = 16, the bins beside it half of that, all others 0. Of three htk
    bands between 0 and 2,000 Hz the corners lie at mel 0, 380.2, 760.4, 1,140.6 and 1,520.9, which
    are 0, 280.9, 674.5, 1,225.9 and 2,000 Hz: bin 16 lies at 500 Hz on the first band's falling
    side, (674.5 − 500) / (674.5 − 280.9) = .4434, bins 15 and 17, at 468.75 and 531.25 Hz, at .5228
    and .3640. So the first band has 256 · .4434 + 64 · (.5228 + .3640) = 170.27.
    """
    tone = 0.5 * np.cos(2 * np.pi * 500 * np.arange(400) / 4000)
    y, _ = mels(tone, window=128, mels=3, filters="htk", padding="none", hop=128)
    assert y.shape == (3, 3)
    np.testing.assert_allclose(np.exp(y[:, 0]), 170.27, rtol=1e-3)


def test_slaneys_triangles_by_hand():
    """Slaney's scale has 15 mel at 1,000 Hz and 3/200 mel a hertz below: four bands up to there
    have corners 0, 200, … 1,000 Hz. The first peaks at 200 Hz, bin 4 of 50 Hz each, with
    2 / (400 − 0); at bin 2 it has half of that."""
    filters = spectra.mel_filters(2000, 40, 4, filters="slaney")
    assert filters.shape == (21, 4)
    np.testing.assert_allclose(filters[4], [2 / 400, 0, 0, 0], atol=1e-9)
    np.testing.assert_allclose(filters[2, 0], 1 / 400, rtol=1e-6)
    np.testing.assert_allclose(filters[6, :2], [1 / 400, 1 / 400], rtol=1e-6)
    np.testing.assert_allclose(filters.sum(0) * 50, 1, rtol=1e-6)  # areas: 50 Hz a bin


@pytest.mark.parametrize("padding", ["constant", "reflect", "none"])
def test_frames_are_those_of_a_loop(padding):
    """Window and transform by scipy and numpy, one frame after another."""
    side = 0 if padding == "none" else 64
    padded = np.pad(WAVE, side, mode="constant" if padding == "none" else padding)
    window = np.pad(signal.get_window("hann", 100), 14)
    frames = [padded[at : at + 128] * window for at in range(0, len(padded) - 127, 40)]
    power = np.abs(np.fft.rfft(frames)) ** 2
    expected = np.log(power @ spectra.mel_filters(4000, 128, 10))
    y, there = mels(WAVE, padding=padding)
    assert there is None and len(y) == (26 if side else 22)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "fields",
    [
        dict(rate=16000, n_fft=512, window=400, hop=160, mels=40),
        dict(rate=16000, n_fft=512, window=512, hop=160, mels=80, padding="reflect"),
        dict(rate=16000, n_fft=400, window=400, hop=160, mels=40, filters="htk"),
        dict(rate=22050, n_fft=2048, window=2048, hop=512, mels=128, low=50, high=8000),
    ],
)
def test_values_are_librosas(fields):
    librosa = pytest.importorskip("librosa")
    wave = RNG.standard_normal(8000).astype(np.float32)
    y, _ = mels(wave, floor=1e-30, **fields)
    htk = fields.get("filters") == "htk"
    expected = librosa.feature.melspectrogram(
        y=wave,
        sr=fields["rate"],
        n_fft=fields["n_fft"],
        win_length=fields["window"],
        hop_length=fields["hop"],
        n_mels=fields["mels"],
        fmin=fields.get("low", 0),
        fmax=fields.get("high"),
        htk=htk,
        norm=None if htk else "slaney",
        pad_mode=fields.get("padding", "constant"),
    )
    np.testing.assert_allclose(np.exp(y), expected.T, rtol=1e-4)


@pytest.mark.parametrize("normalise", ["none", "mean", "mean_variance"])
@pytest.mark.parametrize("length", [600, 620, 1000])
def test_how_far_a_wave_is_filled_up_changes_nothing(length, normalise):
    """1 + 600 // 40 = 16 frames of 600 samples are there, whatever follows."""
    alone, _ = mels(WAVE[:length], normalise=normalise)
    filled = np.pad(WAVE[:length], (0, 1400 - length))
    mask = jnp.arange(1400) < length
    y, there = mels(filled, mask, normalise=normalise)
    assert there.sum() == len(alone) == 1 + length // 40
    np.testing.assert_allclose(y[there], alone, rtol=1e-4, atol=1e-4)
    assert not y[~there].any()


def test_frames_of_a_wave_that_begins_late_are_there():
    """Of samples 100 to 499 those frames whose middle, at 40·t, is at a sample or behind one."""
    mask = jnp.arange(1000)
    _, there = mels(WAVE, (mask >= 100) & (mask < 500))
    assert np.flatnonzero(there).tolist() == list(range(3, 13))
    _, there = mels(WAVE, (mask >= 100) & (mask < 500), padding="none")
    assert np.flatnonzero(there).tolist() == list(range(3, 10))  # 40·t … 40·t + 127 within


def test_means_and_deviations_are_of_what_is_there():
    mask = jnp.arange(1000) < 500
    y, there = mels(WAVE, mask, normalise="mean_variance")
    np.testing.assert_allclose(y[there].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(y[there].std(0), 1, rtol=1e-3)


def test_the_floor_and_the_channel():
    y, _ = mels(np.zeros(400, np.float32), floor=1e-3, channel=True)
    assert y.shape == (11, 10, 1)
    np.testing.assert_allclose(y, np.log(1e-3), rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (dict(window=200), "window: got 200; expected at most n_fft, 128"),
        (dict(mels=150), "mels: got 150; expected fewer, or a longer n_fft: none of its 65 bins"),
        (dict(high=3000), "high: got 3000; expected above low, 0, and at most .* 2000 Hz"),
        (dict(low=500, high=400), "high: got 400"),
        (dict(n_fft=2048, padding="none"), "n_fft: got 2048; .* a wave of 1000 samples"),
        (dict(n_fft=2048, padding="reflect"), "n_fft: got 2048"),
    ],
)
def test_what_does_not_fit_is_refused(fields, says):
    with pytest.raises(UserError, match=says):
        mels(WAVE, **fields)

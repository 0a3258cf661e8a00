"""Log-mel spectrograms of waves, as librosa and torchaudio define them."""

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from tljax.checks import Count, Positive, Whole
from tljax.errors import wrong

Filters = Literal["slaney", "htk"]
Padding = Literal["constant", "reflect", "none"]
Normalise = Literal["none", "mean", "mean_variance"]


def log_mel(
    wave: Array,
    key: Any = None,
    *,
    mask: Array | None = None,
    held_out: bool = False,
    rate: Count = 16000,
    window: Count = 400,
    hop: Count = 160,
    n_fft: Count = 512,
    mels: Count = 40,
    low: Whole = 0,
    high: Whole = 0,
    filters: Filters = "slaney",
    padding: Padding = "constant",
    floor: Positive = 1e-10,
    normalise: Normalise = "none",
    channel: bool = False,
) -> tuple[Array, Array | None]:
    """The logarithm of a wave's power in mel bands, frame by frame; `padding` is the ends'.

    Windows are periodic Hann ones in the middle of `n_fft` samples. With a padding frame t is
    about sample t·hop, and there if that sample or the one before is; with "none" it begins at
    t·hop, and is there if all of it is. What is not there is 0.

    Args:
      wave: float `[..., samples]`.
      key, held_out: as of every transform; nothing here depends on them.
      mask: bool `[..., samples]`; None: all is there.
      rate: samples a second.
      window, hop, n_fft: samples.
      mels: bands, from `low` to `high` hertz (0: half the rate).
      filters: "slaney", as librosa's, each of area 1; "htk", as torchaudio's, each of height 1.
      padding: what stands before the first sample and after the last.
      floor: under which power is not told apart, before the natural logarithm.
      normalise: the mean of each band over the frames that are there becomes 0, and its variance 1.
      channel: whether an axis of one channel comes last, as trunks of pictures want it.

    Returns:
      `[..., frames, mels]`, frames = 1 + samples // hop with a padding; and bool `[..., frames]`,
      None without a mask.

    Raises:
      UserError: a window longer than `n_fft`, a wave shorter than a window, bands too narrow.
    """
    power, there = _power(wave, mask, window, hop, n_fft, padding)
    matrix = mel_filters(rate, n_fft, mels, low, high, filters)
    bands = jnp.matmul(power, matrix, precision="highest")
    y = jnp.log(jnp.maximum(bands, floor))
    if normalise != "none":
        y = normalised(y, there, variance=normalise == "mean_variance")
    y = y if there is None else jnp.where(there[..., None], y, 0.0)
    y = y.astype(wave.dtype)
    return (y[..., None] if channel else y), there


def _power(
    wave: Array, mask: Array | None, window: int, hop: int, n_fft: int, padding: Padding
) -> tuple[Array, Array | None]:
    """|STFT|² `[..., frames, 1 + n_fft // 2]`, and which frames are there."""
    if window > n_fft:
        raise wrong("window", window, f"at most n_fft, {n_fft} samples")
    side = 0 if padding == "none" else n_fft // 2
    samples = wave.shape[-1]
    least = n_fft if not side else side + 1 if padding == "reflect" else 1
    if samples < least:
        raise wrong("n_fft", n_fft, f"a window that fits into a wave of {samples} samples")
    pads = [(0, 0)] * (wave.ndim - 1) + [(side, side)]
    if side:
        wave = jnp.pad(wave, pads, mode=padding)
    starts = np.arange(0, wave.shape[-1] - n_fft + 1, hop)
    frames = wave.astype("float32")[..., starts[:, None] + np.arange(n_fft)]
    hann = np.zeros(n_fft, np.float32)
    first = (n_fft - window) // 2
    hann[first : first + window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    power = jnp.square(jnp.abs(jnp.fft.rfft(frames * hann.reshape((1,) * wave.ndim + (-1,)))))
    if mask is None:
        return power, None
    if not side:
        return power, mask[..., starts] & mask[..., starts + n_fft - 1]
    whole = jnp.pad(mask, [*pads[:-1], (1, 1)])  # place i + 1 is sample i
    return power, whole[..., starts] | whole[..., starts + 1]


@functools.cache
def mel_filters(
    rate: int, n_fft: int, mels: int, low: int = 0, high: int = 0, filters: Filters = "slaney"
) -> np.ndarray:
    """Triangles over the bins of a spectrum whose corners are equally far apart in mel.

    Slaney's Auditory Toolbox (1998): linear up to 1,000 Hz, then logarithmic; HTK: 2595 ·
    log10(1 + f / 700) (Young et al.).

    Args:
      rate: samples a second.
      n_fft: samples of a window.
      mels: triangles.
      low, high: hertz; 0: half the rate.
      filters: see `log_mel`.

    Returns:
      float32 `[1 + n_fft // 2, mels]`.

    Raises:
      UserError: a band above half the rate, or a triangle that holds no bin.
    """
    top = high or rate / 2
    if not low < top <= rate / 2:
        raise wrong("high", high, f"above low, {low}, and at most half the rate, {rate / 2:g} Hz")
    to_mel, to_hertz = _SCALES[filters]
    corners = to_hertz(np.linspace(to_mel(float(low)), to_mel(float(top)), mels + 2))
    bins = np.fft.rfftfreq(n_fft, 1 / rate)[:, None]
    rising = (bins - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - bins) / (corners[2:] - corners[1:-1])
    triangles = np.maximum(0, np.minimum(rising, falling))
    if filters == "slaney":
        triangles *= 2 / (corners[2:] - corners[:-2])
    empty = ~triangles.any(axis=0)
    if empty.any():
        expected = f"fewer, or a longer n_fft: none of its {len(bins)} bins lies in band "
        raise wrong("mels", mels, f"{expected}{int(empty.argmax())}")
    return triangles.astype(np.float32)


_BREAK, _STEP = 1000.0, np.log(6.4) / 27  # of Slaney's scale: hertz, and log hertz a mel


def _slaney(hertz: Any) -> Any:
    linear = 3 * np.asarray(hertz) / 200
    return np.where(linear < 15, linear, 15 + np.log(np.maximum(hertz, 1e-9) / _BREAK) / _STEP)


def _slaney_hertz(mel: Any) -> Any:
    return np.where(mel < 15, 200 * mel / 3, _BREAK * np.exp(_STEP * (mel - 15)))


_SCALES: dict[str, tuple[Any, Any]] = {
    "slaney": (_slaney, _slaney_hertz),
    "htk": (
        lambda hertz: 2595 * np.log10(1 + hertz / 700),
        lambda mel: 700 * (10 ** (mel / 2595) - 1),
    ),
}


def normalised(y: Array, mask: Array | None, *, variance: bool) -> Array:
    """Each band with mean 0, and of `variance` with deviation 1, over the frames that are there.

    Args:
      y: `[..., frames, bands]`.
      mask: bool `[..., frames]`; None: all are there.
      variance: whether bands are divided by their deviation, too.
    """
    weights = jnp.ones(y.shape[:-1]) if mask is None else mask.astype(y.dtype)
    weights = (weights / jnp.maximum(weights.sum(-1, keepdims=True), 1.0))[..., None]
    y = y - (y * weights).sum(-2, keepdims=True)
    if not variance:
        return y
    return y * jax.lax.rsqrt((jnp.square(y) * weights).sum(-2, keepdims=True) + 1e-5)

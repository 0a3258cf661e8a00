"""Transforms of waves `[samples]`, and of their spectrograms; those of images are in `transforms`.

What is not there, by the mask, is 0 and stays so.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from tljax.checks import Decay, NotNegative, Share, Whole

Looked = tuple[Array, Array | None]


def time_shift(
    wave: Array,
    key: Array,
    *,
    mask: Array | None = None,
    held_out: bool = False,
    share: Share = 0.1,
) -> Looked:
    """Moves the wave by up to ±`share` of its length, drawn uniformly; zeros come in."""
    length = len(wave)
    by = jnp.round(share * length * jax.random.uniform(key, minval=-1.0)).astype("int32")
    return _sampled(wave, mask, jnp.arange(length, dtype="float32") - by)


def speed(
    wave: Array,
    key: Array,
    *,
    mask: Array | None = None,
    held_out: bool = False,
    share: Decay = 0.1,
) -> Looked:
    """Plays the wave 1 ± `share` times as fast, drawn uniformly, by linear interpolation.

    Pitch and formants move with it. Of a slower one the end is cut, behind a faster one is nothing.
    """
    factor = 1.0 + share * jax.random.uniform(key, minval=-1.0)
    return _sampled(wave, mask, jnp.arange(len(wave), dtype="float32") * factor)


def _sampled(wave: Array, mask: Array | None, places: Array) -> Looked:
    """A wave at places between its samples; outside of it there is nothing."""
    last = len(wave) - 1
    within = (places >= 0) & (places <= last)
    low = jnp.clip(jnp.floor(places).astype("int32"), 0, last)
    high = jnp.minimum(low + 1, last)
    part = places - low
    sampled = jnp.where(within, (1 - part) * wave[low] + part * wave[high], 0.0)
    return sampled, None if mask is None else within & mask[low]


def gain(
    wave: Array,
    key: Array,
    *,
    mask: Array | None = None,
    held_out: bool = False,
    decibel: NotNegative = 6.0,
) -> Looked:
    """Makes the wave louder or softer by up to ±`decibel`, drawn uniformly."""
    return wave * 10.0 ** (decibel / 20.0 * jax.random.uniform(key, minval=-1.0)), mask


def white_noise(
    wave: Array,
    key: Array,
    *,
    mask: Array | None = None,
    held_out: bool = False,
    snr_decibel: float = 20.0,
) -> Looked:
    """Adds Gaussian noise of a power `snr_decibel` below the wave's own, where there is a wave."""
    there = jnp.ones_like(wave) if mask is None else mask.astype(wave.dtype)
    power = (jnp.square(wave) * there).sum() / jnp.maximum(there.sum(), 1.0)
    std = jnp.sqrt(power * 10.0 ** (-snr_decibel / 10.0))
    return wave + std * there * jax.random.normal(key, wave.shape), mask


def spec_augment(
    spectrogram: Array,
    key: Array,
    *,
    mask: Array | None = None,
    held_out: bool = False,
    band_masks: Whole = 2,
    bands: Whole = 8,
    time_masks: Whole = 2,
    frames: Whole = 20,
    share: Share = 1.0,
) -> Looked:
    """Hides bands and stretches of time behind the mean; it follows the transform `log_mel`.

    Park et al. 2019, section 2, without the warping of time: widths are uniform in 0…`bands` and
    0…`frames`, and what is hidden lies uniformly within what is there.

    Args:
      spectrogram: `[frames, bands, ...]`.
      key: draws widths and places.
      mask: bool `[frames]`, of which the frames that are there follow each other.
      held_out: of every transform.
      band_masks, bands: how many, and the widest (m_F and F).
      time_masks, frames: how many, and the longest (m_T and T).
      share: the longest, of the frames that are there (p).
    """
    first, count = jnp.asarray(0), jnp.asarray(spectrogram.shape[0])
    there = jnp.ones(spectrogram.shape[:1], bool) if mask is None else mask
    if mask is not None:
        first, count = mask.argmax(), mask.sum()
    key_bands, key_times = jax.random.split(key)
    longest = jnp.minimum(frames, jnp.floor(share * count).astype("int32"))
    hidden_times = _hidden(key_times, time_masks, longest, count, spectrogram.shape[0], first)
    size = spectrogram.shape[1]
    hidden_bands = _hidden(key_bands, band_masks, jnp.minimum(bands, size), size, size)
    hidden = (hidden_times[:, None] | hidden_bands[None]) & there[:, None]
    ones = (1,) * (spectrogram.ndim - 2)
    weights = there.reshape(-1, 1, *ones)
    mean = (spectrogram * weights).sum() / (jnp.maximum(count, 1) * spectrogram[0].size)
    return jnp.where(hidden.reshape(*hidden.shape, *ones), mean, spectrogram), mask


def _hidden(key: Array, count: int, widest: Any, size: Any, length: int, first: Any = 0) -> Array:
    """Which of `length` places `count` stretches hide, in the `size` places from `first` on."""
    if not count:
        return jnp.zeros(length, bool)
    of_width, of_place = jax.random.split(key)
    width = jax.random.randint(of_width, (count, 1), 0, widest + 1)
    start = first + jnp.floor(jax.random.uniform(of_place, (count, 1)) * (size - width + 1))
    place = jnp.arange(length)[None]
    return ((place >= start) & (place < start + width)).any(axis=0)

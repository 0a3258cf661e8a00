"""Transforms of waves and spectrograms: what they move, and what they leave alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tljax.data.transforms import alike, apply, transform
from tljax.masked import Masked

KEYS = jax.random.split(jax.random.key(0), 200)
WAVE = jnp.sin(jnp.arange(100) * 0.3) * (jnp.arange(100) < 80)
MASK = jnp.arange(100) < 80


def looks(name, wave=WAVE, mask=MASK, **fields):
    """200 looks at one example: `[200, …]` and their masks."""
    batch = Masked(jnp.tile(wave, (200,) + (1,) * wave.ndim), jnp.tile(mask, (200, 1)))
    seen = apply((transform(name, **fields),), batch, KEYS)
    return np.asarray(seen.input), np.asarray(seen.mask)


def test_a_shift_moves_wave_and_mask_together_and_zeros_come_in():
    waves, masks = looks("time_shift", share=0.1)
    shifts = []
    for wave, mask in zip(waves, masks, strict=True):
        first = int(mask.argmax()) if not mask[0] else int(mask.sum()) - 80
        shifts.append(first)
        padded = np.pad(np.asarray(WAVE), 10)[10 - first : 110 - first]
        np.testing.assert_allclose(wave, padded, atol=1e-6)
        assert not wave[~mask].any()
    assert min(shifts) == -10 and max(shifts) == 10 and len(set(shifts)) == 21


def test_speed_reads_the_wave_at_a_factor():
    """A ramp x(t) = t read at factor f has the slope f, and there is 80 / f of it, up to 100."""
    ramp = jnp.arange(100.0) * MASK
    waves, masks = looks("speed", ramp, share=0.2)
    slopes = waves[:, 10] / 10
    assert 0.8 <= slopes.min() < 0.82 and 1.18 < slopes.max() <= 1.2
    np.testing.assert_allclose(waves[:, 60], 60 * slopes, rtol=1e-5)
    np.testing.assert_allclose(masks.sum(1), np.minimum(80 / slopes, 100), atol=1)


def test_gain_is_a_factor():
    """6 dB are a factor of 1.995."""
    waves, masks = looks("gain", decibel=6.0)
    factors = waves[:, 5] / float(WAVE[5])
    assert 0.501 <= factors.min() < 0.52 and 1.9 < factors.max() <= 1.996
    assert (masks == np.asarray(MASK)).all()


def test_noise_has_the_power_that_is_asked_for_where_there_is_a_wave():
    """10 dB below: a tenth of the wave's power."""
    waves, _ = looks("white_noise", snr_decibel=10.0)
    added = waves - np.asarray(WAVE)
    power = float(jnp.square(WAVE).sum() / 80)
    np.testing.assert_allclose(np.square(added[:, :80]).mean(), power / 10, rtol=0.05)
    assert not added[:, 80:].any()


def test_hidden_bands_and_times_are_the_mean_of_what_is_there():
    """At most 2 × 3 of 12 bands and 2 × 4 of 20 frames that are there, each width drawn from 0."""
    spectrogram = jnp.asarray(np.random.default_rng(0).standard_normal((30, 12)), jnp.float32) + 5
    mask = jnp.arange(30) < 20
    fields = dict(band_masks=2, bands=3, time_masks=2, frames=4)
    seen, masks = looks("spec_augment", spectrogram, mask, **fields)
    mean = float(spectrogram[:20].mean())
    hidden = seen != np.asarray(spectrogram)
    np.testing.assert_allclose(seen[hidden], mean, rtol=1e-5)
    assert not hidden[:, 20:].any() and (masks == np.asarray(mask)).all()
    bands, times = hidden[:, :20].all(1).sum(1), hidden[:, :20].all(2).sum(1)
    assert bands.max() == 6 and bands.min() == 0 and times.max() == 8 and times.min() == 0
    assert hidden[:, :20].all(1).any(0).all() and hidden[:, :20].all(2).any(0).all()
    capped, _ = looks("spec_augment", spectrogram, mask, **{**fields, "share": 0.1, "frames": 9})
    assert (capped != np.asarray(spectrogram))[:, :20].all(2).sum(1).max() == 4  # 2 × 0.1 · 20


@pytest.mark.parametrize("name", ["time_shift", "speed", "gain", "white_noise", "spec_augment"])
def test_none_needs_a_mask_and_all_draw(name):
    wave = jnp.ones((2, 40, 4)) if name == "spec_augment" else jnp.ones((2, 40))
    seen = apply((transform(name),), wave, KEYS[:2])
    assert seen.shape == wave.shape and not isinstance(seen, Masked)
    assert not alike((transform(name),), wave)


def test_mels_as_a_transform_are_the_same_whatever_the_key():
    small = dict(rate=4000, window=20, hop=10, n_fft=32, mels=4)
    chain = (transform("log_mel", **small), transform("spec_augment", frames=2, bands=1))
    batch = Masked(jnp.tile(WAVE, (3, 1)), jnp.tile(MASK, (3, 1)))
    assert alike(chain[:1], batch) and not alike(chain, batch)
    seen = apply(chain, batch, KEYS[:3])
    assert seen.input.shape == (3, 11, 4) and seen.mask.sum(1).tolist() == [9, 9, 9]

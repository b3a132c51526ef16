"""Measures of slices: what they mean on pictures of which it is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cristae.preprocess.inspect import (
    LAGS,
    chance_of,
    fit,
    grey_levels,
    histogram,
    look,
    padding,
    saturation,
    sharpness_and_noise,
    stripes,
)


def tissue(shape=(160, 160), seed=0, grain=4.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), grain, mode="wrap")
    return np.clip(128 + 35 * smooth / smooth.std() + rng.normal(0, 6, shape), 1, 254).astype(np.uint8)


def test_the_histogram_is_that_of_numpy(monkeypatch) -> None:
    monkeypatch.setattr("cristae.preprocess.inspect._AT_ONCE", 1000)
    plane = np.random.default_rng(0).integers(0, 5000, (130, 70)).astype(np.uint16)
    assert np.array_equal(histogram(plane), np.bincount(plane.ravel()))


@given(st.floats(10, 40), st.floats(100, 180))
@settings(max_examples=20)
def test_contrast_is_the_deviation_of_normal_grey_values(deviation, mean) -> None:
    values = np.random.default_rng(1).normal(mean * 10, deviation * 10, 20_000).clip(0, 4000)
    brightness, contrast = grey_levels(np.bincount(values.astype(int)))
    assert brightness == pytest.approx(mean * 10, abs=deviation)
    assert contrast == pytest.approx(deviation * 10, rel=0.05)


def test_a_few_extreme_pixels_change_neither_brightness_nor_contrast() -> None:
    plane = tissue()
    spoilt = plane.copy()
    spoilt[:4] = 255
    one, other = look(plane), look(spoilt)
    assert other.brightness == pytest.approx(one.brightness, abs=2)
    assert other.contrast == pytest.approx(one.contrast, rel=0.06)


@pytest.mark.parametrize("gain", [0.4, 0.7])
def test_gain_and_offset_change_no_measure_of_structure(gain) -> None:
    plane = tissue().astype(np.uint16) * 100
    one, other = look(plane), look((plane * gain + 5000).astype(np.uint16))
    for name in ("sharpness", "noise", "stripes", "rows"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), abs=0.03), name
    assert fit(other, [one]).likeness[0] == pytest.approx(1, abs=1e-3)


def test_clipped_pixels_are_counted_and_others_are_not() -> None:
    values = np.random.default_rng(0).normal(128, 40, 100_000)
    inside = np.bincount(values.clip(1, 400).astype(int))
    assert saturation(inside) == (pytest.approx(0, abs=0.002), pytest.approx(0, abs=0.002))
    dark, bright = saturation(np.bincount(values.clip(0, 180).astype(int)))
    assert dark < 0.002 and bright == pytest.approx((values >= 180).mean(), abs=0.03)
    assert saturation(np.array([5, 5])) == (0.0, 0.0)


@given(st.integers(9, 40), st.integers(0, 3))
@settings(max_examples=20)
def test_padding_is_what_was_padded(width, side) -> None:
    plane = np.rot90(tissue(), side).copy()
    plane[50:90, 60:100] = 0  # black, but not connected to the edge
    plane[:, :width] = 0
    found = padding(plane)
    assert found[:, : width // 8 * 8].all() and not found[:, width + 1 :].any()


def test_padding_counts_in_no_other_measure() -> None:
    plane = tissue((240, 240))
    padded = plane.copy()
    padded[:48] = 0
    one, other = look(plane[48:]), look(padded)
    assert other.padding == pytest.approx(0.2)
    assert other.brightness == pytest.approx(one.brightness, abs=1)
    assert other.contrast == pytest.approx(one.contrast, rel=0.03)
    assert other.dark < 0.001


@pytest.mark.parametrize("strength", [0.2, 0.5])
def test_the_strength_of_stripes_is_their_deviation(strength) -> None:
    rng = np.random.default_rng(0)
    values = ndimage.gaussian_filter(rng.normal(size=(256, 256)), 3)
    values = (values / values.std()).astype(np.float32)
    across = rng.normal(size=256)
    striped = (values + strength * across / across.std()).astype(np.float32)
    assert stripes(values) < 0.08
    assert stripes(striped) == pytest.approx(strength, abs=0.08)
    assert stripes(striped.T.copy()) < 0.08


def test_blur_lowers_sharpness_whatever_the_noise_and_tissue_does_not() -> None:
    rng = np.random.default_rng(0)
    scene = ndimage.gaussian_filter(rng.normal(size=(256, 256)), 1.5)
    scene = scene / scene.std()

    def sharpness(blur, noise):
        values = ndimage.gaussian_filter(scene, blur) if blur else scene
        return sharpness_and_noise((values + noise * rng.normal(size=scene.shape)).astype(np.float32))

    sharp, blurred, noisy = sharpness(0, 0.1), sharpness(2, 0.1), sharpness(0, 0.4)
    assert blurred[0] < sharp[0] - 0.5
    assert noisy[0] == pytest.approx(sharp[0], abs=0.15)
    assert noisy[1] == pytest.approx(0.4, rel=0.1)


@given(st.integers(-20, 20), st.integers(-20, 20))
@settings(max_examples=15)
def test_a_shift_is_measured(y, x) -> None:
    plane = tissue((200, 260))
    found = fit(look(np.roll(plane, (y, x), axis=(0, 1))), [look(plane)])
    assert (found.shift_y, found.shift_x) == (pytest.approx(y, abs=0.3), pytest.approx(x, abs=0.3))


@pytest.mark.parametrize("shape", [(75, 125), (125, 75), (135, 81), (64, 225)])
def test_odd_sides_do_as_well(shape) -> None:
    plane = tissue(shape, grain=2.0)
    found = fit(look(np.roll(plane, (3, -4), axis=(0, 1))), [look(plane)])
    assert (found.shift_y, found.shift_x) == (pytest.approx(3, abs=0.3), pytest.approx(-4, abs=0.3))


def test_a_shift_of_a_large_slice_is_counted_in_its_pixels() -> None:
    plane = tissue((900, 1200), grain=8)
    one, other = look(plane), look(np.roll(plane, (11, -7), axis=(0, 1)))
    assert one.factor == 2
    found = fit(other, [one])
    assert (found.shift_y, found.shift_x) == (pytest.approx(11, abs=0.6), pytest.approx(-7, abs=0.6))


def test_noise_tells_a_copy_from_a_second_exposure() -> None:
    clean = ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(160, 160)), 4) * 300 + 128
    first, second = (
        look(np.clip(clean + np.random.default_rng(seed).normal(0, 8, clean.shape), 1, 254).astype(np.uint8))
        for seed in (0, 1)
    )
    assert fit(second, [first]).copy < 0.5
    assert fit(first, [second, first]).copy == 1 and fit(first, [second, first]).copy_lag == 2


def test_a_blank_slice_is_like_nothing() -> None:
    blank = look(np.full((160, 160), 7, np.uint8))
    found = fit(blank, [look(tissue())])
    assert blank.blank and np.isnan(found.likeness).all() and np.isnan(found.shift_y) and found.copy == 0
    assert len(found.likeness) == LAGS


@pytest.mark.parametrize("shape", [(96, 128), (200, 200), (300, 150)])
def test_chance_is_how_like_unrelated_slices_are(shape) -> None:
    looks = [look(tissue(shape, seed, grain=1.0)) for seed in range(4)]
    found = [fit(a, [b]).likeness[0] for i, a in enumerate(looks) for b in looks[:i]]
    assert np.median(found) == pytest.approx(chance_of(shape), rel=0.5)


def test_measures_do_not_depend_on_the_order_of_memory() -> None:
    plane = tissue()
    turned = np.asfortranarray(plane)
    one, other = look(plane), look(turned)
    assert one.digest == other.digest and one.sharpness == other.sharpness

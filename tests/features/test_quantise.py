"""Levels are those of the IBSI's formulas, and do not depend on blocks or on brightness."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cristae.features.quantise import Quantisation, highest_level, quantise

SHAPE = (2, 3, 5)
LABELS = hnp.arrays(np.int32, SHAPE, elements=st.integers(0, 2))
IMAGES = st.one_of(
    hnp.arrays(np.uint8, SHAPE),
    hnp.arrays(np.uint16, SHAPE),
    hnp.arrays(np.float32, SHAPE, elements=st.floats(-100, 100, width=32)),
)


def ranges(labels, image, n=2):
    image = image.astype(np.float64)
    of = [image[labels == i + 1] for i in range(n)]
    return np.array([v.min() if v.size else 0 for v in of]), np.array([v.max() if v.size else 0 for v in of])


@settings(max_examples=60)
@given(LABELS, IMAGES, st.sampled_from([1, 2, 7, 32, 300]))
def test_bins_by_number_are_those_of_the_formula(labels, image, n_bins):
    low, high = ranges(labels, image)
    levels = quantise(labels, image, low, high, Quantisation(n_bins=n_bins))
    assert levels.dtype == (np.uint8 if n_bins < 256 else np.uint16)
    assert not levels[labels == 0].any()
    for i in range(2):
        inside = labels == i + 1
        g = image[inside].astype(np.float64)
        if low[i] == high[i]:
            expected = np.ones(g.size)
        else:
            expected = np.where(g < high[i], np.floor(n_bins * (g - low[i]) / (high[i] - low[i])) + 1, n_bins)
        assert np.array_equal(levels[inside], np.minimum(expected, n_bins))


@given(hnp.arrays(np.uint16, 40, elements=st.integers(0, 65535)), st.integers(1, 400))
def test_whole_grey_values_fall_into_exact_bins(values, n_bins):
    image = values.reshape(1, 1, -1)
    low, high = int(values.min()), int(values.max())
    levels = quantise(np.ones(image.shape, np.int32), image, [low], [high], Quantisation(n_bins=n_bins))
    exact = [min((int(v) - low) * n_bins // (high - low) + 1, n_bins) if high > low else 1 for v in values]
    assert levels.ravel().tolist() == exact


def test_rounding_makes_no_bin_beyond_the_last():
    image = np.array([[[-(2.0**53), 0.5, 1.0]]])
    levels = quantise(np.ones(image.shape, np.int32), image, [-(2.0**53)], [1.0], Quantisation(n_bins=4))
    assert levels.tolist() == [[[1, 4, 4]]]


@given(LABELS, hnp.arrays(np.uint8, SHAPE), st.sampled_from([0.5, 3, 25]))
def test_bins_by_width_start_at_the_minimum(labels, image, width):
    low, high = ranges(labels, image)
    quantisation = Quantisation(by="width", bin_width=width)
    levels = quantise(labels, image, low, high, quantisation)
    inside = labels > 0
    expected = np.floor((image[inside] - low[labels[inside] - 1]) / width) + 1
    assert np.array_equal(levels[inside], expected)
    if (labels == 1).any() and (labels == 2).any():
        assert levels.max() == highest_level(low, high, quantisation)


@given(LABELS, hnp.arrays(np.uint8, SHAPE), st.integers(1, 200), st.integers(0, 10000))
def test_levels_by_number_do_not_depend_on_brightness_and_contrast(labels, image, gain, offset):
    other = (image.astype(np.uint16) * gain + offset).astype(np.uint16)
    plain, changed = (quantise(labels, g, *ranges(labels, g), Quantisation()) for g in (image, other))
    assert np.array_equal(plain, changed)


def test_a_block_has_the_levels_of_the_whole():
    rng = np.random.default_rng(0)
    labels, image = rng.integers(0, 3, (6, 6, 6)).astype(np.int32), rng.normal(size=(6, 6, 6))
    low, high = ranges(labels, image)
    whole = quantise(labels, image, low, high, Quantisation())
    part = quantise(labels[2:5, :, 3:], image[2:5, :, 3:], low, high, Quantisation())
    assert np.array_equal(part, whole[2:5, :, 3:])


def test_values_that_are_levels_stay():
    image = np.array([[[1, 0, 65535]]], np.uint16)
    labels = np.array([[[1, 0, 1]]], np.int32)
    assert quantise(labels, image, [1], [65535], Quantisation(by="none")).tolist() == [[[1, 0, 65535]]]


@pytest.mark.parametrize("value", [0, 2.5, -1, 300, np.nan])
def test_values_that_are_no_levels_are_refused(value):
    with pytest.raises(ValueError, match="whole numbers from 1 to 4; 1 voxels"):
        quantise(np.ones((1, 1, 2), np.int32), np.array([[[4, value]]]), [1], [4], Quantisation(by="none"))


@pytest.mark.parametrize("by", ["number", "width"])
@pytest.mark.parametrize("value", [9, 21, np.nan, np.inf])
def test_ranges_of_another_image_are_refused(by, value):
    with pytest.raises(ValueError, match="1 voxels are not: ranges and image differ"):
        quantise(np.ones((1, 1, 2), np.int32), np.array([[[15, value]]]), [10], [20], Quantisation(by=by))


def test_impossible_input_is_refused():
    labels, image = np.ones((1, 1, 2), np.int32), np.ones((1, 1, 2), np.uint8)
    with pytest.raises(ValueError, match="one shape"):
        quantise(labels, image[..., 1:], [0], [1], Quantisation())
    with pytest.raises(ValueError, match="from 0 to 0"):
        quantise(labels, image, [], [], Quantisation())
    with pytest.raises(ValueError, match="got -1 to 0"):
        quantise(-labels, image, [0, 0], [1, 1], Quantisation())
    with pytest.raises(ValueError, match="not above their maxima"):
        quantise(labels, image, [2], [1], Quantisation())
    with pytest.raises(ValueError, match="finite"):
        highest_level(np.array([np.nan]), np.array([1.0]), Quantisation())
    with pytest.raises(ValueError, match="for each object"):
        highest_level(np.zeros(1), np.zeros(2), Quantisation())
    with pytest.raises(ValueError, match="wider bins"):
        highest_level(np.zeros(1), np.full(1, 1e6), Quantisation(by="width", bin_width=1))
    with pytest.raises(ValueError, match="'none'"):
        Quantisation(by="size")
    with pytest.raises(ValueError, match="1 to 65535 bins"):
        Quantisation(n_bins=0)
    with pytest.raises(ValueError, match="above 0"):
        Quantisation(bin_width=0)


def test_no_object_has_no_level():
    nothing = np.zeros((2, 2, 2), np.int32)
    assert highest_level(np.zeros(0), np.zeros(0), Quantisation()) == 0
    assert not quantise(nothing, nothing, np.zeros(0), np.zeros(0), Quantisation()).any()

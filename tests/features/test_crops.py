"""Crops are trimmed and made coarser alike wherever the object lies; faces are those of the mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cristae.features.crops import Crop, fitted, surface_faces, trimmed

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.booleans())


@given(MASKS, st.integers(0, 3))
def test_trimming_does_not_see_the_margin(mask, margin):
    found = trimmed(np.pad(mask, ((1, 0), (0, 2), (3, 1))), margin)
    np.testing.assert_array_equal(found, trimmed(mask, margin))
    assert found.sum() == mask.sum()
    if mask.any():
        bare = trimmed(mask)
        assert all(bare.take(end, axis).any() for axis in range(3) for end in (0, -1))


@given(MASKS)
def test_faces_are_where_neighbours_differ(mask):
    mask = np.pad(mask, 1)
    faces = surface_faces(mask)
    assert faces.axis.size == sum(np.count_nonzero(np.diff(mask, axis=axis)) for axis in range(3))
    upper = faces.lower.copy()
    upper[np.arange(faces.axis.size), faces.axis] += 1
    np.testing.assert_array_equal(mask[tuple(faces.lower.T)], faces.sign > 0)
    np.testing.assert_array_equal(mask[tuple(upper.T)], faces.sign < 0)
    sizes = np.array([3.0, 2.0, 5.0])
    np.testing.assert_allclose(faces.centres((3.0, 2.0, 5.0)), (faces.lower + upper) / 2 * sizes)
    np.testing.assert_allclose(faces.areas((3.0, 2.0, 5.0)), 30 / sizes[faces.axis])


@given(MASKS, st.integers(1, 40))
def test_coarser_until_it_fits(mask, most):
    crop = fitted(Crop(mask, None, (3.0, 2.0, 1.0)), most)
    assert crop.mask.size <= max(1, most)
    assert crop.voxel_size == (3.0 * crop.factor, 2.0 * crop.factor, 1.0 * crop.factor)
    again = fitted(Crop(np.pad(mask, ((0, 1), (2, 0), (1, 1))), None, (3.0, 2.0, 1.0)), most)
    np.testing.assert_array_equal(again.mask, crop.mask)


def test_halves_count_and_grey_values_are_means():
    mask = np.zeros((4, 4, 4), bool)
    mask[1:3, 1:3, 1:3] = mask[0, 0, 0] = mask[3, 3, 3] = (
        True  # two of eight in the first and the last, one in the rest
    )
    mask[:2, :2, :2] = True
    mask[2, 2:, 2:] = True
    image = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
    crop = fitted(Crop(mask, image, (1.0, 1.0, 1.0)), 8)
    np.testing.assert_array_equal(np.argwhere(crop.mask), [[0, 0, 0], [1, 1, 1]])
    assert crop.factor == 2
    np.testing.assert_allclose(crop.image, image.reshape(2, 2, 2, 2, 2, 2).mean(axis=(1, 3, 5)))


def test_what_fits_is_left_alone_and_coarse_volume_is_about_the_same():
    z, y, x = np.indices((41, 41, 41)) - 20
    ball = z**2 + y**2 + x**2 < 18**2
    whole = fitted(Crop(ball, None, (1.0, 1.0, 1.0)), ball.size)
    np.testing.assert_array_equal(whole.mask, trimmed(ball))
    assert whole.factor == 1
    half = fitted(Crop(ball, None, (1.0, 1.0, 1.0)), ball.size // 8)
    assert half.factor == 2
    assert half.mask.sum() * 8 == pytest.approx(ball.sum(), rel=0.03)

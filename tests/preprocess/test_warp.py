from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from cristae.preprocess.warp import inverse, warp_labels_plane, warp_plane

SHAPE = (60, 70)


def smooth(dtype=np.uint8, seed=0):
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2.5)
    grey = 128 + 60 * noise / np.abs(noise).max()
    return np.clip(grey * (1 if dtype == np.uint8 else 200), 1, None).astype(dtype)


def shift(y, x):
    return np.array([[1, 0, y], [0, 1, x]], float)


@given(y=st.integers(-80, 80), x=st.integers(-80, 80), dtype=st.sampled_from([np.uint8, np.uint16]))
@settings(max_examples=40)
def test_whole_shifts_copy(y, x, dtype):
    plane = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, SHAPE).astype(dtype)
    new = warp_plane(plane, shift(y, x), (66, 75))
    expected = np.zeros((66, 75), dtype)
    for i in range(66):
        for j in (0, 30, 74):
            inside = 0 <= i + y < SHAPE[0] and 0 <= j + x < SHAPE[1]
            expected[i, j] = plane[i + y, j + x] if inside else 0
    assert (new[:, [0, 30, 74]] == expected[:, [0, 30, 74]]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("interpolation", ["cubic", "linear"])
def test_shifts_agree_with_the_kernel_of_turned_slices(dtype, interpolation):
    """Two implementations: OpenCV's separable filter, and ours for any matrix."""
    plane = smooth(dtype)
    turned = shift(3.3, -2.6)
    turned[0, 1] = 1e-13
    one = warp_plane(plane, shift(3.3, -2.6), SHAPE, interpolation)
    other = warp_plane(plane, turned, SHAPE, interpolation)
    assert np.abs(one.astype(int) - other).max() <= 1
    assert ((one == 0) == (other == 0)).all()


@given(y=st.floats(-5, 5), x=st.floats(-5, 5))
@settings(max_examples=20)
def test_a_warp_and_its_inverse_give_the_slice_back(y, x):
    matrix = np.array([[0.999, -0.02, y], [0.02, 0.999, x]])
    plane = smooth()
    there = warp_plane(plane, matrix, (80, 90))
    back = warp_plane(there, inverse(matrix), SHAPE)
    known = back > 0
    known[:14], known[-14:], known[:, :14], known[:, -14:] = False, False, False, False
    assert known.sum() > 500
    assert np.abs(back.astype(int) - plane)[known].max() <= 3


def test_outside_is_0_and_inside_never_is():
    plane = np.where(np.arange(70) % 2, 1, 255).astype(np.uint8) * np.ones((60, 1), np.uint8)  # the cubic undershoots
    new = warp_plane(plane, shift(-4.5, -3.5), (70, 80))
    assert not new[:5].any() and not new[:, :4].any() and not new[64:].any() and not new[:, 74:].any()
    assert new[5:64, 4:73].all()


@pytest.mark.parametrize("matrix", [shift(2.4, 1.7), np.array([[1, -0.05, 2.4], [0.05, 1, 1.7]])])
def test_pixels_without_data_do_not_bleed(matrix):
    plane = np.full(SHAPE, 200, np.uint8)
    plane[20:40, 30:50] = 0
    new = warp_plane(plane, matrix, SHAPE)
    assert set(np.unique(new)) == {0, 200}
    hole = new[5:50, 5:60] == 0
    assert abs(int(hole.sum()) - 400) < 90


def test_labels_keep_their_ids():
    labels = np.random.default_rng(0).integers(0, 2**32 - 2, SHAPE).astype(np.uint32)
    new = warp_labels_plane(labels, shift(2.4, -1.6), SHAPE, 2**32 - 1)
    assert (new[:57, 2:] == labels[2:59, :68]).all()
    assert (new[57:] == 2**32 - 1).all() and (new[:, :2] == 2**32 - 1).all()


def test_bad_matrices_and_planes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        warp_plane(smooth(), np.eye(3), SHAPE)
    with pytest.raises(ValueError, match="finite"):
        warp_plane(smooth(), shift(np.nan, 0), SHAPE)
    with pytest.raises(ValueError, match="uint8 or uint16"):
        warp_plane(smooth().astype(float), shift(0, 0), SHAPE)
    with pytest.raises(ValueError, match="integers"):
        warp_labels_plane(smooth().astype(float), shift(0, 0), SHAPE, 0)
    with pytest.raises(ValueError, match="no inverse"):
        inverse(np.zeros((2, 3)))

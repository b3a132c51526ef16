"""Thinning keeps pieces, tunnels and cavities, leaves lines, and loses no limb."""

import numpy as np
import pytest
from analytic_solids import VOXEL_SIZES, ball, rod, torus
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import euler_number

from cristae.features.thinning import distance_inside, thinned

CUBE = (10.0, 10.0, 10.0)
MOSTLY = [True] * 9 + [False]


def thin(mask, voxel_size):
    return thinned(mask, distance_inside(mask, voxel_size), min(voxel_size))


def assert_same_topology(mask, lines):
    assert not (lines & ~mask).any()
    around = np.ones((3, 3, 3))
    piece, n_pieces = ndimage.label(mask, around)
    assert ndimage.label(lines, around)[1] == n_pieces
    np.testing.assert_array_equal(np.unique(piece[lines]), np.arange(1, n_pieces + 1))
    assert ndimage.label(~lines)[1] == ndimage.label(~mask)[1]
    assert euler_number(lines, connectivity=3) == euler_number(mask, connectivity=3)


@settings(deadline=None)
@given(
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9), elements=st.sampled_from(MOSTLY)),
    st.sampled_from(VOXEL_SIZES),
)
def test_distance_is_that_of_scipy(mask, voxel_size):
    mask = np.pad(mask, 1)
    expected = ndimage.distance_transform_edt(mask, sampling=voxel_size)
    np.testing.assert_allclose(distance_inside(mask, voxel_size), expected, rtol=1e-6)


@settings(max_examples=100, deadline=None)
@given(
    hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7), elements=st.booleans()),
    st.sampled_from(VOXEL_SIZES),
)
def test_topology_is_kept(mask, voxel_size):
    mask = np.pad(mask, 1)
    before = mask.copy()
    assert_same_topology(mask, thin(mask, voxel_size))
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize("seed", range(3))
def test_of_larger_objects_too(seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(30, 34, 38)), 1.5 + seed / 2)
    mask = np.pad(noise > 0, 1)
    assert_same_topology(mask, thin(mask, CUBE))


@pytest.mark.parametrize("thickness", [(1, 2), (2, 2), (2, 4), (4, 4), (3, 2)])
def test_limbs_of_even_width_do_not_burn_off(thickness):
    for shape in [(*thickness, 30), (thickness[0], 30, thickness[1]), (30, *thickness)]:
        assert 24 <= thin(np.pad(np.ones(shape, bool), 1), CUBE).sum() <= 30


@pytest.mark.parametrize("voxel_size", VOXEL_SIZES)
def test_lines_are_one_voxel_wide(voxel_size):
    for mask in (rod((0, 0, 0), (100, 900, 500), 70, voxel_size), torus(400, 80, voxel_size)):
        lines = thin(np.pad(mask, 1), voxel_size)
        n_neighbours = ndimage.convolve(lines.astype(int), np.ones((3, 3, 3), int))[lines] - 1
        assert np.mean(n_neighbours <= 2) > 0.75
    assert thin(np.pad(ball(100, voxel_size), 1), voxel_size).sum() <= 12

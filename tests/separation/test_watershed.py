"""Laws of the flood, and agreement with scikit-image where seeds do not compete."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cristae.separation.watershed import flood, levels_of


@st.composite
def landscapes(draw):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=3, max_side=8))
    levels = draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from([0, 3, 100, 255])))
    inside = draw(hnp.arrays(bool, shape))
    seeds = draw(hnp.arrays(np.int32, shape, elements=st.sampled_from([0, 0, 0, 0, 1, 2, -3])))
    return levels, np.where(inside, seeds, 0).astype(np.int32), inside


@given(landscapes())
def test_every_connected_part_with_a_seed_is_filled_by_its_own_seeds_and_no_other(landscape):
    levels, seeds, inside = landscape
    filled = flood(levels, seeds, inside)
    assert filled.dtype == np.int32
    assert np.array_equal(filled[seeds != 0], seeds[seeds != 0])
    assert not filled[~inside].any()
    assert np.array_equal(flood(np.asfortranarray(levels), np.asfortranarray(seeds), np.asfortranarray(inside)), filled)
    parts, n = ndimage.label(inside)
    for part in range(1, n + 1):
        own = np.unique(seeds[(parts == part) & (seeds != 0)])
        assert set(np.unique(filled[parts == part])) == (set(own) or {0})
    for label in np.unique(filled[filled != 0]):
        connected, _ = ndimage.label(filled == label)
        assert set(np.unique(connected[filled == label])) == set(np.unique(connected[seeds == label]))


def passes(levels, sources, inside):
    """For each pixel the lowest water at which it is reached from the sources, by relaxation; 999 if never."""
    height = np.where(sources, levels.astype(int), 999)
    for _ in range(levels.size):
        around = np.pad(height, 1, constant_values=999)
        inner = tuple(slice(1, -1) for _ in height.shape)
        sides = [np.roll(around, step, axis)[inner] for axis in range(height.ndim) for step in (1, -1)]
        lowest = np.min(sides, axis=0)
        height = np.where(inside, np.minimum(height, np.maximum(lowest, levels)), 999)
    return height


@given(landscapes())
def test_each_pixel_goes_to_a_seed_with_the_lowest_pass(landscape):
    levels, seeds, inside = landscape
    filled = flood(levels, seeds, inside)
    every = {label: passes(levels, seeds == label, inside) for label in np.unique(seeds[seeds != 0])}
    for place in map(tuple, np.argwhere((filled != 0) & (seeds == 0))):
        assert every[filled[place]][place] == min(heights[place] for heights in every.values())


def test_water_runs_evenly_over_flat_ground_and_meets_at_the_ridge():
    levels = np.zeros((9, 21), np.uint8)
    seeds = np.zeros(levels.shape, np.int32)
    seeds[4, 0], seeds[4, 20] = 7, 9
    flat = flood(levels, seeds, np.ones(levels.shape, bool))
    assert (flat[:, :10] == 7).all() and (flat[:, 11:] == 9).all()
    levels[:, 16] = 200
    ridge = flood(levels, seeds, np.ones(levels.shape, bool))
    assert (ridge[:, :16] == 7).all() and (ridge[:, 17:] == 9).all()


def test_input_is_not_changed_and_wrong_input_refused():
    levels, seeds, inside = np.zeros((3, 4), np.uint8), np.eye(3, 4, dtype=np.int32), np.ones((3, 4), bool)
    flood(levels, seeds, inside)
    assert np.array_equal(seeds, np.eye(3, 4))
    for wrong in ((levels[1:], seeds, inside), (levels, seeds.astype(np.int64), inside), (levels, seeds, levels)):
        with pytest.raises(ValueError):
            flood(*wrong)


def test_deep_places_lie_low():
    levels = levels_of(np.array([[0, 1, 2, 100, 253, 254, 9e5]], np.float32))
    assert levels.dtype == np.uint8
    assert levels[0].tolist() == [255, 239, 232, 95, 0, 0, 0]

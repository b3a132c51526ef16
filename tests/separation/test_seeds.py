"""Laws of seeds: each inside its cell, one per cell, the same every time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cristae.separation.outlines import depth
from cristae.separation.seeds import centroid_seeds, deepest_seeds

LABELS = hnp.arrays(
    np.uint32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0, 1, 2, 70_000, 2**32 - 1]),
)
BOTH = pytest.mark.parametrize("find", [deepest_seeds, centroid_seeds])


@BOTH
@given(labels=LABELS)
def test_one_seed_inside_each_cell(find, labels):
    seeds = find(labels)
    assert seeds.ids.dtype == labels.dtype
    assert np.array_equal(seeds.ids, np.unique(labels[labels > 0]))
    assert np.array_equal(labels[tuple(seeds.positions.T)], seeds.ids)


@BOTH
@given(labels=LABELS)
def test_seeds_do_not_depend_on_names_of_other_cells(find, labels):
    renamed = np.where(labels == 1, 5, labels)
    seeds, others = find(labels), find(renamed)
    found = {5 if cell == 1 else cell: tuple(place) for cell, place in zip(seeds.ids, seeds.positions, strict=True)}
    assert found == {cell: tuple(place) for cell, place in zip(others.ids, others.positions, strict=True)}


@given(LABELS)
def test_the_seed_is_the_deepest_pixel(labels):
    depths, seeds = depth(labels), deepest_seeds(labels)
    for cell, (y, x) in zip(seeds.ids, seeds.positions, strict=True):
        assert depths[y, x] == depths[labels == cell].max()


@given(LABELS)
def test_the_seed_of_the_paper_is_the_pixel_nearest_to_the_centroid(labels):
    seeds = centroid_seeds(labels)
    for cell, position in zip(seeds.ids, seeds.positions, strict=True):
        pixels = np.argwhere(labels == cell)
        away = np.hypot(*(pixels - pixels.mean(axis=0)).T)
        assert np.hypot(*(position - pixels.mean(axis=0))) <= away.min() + 1e-9


def test_a_bent_and_a_thin_cell():
    y, x = np.mgrid[:60, :60]
    radius = np.hypot(y - 30, x - 30)
    kidney = ((radius > 14) & (radius < 26) & (x < 40)).astype(np.int32) * 3
    kidney[30, 5:] = np.where(kidney[30, 5:], 3, 8)  # a cell one pixel thick, through the middle
    deepest, central = deepest_seeds(kidney), centroid_seeds(kidney)
    assert deepest.ids.tolist() == central.ids.tolist() == [3, 8]
    assert 18 < radius[tuple(deepest.positions[0])] < 22
    assert kidney[30, 27] == 8  # where the kidney's centroid lies
    assert deepest.positions[1].tolist()[0] == 30


def test_of_equal_depth_the_central_pixel_then_the_first():
    stripe = np.zeros((5, 11), np.uint8)
    stripe[2, 1:10] = 4
    assert deepest_seeds(stripe).positions.tolist() == [[2, 5]]
    stripe[2, 1] = 0
    assert deepest_seeds(stripe).positions.tolist() == [[2, 5]]  # 5 and 6 are as near: the first
    assert deepest_seeds(np.full((3, 5), 9, np.uint8)).positions.tolist() == [[1, 2]]
    assert deepest_seeds(np.zeros((3, 5), np.uint8)).positions.shape == (0, 2)

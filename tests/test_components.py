"""Components by blocks are those of the whole, and their numbers do not depend on the blocks."""

import itertools

import cc3d
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cristae.components import DIRECTIONS, find_parts, label_parts, number_objects, touching
from cristae.geometry import Box, blocks
from cristae.testing import assert_same_objects

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7)
MASKS = SHAPES.flatmap(lambda shape: hnp.arrays(np.bool_, shape))
SIDES = st.tuples(*[st.sampled_from([1, 2, 3, 4, 9])] * 3)
CONNECTIVITIES = st.sampled_from([6, 18, 26])


def labelled(mask, block_shape, connectivity=26, smallest=1, backwards=False):
    """Label a mask block by block; return ids, voxels per object, and how many were dropped."""
    places = {}
    for block in blocks(Box.of_shape(mask.shape), block_shape):
        box = block.write
        labels = label_parts(mask[box.slices], connectivity)
        place = tuple(low // n for low, n in zip(box.start, block_shape, strict=True))
        places[place] = box, find_parts(labels, box.start, mask.shape), labels
    order = sorted(places, reverse=backwards)
    number = {place: i for i, place in enumerate(order)}
    touches = [
        (number[here], number[there], touching(places[here][1], places[there][1], step, connectivity))
        for here, step in itertools.product(order, DIRECTIONS)
        if (there := tuple(np.add(here, step))) in places
    ]
    objects = number_objects([(places[one][1].n_voxels, places[one][1].first) for one in order], touches, smallest)
    ids = np.zeros(mask.shape, np.uint32)
    for place, of_part in zip(order, objects.ids, strict=True):
        box, _, labels = places[place]
        ids[box.slices] = of_part[labels]
    return ids, objects.n_voxels, objects.n_dropped


@given(MASKS, SIDES, CONNECTIVITIES)
@settings(max_examples=80, deadline=None)
def test_blocks_give_the_components_of_the_whole(mask, block_shape, connectivity):
    ids, n_voxels, n_dropped = labelled(mask, block_shape, connectivity)
    assert_same_objects(ids, cc3d.connected_components(mask, connectivity=connectivity))
    assert n_voxels.tolist() == np.bincount(ids.ravel(), minlength=1)[1:].tolist()
    assert n_dropped == 0
    whole = labelled(mask, mask.shape, connectivity)[0]
    assert np.array_equal(ids, whole)
    assert np.array_equal(labelled(mask, block_shape, connectivity, backwards=True)[0], whole)


@given(MASKS, SIDES)
@settings(max_examples=40, deadline=None)
def test_objects_are_numbered_by_their_first_voxels_without_holes(mask, block_shape):
    ids, n_voxels, _ = labelled(mask, block_shape)
    found, first = np.unique(ids[ids > 0], return_index=True)
    assert found.tolist() == list(range(1, len(n_voxels) + 1))
    assert (np.diff(first) > 0).all()


@given(MASKS, SIDES, st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_small_objects_are_dropped_wherever_blocks_cut_them(mask, block_shape, smallest):
    everything, n_voxels, _ = labelled(mask, block_shape)
    ids, kept, n_dropped = labelled(mask, block_shape, smallest=smallest)
    large = np.concatenate([[False], n_voxels >= smallest])
    assert np.array_equal(ids > 0, large[everything])
    assert np.array_equal(kept, n_voxels[n_voxels >= smallest])
    assert n_dropped == (n_voxels < smallest).sum()
    assert np.unique(ids[ids > 0]).tolist() == list(range(1, len(kept) + 1))


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_only_corners_of_blocks_touch(connectivity):
    mask = np.zeros((4, 4, 4), np.uint8)
    mask[1, 1, 1] = mask[2, 2, 2] = 7
    mask[1, 2, 3] = 1  # shares an edge with the second
    n_objects = {6: 3, 18: 2, 26: 1}[connectivity]
    assert labelled(mask, (2, 2, 2), connectivity)[0].max() == n_objects


def test_nothing_everything_and_no_volume():
    for shape in ((5, 6, 7), (0, 6, 7), (1, 1, 1)):
        ids, n_voxels, _ = labelled(np.zeros(shape, np.bool_), (2, 3, 4))
        assert ids.shape == shape and not ids.any() and n_voxels.size == 0
    ends = np.array([[[True, False, True]]])
    assert labelled(ends, (1, 1, 3))[0].tolist() == [[[1, 0, 2]]]
    ids, n_voxels, _ = labelled(np.full((5, 6, 7), 255, np.uint8), (2, 3, 4))
    assert (ids == 1).all() and n_voxels.tolist() == [210]


def test_more_objects_than_16_bits_hold():
    mask = np.zeros((20, 120, 120), np.bool_)
    mask[::2, ::2, ::2] = True
    mask[0] = mask[2] = False
    mask[18, 118, 119] = True
    mask = np.concatenate([mask, mask])
    ids, n_voxels, _ = labelled(mask, (16, 64, 64), 6)
    assert ids.dtype == np.uint32
    assert ids.max() == len(n_voxels) == mask.sum() - 2
    assert n_voxels[ids[18, 118, 118] - 1] == 2
    dense = np.zeros((60, 100, 100), np.bool_)
    dense[::2, ::2, ::2] = True
    assert labelled(dense, (7, 30, 100))[0].max() == 75_000

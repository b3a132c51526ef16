"""What hangs together is the same in tiles as in the whole."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label as find_parts

from cristae.corrections.reach import Reached, coarse_shape, reach
from cristae.errors import UsageError
from cristae.geometry import Box

SHAPE = (4, 7, 9)
VOLUMES = arrays(np.uint32, SHAPE, elements=st.sampled_from([0, 1, 1, 1, 2**32 - 2]))
TILES = st.tuples(*(st.integers(1, 5),) * 3)


def reached_in(labels, at, tile, whole=None, most=10**9) -> Reached:
    with mock.patch("cristae.corrections.reach.TILE", tile):
        return reach(lambda box: labels[box.slices], at, whole or Box.of_shape(labels.shape), most)


def whole_mask(found: Reached, shape=SHAPE):
    mask = np.zeros(shape, bool)
    for tile in found.tiles:
        assert not mask[tile.slices].any()  # tiles do not overlap
        mask[tile.slices] = found.mask(tile)
        assert mask[tile.slices].any()
    return mask


@given(VOLUMES, TILES, st.tuples(*(st.integers(0, n - 1) for n in SHAPE)))
def test_tiles_find_what_the_whole_holds(labels, tile, at):
    parts, _ = find_parts(labels == labels[at])  # over faces
    expected = parts == parts[at]
    found = reached_in(labels, at, tile)
    assert np.array_equal(whole_mask(found), expected)
    where = np.argwhere(expected)
    assert (found.box.start, found.box.stop) == (tuple(where.min(axis=0)), tuple(where.max(axis=0) + 1))
    other = tuple(int(n) for n in np.argwhere(labels == labels[at])[-1])
    assert found.holds(at) and found.holds(other) == expected[other]


@given(VOLUMES, TILES, st.tuples(*(st.integers(1, 4),) * 3), st.integers(0, 2))
def test_coarse_steps_hold_all_and_nothing_else(labels, tile, step, grown):
    found = reached_in(labels, (2, 3, 4), tile)
    box = found.box.grow((0, grown, grown)).clip(Box.of_shape(SHAPE))
    coarse, fine = found.coarse(box, step), whole_mask(found)[box.slices]
    assert coarse.shape == coarse_shape(box, step)
    for place in np.ndindex(coarse.shape):
        part = tuple(slice(i * n, (i + 1) * n) for i, n in zip(place, step, strict=True))
        assert coarse[place] == fine[part].any()


def test_it_does_not_leave_the_box_in_which_it_may_look():
    labels = np.ones((6, 4, 4), np.uint32)
    found = reached_in(labels, (3, 0, 0), (2, 3, 3), Box((1, 0, 0), (5, 4, 4)))
    assert found.box == Box((1, 0, 0), (5, 4, 4)) and not found.holds((0, 0, 0))
    assert whole_mask(found, (6, 4, 4)).sum() == 4 * 4 * 4


def test_a_tile_is_looked_at_again_where_the_object_comes_back():
    labels = np.zeros((1, 3, 12), np.uint32)
    labels[0, 0], labels[0, 2], labels[0, :, 11] = 5, 5, 5
    found = reached_in(labels, (0, 0, 0), (1, 3, 4))
    assert np.array_equal(whole_mask(found, labels.shape), labels == 5)


def test_what_counts_is_what_it_lies_in_and_not_its_box():
    labels = np.zeros((1, 64, 64), np.uint32)
    labels[0, :, 0], labels[0, 63] = 3, 3
    assert reached_in(labels, (0, 0, 0), (1, 4, 4), most=1200).box.n_voxels == 64 * 64
    with pytest.raises(UsageError, match=r"larger than the 400 voxels .* work on some slices at a time"):
        reached_in(labels, (0, 0, 0), (1, 4, 4), most=400)

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cristae.geometry import Box, Grid, blocks

small = st.tuples(*[st.integers(0, 9)] * 3)
extent = st.tuples(*[st.integers(1, 9)] * 3)
halos = st.tuples(*[st.integers(0, 4)] * 3)
corners = st.tuples(*[st.integers(-5, 5)] * 3)


def boxes() -> st.SearchStrategy[Box]:
    return st.builds(lambda a, s: Box(a, tuple(x + n for x, n in zip(a, s, strict=True))), corners, small)


@given(small, small, extent, halos)
def test_write_boxes_tile_the_domain_for_any_shape_and_halo(start, shape, block_shape, halo):
    domain = Box(start, tuple(a + n for a, n in zip(start, shape, strict=True)))
    hits = np.zeros(domain.stop, int)
    for block in blocks(domain, block_shape, halo):
        hits[block.write.slices] += 1
        assert block.write.n_voxels > 0
        assert block.read.contains(block.write)
        assert domain.contains(block.read)
        assert block.read == block.write.grow(halo).clip(domain)
    inside = np.zeros_like(hits)
    inside[domain.slices] = 1
    assert (hits == inside).all()


@given(small, extent)
def test_blocks_stay_aligned_with_storage_whatever_the_domain(start, block_shape):
    domain = Box(start, (12, 12, 12))
    for block in blocks(domain, block_shape):
        for axis in range(3):
            assert block.write.start[axis] % block_shape[axis] == 0 or block.write.start[axis] == start[axis]


@pytest.mark.parametrize(("shape", "halo"), [((0, 1, 1), (0, 0, 0)), ((1, 1, 1), (0, -1, 0))])
def test_impossible_blocks_are_refused(shape, halo):
    with pytest.raises(ValueError, match="positive shape"):
        list(blocks(Box.of_shape((3, 3, 3)), shape, halo))


@given(boxes(), boxes())
def test_clip_is_the_part_inside_both(a, b):
    part = a.clip(b)
    for axis in range(3):
        both = set(range(a.start[axis], a.stop[axis])) & set(range(b.start[axis], b.stop[axis]))
        assert set(range(part.start[axis], part.stop[axis])) == both
    assert a.contains(part)


@given(boxes(), halos)
def test_grow_widens_both_sides(box, halo):
    grown = box.grow(halo)
    assert grown.shape == tuple(n + 2 * h for n, h in zip(box.shape, halo, strict=True))
    assert grown.contains(box)


@given(boxes(), boxes())
def test_within_and_shift_are_inverse(a, b):
    assert a.within(b).shift(b.start) == a
    assert a.within(a).start == (0, 0, 0)


def test_a_box_inside_out_is_refused():
    with pytest.raises(ValueError, match="stop before it starts"):
        Box((0, 0, 3), (1, 1, 2))
    with pytest.raises(ValueError, match="three axes"):
        Box((0, 0), (1, 1))


@pytest.mark.parametrize("size", [(0, 1, 1), (1, -4, 1), (1, 1, float("nan")), (float("inf"), 1, 1), (1, 1)])
def test_a_voxel_size_that_cannot_be_is_refused(size):
    with pytest.raises(ValueError, match="three positive numbers"):
        Grid((1, 1, 1), size)


@given(extent, extent)
def test_coarsening_keeps_the_first_corner_and_covers_the_volume(shape, factor):
    grid = Grid(shape, (45.0, 4.6, 4.6), (10.0, 0.0, -3.0))
    coarse = grid.coarsened(factor)
    for axis in range(3):
        corner = grid.origin[axis] - grid.voxel_size[axis] / 2
        assert coarse.origin[axis] - coarse.voxel_size[axis] / 2 == pytest.approx(corner)
        assert coarse.shape[axis] * factor[axis] >= shape[axis] > (coarse.shape[axis] - 1) * factor[axis]

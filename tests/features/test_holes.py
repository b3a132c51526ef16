"""Filled volumes equal scipy's object by object, whatever the blocks; nested and open shapes too."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cristae.features.holes import DEFINITIONS, filled, find_holes, hole_columns
from cristae.features.parts import block_parts, join_parts

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6)
LABELS = hnp.arrays(np.uint32, SHAPES, elements=st.sampled_from([0, 0, 1, 1, 2, 2**32 - 1]))


def measured(labels, block_shape=None, order=None):
    block_shape = block_shape or labels.shape
    starts = list(itertools.product(*(range(0, n, b) for n, b in zip(labels.shape, block_shape, strict=True))))
    if order is not None:
        order.shuffle(starts)
    boxes = [tuple(slice(a, a + b) for a, b in zip(start, block_shape, strict=True)) for start in starts]
    blocks = (block_parts(labels[box], start, labels.shape) for box, start in zip(boxes, starts, strict=True))
    return find_holes(join_parts(blocks, labels.shape))


def expected(labels):
    rows = []
    for object_id in np.unique(labels[labels > 0]):
        mask = labels == object_id
        whole = ndimage.binary_fill_holes(mask)
        rows.append((object_id, mask.sum(), whole.sum(), ndimage.label(whole & ~mask)[1]))
    return np.array(rows, np.int64).reshape(-1, 4)


def as_rows(holes):
    return np.column_stack([holes.object_id, holes.n_voxels, holes.n_filled_voxels, holes.n_holes])


@settings(max_examples=150, deadline=None)
@given(LABELS, st.tuples(*[st.integers(1, 4)] * 3), st.randoms(use_true_random=False))
def test_any_blocks_in_any_order_give_what_scipy_gives(labels, block_shape, random):
    np.testing.assert_array_equal(as_rows(measured(labels)), expected(labels))
    np.testing.assert_array_equal(as_rows(measured(labels, block_shape, random)), expected(labels))


@pytest.mark.parametrize("seed", range(6))
def test_larger_random_volumes_too(seed):
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(5, 20, 22, 24)), (0, 0.6, 0.6, 0.6))
    labels = np.where(noise.max(0) > 0.05, noise.argmax(0) + 1, 0)
    labels[8:12] = np.maximum(labels[8:12], 1)
    np.testing.assert_array_equal(as_rows(measured(labels, (7, 8, 9))), expected(labels))
    assert expected(labels)[:, 3].sum() > 0


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=3, max_dims=3, max_side=7), elements=st.booleans()))
def test_filled_crop_is_that_of_scipy(mask):
    before = mask.copy()
    np.testing.assert_array_equal(filled(mask), ndimage.binary_fill_holes(mask))
    np.testing.assert_array_equal(filled(np.asfortranarray(mask)), ndimage.binary_fill_holes(mask))
    np.testing.assert_array_equal(mask, before)


def distance(n=41):
    return np.sqrt(sum((i - n // 2) ** 2 for i in np.indices((n, n, n))))


def test_shells_in_shells_and_an_object_in_parts():
    r = distance()
    labels = np.select([r < 3, r < 6, r < 9, r < 12, r < 15, r < 18], [1, 0, 2, 0, 1, 3], 0)
    holes = measured(labels, (16, 16, 16))
    np.testing.assert_array_equal(as_rows(holes), expected(labels))
    np.testing.assert_array_equal(holes.n_filled_voxels, [(r < 15).sum(), (r < 9).sum(), (r < 18).sum()])
    # Object 1 is a core in a shell: the hole is what lies between, object 2 and two gaps, in one piece.
    np.testing.assert_array_equal(holes.n_holes, [1, 1, 1])


def test_a_pore_keeps_the_hole_open_and_one_voxel_closes_it():
    r = distance(21)
    labels = ((r >= 5) & (r < 9)).astype(np.int32)
    whole = measured(labels).n_filled_voxels
    labels[10, 10, 10:] = 0
    assert measured(labels, (8, 8, 8)).n_filled_voxels == measured(labels).n_voxels < whole
    labels[10, 10, 18] = 2
    np.testing.assert_array_equal(measured(labels, (8, 8, 8)).n_holes, [0, 0])  # closed by another object: still open
    labels[10, 10, 18] = 1
    assert measured(labels, (8, 8, 8)).n_holes == 1


def test_two_objects_that_only_together_enclose_enclose_nothing():
    labels = np.zeros((5, 5, 6), np.uint8)
    labels[1:4, 1:4, 1:5] = 1
    labels[1:4, 1:4, 3:5] = 2
    labels[2, 2, 2:4] = 0
    np.testing.assert_array_equal(measured(labels).n_holes, [0, 0])


def test_columns_are_defined_and_in_their_units():
    r = distance(21)
    labels = ((r >= 3) & (r < 9)).astype(np.int32) * 7
    table = hole_columns(measured(labels), (40.0, 10.0, 10.0))
    assert list(table.columns) == list(DEFINITIONS)
    hole, whole = (r < 3).sum(), (r < 9).sum()
    assert table.loc[7, "filled_volume_um3"] == pytest.approx(whole * 4e-6)
    assert table.loc[7, "fenestrated_fraction"] == pytest.approx(hole / whole)
    pd.testing.assert_series_equal(
        hole_columns(measured(labels), (80.0, 20.0, 20.0))["filled_volume_um3"], 8 * table["filled_volume_um3"]
    )


@pytest.mark.parametrize("labels", [np.zeros((3, 4, 5), np.int32), np.zeros((1, 1, 1), np.uint8)])
def test_nothing_there(labels):
    assert measured(labels).object_id.size == 0
    assert hole_columns(measured(labels), (1.0, 1.0, 1.0)).empty


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 1, 3)])
def test_an_object_that_fills_the_volume(shape):
    np.testing.assert_array_equal(as_rows(measured(np.ones(shape, np.int64))), [[1, np.prod(shape), np.prod(shape), 0]])


def test_blocks_that_do_not_tile_are_refused():
    labels = np.ones((4, 4, 4), np.int32)
    half = block_parts(labels[:2], (0, 0, 0), (4, 4, 4))
    with pytest.raises(ValueError, match="tile"):
        join_parts([half], (4, 4, 4))
    quarters = [block_parts(labels[2:, :2], (2, 0, 0), (4, 4, 4)), block_parts(labels[2:, 2:], (2, 2, 0), (4, 4, 4))]
    with pytest.raises(ValueError, match="face to face"):
        join_parts([half, *quarters], (4, 4, 4))
    with pytest.raises(ValueError, match="sticks out"):
        block_parts(labels, (1, 0, 0), (4, 4, 4))
    with pytest.raises(ValueError, match="integer"):
        block_parts(labels.astype(float), (0, 0, 0), (4, 4, 4))

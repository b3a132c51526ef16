"""Laws of outlines, depth and thinning."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cristae.separation.outlines import depth, depth_inside, inner_lines, outline, skeleton

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)
LABELS = hnp.arrays(np.int32, SHAPES, elements=st.integers(0, 3))
MASKS = hnp.arrays(bool, SHAPES)
EIGHT = np.ones((3, 3))


@given(LABELS)
def test_no_step_to_a_neighbour_crosses_a_change_of_id_unseen(labels):
    line = outline(labels)
    for axis in (0, 1):
        changes = np.diff(labels, axis=axis) != 0
        first = np.take(line, range(labels.shape[axis] - 1), axis)
        assert first[changes].all()
    parts, n = ndimage.label(~line)
    for part in range(1, n + 1):
        assert np.unique(labels[parts == part]).size == 1


@given(LABELS)
def test_depth_is_the_distance_to_pixels_whose_neighbour_has_another_id(labels):
    found = depth(labels)
    padded = np.pad(labels, 1, mode="edge")
    around = [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
    on_outline = np.any([plane != labels for plane in around], axis=0)
    if on_outline.any():
        assert np.allclose(found, ndimage.distance_transform_edt(~on_outline) + 1)
    else:
        assert (found == sum(labels.shape)).all()


@given(MASKS)
def test_depth_inside_is_the_distance_to_the_outside(mask):
    expected = ndimage.distance_transform_edt(mask) if not mask.all() else np.full(mask.shape, sum(mask.shape))
    assert np.allclose(depth_inside(mask), expected)


@given(MASKS)
def test_a_skeleton_keeps_parts_and_holes(mask):
    thin = skeleton(mask)
    assert not (thin & ~mask).any()
    before, n_before = ndimage.label(mask, EIGHT)
    assert ndimage.label(thin, EIGHT)[1] == n_before
    assert np.unique(before[thin]).size == n_before
    assert ndimage.label(~np.pad(mask, 1))[1] == ndimage.label(~np.pad(thin, 1))[1]


@given(MASKS)
def test_a_skeleton_is_thin_and_stays_what_it_is(mask):
    thin = skeleton(mask)
    assert np.array_equal(skeleton(thin), thin)
    blocks = thin[:-1, :-1] & thin[1:, :-1] & thin[:-1, 1:] & thin[1:, 1:]
    for y, x in np.argwhere(blocks):  # four in a square only where each of them holds something together
        assert thin[max(y - 1, 0) : y + 3, max(x - 1, 0) : x + 3].sum() > 4


def test_a_thick_band_thins_to_its_middle():
    y, x = np.mgrid[:120, :200]
    band = np.abs(y - 60 - 20 * np.sin(x / 25)) < 8
    thin = skeleton(band)
    assert (np.abs(y - 60 - 20 * np.sin(x / 25))[thin][20:-20] < 4).all()
    assert (thin[:, 20:-20].sum(axis=0) >= 1).all()
    assert thin.sum() < 320


def test_lines_along_an_edge_go_and_lines_that_lead_to_it_stay():
    mask = np.zeros((40, 60), bool)
    mask[5:35, 5:55] = True
    line = np.zeros(mask.shape, bool)
    line[7, 5:55] = line[5:35, 30] = True
    kept = inner_lines(line, depth_inside(mask), 4)
    assert kept[5:35, 30].all()
    assert kept[7].sum() <= 2 * 4 + 1
    assert not kept[:, :25].any() and not kept[:, 36:].any()
    assert np.array_equal(inner_lines(line, depth_inside(mask), 0), line & mask)

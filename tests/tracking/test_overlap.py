"""Regions and overlaps found on runs are those found on pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cristae.tracking.overlap import count_overlaps, find_regions, paint
from cristae.tracking.table import BRIDGE, NEXT, Rules, Slice, tabulate

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
PLANES = SHAPES.flatmap(lambda shape: hnp.arrays(np.uint8, shape, elements=st.integers(0, 3)))


@st.composite
def two_planes(draw):
    shape = draw(SHAPES)
    return tuple(draw(hnp.arrays(np.uint16, shape, elements=st.integers(0, 3))) for _ in range(2))


def pixels_of_regions(labels):
    """Regions the slow way: a mask per region, in the order of first pixels, with its id."""
    masks = []
    for value in np.unique(labels[labels > 0]):
        parts, n = ndimage.label(labels == value, np.ones((3, 3)))
        masks += [(int(value), parts == part) for part in range(1, n + 1)]
    return sorted(masks, key=lambda item: int(np.flatnonzero(item[1])[0]))


def numbered(regions):
    """Draw every region with its number plus one."""
    return paint(regions, np.arange(1, regions.n_regions + 1))


@settings(max_examples=200)
@given(PLANES)
def test_regions_are_the_8_connected_components_of_every_id(labels):
    regions = find_regions(labels)
    expected = pixels_of_regions(labels)
    plane = numbered(regions)
    assert regions.n_regions == len(expected)
    for number, (value, mask) in enumerate(expected):
        assert np.array_equal(plane == number + 1, mask)
        y, x = np.nonzero(mask)
        assert regions.source[number] == value
        assert regions.area[number] == len(y)
        assert regions.box[number].tolist() == [y.min(), x.min(), y.max() + 1, x.max() + 1]
        assert regions.centroid[number] == pytest.approx([y.mean(), x.mean()])
        height, width = labels.shape
        at_edge = y.min() == 0 or x.min() == 0 or y.max() == height - 1 or x.max() == width - 1
        assert regions.touches_edge[number] == at_edge


@settings(max_examples=50)
@given(PLANES, st.permutations([5, 70_000, 2**40]))
def test_names_and_data_types_of_ids_do_not_matter(labels, names):
    renamed = np.array([0, *names])[labels]
    assert np.array_equal(numbered(find_regions(labels)), numbered(find_regions(renamed)))
    assert np.array_equal(paint(find_regions(renamed), find_regions(renamed).source), renamed)


@settings(max_examples=200)
@given(two_planes())
def test_overlaps_are_exact_for_every_pair_and_the_same_from_either_side(planes):
    first, second = (find_regions(plane) for plane in planes)
    a, b, n_px = count_overlaps(first, second)
    one, two = numbered(first), numbered(second)
    pairs, counts = np.unique(
        np.stack([one[(one > 0) & (two > 0)], two[(one > 0) & (two > 0)]]), axis=1, return_counts=True
    )
    assert np.array_equal(np.stack([a, b]) + 1, pairs)
    assert np.array_equal(n_px, counts)
    back = count_overlaps(second, first)
    assert sorted(zip(a, b, n_px, strict=True)) == sorted(zip(back[1], back[0], back[2], strict=True))


def test_a_large_slice_needs_more_runs_than_were_reserved():
    labels = (np.arange(600 * 700) % 2).reshape(600, 700).astype(np.uint8)
    labels[1::2] = 0
    assert find_regions(labels).n_regions == 300 * 350
    assert np.array_equal(paint(find_regions(labels), np.ones(300 * 350, np.uint8)), labels)


def test_an_empty_slice_has_no_regions():
    assert find_regions(np.zeros((4, 5), np.int32)).n_regions == 0
    assert find_regions(np.zeros((0, 5), np.int32)).n_regions == 0
    assert count_overlaps(find_regions(np.zeros((4, 5), int)), find_regions(np.ones((4, 5), int)))[0].size == 0


def test_what_is_no_plane_of_ids_is_refused():
    with pytest.raises(ValueError, match="plane of integer ids"):
        find_regions(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="plane of integer ids"):
        find_regions(np.zeros((3, 3, 3), int))
    with pytest.raises(ValueError, match=r"0 \(background\)"):
        find_regions(np.full((3, 3), -1))
    with pytest.raises(ValueError, match="differ in shape"):
        count_overlaps(find_regions(np.ones((3, 3), int)), find_regions(np.ones((3, 4), int)))


def test_pairs_join_neighbours_and_what_ends_with_what_begins():
    stack = np.zeros((4, 6, 20), np.uint8)
    stack[:, :, :10] = 1
    stack[[0, 3], :, 12:] = 2  # away for two slices
    regions = tabulate((Slice(find_regions(plane)) for plane in stack), Rules(smallest_body_px=1))
    rows = zip(regions.lower.tolist(), regions.upper.tolist(), regions.kind.tolist(), strict=True)
    assert sorted(rows) == [(0, 2, NEXT), (1, 5, BRIDGE), (2, 3, NEXT), (3, 4, NEXT)]
    short = Rules(smallest_body_px=1, longest_gap=2)
    assert BRIDGE not in tabulate((Slice(find_regions(plane)) for plane in stack), short).kind

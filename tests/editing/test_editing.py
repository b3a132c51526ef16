from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cristae.editing.region import bounds, pooled
from cristae.editing.rename import renamed
from cristae.editing.split import split_region
from cristae.editing.stroke import stroke

POINTS = st.lists(st.tuples(*(st.floats(-10, 40),) * 2), min_size=1, max_size=5)
PLANES = arrays(np.uint32, st.tuples(*(st.integers(1, 9),) * 2), elements=st.sampled_from([0, 1, 2, 2**32 - 1]))


def whole(points, radius, shape=(30, 25)):
    (y, x), mask = stroke(np.array(points, float), radius, shape)
    plane = np.zeros(shape, bool)
    plane[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
    return plane


def distance_to(points, shape=(30, 25)):
    """Return how far each pixel is from a path, by brute force over many points on it."""
    path = np.array(points, float)
    steps = np.linspace(0, 1, 400)[:, None]
    dense = np.concatenate([path[:1], *(a + steps * (b - a) for a, b in pairwise(path))])
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.sqrt(((y[..., None] - dense[:, 0]) ** 2 + (x[..., None] - dense[:, 1]) ** 2).min(axis=-1))


@given(POINTS, st.floats(0.75, 9))
def test_a_stroke_covers_what_is_within_its_radius(points, radius):
    covered, away = whole(points, radius), distance_to(points)
    assert covered[away < radius - 0.1].all()
    assert not covered[away > radius + 0.05].any()


@given(POINTS, st.floats(0, 6))
def test_a_stroke_is_the_same_backwards_and_what_its_parts_cover(points, radius):
    forth = whole(points, radius)
    assert np.array_equal(forth, whole(points[::-1], radius))
    if len(points) > 1:
        parts = [whole(points[i : i + 2], radius) for i in range(len(points) - 1)]
        assert np.array_equal(forth, np.logical_or.reduce(parts))


@pytest.mark.parametrize("radius", [0, 0.3, 0.5])
def test_a_thin_line_has_no_gaps(radius):
    line = whole([(2.4, 1.3), (20.7, 17.2)], radius)
    ys, xs = np.nonzero(line)
    assert set(range(2, 22)) <= set(ys)
    assert np.abs(np.diff(np.sort(xs))).max() <= 1
    assert whole([(4.4, 4.4)], radius).sum() == 1


def test_impossible_strokes_are_refused_and_those_outside_are_empty():
    for points, radius in (([], 3), ([(float("nan"), 1)], 3), ([(1, 1)], -1), ([(1, 1)], float("inf"))):
        with pytest.raises(ValueError, match="points that are finite"):
            stroke(np.array(points, float), radius, (9, 9))
    assert not stroke(np.array([(50.0, 50.0)]), 3, (9, 9))[1].size


@given(PLANES, st.tuples(*(st.integers(0, 5),) * 2), st.tuples(*(st.integers(1, 4),) * 2))
def test_the_highest_of_every_few_is_kept(labels, first, step):
    found = pooled(labels, first, step)
    whole = np.zeros([a + n for a, n in zip(first, labels.shape, strict=True)], np.uint32)
    whole[first[0] :, first[1] :] = labels
    for y, x in np.ndindex(found.shape):
        row, column = first[0] // step[0] + y, first[1] // step[1] + x
        part = whole[row * step[0] : (row + 1) * step[0], column * step[1] : (column + 1) * step[1]]
        assert part.size and found[y, x] == part.max()
    ends = tuple((a + n - 1) // s - a // s + 1 for a, n, s in zip(first, labels.shape, step, strict=True))
    assert found.shape == ends and found.dtype == labels.dtype


def test_the_box_of_nothing_is_empty():
    assert bounds(np.zeros((2, 3), bool)) == (slice(0, 0), slice(0, 0))


@given(PLANES, st.dictionaries(st.sampled_from([0, 1, 2, 7, 2**32 - 1]), st.sampled_from([0, 1, 5, 2**32 - 1])))
def test_renaming_is_done_at_once_for_all(labels, names):
    expected = labels.copy()
    for one, other in names.items():
        expected[labels == one] = other
    assert np.array_equal(renamed(labels, names), expected)


def dumbbell(depth=3):
    """Two discs joined by a bar, the bar nearer to the first one's centre than half the way."""
    y, x = np.mgrid[:40, :80]
    plane = ((y - 20) ** 2 + (x - 18) ** 2 < 15**2) | ((y - 20) ** 2 + (x - 58) ** 2 < 18**2)
    plane |= (abs(y - 20) < 3) & (x > 18) & (x < 58)
    return np.repeat(plane[None], depth, axis=0)


def planted(shape, *places):
    seeds = np.zeros(shape, np.int32)
    for number, place in enumerate(places, start=1):
        seeds[place] = number
    return seeds


def test_a_split_cuts_where_the_object_is_narrow_wherever_the_seeds_are():
    inside = dumbbell()
    for seeds in (((1, 20, 18), (1, 20, 58)), ((0, 20, 30), (2, 20, 74)), ((1, 12, 10), (1, 20, 44))):
        parts = split_region(inside, planted(inside.shape, *seeds))
        assert (parts[inside] > 0).all() and not parts[~inside].any()
        assert (parts[:, :, :32][inside[:, :, :32]] == 1).all()
        assert (parts[:, :, 43:][inside[:, :, 43:]] == 2).all()


def test_seeds_in_one_body_share_it_half_and_half():
    y, x = np.mgrid[:41, :41]
    inside = ((y - 20) ** 2 + (x - 20) ** 2 < 18**2)[None]
    parts = split_region(inside, planted(inside.shape, (0, 20, 8), (0, 20, 32)))
    sizes = np.bincount(parts[inside])
    assert sizes[0] == 0 and abs(sizes[1] - sizes[2]) < 0.15 * inside.sum()


def test_a_split_follows_a_membrane_where_one_was_predicted():
    inside = np.ones((2, 30, 60), bool)
    boundary = np.zeros(inside.shape, np.uint8)
    boundary[:, :, 17] = 250
    parts = split_region(inside, planted(inside.shape, (0, 15, 5), (1, 15, 50)), boundary)
    assert (parts[:, :, :17] == 1).all() and (parts[:, :, 18:] == 2).all()


def test_three_parts_and_what_no_seed_reaches():
    inside = np.zeros((1, 9, 40), bool)
    inside[:, 2:7, 1:30] = True
    inside[:, 2:7, 33:38] = True
    parts = split_region(inside, planted(inside.shape, (0, 4, 3), (0, 4, 15), (0, 4, 27)))
    assert set(np.unique(parts[:, :, :31])) == {0, 1, 2, 3} and not parts[:, :, 32:].any()


def test_a_split_without_two_parts_inside_is_refused():
    inside = dumbbell()
    with pytest.raises(ValueError, match="at least two parts"):
        split_region(inside, planted(inside.shape, (1, 20, 18)))
    with pytest.raises(ValueError, match="at least two parts"):
        split_region(inside, planted(inside.shape, (1, 20, 18), (1, 0, 0)))
    with pytest.raises(ValueError, match="one shape"):
        split_region(inside, np.zeros((1, 2, 3), np.int32))

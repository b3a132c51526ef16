"""Laws of distances: balls at known places, brute force, and minima that do not depend on blocks."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from cristae.features.distances import Reach, add_membrane_distances, pair_distances

WHOLE = (slice(None),) * 3
SIZES = st.sampled_from([(1.0, 1.0, 1.0), (30.0, 4.0, 4.0), (7.0, 13.0, 3.0), (0.1, 0.3, 0.7)])
IDS = [0, 0, 0, 0, 0, 1, 2, 5]


def layers():
    shapes = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6)
    return shapes.flatmap(
        lambda shape: st.tuples(*(hnp.arrays(np.int32, shape, elements=st.sampled_from(IDS)) for _ in range(2)))
    )


def blocks_of(shape, block, halo):
    for start in itertools.product(*(range(0, size, step) for size, step in zip(shape, block, strict=True))):
        stop = [min(s + b, size) for s, b, size in zip(start, block, shape, strict=True)]
        low = [max(0, s - h) for s, h in zip(start, halo, strict=True)]
        high = [min(size, s + h) for s, h, size in zip(stop, halo, shape, strict=True)]
        read = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        yield read, tuple(slice(a - c, b - c) for a, b, c in zip(start, stop, low, strict=True))


def as_dict(distances):
    pairs = zip(distances.a.tolist(), distances.b.tolist(), strict=True)
    return dict(zip(pairs, distances.distance_nm.tolist(), strict=True))


def every_distance(mask_a, mask_b, voxel_size):
    a, b = np.argwhere(mask_a) * voxel_size, np.argwhere(mask_b) * voxel_size
    if not len(a) or not len(b):
        return np.inf
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=-1)).min()


@given(layers(), SIZES, st.floats(0.5, 6), st.booleans())
def test_distances_are_those_of_every_two_voxels(pair, voxel_size, far, same):
    first, second = pair
    reach = Reach(voxel_size, far * max(voxel_size))
    found = as_dict(pair_distances(first, None if same else second, WHOLE, reach))
    expected = {}
    for a, b in itertools.product([1, 2, 5], repeat=2):
        if not same or a < b:
            distance = every_distance(first == a, (first if same else second) == b, voxel_size)
            if distance <= reach.max_distance_nm * (1 + 1e-9):
                expected[a, b] = distance
    assert found == pytest.approx(expected, rel=1e-12, abs=0)


@settings(max_examples=60)
@given(layers(), SIZES, st.floats(0.5, 4), st.tuples(*[st.integers(1, 5)] * 3), st.booleans())
def test_blocks_equal_the_whole(pair, voxel_size, far, block, same):
    first, second = pair
    reach = Reach(voxel_size, far * min(voxel_size))
    total = None
    for read, inner in blocks_of(first.shape, block, reach.halo):
        part = pair_distances(first[read], None if same else second[read], inner, reach)
        total = part if total is None else total + part
    whole = as_dict(pair_distances(first, None if same else second, WHOLE, reach))
    assert as_dict(total) == pytest.approx(whole, rel=1e-12, abs=0)


def membranes(labels, cells, cell_of, voxel_size):
    expected = []
    for i, cell in enumerate(cell_of):
        distance = every_distance(labels == i + 1, cells != cell, voxel_size) if cell else np.inf
        expected.append(distance)
    return np.array(expected)


@settings(max_examples=60)
@given(layers(), SIZES, st.floats(0.5, 6), st.lists(st.sampled_from([0, 1, 2, 5]), min_size=5, max_size=5))
def test_membranes_are_the_nearest_voxels_of_no_or_another_cell(pair, voxel_size, far, cell_of):
    labels, cells = pair
    cells = np.array([1, 1, 2, 0, 0, 5], np.int32)[cells]  # mostly cell 1, so that there is room for distances
    reach = Reach(voxel_size, far * max(voxel_size))
    found = add_membrane_distances(labels, 5, WHOLE, cells, np.array(cell_of), reach)
    expected = membranes(labels, cells, cell_of, voxel_size)
    expected[expected > reach.max_distance_nm * (1 + 1e-9)] = np.inf
    assert found == pytest.approx(expected, rel=1e-12, abs=0)


@settings(max_examples=60)
@given(layers(), SIZES, st.floats(0.5, 4), st.tuples(*[st.integers(1, 5)] * 3))
def test_membranes_block_by_block_equal_the_whole(pair, voxel_size, far, block):
    labels, cells = pair
    cells = np.array([1, 0, 2, 0, 0, 1], np.int32)[cells]
    cell_of = np.array([1, 1, 0, 0, 2])
    reach = Reach(voxel_size, far * min(voxel_size))
    parts = [
        add_membrane_distances(labels[read], 5, inner, cells[read], cell_of, reach)
        for read, inner in blocks_of(labels.shape, block, reach.halo)
    ]
    whole = add_membrane_distances(labels, 5, WHOLE, cells, cell_of, reach)
    assert np.min(parts, axis=0) == pytest.approx(whole, rel=1e-12, abs=0)


@pytest.mark.parametrize("voxel_size", [(10.0, 10.0, 10.0), (40.0, 10.0, 5.0)])
def test_balls_are_as_far_apart_as_they_are(voxel_size):
    shape = tuple(int(length / size) for length, size in zip((800, 800, 2000), voxel_size, strict=True))
    z, y, x = (
        np.arange(n).reshape([-1 if k == j else 1 for j in range(3)]) * voxel_size[k] for k, n in enumerate(shape)
    )

    def ball(centre, radius):
        return (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2

    first, second = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    first[ball((400, 400, 400), 200)] = 3
    second[ball((400, 400, 1000), 150)] = 1  # gap 250
    second[ball((400, 400, 1600), 100)] = 2  # gap 900: too far
    distances = as_dict(pair_distances(first, second, WHOLE, Reach(voxel_size, 400)))
    assert distances == pytest.approx({(3, 1): 250}, abs=0.01)
    cells = np.ones(shape, np.int32)
    cells[..., int(1500 / voxel_size[2]) :] = 2
    to_membrane = add_membrane_distances(second, 2, WHOLE, cells, np.array([1, 1]), Reach(voxel_size, 500))
    assert to_membrane == pytest.approx([350, 0], abs=0.01)  # the second lies in the other cell
    assert np.isinf(add_membrane_distances(second, 2, WHOLE, cells, np.array([1, 0]), Reach(voxel_size, 300))).all()


@pytest.mark.parametrize("voxel_size", [(1.0, 1.0, 1.0), (3.0, 1.0, 0.7)])
def test_large_objects_around_one_another_agree_with_the_distance_transform(voxel_size):
    z, y, x = np.indices((24, 40, 40))
    from_centre = np.sqrt((2 * (z - 12)) ** 2 + (y - 20) ** 2 + (x - 20) ** 2)
    first, second = np.zeros(z.shape, np.int32), np.zeros(z.shape, np.int32)
    first[from_centre > 18] = 1  # a hollow object: all boxes meet, most points are far
    second[(z - 11) ** 2 + (y - 22) ** 2 + (x - 24) ** 2 < 30] = 1
    second[(z - 13) ** 2 + (y - 15) ** 2 + (x - 14) ** 2 < 12] = 2
    found = as_dict(pair_distances(first, second, WHOLE, Reach(voxel_size, 50)))
    field = ndimage.distance_transform_edt(first == 0, sampling=voxel_size)
    assert found == pytest.approx({(1, i): field[second == i].min() for i in (1, 2)})
    swapped = pair_distances(second, first, WHOLE, Reach(voxel_size, 50)).swapped()
    assert as_dict(swapped) == pytest.approx(found)
    inside = add_membrane_distances(second, 2, WHOLE, 1 - first, np.array([1, 1]), Reach(voxel_size, 50))
    assert inside == pytest.approx([found[1, 1], found[1, 2]])


def test_touching_overlapping_and_nested_objects():
    first, second = np.zeros((9, 9, 9), np.int32), np.zeros((9, 9, 9), np.int32)
    first[1:8, 1:8, 1:7] = 1
    second[4, 4, 4] = 1  # deep inside
    second[4, 4, 7] = 2  # touches
    found = pair_distances(first, second, WHOLE, Reach((30.0, 4.0, 8.0), 100))
    assert as_dict(found) == {(1, 1): 0, (1, 2): 8}
    names = found.renamed(np.array([0, 90]), np.array([0, 7, 6]))
    assert as_dict(names) == {(90, 7): 0, (90, 6): 8}
    assert as_dict(names.swapped()) == {(7, 90): 0, (6, 90): 8}


def test_the_largest_distance_counts_as_near_whatever_the_rounding():
    labels = np.array([[[1, 0, 0, 2]]], np.int32)
    assert as_dict(pair_distances(labels, None, WHOLE, Reach((1, 1, 0.1), 0.3))) == pytest.approx({(1, 2): 0.3})
    assert Reach((1, 1, 0.1), 0.3).halo[2] == 3


def test_what_does_not_fit_is_refused():
    ones = np.ones((2, 2, 2), np.int32)
    reach = Reach((1, 1, 1), 3)
    with pytest.raises(ValueError, match="one shape"):
        pair_distances(ones, ones[:1], WHOLE, reach)
    with pytest.raises(ValueError, match="of 1 objects"):
        add_membrane_distances(ones, 1, WHOLE, ones, np.array([1, 2]), reach)
    with pytest.raises(ValueError, match="ids up to 1"):
        add_membrane_distances(2 * ones, 1, WHOLE, ones, np.array([1]), reach)
    for wrong in (0, -1, np.nan, np.inf):
        with pytest.raises(ValueError, match="above 0 nm"):
            Reach((1, 1, 1), wrong)
    nothing = np.zeros((3, 0, 3), np.int32)
    assert as_dict(pair_distances(nothing, nothing, WHOLE, reach)) == {}
    assert np.isinf(add_membrane_distances(nothing, 2, WHOLE, nothing, np.array([1, 1]), reach)).all()

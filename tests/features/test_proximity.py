"""Laws of the proximity of nucleoli to the envelope: known places in balls and boxes, and any blocks."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cristae.features.proximity import DEFINITIONS, HALO, add_envelope_distances, tabulate_proximity

WHOLE = (slice(None),) * 3
START = (0, 0, 0)


def ball(shape, centre, radius, voxel_size):
    axes = (np.arange(n) * size - c for n, size, c in zip(shape, voxel_size, centre, strict=True))
    z, y, x = np.ix_(*axes)
    return z**2 + y**2 + x**2 <= radius**2


@pytest.mark.parametrize("voxel_size", [(10.0, 10.0, 10.0), (25.0, 5.0, 10.0)])
@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.9])
def test_a_nucleolus_in_a_ball(voxel_size, share):
    centre, radius = np.array([500.0, 500.0, 500.0]), 400.0
    shape = tuple(int(1000 / size) + 1 for size in voxel_size)
    nuclei = 2 * ball(shape, centre, radius, voxel_size).astype(np.int32)
    nucleolus = centre + np.array([0.48, 0.64, -0.6]) * share * radius
    distance = add_envelope_distances(nuclei, START, WHOLE, (nucleolus / voxel_size)[None], np.array([2]), voxel_size)
    assert distance == pytest.approx((1 - share) * radius, abs=max(voxel_size))
    row = tabulate_proximity(nucleolus[None], centre[None], distance).iloc[0]
    assert row["proximity_to_envelope"] == pytest.approx(share, abs=0.03)
    assert row["nucleus_centre_distance_nm"] == pytest.approx(share * radius)
    assert (row["proximity_to_envelope"] == 0) == (share == 0)


def test_a_box_is_exact_inside_and_outside():
    nuclei = np.zeros((10, 20, 30), np.int32)
    nuclei[2:8, 5:15, 5:25] = 1  # faces at 1.5 and 7.5, 4.5 and 14.5, 4.5 and 24.5
    points = np.array([[4.5, 9.5, 14.5], [4.5, 9.5, 23.0], [0.5, 9.0, 14.0], [0.5, 2.5, 14.0], [4.5, 9.5, 14.5]])
    found = add_envelope_distances(nuclei, START, WHOLE, points, np.array([1, 1, 1, 1, 0]), (30.0, 10.0, 10.0))
    assert found[:4] == pytest.approx([50, 15, 30, np.hypot(30, 20)])
    assert np.isinf(found[4])


def test_a_cut_is_no_envelope():
    nuclei = np.zeros((9, 9, 9), np.int32)
    nuclei[:6] = 1
    found = add_envelope_distances(nuclei, START, WHOLE, np.array([[0.0, 4, 0]]), np.array([1]), (1.0, 1.0, 1.0))
    assert found == pytest.approx([5.5])
    filled = add_envelope_distances(nuclei + 1, START, WHOLE, np.zeros((1, 3)), np.array([3]), (1.0, 1.0, 1.0))
    assert np.isinf(filled).all()


def nearest_face(labels, point, label, voxel_size):
    best = np.inf
    for p in np.ndindex(labels.shape):
        for axis in range(3):
            q = tuple(np.add(p, np.eye(3, dtype=int)[axis]))
            if q[axis] < labels.shape[axis] and (labels[p] == label) != (labels[q] == label):
                half = np.where(np.arange(3) == axis, 0, 0.5)
                middle = (np.array(p) + q) / 2
                nearest = np.clip(point, middle - half, middle + half)
                best = min(best, np.linalg.norm((point - nearest) * voxel_size))
    return best


@st.composite
def scenes(draw):
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5))
    labels = draw(hnp.arrays(np.int32, shape, elements=st.sampled_from([0, 1, 2])))
    n = draw(st.integers(0, 4))
    points = draw(hnp.arrays(np.float64, (n, 3), elements=st.floats(-1, 6)))
    return labels, points, draw(hnp.arrays(np.int64, n, elements=st.integers(0, 3)))


@given(scenes())
def test_distances_are_to_the_nearest_point_of_any_face(scene):
    labels, points, object_of = scene
    size = (3.0, 1.0, 2.0)
    found = add_envelope_distances(labels, START, WHOLE, points, object_of, size)
    expected = [
        nearest_face(labels, point, label, size) if label else np.inf
        for point, label in zip(points, object_of, strict=True)
    ]
    assert found == pytest.approx(np.array(expected))


@given(scenes(), st.tuples(*[st.integers(1, 4)] * 3))
def test_blocks_equal_the_whole(scene, block):
    labels, points, object_of = scene
    size = (3.1, 1.3, 0.7)
    parts = []
    for start in itertools.product(*(range(0, n, step) for n, step in zip(labels.shape, block, strict=True))):
        stop = [min(s + b, n) for s, b, n in zip(start, block, labels.shape, strict=True)]
        low = [max(0, s - h) for s, h in zip(start, HALO, strict=True)]
        high = [min(n, s + h) for s, h, n in zip(stop, HALO, labels.shape, strict=True)]
        read = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        inner = tuple(slice(a - c, b - c) for a, b, c in zip(start, stop, low, strict=True))
        parts.append(add_envelope_distances(labels[read], tuple(low), inner, points, object_of, size))
    whole = add_envelope_distances(labels, START, WHOLE, points, object_of, size)
    assert np.array_equal(np.min(parts, axis=0), whole)


def test_without_nucleus_or_surface_there_is_no_proximity():
    centres = np.zeros((3, 3))
    nuclei = np.array([[np.nan] * 3, [1, 2, 2], [0, 0, 0]])
    table = tabulate_proximity(centres, nuclei, np.array([5, np.inf, 0]))
    assert list(table.columns) == list(DEFINITIONS)
    assert table.loc[0].isna().all()
    assert table.loc[1, "nucleus_centre_distance_nm"] == 3
    assert table["proximity_to_envelope"].isna().all()
    assert tabulate_proximity(centres[:0], centres[:0], np.zeros(0)).empty


def test_what_does_not_fit_is_refused():
    ones = np.ones((2, 2, 2), np.int32)
    with pytest.raises(ValueError, match="expected 2 points"):
        add_envelope_distances(ones, START, WHOLE, np.zeros((1, 3)), np.array([1, 1]), (1, 1, 1))
    with pytest.raises(ValueError, match="integer ids"):
        add_envelope_distances(ones / 2, START, WHOLE, np.zeros((1, 3)), np.array([1]), (1, 1, 1))

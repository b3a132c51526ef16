"""Hulls of parts, put together, are the hull of the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from cristae.features.hull import Hulls, hull_corners, hull_measures, merge_hulls, settle
from cristae.features.quickhull import quickhull, volume_and_area

SIZE = (30.0, 4.0, 5.0)


def clouds(seed, n, step):
    return (np.random.default_rng(seed).integers(-4, 5, (n, 3)) * step).astype(np.int32)


def of_points(points, owners, n):
    unknown = np.full(n, np.nan)
    return Hulls(unknown, unknown, np.asarray(owners), points)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(0, 40), st.sampled_from([1, 12345, 65536]), st.integers(0, 3))
def test_corners_are_enough(seed, n, step, flat):
    points = clouds(seed, n, step)
    points[:, :flat] = 7  # points in a plane, on a line, at a point
    more = clouds(seed + 1, 25, step)
    together = np.concatenate([hull_corners(points), more])
    expected = ConvexHull(np.concatenate([points, more]) * (np.array(SIZE) / 65536))
    assert hull_measures(together, SIZE) == pytest.approx((expected.volume, expected.area), rel=1e-9)


def test_points_inside_are_dropped():
    cube = np.stack(np.meshgrid(*[np.arange(6) * 65536] * 3), axis=-1).reshape(-1, 3).astype(np.int32)
    assert len(hull_corners(cube)) == 8
    assert len(hull_corners(cube[cube[:, 0] == 0])) == 4
    assert len(hull_corners(cube[(cube[:, :2] == 0).all(axis=1)])) == 2
    volume, area = hull_measures(cube, (1.0, 2.0, 3.0))
    assert (volume, area) == pytest.approx((125 * 6, 50 * (2 + 3 + 6)))


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(4, 300), st.sampled_from([1, 12345, 65536]), st.sampled_from([2, 30, 300]))
def test_own_hull_equals_that_of_scipy(seed, n, step, span):
    points = np.random.default_rng(seed).integers(-span, span + 1, (n, 3)) * step
    points = np.unique(points, axis=0)
    if np.linalg.matrix_rank(points - points[0]) == 3:
        triangles = quickhull(points)
        a, b, c = (points[triangles[:, i]] for i in range(3))
        expected = ConvexHull(points)
        assert np.linalg.det(np.stack([a, b, c], axis=1)).sum() / 6 == pytest.approx(expected.volume, rel=1e-9)
        assert set(expected.vertices) <= set(triangles.ravel())
        assert len(triangles) == 2 * len(np.unique(triangles)) - 4  # closed, without a tunnel


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(5, 120), st.sampled_from([1, 30, 1000]))
def test_no_point_lies_outside_even_of_faces_that_are_almost_flat(seed, n, noise):
    rng = np.random.default_rng(seed)
    points = np.rint(rng.integers(-1, 2, (n, 3)) * 10**6 + rng.standard_normal((n, 3)) * noise).astype(np.int64)
    triangles = quickhull(points)
    a, b, c = (points[triangles[:, i]].astype(object) for i in range(3))  # exact: numbers of Python
    normals = np.cross(b - a, c - a)
    assert (points.astype(object) @ normals.T <= (normals * a).sum(axis=1)).all()
    assert len(triangles) == 2 * len(np.unique(triangles)) - 4
    assert (volume_and_area(points, triangles, np.ones(3))[0] > 0) == (len(triangles) > 0)


def test_points_on_a_sphere_and_points_that_are_too_far_apart():
    at = np.random.default_rng(0).standard_normal((3000, 3))
    points = np.rint(at / np.linalg.norm(at, axis=1)[:, None] * 2e6).astype(np.int32)
    expected = ConvexHull(points * (np.array(SIZE) / 65536))
    assert hull_measures(points, SIZE) == pytest.approx((expected.volume, expected.area), rel=1e-9)
    assert len(hull_corners(points)) == len(expected.vertices)
    assert hull_measures(points * 500, SIZE) == pytest.approx((expected.volume * 500**3, expected.area * 500**2))


def test_flat_sets_have_no_volume():
    assert np.isnan(hull_measures(np.zeros((0, 3), np.int32), SIZE)).all()
    assert np.isnan(hull_measures(np.zeros((9, 3), np.int32), SIZE)).all()


def test_complete_objects_leave_no_points_and_others_are_merged():
    points = clouds(5, 300, 1000)
    owners = np.repeat([0, 2], 150)
    first = settle(of_points(points, owners, 3), np.array([True, False, False]), SIZE)
    assert set(first.owners) == {2}
    second = settle(of_points(points[:50] * 2, np.zeros(50, int), 1), np.array([False]), SIZE)
    merged = merge_hulls([first, second], [np.array([4, 1, 0]), np.array([0])], 6).completed(SIZE)
    assert merged.owners.size == 0
    assert merged.volume_nm3[4] == pytest.approx(hull_measures(points[:150], SIZE)[0])
    both = np.concatenate([points[150:], points[:50] * 2])
    assert (merged.volume_nm3[0], merged.area_nm2[0]) == pytest.approx(hull_measures(both, SIZE), rel=1e-9)
    assert np.isnan(merged.volume_nm3[[1, 2, 3, 5]]).all()

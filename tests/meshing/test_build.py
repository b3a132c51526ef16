"""Smoothing and simplification: closed, as large as before, and no farther away than was said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from cristae.meshing.simplify import simplify
from cristae.meshing.smooth import enclosed_volume, keep_volume, smooth, surface_area, vertex_normals
from meshing_solids import awkward, ball, is_closed, mesh_of


def smooth_ball(radius=12):
    n = 2 * radius + 5
    return mesh_of(ball((n, n, n), (n // 2,) * 3, radius).astype(np.int32), n_steps=10)


@pytest.mark.parametrize("number", range(1, 7))
@pytest.mark.parametrize("error", [0.1, 0.5, 5.0])
def test_meshes_stay_closed_and_keep_their_volume_and_topology(number, error) -> None:
    plain = mesh_of(awkward(), number)
    vertices, faces = mesh_of(awkward(), number, n_steps=10, max_error_nm=error)
    # In noise, whose voxels touch by their edges, an edge may have four triangles, as in scikit-image's meshes.
    assert is_closed(faces, strictly=number != 4)
    assert enclosed_volume(vertices, faces) == pytest.approx(enclosed_volume(*plain), rel=2e-3)
    # Euler's number of the surface is the same.
    assert len(vertices) - len(faces) // 2 == len(plain[0]) - len(plain[1]) // 2
    assert len(np.unique(faces)) == len(vertices)


def test_smoothing_takes_the_steps_of_voxels_away() -> None:
    radius = 12
    stepped = mesh_of(ball((29, 29, 29), (14, 14, 14), radius).astype(np.int32))
    smoothed = smooth_ball(radius)
    exact = (36 * np.pi) ** (1 / 3)
    sphericity = [exact * enclosed_volume(*one) ** (2 / 3) / surface_area(*one) for one in (stepped, smoothed)]
    assert sphericity[0] < 0.93
    assert sphericity[1] > 0.985


@given(st.floats(0.5, 50))
def test_twice_the_voxel_gives_eight_times_the_volume(size) -> None:
    labels = (awkward() == 1).astype(np.int32)
    one = mesh_of(labels, voxel_size=(size,) * 3, n_steps=10, max_error_nm=0.2 * size)
    two = mesh_of(labels, voxel_size=(2 * size,) * 3, n_steps=10, max_error_nm=0.4 * size)
    assert enclosed_volume(*two) == pytest.approx(8 * enclosed_volume(*one), rel=1e-3)
    assert surface_area(*two) == pytest.approx(4 * surface_area(*one), rel=1e-2)


def test_an_object_of_one_voxel_is_left_as_it_is() -> None:
    plain = mesh_of(awkward(), 3)
    vertices, faces = mesh_of(awkward(), 3, n_steps=10)
    assert enclosed_volume(vertices, faces) == pytest.approx(enclosed_volume(*plain), rel=1e-3)
    assert len(faces) == 8


@pytest.mark.parametrize("error", [0.02, 0.1, 0.4])
def test_the_simplified_surface_is_as_near_as_was_said(error) -> None:
    vertices, faces = smooth_ball()
    fewer, triangles = simplify(vertices, faces, max_error=error)
    assert len(triangles) < 0.6 * len(faces)
    middles = fewer[triangles].mean(axis=1)
    points = np.concatenate([fewer, middles])
    normals = vertex_normals(vertices, faces)
    nearest = cKDTree(vertices).query(points)[1]
    away = np.abs(((points - vertices[nearest]) * normals[nearest]).sum(axis=1))
    # The root mean square of distances from planes is what is bounded; points between vertices lie a little farther.
    assert np.sqrt((away**2).mean()) < error + 0.02
    assert away.max() < 4 * error + 0.1


def test_more_error_means_fewer_triangles_and_a_share_is_kept() -> None:
    vertices, faces = smooth_ball()
    counts = [len(simplify(vertices, faces, max_error=error)[1]) for error in (0.0, 0.05, 0.2, 1.0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == len(faces)
    kept = len(simplify(vertices, faces, max_error=1e9, share=0.3)[1])
    assert 0.3 * len(faces) - 2 <= kept <= 0.3 * len(faces) + 2
    assert len(simplify(vertices, faces, max_error=1e9, share=1.0)[1]) == len(faces)


@pytest.mark.parametrize("wrong", [{"max_error": -1.0}, {"max_error": float("nan")}, {"max_error": 1.0, "share": 1.5}])
def test_impossible_bounds_are_refused(wrong) -> None:
    vertices, faces = smooth_ball(3)
    with pytest.raises(ValueError, match="at least 0 nm and a share"):
        simplify(vertices, faces, **wrong)


def test_given_arrays_are_not_changed() -> None:
    vertices, faces = mesh_of(awkward(), 1)
    before = vertices.copy(), faces.copy()
    simplify(smooth(vertices, faces, 3), faces, max_error=0.5)
    keep_volume(vertices, faces, 900.0)
    np.testing.assert_array_equal(vertices, before[0])
    np.testing.assert_array_equal(faces, before[1])


def test_normals_point_outwards() -> None:
    vertices, faces = smooth_ball()
    outwards = (vertices - vertices.mean(axis=0)) / np.linalg.norm(vertices - vertices.mean(axis=0), axis=1)[:, None]
    assert ((vertex_normals(vertices, faces) * outwards).sum(axis=1) > 0.75).all()

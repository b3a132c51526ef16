"""Marching cubes of all objects at once: the same as one by one, and the same in blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import euler_number, marching_cubes, mesh_surface_area

from cristae.meshing.pieces import march, positions, sew
from cristae.meshing.smooth import enclosed_volume, surface_area
from meshing_solids import awkward, ball, is_closed, mesh_of, pieces_of

WHOLE = (slice(None),) * 3


@pytest.mark.parametrize("number", range(1, 7))
def test_volume_and_area_are_those_of_scikit_image(number) -> None:
    labels, size = awkward(), (3.0, 2.0, 1.0)
    vertices, faces = mesh_of(labels, number, voxel_size=size)
    expected, triangles, _, _ = marching_cubes(np.pad(labels == number, 1).astype(np.float32), 0.5, spacing=size)
    assert len(faces) == len(triangles)
    assert len(vertices) == len(expected)
    assert surface_area(vertices, faces) == pytest.approx(mesh_surface_area(expected, triangles), rel=1e-5)
    assert enclosed_volume(vertices, faces) == pytest.approx(abs(enclosed_volume(expected, triangles)), rel=1e-5)
    # The same places: scikit-image counts from one voxel of padding, as z, y, x.
    placed = {tuple(row) for row in np.round(vertices[:, ::-1], 4).tolist()}
    assert placed == {tuple(row) for row in np.round(expected - size, 4).tolist()}


@pytest.mark.parametrize("number", range(1, 7))
def test_meshes_are_closed_and_face_outwards(number) -> None:
    vertices, faces = mesh_of(awkward(), number)
    assert is_closed(faces, strictly=number != 4)
    assert enclosed_volume(vertices, faces) > 0
    if number == 4:
        return  # noise, in which edges may have four triangles
    # V − E + F of a closed surface is twice the Euler number of what it encloses.
    labels = awkward()
    assert len(vertices) - len(faces) / 2 == 2 * euler_number(labels == number, 3)


@given(arrays(np.int32, (5, 6, 7), elements=st.integers(0, 3)), st.sampled_from([1, 2, 3, 4]))
def test_blocks_give_the_same_as_the_whole(labels, side) -> None:
    whole, parts = pieces_of(labels), pieces_of(labels, side)
    assert whole.keys() == parts.keys() == set(np.unique(labels)) - {0}
    for number in whole:
        names, faces = sew(whole[number])
        other_names, other_faces = sew(parts[number][::-1])
        np.testing.assert_array_equal(other_names, names)
        np.testing.assert_array_equal(other_faces, faces)
        assert is_closed(faces, strictly=False)


def test_a_volume_without_objects_has_no_pieces() -> None:
    found = march(np.zeros((3, 4, 5), np.int32), 0, WHOLE, volume_shape=(3, 4, 5))
    assert (len(found), len(found.names), len(found.faces)) == (0, 0, 0)


def test_one_voxel_is_an_octahedron_around_its_centre() -> None:
    labels = np.zeros((3, 3, 3), np.int32)
    labels[0, 1, 2] = 1
    vertices, faces = mesh_of(labels, voxel_size=(30.0, 20.0, 10.0))
    assert (len(vertices), len(faces)) == (6, 8)
    np.testing.assert_allclose(vertices.mean(axis=0), (20.0, 20.0, 0.0))
    np.testing.assert_allclose(np.ptp(vertices, axis=0), (10.0, 20.0, 30.0))


def test_an_object_that_fills_the_volume_is_closed_at_its_border() -> None:
    vertices, faces = mesh_of(np.ones((4, 5, 6), np.int32), voxel_size=(3.0, 2.0, 1.0))
    assert is_closed(faces)
    np.testing.assert_allclose(vertices.min(axis=0), (-0.5, -1.0, -1.5))
    np.testing.assert_allclose(vertices.max(axis=0), (5.5, 9.0, 10.5))


def test_touching_objects_meet_half_way() -> None:
    labels = np.repeat([1, 2], 3)[None, None].repeat(3, 0).repeat(3, 1).astype(np.int32)
    left, right = mesh_of(labels, 1)[0], mesh_of(labels, 2)[0]
    assert left[:, 0].max() == right[:, 0].min() == 2.5


def test_places_begin_at_the_origin_of_the_grid() -> None:
    names = sew(pieces_of(awkward())[1])[0]
    here = positions(names, awkward().shape, (4.0, 4.0, 4.0))
    there = positions(names, awkward().shape, (4.0, 4.0, 4.0), (30.0, 20.0, 10.0))
    np.testing.assert_allclose(there - here, np.tile((10.0, 20.0, 30.0), (len(names), 1)))


def test_a_ball_in_blocks_of_any_side_is_the_same() -> None:
    labels = ball((20, 20, 20), (9, 10, 11), 7).astype(np.int32)
    whole = mesh_of(labels, n_steps=5, max_error_nm=0.2)
    for side in (3, 8, 16):
        part = mesh_of(labels, side=side, n_steps=5, max_error_nm=0.2)
        np.testing.assert_array_equal(part[0], whole[0])
        np.testing.assert_array_equal(part[1], whole[1])


@pytest.mark.parametrize("side", [2, 8])
def test_many_pieces_and_few_are_sewn_alike(side) -> None:
    labels = ball((13, 13, 13), (6, 6, 6), 5).astype(np.int32)
    pieces = pieces_of(labels, side)[1]
    assert (len(pieces) > 16) == (side == 2)
    (whole,) = pieces_of(labels)[1]
    names, faces = sew(pieces)
    np.testing.assert_array_equal(names, whole.names)
    np.testing.assert_array_equal(faces, whole.faces)

"""Levels of detail: all enclose what the mesh does, no triangle crosses a border, and nothing gapes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cristae.meshing.octree import FEWEST, build_octree, cut
from cristae.meshing.smooth import enclosed_volume, surface_area
from meshing_solids import awkward, ball, is_closed, mesh_of


@pytest.fixture(scope="module")
def large():
    return mesh_of(ball((40, 40, 40), (20, 20, 20), 15).astype(np.int32), voxel_size=(12.0, 8.0, 8.0), n_steps=5)


@given(st.sampled_from((1, 3, 6)), st.integers(0, 2), st.floats(-1, 32), st.booleans())
def test_a_cut_mesh_is_closed_and_the_same(number, axis, place, whole) -> None:
    vertices, faces = mesh_of(awkward(), number)
    place = round(place) if whole else place  # a whole number goes through vertices
    places, triangles = cut(vertices, faces, axis, place)
    along = places[triangles][:, :, axis]
    assert not ((along.min(axis=1) < place) & (along.max(axis=1) > place)).any()
    assert is_closed(triangles, strictly=False)
    assert enclosed_volume(places, triangles) == pytest.approx(enclosed_volume(vertices, faces))
    assert surface_area(places, triangles) == pytest.approx(surface_area(vertices, faces))


def test_levels_have_a_quarter_of_the_triangles_and_the_same_volume(large) -> None:
    octree = build_octree(*large, per_cell=100)
    assert len(octree.levels) >= 3
    assert len(octree.levels[0]) > 50
    assert len(octree.levels[-1]) == 1
    assert list(octree.scales) == sorted(octree.scales)
    for level, fragments in enumerate(octree.levels):
        size = octree.cell.astype(float) * 2**level
        volume = 0.0
        for fragment in fragments:
            corners = (fragment.vertices + fragment.position) * size
            volume += enclosed_signed(corners, fragment.faces)
            assert max(fragment.position) < 2 ** (len(octree.levels) - 1 - level)
        assert volume == pytest.approx(enclosed_volume(*large), rel=2e-3)
    n_coarsest = sum(len(fragment.faces) for fragment in octree.levels[-1])
    assert n_coarsest < 2 * len(large[1]) / 4 ** (len(octree.levels) - 1) + 200  # some are cut


def enclosed_signed(vertices, faces) -> float:
    """Return the part of a volume that triangles add, seen from 0; parts of a mesh add up to its whole."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def test_fragments_follow_a_z_curve_and_split_in_eight(large) -> None:
    octree = build_octree(*large, per_cell=100)
    for level, fragments in enumerate(octree.levels):
        codes = [
            sum(
                ((value >> bit) & 1) << (3 * bit + axis)
                for axis, value in enumerate(fragment.position)
                for bit in range(8)
            )
            for fragment in fragments
        ]
        assert codes == sorted(set(codes))
        for fragment in fragments:
            assert fragment.vertices.min() >= 0
            assert fragment.vertices.max() <= 1
            corners = fragment.vertices[fragment.faces]
            if level:
                assert not ((corners.min(axis=1) < 0.5) & (corners.max(axis=1) > 0.5)).any()


def test_cells_hold_as_many_triangles_as_asked_for(large) -> None:
    octree = build_octree(*large)
    assert len(octree.levels) >= 3
    assert [len(level) for level in octree.levels] == [8 if level == 0 else 1 for level in range(len(octree.levels))]


def test_the_coarsest_level_is_one_cell_however_few_triangles_are_asked_for(large, monkeypatch) -> None:
    n_levels = len(build_octree(*large).levels)
    assert len(build_octree(*large, per_cell=1).levels[-1]) == 1
    monkeypatch.setattr("cristae.meshing.octree.MOST_LEVELS", n_levels - 1)
    assert [len(build_octree(*large, per_cell=n).levels) for n in (1, 4000)] == [n_levels - 1] * 2


@pytest.mark.parametrize("far", [0.0, 3e6, -1e7, 2e7])
def test_far_away_nothing_lies_outside_of_the_cells(far) -> None:
    """Where 32 bits tell no places nearer than 2 nm apart."""
    vertices, faces = mesh_of(awkward(), 3, voxel_size=(8.0, 8.0, 8.0))
    octree = build_octree(vertices.astype(np.float64) + far, faces)
    ((fragment,),) = octree.levels
    assert fragment.vertices.min() > 0
    assert fragment.vertices.max() < 1
    places = fragment.vertices * octree.cell.astype(float) + octree.origin.astype(float)
    np.testing.assert_allclose(places, vertices.astype(np.float64) + far, rtol=0, atol=1e-6)


def tetrahedra(n: int, edge: float) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` regular ones in a row, which nothing can be taken away from."""
    corners = np.array([(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]) * edge / 8**0.5
    faces = np.array([(0, 1, 2), (0, 3, 1), (0, 2, 3), (1, 3, 2)], np.int32)
    along = np.arange(n)[:, None, None] * np.array([2 * edge, 0, 0])
    return (corners + along).reshape(-1, 3), (faces + 4 * np.arange(n)[:, None, None]).reshape(-1, 3).astype(np.int32)


def test_a_scale_is_the_length_of_an_edge_and_what_cannot_be_coarser_has_one_level() -> None:
    for n in (1, FEWEST // 4 + 10):
        octree = build_octree(*tetrahedra(n, 30.0))
        assert list(octree.scales) == pytest.approx([30.0])


def test_a_small_mesh_has_one_level_of_one_cell() -> None:
    vertices, faces = mesh_of(awkward(), 3)
    assert len(faces) < FEWEST
    octree = build_octree(vertices, faces)
    ((fragment,),) = octree.levels
    assert fragment.position == (0, 0, 0)
    np.testing.assert_allclose(fragment.vertices * octree.cell + octree.origin, vertices, rtol=1e-4, atol=1e-3)


def test_a_mesh_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one triangle"):
        build_octree(np.zeros((0, 3)), np.zeros((0, 3), np.int32))

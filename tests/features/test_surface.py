"""Meshes of masks: the same as scikit-image's, for all objects at once and in any blocks."""

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from known_shapes import ball, shell, torus
from skimage.measure import euler_number, marching_cubes, mesh_surface_area

from cristae.features.marching import cell_tables
from cristae.features.surface import VoxelSurface, add_voxel_surface

WHOLE = (slice(None),) * 3
SIZE = (30.0, 4.0, 5.0)
SMALL = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=6), elements=st.integers(0, 3))


def surface(labels, n=1, voxel_size=SIZE):
    return add_voxel_surface(labels, n, WHOLE, voxel_size=voxel_size)


def mesh_of_skimage(mask, voxel_size=SIZE):
    vertices, faces, _, _ = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5, spacing=voxel_size)
    corners = vertices[faces].astype(np.float64)
    return mesh_surface_area(vertices.astype(np.float64), faces), -np.linalg.det(corners).sum() / 6


@settings(max_examples=60)
@given(SMALL)
def test_equals_scikit_image(labels):
    ours = surface(labels, 3)
    for i in range(3):
        mask = labels == i + 1
        if mask.any():
            area, volume = mesh_of_skimage(mask)
            assert ours.area_nm2[i] == pytest.approx(area, rel=1e-6)
            assert ours.volume_px[i] * 600 == pytest.approx(volume, rel=1e-6)
        assert ours.euler_number[i] == euler_number(mask, 3)
        faces = sum(np.abs(np.diff(np.pad(mask, 1).astype(int), axis=axis)).sum() for axis in range(3))
        assert ours.n_faces[i] == faces


@settings(max_examples=40)
@given(SMALL, st.tuples(*[st.integers(1, 4)] * 3))
def test_blocks_equal_the_whole(labels, block_shape):
    whole, sums = surface(labels, 3), VoxelSurface.empty(3)
    for corner in product(*(range(0, n, step) for n, step in zip(labels.shape, block_shape, strict=True))):
        begin = [max(0, low - 1) for low in corner]
        stop = [low + step + 1 for low, step in zip(corner, block_shape, strict=True)]
        read = tuple(slice(a, b) for a, b in zip(begin, stop, strict=True))
        inner = tuple(slice(low - a, low - a + step) for low, a, step in zip(corner, begin, block_shape, strict=True))
        sums += add_voxel_surface(labels[read], 3, inner, start=tuple(begin), voxel_size=SIZE)
    assert np.array_equal(sums.counts, whole.counts)
    assert (sums.counts[:, 2] == 0).all()
    assert sums.area_nm2 == pytest.approx(whole.area_nm2, rel=1e-12)


def test_mirrors_and_turns_change_nothing():
    mask = (np.random.default_rng(1).random((5, 6, 7)) < 0.4).astype(np.uint8)
    first = surface(mask, 1, (1.0, 1.0, 1.0))
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        turned = mask.transpose(order)[:: signs[0], :: signs[1], :: signs[2]]
        other = surface(turned, 1, (1.0, 1.0, 1.0))
        assert np.array_equal(other.counts, first.counts)
        assert other.area_nm2 == pytest.approx(first.area_nm2)


@pytest.mark.parametrize(
    ("mask", "expected"),
    [(ball(6), 1), (torus(12, 5), 0), (shell(8, 4), 2), (np.ones((1, 1, 1), np.uint8), 1)],
    ids=["ball", "torus", "shell", "voxel"],
)
def test_euler_number_of_known_bodies(mask, expected):
    assert surface(mask).euler_number[0] == expected


def test_a_voxel_is_an_octahedron():
    ours = surface(np.ones((1, 1, 1), np.uint8), 1, (1.0, 1.0, 1.0))
    assert ours.area_nm2[0] == pytest.approx(np.sqrt(3))
    assert ours.volume_px[0] == pytest.approx(1 / 6)
    assert ours.n_faces[0] == 6


def test_tables_are_complete():
    tables = cell_tables()
    assert tables.n_triangles[[0, 255]].tolist() == [0, 0]
    assert (tables.n_triangles[1:255] > 0).all()
    assert tables.centre.sum() == 24
    assert tables.areas((1.0, 1.0, 1.0))[1] == pytest.approx(np.sqrt(3) / 8)

"""Shapes: theory, the IBSI phantom, and independence of blocks, neighbours, mirrors and units."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from known_shapes import ball, ellipsoid, in_blocks, shell, torus
from scipy.ndimage import correlate1d
from scipy.spatial import ConvexHull
from skimage.measure import marching_cubes, mesh_surface_area

from cristae.features.mesh import Meshing
from cristae.features.morphology import DEFINITIONS, measure_shapes

SIZE = (30.0, 4.0, 5.0)
UNIT = (1000.0, 1000.0, 1000.0)  # 1 µm, so that µm are voxels
IBSI_OUTSIDE = ((0, 2, 1), (2, 2, 2), (3, 0, 2), (4, 0, 2), (3, 0, 3), (4, 0, 3))  # x, y, z


def shape_of(mask, voxel_size=UNIT, sigma_px=1.0):
    return measure_shapes(mask, voxel_size, sigma_px=sigma_px).iloc[0]


def same(one, other, rel=1e-9):
    """Tables are equal, exactly where they count."""
    for column in one.columns:
        a, b = one[column].to_numpy(), other[column].to_numpy()
        if a.dtype.kind in "bi":
            assert np.array_equal(a, b), column
        else:
            # circular variance is the small difference of larger numbers
            assert a == pytest.approx(b, rel=rel, abs=1e-12, nan_ok=True), column


def test_ibsi_phantom():
    mask = np.ones((4, 4, 5), np.uint8)
    for x, y, z in IBSI_OUTSIDE:
        mask[z, y, x] = 0
    row = shape_of(mask, (2000.0, 2000.0, 2000.0), sigma_px=0)
    assert row["n_voxels"] == 74
    assert row["volume_um3"] == pytest.approx(592)
    assert row["mesh_volume_um3"] == pytest.approx(556.333, abs=5e-4)
    assert row["surface_um2"] == pytest.approx(388.071, abs=5e-4)
    assert row["sphericity"] == pytest.approx(0.84294, abs=5e-6)
    assert row["solidity"] == pytest.approx(0.96085, abs=5e-6)


def reference(mask, meshing):
    """The same by scikit-image and SciPy."""
    weights = np.concatenate([meshing.weights[:0:-1], meshing.weights]) / 1024
    smooth = np.pad(mask, 8).astype(np.float64)
    for axis in range(3):
        smooth = correlate1d(smooth, weights, axis=axis)
    vertices, faces, _, _ = marching_cubes(smooth.astype(np.float32), 0.5)
    vertices = (vertices * np.array(meshing.voxel_size)).astype(np.float64)
    return mesh_surface_area(vertices, faces), -np.linalg.det(vertices[faces]).sum() / 6, ConvexHull(vertices).volume


@pytest.mark.parametrize("sigma_px", [0, 1, 2.5])
@pytest.mark.parametrize("mask", [ball(9), torus(12, 5), ellipsoid(6, 9, 14, shift=(0.3, 0.1, 0.4))])
def test_meshes_equal_those_of_scikit_image(mask, sigma_px):
    area, volume, hull = reference(mask, Meshing(SIZE, sigma_px))
    row = shape_of(mask, SIZE, sigma_px)
    assert row["surface_um2"] == pytest.approx(area * 1e-6, rel=2e-5)
    assert row["mesh_volume_um3"] == pytest.approx(volume * 1e-9, rel=2e-5)
    assert row["convex_volume_um3"] == pytest.approx(hull * 1e-9, rel=2e-5)


@pytest.mark.parametrize("voxel_size", [(1000.0, 1000.0, 1000.0), (2000.0, 1000.0, 1000.0)])
def test_balls_tend_to_the_truth(voxel_size):
    unit = tuple(s / 1000 for s in voxel_size)
    errors = []
    for radius in (5, 10, 20):
        row = shape_of(ball(radius, unit, shift=(0.2, 0.4, 0.1)), voxel_size)
        assert row["sphericity"] <= 1
        assert row["solidity"] <= 1
        truth = 4 * np.pi * radius**2, 4 / 3 * np.pi * radius**3
        volume, area = row["mesh_volume_um3"], row["surface_um2"]
        errors.append([abs(area / truth[0] - 1), abs(volume / truth[1] - 1), row["circular_variance"]])
    assert (np.diff(errors, axis=0) < 0).all()
    assert max(errors[-1]) < (0.01 if voxel_size[0] == 1000 else 0.04)


def test_sphericity_of_balls_and_the_trap_of_raw_masks():
    assert shape_of(ball(10))["sphericity"] == pytest.approx(0.9965, abs=2e-4)
    assert shape_of(ball(20))["sphericity"] == pytest.approx(0.9971, abs=2e-4)
    raw = shape_of(ball(10), sigma_px=0)
    assert raw["sphericity"] == pytest.approx(0.91, abs=1e-3)
    assert raw["circular_variance"] == pytest.approx(4.6e-4, abs=1e-5)


def test_cubes_tend_to_the_truth():
    theory = (np.pi / 6) ** (1 / 3)
    raw = shape_of(np.ones((20, 20, 20), np.uint8), sigma_px=0)
    assert raw["sphericity"] == pytest.approx(0.829, abs=1e-3)
    errors = [abs(shape_of(np.ones((n, n, n), np.uint8))["sphericity"] - theory) for n in (8, 16, 32)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.045


@pytest.mark.parametrize("voxel_size", [(1.0, 1.0, 1.0), (2.0, 1.0, 1.0)])
def test_tori_and_shells_tend_to_the_truth(voxel_size):
    errors = []
    for scale in (1, 2):
        ring = shape_of(torus(10 * scale, 4 * scale, voxel_size), voxel_size)
        hollow = shape_of(shell(10 * scale, 5 * scale, voxel_size), voxel_size)
        assert (ring["euler_number"], hollow["euler_number"]) == (0, 2)
        areas = 4 * np.pi**2 * 40 * scale**2, 4 * np.pi * 125 * scale**2
        volumes = 2 * np.pi**2 * 160 * scale**3, 4 / 3 * np.pi * 875 * scale**3
        rows = zip((ring, hollow), areas, volumes, strict=True)
        found = [(row["surface_um2"] * 1e6 / a - 1, row["mesh_volume_um3"] * 1e9 / v - 1) for row, a, v in rows]
        # Σ of discs of radius R + √(r² − z²)
        hull = np.pi * (2 * 4 * 10**2 + np.pi * 10 * 4**2 + 4 / 3 * 4**3) * scale**3
        found.append((ring["convex_volume_um3"] * 1e9 / hull - 1, hollow["solidity"] / 0.875 - 1))
        errors.append(np.abs(found))
    assert (errors[1] < errors[0]).all()
    assert errors[1].max() < 0.045 * voxel_size[0]


@settings(max_examples=25)
@given(
    hnp.arrays(np.int32, hnp.array_shapes(min_dims=3, max_dims=3, max_side=8), elements=st.integers(0, 3)),
    st.tuples(*[st.integers(2, 6)] * 3),
    st.sampled_from([0, 1.0]),
)
def test_blocks_of_random_labels_equal_the_whole(labels, block_shape, sigma_px):
    whole = in_blocks(labels, 3, labels.shape, SIZE, sigma_px)
    same(in_blocks(labels, 3, block_shape, SIZE, sigma_px), whole)


@pytest.mark.parametrize("block_shape", [(7, 50, 50), (20, 16, 35), (50, 50, 50)])
def test_blocks_of_bodies_equal_the_whole(block_shape):
    labels = touching_bodies()
    whole = measure_shapes(labels, SIZE).drop(columns="object_id")
    same(in_blocks(labels, 4, block_shape, SIZE)[whole.columns], whole)


def touching_bodies():
    """Two touching half balls, a shell around nothing, and a sheet of one voxel."""
    labels = np.zeros((44, 46, 48), np.int32)
    half = ball(10)
    labels[2 : 2 + len(half), 2 : 2 + len(half), 2 : 2 + len(half)] = half * (1 + (np.arange(len(half)) > 11))
    hollow = shell(9, 4)
    labels[20 : 20 + len(hollow), 23 : 23 + len(hollow), 24 : 24 + len(hollow)] = hollow * 3
    labels[:, 44, 5:40] = 4
    return labels


def test_neighbours_do_not_matter():
    labels = touching_bodies()
    together = measure_shapes(labels, SIZE)
    for i in range(4):
        alone = measure_shapes((labels == i + 1).astype(np.uint8), SIZE).drop(columns="object_id")
        same(alone, together.iloc[[i]].drop(columns="object_id"))


def test_doubling_the_voxel_size():
    labels = touching_bodies()
    one, two = measure_shapes(labels, SIZE), measure_shapes(labels, tuple(2 * s for s in SIZE))
    factors = {"surface_um2": 4, "volume_um3": 8, "mesh_volume_um3": 8, "convex_volume_um3": 8}
    for column in DEFINITIONS:
        assert two[column].to_numpy() == pytest.approx(factors.get(column, 1) * one[column].to_numpy(), rel=1e-12)


def test_mirrors_and_turns_change_nothing():
    mask = (ellipsoid(5, 7, 9, shift=(0.3, 0.2, 0.4)) * (np.random.default_rng(2).random((15, 19, 23)) < 0.95)).astype(
        np.uint8
    )
    first = shape_of(mask, SIZE)
    for order in permutations(range(3)):
        turned = shape_of(mask[::-1, :, ::-1].transpose(order), tuple(np.array(SIZE)[list(order)]))
        # Where a cell's vertices do not lie in a plane, the table folds it along one diagonal or the other.
        for column in DEFINITIONS:
            assert turned[column] == pytest.approx(first[column], rel=1e-3), column
        for column in ("convex_volume_um3", "circular_variance", "euler_number"):
            assert turned[column] == pytest.approx(first[column], rel=1e-4), column


def test_a_single_voxel_and_a_sheet_keep_the_mesh_of_their_mask():
    voxel = shape_of(np.ones((1, 1, 1), np.uint8))
    assert not voxel["surface_smoothed"]
    assert (voxel["mesh_volume_um3"], voxel["solidity"], voxel["circular_variance"]) == pytest.approx((1 / 6, 1, 0))
    assert voxel["surface_um2"] == pytest.approx(np.sqrt(3))
    sheet = shape_of(np.ones((1, 12, 12), np.uint8))
    assert not sheet["surface_smoothed"]
    assert sheet["solidity"] == pytest.approx(1)
    assert sheet["mesh_volume_um3"] > 100


@pytest.mark.parametrize(
    ("shape", "smooth"),
    [((3, 12, 12), True), ((4, 4, 12), True), ((5, 5, 5), True), ((3, 3, 12), False), ((2, 2, 2), False)],
)
def test_what_smoothing_wears_away_keeps_the_mesh_of_its_mask(shape, smooth):
    row = shape_of(np.ones(shape, np.uint8))
    assert row["surface_smoothed"] == smooth
    assert row["mesh_volume_um3"] > 0.5 * np.prod(shape)
    assert row["solidity"] > 0.99


def test_an_object_that_fills_the_volume_is_closed_at_its_border():
    row = shape_of(np.ones((9, 30, 40), np.uint8))
    assert row["touches_edge"]
    assert row["solidity"] == pytest.approx(1, abs=1e-3)
    assert row["mesh_volume_um3"] == pytest.approx(9 * 30 * 40, rel=0.03)


def test_ids_may_be_large_and_have_gaps():
    labels = ball(5).astype(np.uint32)
    labels[labels == 1] = 2**32 - 1
    labels[0, 0, 0] = 77
    table = measure_shapes(labels, SIZE)
    assert table["object_id"].tolist() == [77, 2**32 - 1]
    same(table.iloc[[1]].drop(columns="object_id"), measure_shapes(ball(5), SIZE).drop(columns="object_id"))


def test_nothing_to_measure_and_labels_that_are_none():
    assert measure_shapes(np.zeros((3, 3, 3), np.uint8), SIZE).empty
    for labels in (np.zeros((3, 3, 3)), np.full((3, 3, 3), -1), np.zeros((3, 3), np.uint8)):
        with pytest.raises(ValueError, match="ids of 0 and above"):
            measure_shapes(labels, SIZE)
    with pytest.raises(ValueError, match="0 to 5 voxels"):
        Meshing(SIZE, 9)


def test_every_column_is_defined():
    table = measure_shapes(ball(3), SIZE)
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns)[-len(DEFINITIONS) :] == list(DEFINITIONS)

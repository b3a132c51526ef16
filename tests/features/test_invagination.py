"""Balls have no invaginations, channels are as deep as they were drilled, closed cavities do not count."""

import math

import numpy as np
import pytest
from analytic_solids import VOXEL_SIZES, ball, coordinates, rod
from scipy.spatial import ConvexHull

from cristae.features.crops import surface_faces
from cristae.features.holes import filled
from cristae.features.invagination import DEFINITIONS, Invagination

sizes = pytest.mark.parametrize("voxel_size", VOXEL_SIZES)


def measured(mask, voxel_size):
    return Invagination()(mask, None, voxel_size)


@sizes
@pytest.mark.parametrize("n_voxels", [6, 16])
def test_ball(n_voxels, voxel_size):
    found = measured(ball(n_voxels * max(voxel_size), voxel_size), voxel_size)
    assert found["invagination_depth_max_nm"] < max(voxel_size)
    assert found["invagination_depth_mean_nm"] < 0.25 * max(voxel_size)
    assert found["invagination_fraction"] < 0.7 / n_voxels


@sizes
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 6, 9), (1, 5, 7)])
def test_box(shape, voxel_size):
    found = measured(np.ones(shape, bool), voxel_size)
    assert found["invagination_depth_max_nm"] == pytest.approx(0, abs=1e-9)
    assert found["invagination_fraction"] == 0


@sizes
@pytest.mark.parametrize("depth", [100.0, 250.0])
def test_drilled_channel(depth, voxel_size):
    radius, width = 300.0, 35.0
    z, y, x = coordinates((radius,) * 3, voxel_size)
    solid = z**2 + y**2 + x**2 < radius**2
    found = measured(solid & ~((y**2 + z**2 < width**2) & (x > radius - depth)), voxel_size)
    assert found["invagination_depth_max_nm"] == pytest.approx(depth, abs=1.5 * voxel_size[2] + width**2 / radius / 2)
    whole = measured(solid, voxel_size)
    assert found["invagination_depth_mean_nm"] > whole["invagination_depth_mean_nm"]
    volume = math.pi * width**2 * depth / (4 / 3 * math.pi * radius**3)
    assert found["invagination_fraction"] - whole["invagination_fraction"] == pytest.approx(volume, rel=0.15)


def test_a_cavity_is_none_until_it_is_opened():
    mask = ball(120, (10.0,) * 3)
    closed, middle = mask.copy(), tuple(n // 2 for n in mask.shape)
    closed[middle[0] - 3 : middle[0] + 4, middle[1] - 3 : middle[1] + 4, middle[2] - 3 : middle[2] + 4] = False
    assert measured(closed, (10.0,) * 3) == measured(mask, (10.0,) * 3)
    closed[middle[0] :, middle[1], middle[2]] = False
    assert measured(closed, (10.0,) * 3)["invagination_depth_max_nm"] > 80


@pytest.mark.parametrize("seed", range(5))
def test_depths_are_those_to_every_facet_of_the_hull_of_every_point(seed):
    rng = np.random.default_rng(seed)
    mask = np.zeros((14, 15, 16), bool)
    mask[2:12, 2:13, 2:14] = rng.random((10, 11, 12)) < 0.8
    mask[1, 5, 5] = mask[12, 9, 3] = True
    mask[:, 7, 7] = False
    voxel_size = (3.0, 2.0, 1.0)
    found = measured(mask, voxel_size)
    faces = surface_faces(filled(mask))
    points = faces.centres(voxel_size)
    hull = ConvexHull(points)
    depths = -(points @ hull.equations[:, :3].T + hull.equations[:, 3]).max(axis=1)
    areas = faces.areas(voxel_size)
    assert found["invagination_depth_max_nm"] == pytest.approx(depths.max())
    assert found["invagination_depth_mean_nm"] == pytest.approx((depths * areas).sum() / areas.sum())
    expected = 1 - filled(mask).sum() * 6 / hull.volume
    assert found["invagination_fraction"] == pytest.approx(max(0, expected), abs=1e-12)


def test_units_and_turns():
    mask = rod((0, 0, 0), (60, 90, 40), 30, (5.0,) * 3) | np.roll(rod((0, 0, 0), (60, 90, 40), 30, (5.0,) * 3), 5, 2)
    mask = np.pad(mask, 1)
    once, twice = measured(mask, (5.0,) * 3), measured(mask, (10.0,) * 3)
    turned = measured(mask.transpose(2, 0, 1)[::-1], (5.0,) * 3)
    for name in DEFINITIONS:
        assert twice[name] == pytest.approx(once[name] * (1 if name.endswith("fraction") else 2))
        assert turned[name] == pytest.approx(once[name])


def test_nothing_there():
    for shape in [(3, 3, 3), (0, 0, 0)]:
        assert all(math.isnan(value) for value in measured(np.zeros(shape, bool), (1.0, 1.0, 1.0)).values())

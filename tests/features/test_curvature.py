"""Balls, cylinders and tori have the curvature of theory at any voxel size; noise of voxels stays below it."""

import math

import numpy as np
import pytest
from analytic_solids import VOXEL_SIZES, ball, coordinates, rod, torus

from cristae.features.crops import surface_faces, trimmed
from cristae.features.curvature import DEFINITIONS, Curvature, surface_curvature

sizes = pytest.mark.parametrize("voxel_size", VOXEL_SIZES)


def measured(mask, voxel_size):
    return Curvature()(mask, None, voxel_size)


@sizes
@pytest.mark.parametrize("n_voxels", [8, 14])
def test_ball(n_voxels, voxel_size):
    radius = n_voxels * max(voxel_size)
    found = measured(ball(radius, voxel_size), voxel_size)
    per_um = 1e3 / radius
    assert found["mean_curvature_per_um"] == pytest.approx(per_um, rel=0.02)
    assert found["gaussian_curvature_per_um2"] == pytest.approx(per_um**2, rel=0.04)
    assert found["curvedness_per_um"] == pytest.approx(per_um, rel=0.03)
    assert found["mean_curvature_p05_per_um"] == pytest.approx(per_um, rel=0.2)
    assert found["mean_curvature_p95_per_um"] == pytest.approx(per_um, rel=0.2)
    assert found["mean_curvature_sd_per_um"] < 0.1 * per_um
    assert found["concave_fraction"] == 0


@sizes
def test_area_and_total_curvature(voxel_size):
    coarsest = max(voxel_size)
    for mask, area, total in [
        (ball(10 * coarsest, voxel_size), 4 * math.pi * (10 * coarsest) ** 2, 4 * math.pi),
        (torus(16 * coarsest, 7 * coarsest, voxel_size), 4 * math.pi**2 * 16 * 7 * coarsest**2, 0),
    ]:
        surface = surface_curvature(mask, voxel_size, 2 * coarsest)
        assert surface.area.sum() == pytest.approx(area, rel=0.01)
        assert surface.gaussian @ surface.area == pytest.approx(total, abs=0.03 * 4 * math.pi)


@pytest.mark.parametrize("direction", [(1, 0, 0), (0, 0, 1), (0.3, 1, 0.7)])
def test_cylinder(direction):
    voxel_size, radius = (15.0, 10.0, 10.0), 130.0
    z, y, x = coordinates((400, 400, 400), voxel_size)
    unit = np.array(direction) / np.linalg.norm(direction)
    along = z * unit[0] + y * unit[1] + x * unit[2]
    mask = (z**2 + y**2 + x**2 - along**2 < radius**2) & (np.abs(along) < 350)
    surface = surface_curvature(mask, voxel_size, 30.0)
    centres = surface_faces(trimmed(mask, margin=3)).centres(voxel_size)
    along = (centres - centres.mean(0)) @ unit
    side = np.abs(along) < 200  # away from the rims of the ends
    share = surface.area[side] / surface.area[side].sum()
    assert surface.mean[side] @ share == pytest.approx(1 / (2 * radius), rel=0.03)
    assert surface.gaussian[side] @ share == pytest.approx(0, abs=0.02 / radius**2)


def test_errors_shrink_with_size():
    errors = [
        abs(measured(ball(r, (10.0, 10.0, 10.0)), (10.0,) * 3)["gaussian_curvature_per_um2"] * r**2 / 1e6 - 1)
        for r in (60.0, 200.0)
    ]
    assert errors[1] < errors[0]


def test_a_hollow_is_concave_and_its_curvature_below_0():
    outer, inner = ball(200, (10.0,) * 3), ball(120, (10.0,) * 3)
    edge = (np.array(outer.shape) - inner.shape) // 2
    outer[tuple(slice(a, a + n) for a, n in zip(edge, inner.shape, strict=True))] &= ~inner
    found = measured(outer, (10.0,) * 3)
    assert found["concave_fraction"] == pytest.approx(120**2 / (120**2 + 200**2), rel=0.02)
    assert found["mean_curvature_p05_per_um"] == pytest.approx(-1e3 / 120, rel=0.2)


def test_what_voxels_make_of_a_slanted_plane_is_not_called_concave():
    z, y, x = coordinates((300, 300, 300), (10.0,) * 3)
    found = measured((np.abs(0.8 * z + 0.5 * y + 0.33 * x) < 90) & (y**2 + x**2 + z**2 < 280**2), (10.0,) * 3)
    assert found["concave_fraction"] < 0.02


def test_units():
    mask = ball(90, (10.0,) * 3)
    small, large = measured(mask, (10.0,) * 3), measured(mask, (20.0,) * 3)
    for name in DEFINITIONS:
        power = 0 if name.endswith("fraction") else 2 if name.endswith("um2") else 1
        assert large[name] * 2**power == pytest.approx(small[name], rel=1e-6)


def test_mirrored_and_turned_alike():
    mask = rod((0, 0, 0), (150, 200, 90), 80, (10.0,) * 3)
    once = measured(mask, (10.0,) * 3)
    for other in (mask[::-1], mask.transpose(2, 0, 1), mask[:, ::-1, ::-1].transpose(0, 2, 1)):
        assert measured(other, (10.0,) * 3) == pytest.approx(once, rel=1e-4, abs=1e-4)


def test_what_is_smaller_than_the_smoothing_is_not_measured():
    for mask in (np.ones((1, 1, 1), bool), np.zeros((3, 3, 3), bool), np.zeros((0, 0, 0), bool)):
        assert all(math.isnan(value) for value in measured(mask, (10.0,) * 3).values())
    assert math.isfinite(Curvature(smoothing_nm=6)(np.ones((3, 3, 3), bool), None, (10.0,) * 3)["curvedness_per_um"])


def test_a_thin_sheet_and_a_flat_object_are_finite():
    for shape in [(1, 40, 40), (2, 30, 50), (60, 3, 3)]:
        assert all(map(math.isfinite, measured(np.ones(shape, bool), (10.0, 5.0, 5.0)).values()))

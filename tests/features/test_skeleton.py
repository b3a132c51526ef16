"""Rods, forks, rings and combs have the length and the branches that they were made with."""

import math

import numpy as np
import pytest
from analytic_solids import VOXEL_SIZES, ball, coordinates, rod, torus
from scipy import ndimage

from cristae.features.skeleton import DEFINITIONS, Skeleton, find_branches

sizes = pytest.mark.parametrize("voxel_size", VOXEL_SIZES)
COUNTS = ["n_skeleton_branches", "n_skeleton_ends", "n_skeleton_junctions"]


def measured(mask, voxel_size):
    return Skeleton()(mask, None, voxel_size)


def counts(found):
    return [found[name] for name in COUNTS]


def tree(segments, radius, voxel_size):
    """All within `radius` of segments."""
    points = np.array(segments, float)
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    grid = np.stack(coordinates((high - low) / 2 + radius, voxel_size), axis=-1) + (low + high) / 2
    mask = np.zeros(grid.shape[:3], bool)
    for start, end in points:
        t = np.clip((grid - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
        mask |= ((grid - start - t[..., None] * (end - start)) ** 2).sum(-1) < radius**2
    return mask


@sizes
@pytest.mark.parametrize(
    "direction", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1), (0.2, 1, 0.45), (1, 0.4, 0)]
)
def test_a_rod_is_as_long_as_it_is(direction, voxel_size):
    length, radius = 1500.0, 90.0
    end = np.array(direction) / np.linalg.norm(direction) * (length - 2 * radius)
    found = measured(rod((0, 0, 0), end, radius, voxel_size), voxel_size)
    assert found["skeleton_length_um"] == pytest.approx(length / 1e3, rel=0.05)
    assert found["skeleton_longest_path_um"] == pytest.approx(found["skeleton_length_um"])
    assert found["skeleton_radius_nm"] == pytest.approx(radius, abs=0.7 * max(voxel_size))
    assert counts(found) == [1, 2, 0]


@sizes
def test_a_fork(voxel_size):
    tips = [(0, 700, 0), (0, -400, 500), (0, -400, -500)]
    found = measured(tree([((0, 0, 0), tip) for tip in tips], 70, voxel_size), voxel_size)
    arms = sorted(math.hypot(*tip) + 70 for tip in tips)
    assert counts(found) == [3, 3, 1]
    assert found["skeleton_length_um"] == pytest.approx(sum(arms) / 1e3, rel=0.05)
    assert found["skeleton_longest_path_um"] == pytest.approx(sum(arms[1:]) / 1e3, rel=0.05)


@sizes
@pytest.mark.parametrize("axis", [0, 1])
def test_a_ring(axis, voxel_size):
    spacing = (voxel_size[1], voxel_size[0], voxel_size[2]) if axis else voxel_size
    mask = np.swapaxes(torus(500, 90, spacing), 0, axis)
    found = measured(mask, voxel_size)
    assert counts(found) == [1, 0, 0]
    assert found["skeleton_length_um"] == pytest.approx(math.pi, rel=0.05)
    assert found["skeleton_longest_path_um"] == pytest.approx(math.pi / 2, rel=0.05)


def test_a_comb_with_a_loop():
    teeth = [((0, 0, x), (0, 400, x)) for x in range(0, 1300, 300)]
    found = measured(tree([((0, 0, -300), (0, 0, 1500)), *teeth], 50, (10.0,) * 3), (10.0,) * 3)
    assert counts(found) == [11, 7, 5]
    loop = [((0, 400, 300), (0, 400, 600))]
    found = measured(tree([((0, 0, -300), (0, 0, 1500)), *teeth, *loop], 50, (10.0,) * 3), (10.0,) * 3)
    assert counts(found) == [10, 5, 5]  # the ends of two teeth meet: two branches become one


@sizes
def test_a_ball_is_a_rod_as_long_as_wide(voxel_size):
    found = measured(ball(150, voxel_size), voxel_size)
    assert counts(found) == [1, 2, 0]
    assert found["skeleton_length_um"] == pytest.approx(0.3, rel=0.1)


def roughened(mask, seed):
    """The largest piece of a mask whose surface is bumpy."""
    padded = np.pad(mask, 4).astype(np.float32)
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=padded.shape), 3)
    rough = ndimage.gaussian_filter(padded, 2) + noise / noise.std() * 0.12 > 0.5
    labels, _ = ndimage.label(rough)
    return labels == np.bincount(labels[labels > 0]).argmax()


@pytest.mark.parametrize("seed", range(3))
def test_bumps_are_not_branches(seed):
    straight = rod((0, 0, 0), (0, 0, 1000), 110, (10.0,) * 3)
    assert counts(measured(roughened(straight, seed), (10.0,) * 3)) == [1, 2, 0]
    tips = [(0, 700, 0), (0, -400, 500), (150, -400, -500)]
    fork = tree([((0, 0, 0), tip) for tip in tips], 110, (10.0,) * 3)
    found = measured(roughened(fork, seed), (10.0,) * 3)
    assert counts(found) == [3, 3, 1]
    assert found["skeleton_length_um"] == pytest.approx(sum(math.hypot(*tip) + 110 for tip in tips) / 1e3, rel=0.06)


def test_several_pieces_add_up():
    piece = rod((0, 0, 0), (0, 400, 0), 50, (10.0,) * 3)
    one = measured(piece, (10.0,) * 3)
    two = measured(np.concatenate([piece, np.zeros_like(piece), piece]), (10.0,) * 3)
    for name in ["skeleton_length_um", *COUNTS]:
        assert two[name] == pytest.approx(2 * one[name])
    assert two["skeleton_longest_path_um"] == pytest.approx(one["skeleton_longest_path_um"])


def test_holes_do_not_change_it():
    mask = rod((0, 0, 0), (0, 300, 300), 90, (10.0,) * 3)
    hollow = mask.copy()
    hollow[tuple(slice(n // 2 - 2, n // 2 + 3) for n in mask.shape)] = False
    assert measured(hollow, (10.0,) * 3) == measured(mask, (10.0,) * 3)


def test_units_and_one_voxel():
    mask = tree([((0, 0, 0), (0, 500, 0)), ((0, 0, 0), (0, -300, 300)), ((0, 0, 0), (0, -300, -300))], 60, (10.0,) * 3)
    once, twice = measured(mask, (10.0,) * 3), measured(mask, (20.0,) * 3)
    for name in DEFINITIONS:
        assert twice[name] == pytest.approx(once[name] * (1 if name in COUNTS else 2))
    single = measured(np.ones((1, 1, 1), bool), (10.0, 4.0, 6.0))
    assert single["skeleton_length_um"] == pytest.approx(0.004)  # 2 · 4 nm to the next voxel − 4 nm
    assert counts(single) == [1, 2, 0]
    assert all(math.isnan(value) for value in measured(np.zeros((2, 2, 2), bool), (1.0,) * 3).values())


def test_a_cross_of_single_voxels():
    lines = np.zeros((3, 11, 11), bool)
    lines[1, 5, 1:10] = lines[1, 1:10, 5] = True
    found = find_branches(lines, (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(np.sort(found.degrees), [1, 1, 1, 1, 4])
    np.testing.assert_allclose(found.lengths, 4)
    np.testing.assert_allclose(found.positions[found.degrees == 4], [[1, 5, 5]])

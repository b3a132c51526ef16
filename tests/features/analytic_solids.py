"""Analytic solids as masks, off the centre of the grid so that nothing is symmetrical by accident."""

import numpy as np

VOXEL_SIZES = [(10.0, 10.0, 10.0), (30.0, 10.0, 10.0), (8.0, 4.0, 5.0)]


def coordinates(half_extent, voxel_size):
    """Return z, y and x in nm from a point near the middle of a grid that holds the extent."""
    counts = [int(2 * e / v) + 3 for e, v in zip(half_extent, voxel_size, strict=True)]
    along = [(np.arange(n) - n // 2 + o) * v for n, v, o in zip(counts, voxel_size, (0.1, 0.22, 0.35), strict=True)]
    return np.meshgrid(*along, indexing="ij")


def ball(radius, voxel_size):
    z, y, x = coordinates((radius,) * 3, voxel_size)
    return z**2 + y**2 + x**2 < radius**2


def torus(ring_radius, tube_radius, voxel_size):
    wide = ring_radius + tube_radius
    z, y, x = coordinates((tube_radius, wide, wide), voxel_size)
    return (np.hypot(y, x) - ring_radius) ** 2 + z**2 < tube_radius**2


def rod(start, end, radius, voxel_size):
    """A rod with round ends: all within `radius` of the segment, so that its length is |end − start| + 2 radius."""
    start, end = np.array(start, float), np.array(end, float)
    middle = (start + end) / 2
    z, y, x = coordinates(np.abs(end - start) / 2 + radius, voxel_size)
    points = np.stack([z, y, x], axis=-1) + middle - start
    t = np.clip(points @ (end - start) / ((end - start) @ (end - start)), 0, 1)
    return ((points - t[..., None] * (end - start)) ** 2).sum(-1) < radius**2

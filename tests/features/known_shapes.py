"""Bodies whose measures are known, and an array measured in blocks as a volume would be."""

from itertools import product

import numpy as np
import pandas as pd

from cristae.features.mesh import Meshing, add_mesh, merge_meshes, outlines
from cristae.features.moments import Moments, add_moments, moments_table
from cristae.features.morphology import morphology_table
from cristae.features.surface import VoxelSurface, add_voxel_surface


def grid(half_lengths, voxel_size=(1, 1, 1), shift=(0, 0, 0)):
    """Coordinates z, y, x of voxel centres around a centre, some voxels beyond the half lengths."""
    axes = [
        np.arange(-np.ceil(h / s) - 2, np.ceil(h / s) + 3) * s - d
        for h, s, d in zip(half_lengths, voxel_size, shift, strict=True)
    ]
    return np.meshgrid(*axes, indexing="ij")


def ellipsoid(a, b, c, voxel_size=(1, 1, 1), shift=(0, 0, 0)):
    z, y, x = grid((a, b, c), voxel_size, shift)
    return ((z / a) ** 2 + (y / b) ** 2 + (x / c) ** 2 <= 1).astype(np.uint8)


def ball(radius, voxel_size=(1, 1, 1), shift=(0, 0, 0)):
    return ellipsoid(radius, radius, radius, voxel_size, shift)


def torus(ring, tube, voxel_size=(1, 1, 1)):
    z, y, x = grid((tube, ring + tube, ring + tube), voxel_size)
    return ((np.hypot(y, x) - ring) ** 2 + z**2 <= tube**2).astype(np.uint8)


def shell(radius, hole, voxel_size=(1, 1, 1)):
    z, y, x = grid((radius,) * 3, voxel_size)
    r = np.sqrt(z**2 + y**2 + x**2)
    return ((r <= radius) & (r > hole)).astype(np.uint8)


def in_blocks(labels, n, block_shape, voxel_size, sigma_px=1.0, image=None):
    """Measure block by block, in an order of its own, as the stage does: two passes, dense ids per block, halos."""
    meshing = Meshing(voxel_size, sigma_px)
    corners = list(product(*(range(0, length, step) for length, step in zip(labels.shape, block_shape, strict=True))))
    moments, surface = Moments.empty(n, grey=image is not None), VoxelSurface.empty(n)
    for corner in corners[::-1]:
        read, inner, start = _block(labels.shape, corner, block_shape, 1)
        ours = None if image is None else image[read]
        moments += add_moments(labels[read], n, inner, start=start, image=ours)
        surface += add_voxel_surface(labels[read], n, inner, start=start, voxel_size=voxel_size)
    objects = outlines(moments, surface, sigma_px)
    parts, rows = [], []
    for corner in corners[::-1]:
        read, inner, start = _block(labels.shape, corner, block_shape, meshing.halo)
        ids, dense = np.unique(labels[read], return_inverse=True)
        dense = dense.reshape(labels[read].shape) + (ids[0] != 0)
        places = ids[ids > 0].astype(np.int64) - 1
        known = objects[places]
        parts.append(add_mesh(dense, len(places), inner, start=start, objects=known, meshing=meshing))
        rows.append(places)
    mesh = merge_meshes(parts, rows, n)
    tables = [moments_table(moments, voxel_size, labels.shape), morphology_table(mesh, moments, surface, voxel_size)]
    return pd.concat(tables, axis=1)


def _block(shape, corner, block_shape, halo):
    """What a block reads, its inner part within that, and where the read part begins."""
    read, inner = [], []
    for length, low, step in zip(shape, corner, block_shape, strict=True):
        begin = max(0, low - halo)
        read.append(slice(begin, min(length, low + step + halo)))
        inner.append(slice(low - begin, min(length, low + step) - begin))
    return tuple(read), tuple(inner), tuple(part.start for part in read)

"""What meshes and pictures of them hold: blocks, then one object at a time; all that is shown for a picture."""

from __future__ import annotations

import math

from cristae.costs.steps import Memory, Step, how_many
from cristae.costs.work import Work

MARCH_BYTES = 24
"""Per voxel of a block in which surfaces are found: ids, their numbers twice, where they end, and the surfaces."""
SMALLEST_SIDE = 32
"""Of a block in which surfaces are found."""
OBJECT_BYTES = 600
"""Per vertex of an object that is sewn together, smoothed and simplified; most are quadrics and a heap of edges."""
LARGEST_SHARE = 0.1
"""Of a volume, what its largest object is supposed to take up while that is not known."""
ROUGHNESS = 3.0
"""Surface of that object over that of a ball of its volume."""
PER_AREA = 1.5
"""Vertices per voxel face of area: edges of the lattice that a surface crosses."""
SURFACE = 0.02
"""Vertices of meshes per voxel of a layer of objects, before triangles are merged."""
PIXEL_BYTES = 100
"""Per pixel of a picture before it is reduced: depth, object, normal, colour, and how much light gets there."""


def mesh_memory(work: Work) -> Memory:
    """Return what meshing holds: blocks, then the mesh of an object; how large the largest is, is supposed."""
    how = work.meshing
    least, most = block_bytes(work, SMALLEST_SIDE), block_bytes(work, how.block_side)
    blocks = Step("blocks in which surfaces are found", 1e8, least, 0, how_many(work) * (most - least))
    return Memory((blocks, *object_memory(largest_surface(work), "the mesh of a large object").steps))


def block_bytes(work: Work, side: int) -> float:
    """Return what one block of that side holds; a side is never larger than the one that is asked for."""
    return float(MARCH_BYTES * math.prod(min(side, work.meshing.block_side, n) + 2 for n in work.meshing.shape))


def block_side(work: Work, allowed: float, workers: int) -> int:
    """Return the side of the blocks with which they keep within what `mesh_memory` allows them."""
    side = work.meshing.block_side
    least = block_bytes(work, SMALLEST_SIDE)
    while side > SMALLEST_SIDE and workers * (block_bytes(work, side) - least) > allowed:
        side = max(SMALLEST_SIDE, side // 2)
    return side


def largest_surface(work: Work) -> float:
    """Return the vertices that the largest object is supposed to have."""
    ball = (36 * math.pi) ** (1 / 3) * (LARGEST_SHARE * math.prod(work.meshing.shape)) ** (2 / 3)
    return PER_AREA * ROUGHNESS * ball


def object_memory(n_vertices: float, words: str) -> Memory:
    """Return what finishing objects holds of which the largest has so many vertices."""
    return Memory((Step(words, 1e8, OBJECT_BYTES * n_vertices),))


def render_memory(n_vertices: int, picture_px: int, frame_px: int) -> Memory:
    """Return what a picture and the frames of a movie hold.

    Parameters
    ----------
    n_vertices
        Of all meshes that are shown; they have twice as many triangles.
    picture_px, frame_px
        Pixels of the picture and of a frame, before they are reduced; 0 where there is no movie.
    """
    # Places, normals, triangles and their objects, as read and put together; then all that as the camera sees it.
    scene, seen = 1e8 + 170.0 * n_vertices, 120.0 * n_vertices
    picture = Step("all meshes that are shown, and a picture", scene + seen + PIXEL_BYTES * picture_px)
    frames = Step("all meshes that are shown, and frames", scene, seen + PIXEL_BYTES * frame_px)
    return Memory((picture, frames) if frame_px else (picture,))

"""Volumes of ids to mesh: objects of every awkward kind, and what a mesh must be whatever made it."""

from __future__ import annotations

from collections import Counter

import numpy as np

from cristae.geometry import Box, blocks
from cristae.meshing.build import Finish, build_mesh
from cristae.meshing.pieces import HALO, Piece, march


def ball(shape, centre, radius) -> np.ndarray:
    z, y, x = np.indices(shape)
    return (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2


def awkward(shape=(23, 26, 31)) -> np.ndarray:
    """1 a ball, 2 touches it, 3 one voxel, 4 noise with corners that touch, 5 cut by the border, 6 a ring."""
    labels = np.zeros(shape, np.int32)
    noise = np.random.default_rng(4).random(shape) < 0.3
    labels[noise & (np.indices(shape)[2] > 20)] = 4
    labels[ball(shape, (10, 10, 8), 6)] = 1
    labels[6:15, 6:14, 13:18] = 2
    labels[2, 20, 3] = 3
    labels[18:, 20:, :6] = 5
    y, x = np.indices(shape[1:])
    far = np.hypot(y - 19, x - 13)
    labels[19:22, (far > 2.5) & (far < 5.5)] = 6
    return labels


def pieces_of(labels: np.ndarray, side: int | None = None) -> dict[int, list[Piece]]:
    """Return the pieces of every object, of blocks of that side or of the whole."""
    found: dict[int, list[Piece]] = {}
    n = int(labels.max())
    for block in blocks(Box.of_shape(labels.shape), (side or max(labels.shape),) * 3, (HALO,) * 3):
        inner = block.write.within(block.read).slices
        part = march(labels[block.read.slices], n, inner, start=block.read.start, volume_shape=labels.shape)
        for row in range(n):
            if len(part[row].faces):
                found.setdefault(row + 1, []).append(part[row])
    return found


def mesh_of(labels, number=1, side=None, **finish):
    how = {"voxel_size": (1.0, 1.0, 1.0), "n_steps": 0} | finish
    return build_mesh(pieces_of(labels, side)[number], labels.shape, Finish(**how))


def is_closed(faces: np.ndarray, strictly: bool = True) -> bool:
    """Say whether as many triangles run along every edge in one direction as in the other; strictly: one each."""
    edges = Counter(map(tuple, np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).tolist()))
    return all(edges[b, a] == n and (n == 1 or not strictly) for (a, b), n in edges.items())

"""The parts of a volume and which of them touch: what holes are found in, small where the volume is large.

A part is a 6-connected component of voxels of one id, background included. A block gives its parts, their voxels,
the pairs that share a voxel's face, and the planes of parts at its faces; planes of neighbours lie face to face, so
parts of one id are joined across them and parts of two ids become pairs. Blocks need no halo::

    0 0 0 0 0 0            a a a a a a        outside
    0 1 1 1 1 0            a b b b b a          |
    0 1 0 0 2 0    -->     a b c c d a          a --- b --- c      a is at the border of the volume
    0 1 1 1 1 0            a b b b b a          '---- d ----'
    0 0 0 0 0 0            a a a a a a

Within a block, work is done on runs of voxels (`cristae.features.runs`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cristae.features.runs import Triple, face_of, runs_of, sizes_of, touching


@dataclass(frozen=True)
class BlockParts:
    """The parts of one block, numbered from 0 in the order of their first voxel.

    Parameters
    ----------
    start, shape
        Where the block lies, in voxels.
    label
        int64, the id of each part; 0 is background.
    n_voxels
        int64, the voxels of each part.
    outside
        bool, whether the part reaches the border of the volume.
    pairs
        int64 ``(n, 2)``, the parts that touch by a voxel's face, each pair once, the smaller number first.
    faces
        int32 planes of part numbers by (axis, side), side 0 low and 1 high; those at the border of the volume are
        left out.
    """

    start: Triple
    shape: Triple
    label: np.ndarray
    n_voxels: np.ndarray
    outside: np.ndarray
    pairs: np.ndarray
    faces: Mapping[tuple[int, int], np.ndarray]


@dataclass(frozen=True)
class PartGraph:
    """The parts of a volume: ``label``, ``n_voxels``, ``outside`` and ``pairs`` as those of `BlockParts`."""

    label: np.ndarray
    n_voxels: np.ndarray
    outside: np.ndarray
    pairs: np.ndarray


def block_parts(labels: np.ndarray, start: Triple, volume_shape: Triple) -> BlockParts:
    """Return the parts of a block and which of them touch.

    Parameters
    ----------
    labels
        Integer ids ``(z, y, x)`` of the block, without halo, in any numbering that all blocks share; 0 is background.
    start
        Where the block starts in the volume.
    volume_shape
        Shape of the volume, to know which faces of the block are its border.

    Raises
    ------
    ValueError
        If the labels are not a block of integers, or the block sticks out of the volume.
    """
    if labels.ndim != 3 or not labels.size or labels.dtype.kind not in "iu":
        raise ValueError(f"expected a block (z, y, x) of integer ids, got {labels.dtype} of shape {labels.shape}")
    stop = tuple(a + n for a, n in zip(start, labels.shape, strict=True))
    if min(start) < 0 or any(a > n for a, n in zip(stop, volume_shape, strict=True)):
        raise ValueError(f"the block from {start} to {stop} sticks out of the volume of {volume_shape}")
    runs = runs_of(labels)
    n_voxels, label = sizes_of(runs)
    pairs = touching(runs)
    outside = np.zeros(label.size, np.bool_)
    faces = {}
    for axis in range(3):
        for side, at_border in enumerate((start[axis] == 0, stop[axis] == volume_shape[axis])):
            plane = face_of(runs, axis, side)
            if at_border:
                outside[plane] = True
            else:
                faces[axis, side] = plane
    return BlockParts(start, runs.shape, label, n_voxels, outside, pairs, faces)


@dataclass
class _Joined:
    """What blocks have been joined so far; part numbers count through all blocks."""

    n_parts: int = 0
    parts: list[BlockParts] = field(default_factory=list)
    same: list[np.ndarray] = field(default_factory=list)
    pairs: list[np.ndarray] = field(default_factory=list)
    waiting: dict[tuple[int, ...], tuple[np.ndarray, np.ndarray, int]] = field(default_factory=dict)

    def add(self, block: BlockParts) -> None:
        offset = self.n_parts
        self.n_parts += block.label.size
        self.pairs.append(block.pairs + offset)
        for (axis, side), plane in block.faces.items():
            corner = list(block.start)
            corner[axis] += side * block.shape[axis]
            met = self.waiting.pop((axis, *corner), None)
            if met is None:
                self.waiting[axis, *corner] = plane, block.label, offset
            else:
                self._join(met, (plane, block.label, offset))
        # Faces are the bulk of a block: they are kept only until the neighbour comes.
        self.parts.append(BlockParts(block.start, block.shape, block.label, block.n_voxels, block.outside, *_NONE))

    def _join(self, a: tuple[np.ndarray, np.ndarray, int], b: tuple[np.ndarray, np.ndarray, int]) -> None:
        if a[0].shape != b[0].shape:
            raise ValueError(f"blocks do not lie face to face: faces of {a[0].shape} and {b[0].shape} voxels meet")
        key = np.unique(a[0].astype(np.int64).ravel() * b[1].size + b[0].ravel())
        of_a, of_b = np.divmod(key, b[1].size)
        equal = a[1][of_a] == b[1][of_b]
        both = np.column_stack([of_a + a[2], of_b + b[2]])
        self.same.append(both[equal])
        self.pairs.append(both[~equal])


_NONE: tuple[np.ndarray, Mapping[tuple[int, int], np.ndarray]] = (np.zeros((0, 2), np.int64), {})


def join_parts(blocks: Iterable[BlockParts], volume_shape: Triple) -> PartGraph:
    """Join the parts of blocks, in whatever order these come, to those of the volume.

    Parameters
    ----------
    blocks
        Every block of a regular tiling of the volume, once. Faces are held until the neighbour has come.
    volume_shape
        Shape of the volume.

    Raises
    ------
    ValueError
        If the blocks do not tile the volume face to face.
    """
    joined = _Joined()
    for block in blocks:
        joined.add(block)
    n_voxels = sum(math.prod(block.shape) for block in joined.parts)
    if joined.waiting or n_voxels != math.prod(volume_shape):
        raise ValueError(f"blocks of {n_voxels} voxels in all do not tile a volume of {volume_shape} face to face")
    same = np.concatenate([_NONE[0], *joined.same])
    ones = np.ones(len(same), np.int8)
    links = coo_array((ones, (same[:, 0], same[:, 1])), shape=(joined.n_parts, joined.n_parts))
    n_parts, part = connected_components(links, directed=False)
    part = part.astype(np.int64)
    label, outside = np.zeros(n_parts, np.int64), np.zeros(n_parts, np.bool_)
    sizes = np.zeros(n_parts, np.int64)
    label[part] = np.concatenate([block.label for block in joined.parts])
    np.logical_or.at(outside, part, np.concatenate([block.outside for block in joined.parts]))
    np.add.at(sizes, part, np.concatenate([block.n_voxels for block in joined.parts]))
    pairs = np.sort(part[np.concatenate([_NONE[0], *joined.pairs])], axis=1)
    key = np.unique(pairs[:, 0] * n_parts + pairs[:, 1])
    return PartGraph(label, sizes, outside, np.column_stack(np.divmod(key, n_parts)))

"""Grey level zones of volumes larger than memory: those of blocks, joined where the faces of blocks meet.

With 18 and 26 neighbours they meet over edges and corners of blocks too::

    block A  . 3 3 | 7 . .  block B      3 and 7: same object and level, and they touch, so they are one zone
             . . 5 | 7 8 .

What lies along a border between two blocks waits until both have come and is then dropped; a zone of which nothing
waits any more is counted and forgotten. So memory goes with the faces that wait, about one layer of blocks if they come
slice by slice, not with the volume. Sizes are whole numbers: the result is the same for any blocks, in any order.

Paper: the zones are those of G. Thibault et al. (2009), PRIP, 140; see `cristae.features.zones`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
from numba import njit

from cristae.features.zone_parts import AXES, DIRECTIONS, Triple, ZonePart
from cristae.features.zones import Zones, collect_zones

# Rows of zones, open or counted, that may come together before they are condensed.
ROWS_AT_LEAST = 200_000


def merge_zones(parts: Iterable[ZonePart]) -> Zones:
    """Return the zones of a volume from those of its blocks, which come once each, in any order.

    Memory is least if they come slice by slice of blocks.

    Raises
    ------
    ValueError
        As `ZoneMerge` does.
    """
    merge = ZoneMerge()
    for part in parts:
        merge.add(part)
    return merge.result()


class ZoneMerge:
    """Joins the zones of blocks as they come.

    Blocks tile the volume as a grid: planes cut it along each axis. They may come in any order.
    """

    def __init__(self) -> None:
        self._connectivity: int | None = None
        self._waiting: dict[tuple[Triple, Triple], tuple[Triple, np.ndarray]] = {}
        self._done: list[Zones] = []
        # Zones that are open, by number; row 0 is none.
        self._object_id, self._level, self._size, self._parent = (np.zeros(1, np.int64) for _ in range(4))
        self._n_after_closing = 0

    @property
    def n_open(self) -> int:
        """Zones that are kept in memory because they may grow."""
        return len(self._parent) - 1

    def add(self, part: ZonePart) -> None:
        """Take the zones of one block.

        Raises
        ------
        ValueError
            If the block came before, or does not fit to those that came: of another connectivity, or not cut by the
            same planes.
        """
        if self._connectivity not in (None, part.connectivity):
            raise ValueError(f"expected zones of connectivity {self._connectivity}, got {part.connectivity}")
        self._connectivity = part.connectivity
        offset = len(self._parent) - 1
        n = len(part.size)
        self._object_id = np.concatenate([self._object_id, part.object_id])
        self._level = np.concatenate([self._level, part.level])
        self._size = np.concatenate([self._size, part.size])
        self._parent = np.concatenate([self._parent, np.arange(offset + 1, offset + n + 1)])
        self._done.append(part.closed)
        for direction in DIRECTIONS:
            piece = _along(part, direction)
            if piece is not None:
                self._meet(part, direction, np.where(piece > 0, piece + np.int64(offset), 0))
        if self._n_rows() > 2 * self._n_after_closing + ROWS_AT_LEAST:
            self._close()

    def result(self) -> Zones:
        """Return the zones of the volume.

        Raises
        ------
        ValueError
            If a block has not come.
        """
        if self._waiting:
            (_, corner), _ = next(iter(self._waiting.items()))
            raise ValueError(
                f"blocks are missing: {len(self._waiting)} borders have one side only, the first at {corner}; "
                "add every block of the volume once"
            )
        self._close()
        return self._done[0]

    def _meet(self, part: ZonePart, direction: Triple, piece: np.ndarray) -> None:
        """Join the piece with what waits on the other side of the border, or let it wait."""
        forward = max(direction, _opposite(direction))
        # Both sides name their border by its direction and by the corner that they share.
        corner = tuple(
            stop if step == 1 else start for step, start, stop in zip(direction, part.start, part.stop, strict=True)
        )
        key = forward, (corner[0], corner[1], corner[2])
        if key not in self._waiting:
            self._waiting[key] = direction, piece
            return
        came, other = self._waiting.pop(key)
        if came == direction:
            raise ValueError(f"the block from {part.start} to {part.stop} came twice")
        if other.shape != piece.shape:
            raise ValueError(f"blocks do not tile the volume as a grid: {piece.shape} meets {other.shape} at {corner}")
        assert self._connectivity is not None
        free = AXES[self._connectivity] - sum(step != 0 for step in direction)
        shifts = [
            shift
            for shift in itertools.product(*((0,) if step else (-1, 0, 1) for step in direction))
            if sum(step != 0 for step in shift) <= free
        ]
        _join(piece, other, np.array(shifts), self._object_id, self._level, self._parent)

    def _close(self) -> None:
        """Count the zones of which nothing waits any more, and number the others anew."""
        root = _roots(self._parent)
        size = np.zeros_like(self._size)
        np.add.at(size, root, self._size)
        is_root = root == np.arange(len(root))
        waits = np.zeros(len(root), np.bool_)
        for _, piece in self._waiting.values():
            waits[root[piece]] = True
        waits[0] = is_root[0] = False
        ended = is_root & ~waits
        self._done.append(
            collect_zones(self._object_id[ended], self._level[ended], size[ended], np.ones(ended.sum(), np.int64))
        )
        self._done = [_sum_of(self._done)]
        stay = np.flatnonzero(waits)
        number = np.zeros(len(root), np.int64)
        number[stay] = np.arange(1, len(stay) + 1)
        for key, (direction, piece) in self._waiting.items():
            self._waiting[key] = direction, number[root[piece]]
        keep = np.concatenate([[0], stay])
        self._object_id, self._level, self._size = self._object_id[keep], self._level[keep], size[keep]
        self._parent = np.arange(len(keep))
        self._n_after_closing = self._n_rows()

    def _n_rows(self) -> int:
        return len(self._parent) + sum(len(zones.size) for zones in self._done)


def _along(part: ZonePart, direction: Triple) -> np.ndarray | None:
    """Return the numbers on the face, edge or corner in a direction; None if there is nothing to join that way."""
    axes = [axis for axis in range(3) if direction[axis]]
    faces = [part.faces[axis][(direction[axis] + 1) // 2] for axis in axes]
    first = faces[0]
    if len(axes) > AXES[part.connectivity] or first is None or any(face is None for face in faces):
        return None
    cut = [slice(None)] * 3
    for axis in axes[1:]:
        cut[axis] = slice(-1, None) if direction[axis] == 1 else slice(0, 1)
    return first[tuple(cut)]


def _opposite(direction: Triple) -> Triple:
    z, y, x = direction
    return -z, -y, -x


def _sum_of(several: list[Zones]) -> Zones:
    return collect_zones(
        np.concatenate([zones.object_id for zones in several]),
        np.concatenate([zones.level for zones in several]),
        np.concatenate([zones.size for zones in several]),
        np.concatenate([zones.n_zones for zones in several]),
    )


@njit(cache=True, nogil=True)
def _roots(parent: np.ndarray) -> np.ndarray:
    """Return the smallest number of every number's zone."""
    root = parent.copy()
    for i in range(len(root)):
        root[i] = root[root[i]]
    return root


@njit(cache=True, nogil=True)
def _find(parent: np.ndarray, i: int) -> int:
    """Return the smallest number of the zone, making the way to it shorter."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(cache=True, nogil=True)
def _join(
    piece: np.ndarray,
    other: np.ndarray,
    shifts: np.ndarray,
    object_id: np.ndarray,
    level: np.ndarray,
    parent: np.ndarray,
) -> None:
    """Unite zones of one object and level that touch over a border; `shifts` are the steps along it."""
    depth, height, width = piece.shape
    for z in range(depth):
        for y in range(height):
            for x in range(width):
                i = piece[z, y, x]
                if i == 0:
                    continue
                for k in range(len(shifts)):
                    zz, yy, xx = z + shifts[k, 0], y + shifts[k, 1], x + shifts[k, 2]
                    if 0 <= zz < depth and 0 <= yy < height and 0 <= xx < width:
                        j = other[zz, yy, xx]
                        if j > 0 and object_id[i] == object_id[j] and level[i] == level[j]:
                            first, second = _find(parent, i), _find(parent, j)
                            parent[max(first, second)] = min(first, second)

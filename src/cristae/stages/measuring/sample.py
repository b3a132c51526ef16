"""What is measured: layers of ids on one grid, the micrograph beside them, and how blocks are walked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from cristae.blockwise import Progress
from cristae.errors import DataError
from cristae.executors import Crew
from cristae.features.numbering import number_from_one
from cristae.geometry import Block, Box, Grid, Voxels, blocks
from cristae.volume import ArrayLike, Volume

Result = TypeVar("Result")

BYTES_PER_VOXEL = 32
"""What a voxel of a block takes at most while it is worked on, found by measurement."""
CROP_BYTES = 40
"""What a voxel of the crop of one object takes at most."""
SMALLEST_SIDE = 32


class Known:
    """An array of ids in which the value for "nobody looked" reads as background."""

    def __init__(self, array: ArrayLike, unknown: int) -> None:
        self._array, self._unknown = array, unknown
        self.shape, self.dtype = array.shape, np.dtype(array.dtype)

    def __getitem__(self, index: Any) -> np.ndarray:
        ids = np.array(self._array[index])
        ids[ids == self._unknown] = 0
        return ids


@dataclass(frozen=True)
class Layer:
    """The objects of one class.

    Parameters
    ----------
    name
        The class.
    volume
        Ids, 0 background.
    seen
        Where some voxels were not looked at: labels in which these have the largest value of their type.
    """

    name: str
    volume: Volume
    seen: Volume | None = None

    def read(self, box: Box) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids that lie in a box, rising, and the box with numbers from 1 in their place.

        Raises
        ------
        DataError
            If there are negative ids.
        """
        try:
            return number_from_one(self.volume.read(box))
        except ValueError as error:
            raise DataError(f"objects of {self.name}: {error}") from error

    def unseen(self, box: Box) -> np.ndarray | None:
        """Return where in a box nobody looked; None where somebody looked everywhere."""
        if self.seen is None:
            return None
        values = self.seen.read(box)
        unseen = values == np.iinfo(values.dtype).max
        return unseen if unseen.any() else None


@dataclass(frozen=True)
class Sample:
    """Layers on one grid, and which of them hold cells, nuclei and nucleoli.

    Parameters
    ----------
    name
        Of the project.
    grid
        Of all of them.
    layers
        By class.
    image
        The micrograph, if there is one.
    cell, nucleus, nucleolus
        Names of these classes; there need be no such layers.
    lost
        z of slices that the image lacks, or that are bad: nothing is said of grey values there.
    """

    name: str
    grid: Grid
    layers: Mapping[str, Layer]
    image: Volume | None
    cell: str = "cell"
    nucleus: str = "nucleus"
    nucleolus: str = "nucleolus"
    lost: tuple[int, ...] = ()

    def pictured(self, labels: np.ndarray, box: Box) -> np.ndarray:
        """Return the labels of a box without those on slices that the image lacks, or that are bad."""
        lost = [z - box.start[0] for z in self.lost if box.start[0] <= z < box.stop[0]]
        if lost:
            labels = labels.copy()
            labels[lost] = 0
        return labels

    @property
    def parents(self) -> dict[tuple[str, str], None]:
        """Return which class should lie in which, as far as both are there: (child, parent)."""
        pairs = [(name, self.cell) for name in self.layers if name != self.cell and self.cell in self.layers]
        if self.nucleolus in self.layers and self.nucleus in self.layers:
            pairs.append((self.nucleolus, self.nucleus))
        return dict.fromkeys(pairs)

    @property
    def organelles(self) -> tuple[str, ...]:
        """All classes but cells."""
        return tuple(name for name in self.layers if name != self.cell)

    def check(self) -> None:
        """See whether all that is measured lies on one grid.

        Raises
        ------
        DataError
            If ids are not whole numbers, or shapes or voxel sizes differ.
        """
        volumes = {name: layer.volume for name, layer in self.layers.items()}
        for name, volume in volumes.items():
            if volume.dtype.kind not in "iu":
                raise DataError(
                    f"the objects of {name} are stored as {volume.dtype}; expected whole numbers: 0 and ids above"
                )
        for name, volume in {**volumes, **({"the image": self.image} if self.image else {})}.items():
            if volume.shape != self.grid.shape:
                raise DataError(
                    f"{name} has {_times(volume.shape)} voxels (z, y, x), other layers {_times(self.grid.shape)}; "
                    "labels and image must cover the same volume: import them again"
                )
            if not np.allclose(volume.grid.voxel_size, self.grid.voxel_size, rtol=1e-6, atol=0):
                raise DataError(
                    f"{name} has voxels of {_times(volume.grid.voxel_size)} nm (z, y, x), other layers of "
                    f"{_times(self.grid.voxel_size)} nm; import again what is wrong"
                )


class Meter:
    """Adds up the progress of many passes over the volume, which count the same, to one.

    Parameters
    ----------
    progress
        Told of hundredths of passes.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self.n_passes = 0
        """How many there will be."""
        self._progress, self._n_ended = progress, 0

    def within(self, done: int, total: int) -> None:
        """Take note of how far the pass at work is."""
        part = 100 * done // max(1, total)
        if self._progress and part < 100:
            self._progress(max(1, 100 * self._n_ended + part), 100 * self.n_passes)

    def ended(self) -> None:
        """Take note that a pass has ended, or was done before."""
        self._n_ended += 1
        if self._progress:
            self._progress(100 * self._n_ended, 100 * self.n_passes)


@dataclass(frozen=True)
class Walk:
    """How blocks are walked; never what comes out.

    Parameters
    ----------
    side
        Of blocks, in voxels.
    crew
        Who works on them.
    memory
        Bytes that all blocks being worked on in one process may take.
    meter
        Told how far a pass is.
    """

    side: int
    crew: Crew
    memory: float
    meter: Meter = field(default_factory=Meter)

    def over(self, grid: Grid, halo: Voxels, work: Callable[[Block], Result | None]) -> Iterator[tuple[int, Result]]:
        """Yield the number of each block and what `work` returns of it, in order, however they end; None is left out.

        Sums in this order do not depend on how many blocks are worked on at a time.
        """
        side = self._side(grid, halo)
        at_once = max(1, int(self.memory // _bytes(grid, side, halo)))
        todo = list(enumerate(blocks(grid.box, triple(side), halo)))
        waiting: dict[int, Result | None] = {}
        following = 0

        def whole(numbered: tuple[int, Block]) -> tuple[int, Result | None]:
            number, block = numbered
            return number, work(block)

        for done, (number, result) in enumerate(self.crew.unordered(whole, todo, at_once), start=1):
            waiting[number] = result
            while following in waiting:
                first = waiting.pop(following)
                if first is not None:
                    yield following, first
                following += 1
            self.meter.within(done, len(todo))

    def number_of(self, grid: Grid, halo: Voxels, voxels: np.ndarray) -> np.ndarray:
        """Return the numbers, as in `over`, of the blocks that voxels int64 ``(n, 3)`` lie in."""
        side = self._side(grid, halo)
        n = [-(-length // side) for length in grid.shape]
        z, y, x = (voxels // side).T
        return np.asarray((z * n[1] + y) * n[2] + x)

    def crops_at_once(self, largest: int) -> int:
        """Return how many crops of at most so many voxels may be in work at a time: one at least."""
        return max(1, int(self.memory // (CROP_BYTES * largest)))

    def _side(self, grid: Grid, halo: Voxels) -> int:
        """Return the largest side, halved as often as it takes, of which a block fits into the memory."""
        side = self.side
        while side > SMALLEST_SIDE and _bytes(grid, side, halo) > self.memory:
            side //= 2
        return side


def _bytes(grid: Grid, side: int, halo: Voxels) -> int:
    return BYTES_PER_VOXEL * math.prod(min(n, side + 2 * h) for n, h in zip(grid.shape, halo, strict=True))


def triple(n: int) -> Voxels:
    """Return the same number along every axis."""
    return n, n, n


def inner(block: Block) -> tuple[slice, slice, slice]:
    """Return where in the voxels that a block reads those that it owns are."""
    return block.write.within(block.read).slices


def rows_of(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the places of some ids among all, which rise."""
    return np.searchsorted(ids, wanted)


def _times(values: Any) -> str:
    return " × ".join(f"{value:g}" for value in values)

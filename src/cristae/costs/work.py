"""The work that is to be done, the machine that is to do it, and what that costs: numbers only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

Triple = tuple[int, int, int]

SHARD: Triple = (16, 1024, 1024)
"""Unit of writing of a stored volume, in voxels."""
OBJECTS_BLOCK: Triple = (32, 1024, 1024)
"""Unit of work of the numbering of objects."""
IMPORT_BYTES = 2**28
"""A block of an import holds whole slices up to this size, bands of them beyond."""


@dataclass(frozen=True)
class Network:
    """One network as it is trained and applied.

    Parameters
    ----------
    n_maps, n_channels
        Output maps and input channels.
    n_parameters
        Weights.
    reduction
        Slices are reduced by this factor along y and x before it.
    forward_bytes
        Held per pixel of its input, at the peak, while it is applied.
    training_bytes
        Held per pixel of a batch for the gradient.
    """

    n_maps: int = 1
    n_channels: int = 3
    n_parameters: int = 2_000_000
    reduction: int = 1
    forward_bytes: float = 600.0
    training_bytes: float = 1700.0


@dataclass(frozen=True)
class Training:
    """How networks are trained: patches, updates, slices with labels and without, whether two teach each other.

    Each of the processes has a share of the patches.
    """

    batch: int = 4
    tile_px: int = 192
    updates: int = 500
    check_every: int = 50
    holdout_share: float = 0.0625
    n_slices: int = 7
    n_unlabelled: int = 0
    twins: bool = False
    n_processes: int = 1


@dataclass(frozen=True)
class Prediction:
    """How networks are applied; `memory` (bytes) is what blocks in flight may take."""

    tile_px: int = 1152
    overlap_px: int = 64
    views: int = 1
    n_axes: int = 1
    smooth_reach: int = 3
    memory: float = 4 * 2.0**30


@dataclass(frozen=True)
class Separation:
    """How cells are separated; `growth` (bytes) decides at which resolution, `memory` how many gaps at a time."""

    method: str = "auto"
    n_tries: int = 5
    try_px: int = 1024
    growth: float = 4 * 2.0**30
    memory: float = 4 * 2.0**30


@dataclass(frozen=True)
class Measuring:
    """What is measured; `memory` (bytes) is what blocks and crops in work may take.

    `halo` is the widest one, `families` those measured; `crop_voxels` the largest crop of one object.
    """

    families: tuple[str, ...] = ("shape", "holes", "texture", "zones", "spectrum", "features", "relations")
    block_side: int = 256
    halo: Triple = (10, 10, 10)
    crop_voxels: int = 2**25
    memory: float = 4e9


@dataclass(frozen=True)
class Meshing:
    """What is meshed: shape of the level of the pyramid, and side of the blocks that it is read in."""

    shape: Triple
    block_side: int


@dataclass(frozen=True)
class Work:
    """A volume, what is known of it, and what is to be done with it.

    Parameters
    ----------
    shape
        Voxels along z, y, x.
    itemsize
        Bytes of a grey value.
    halving
        By what the axes shrink from one level of the pyramid to the next.
    n_masks
        Classes of organelles.
    cells
        Whether cells are separated.
    n_labelled, n_truth
        Slices that are labelled, and slices with a truth.
    longest_gap
        Slices from one labelled slice to the next, both counted, where they are furthest apart.
    networks
        One for all masks, one for the interior and boundary of cells.
    training, prediction, separation, measuring
        Settings of the stages.
    surfaces
        What is meshed; the finest level where nothing is said.
    used
        Of the stages that nothing else needs (`cristae.costs.price.OPTIONAL`), those that a project has used.
    workers
        Blocks at a time; 0 is the serial executor, which works on one, reads the next and writes the last.
    gpu
        Whether networks run on a graphics card.
    """

    shape: Triple
    itemsize: int = 1
    halving: Triple = (2, 2, 2)
    n_masks: int = 1
    cells: bool = False
    n_labelled: int = 7
    n_truth: int = 0
    longest_gap: int = 0
    networks: tuple[Network, ...] = ()
    training: Training = field(default_factory=Training)
    prediction: Prediction = field(default_factory=Prediction)
    separation: Separation = field(default_factory=Separation)
    measuring: Measuring = field(default_factory=Measuring)
    surfaces: Meshing | None = None
    used: tuple[str, ...] = ()
    workers: int = 0
    gpu: bool = False

    @property
    def plane(self) -> int:
        """Voxels of a slice."""
        return self.shape[1] * self.shape[2]

    @property
    def n_voxels(self) -> int:
        """Voxels of the volume."""
        return math.prod(self.shape)

    @property
    def n_maps(self) -> int:
        """Maps that all networks together predict."""
        return sum(network.n_maps for network in self.networks)

    @property
    def n_layers(self) -> int:
        """Layers of objects: organelles and cells."""
        return self.n_masks + int(self.cells)

    @property
    def meshing(self) -> Meshing:
        """What is meshed."""
        return self.surfaces or Meshing(self.shape, max(self.shape))

    @property
    def at_once(self) -> int:
        """Blocks in memory at a time."""
        return self.workers or 3

    @property
    def pyramid(self) -> float:
        """Voxels of all levels over those of the finest."""
        longest, total, level = max(self.shape[1:]), 1.0, 1.0
        while longest > 512:
            longest = -(-longest // 2)
            level /= math.prod(self.halving)
            total += level
        return total


@dataclass(frozen=True)
class Machine:
    """What there is to work with.

    Parameters
    ----------
    cores
        Processor cores that may be used.
    ram_bytes, disk_bytes
        Memory in all, and room that is free on the disk.
    gpu
        Name of the graphics card, empty without one.
    vram_bytes
        Its memory.
    """

    cores: int
    ram_bytes: float
    disk_bytes: float
    gpu: str = ""
    vram_bytes: float = 0.0


@dataclass(frozen=True)
class Cost:
    """What a stage takes.

    Parameters
    ----------
    stage
        Its name.
    ram_bytes, vram_bytes
        At the peak, of the machine and of the graphics card.
    disk_bytes, scratch_bytes
        Written to stay, and beside that while it works.
    seconds
        On an otherwise idle machine.
    words
        What the peak of memory is for.
    optional
        Whether nothing else needs the stage, so that it is in no total.
    """

    stage: str
    ram_bytes: float
    vram_bytes: float
    disk_bytes: float
    scratch_bytes: float
    seconds: float
    words: str
    optional: bool = False

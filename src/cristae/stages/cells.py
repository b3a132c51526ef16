"""`cristae cells`: every cell in every slice, from the labelled slices, the network's maps and the image.

The volume is worked off gap by gap, from one labelled slice to the next; gaps know nothing of each other, so that they
can be worked on side by side, and a killed run goes on with the gaps that are missing. Which method is used is
decided by trying them: each labelled slice in turn is left out and found again from its two neighbours.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cristae.annotations import IGNORE_ID
from cristae.blockwise import Journal, n_workers
from cristae.cells.combine import SeparationSettings
from cristae.cells.gap import Gap
from cristae.cells.grow import Growth
from cristae.cells.separate import METHODS, separate
from cristae.errors import DataError, UsageError
from cristae.flow import PRESETS, with_reduction
from cristae.geometry import Box
from cristae.io.ome_zarr import Storage, build_pyramid, create_volume, open_volume
from cristae.metrics.instance import contingency
from cristae.metrics.matching import dice_by_match, summarise_dice
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.options import Options
from cristae.stages.planes import Planes
from cristae.volume import Volume
from cristae.wording import number_ranges

IDS_PER_GAP = 1_000_000
"""New objects of each gap are numbered from a multiple of this above the highest labelled id."""


class CellsSettings(BaseModel):
    """Settings of `cristae cells`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("", description="class of instances; empty means the only one there is")
    method: str = Field("auto", description="auto tries all on labelled slices; or one of them by name")
    slices: tuple[int, ...] = Field((), description="labelled slices to start from; empty means all")
    interior_threshold: float = Field(0.5, gt=0, le=1, description="probability from which on a voxel is of a cell")
    boundary_threshold: float = Field(0.5, gt=0, le=1, description="probability that counts as boundary when it is cut")
    barrier: float = Field(300.0, ge=0, description="what a sure boundary costs a path, in times its own length")
    new_height: float = Field(0.5, ge=0, le=1.01, description="boundary around a cell that no labelled slice meets")
    new_depth: float = Field(0.25, ge=0, le=1, description="boundary below which voxels of such a cell count")
    new_um3: float = Field(2e-4, ge=0, description="least volume of such a cell in µm³, counted in those voxels")
    rim_px: int = Field(2, ge=0, le=20, description="voxels along every outline that are flooded a second time")
    flow: Literal["dis", "machireddy2023", "released"] = Field("dis", description="how slices are matched")
    flow_reduction: int = Field(2, ge=1, le=16, description="slices are reduced by this before they are matched")
    neighbours: Literal["nearest", "both"] = Field("both", description="labelled slices that flow methods carry from")
    edge_nm: float = Field(20.0, ge=0, description="cuts this near to the edge of the interior are left out")
    smallest_body_um2: float = Field(0.08, ge=0, description="a smaller part of a slice is an island, never cut")
    tries: int = Field(5, ge=1, description="labelled slices that methods are tried on, evenly spread")
    try_px: int = Field(1024, ge=64, description="longest side of slices when methods are tried; larger are reduced")
    max_ram_gb: float = Field(4.0, gt=0, description="memory that gaps in work may take")


@dataclass(frozen=True)
class _Sources:
    """What gaps are cut from."""

    project: Project
    name: str
    interior: Volume | None
    boundary: Volume | None
    labelled: tuple[int, ...]
    settings: CellsSettings

    def gap(self, first: int, last: int, factor: int = 1) -> Gap:
        """Return the slices from `first` to `last`, reduced by `factor`; those of the two that are labelled bind."""
        image = self.project.image
        mean, deviation = (self.project.image_facts[key] for key in ("slice_mean", "slice_std"))

        def even(plane: np.ndarray, z: int) -> np.ndarray:
            if not plane.any():
                return np.zeros(_reduced_shape(plane, factor), np.uint8)
            level = (plane.astype(np.float32) - np.float32(mean[z])) * np.float32(40 / deviation[z]) + 128
            return _reduced(np.clip(level, 1, 255).astype(np.uint8), factor)

        def maps(volume: Volume) -> Planes:
            return Planes(volume, first, last + 1, lambda plane, z: _reduced(plane, factor))

        complete = set(self.project.annotations.complete_slices(self.name))
        return Gap(
            image=Planes(image, first, last + 1, even),
            interior=maps(self.interior) if self.interior else None,
            boundary=maps(self.boundary) if self.boundary else None,
            before=self.labels(first, factor) if first in self.labelled else None,
            after=self.labels(last, factor) if last in self.labelled and last != first else None,
            complete=(first in complete, last in complete),
        )

    def labels(self, z: int, factor: int = 1) -> np.ndarray:
        """Return the ids of a labelled slice, 0 where there is no cell or nobody looked."""
        ids = self.project.annotations.read_ids(self.name, z)[factor // 2 :: factor, factor // 2 :: factor]
        return np.where(ids == IGNORE_ID, 0, ids).astype(np.int64)

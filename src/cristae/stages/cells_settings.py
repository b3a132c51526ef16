"""Settings of `cristae cells`, and what they are in voxels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from cristae import flow
from cristae.errors import UsageError
from cristae.geometry import Nanometres
from cristae.project import Project
from cristae.separation.combine import SeparationSettings
from cristae.separation.gap import Gap
from cristae.separation.grow import Growth
from cristae.separation.paths import reduction_for
from cristae.separation.separate import METHODS
from cristae.settings import resolve_settings

Preset = Literal["default", "machireddy2023"]


class CellsSettings(BaseModel):
    """Settings of `cristae cells`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Both are left out of the ids of runs at their defaults: separations that ended before they were there stay valid.
    preset: Preset = Field(
        "default",
        description="where the other settings start from; explicit ones win",
        exclude_if=lambda preset: preset == "default",
    )
    seeds: Literal["depth", "centroid"] = Field(
        "depth",
        description="where a carried cell is flooded from: its deepest pixel, or the one nearest to its centroid",
        exclude_if=lambda seeds: seeds == "depth",
    )
    name: str = Field("", description="class of instances; empty means the only one there is")
    method: str = Field("auto", description="auto tries all on labelled slices; or one of them by name")
    slices: tuple[int, ...] = Field((), description="labelled slices to start from; empty means all")
    interior_threshold: float = Field(0.5, gt=0, le=1, description="probability from which on a voxel is of a cell")
    boundary_threshold: float = Field(0.5, gt=0, le=1, description="probability that counts as boundary when it is cut")
    barrier: float = Field(2000.0, ge=0, description="what a sure boundary costs a path, in times its own length")
    new_depth: float = Field(0.25, ge=0, le=1, description="boundary below which voxels are the inside of a cell")
    weakest: float = Field(0.4, ge=0, le=1, description="basins are joined where the mean boundary is below this")
    new_um3: float = Field(2e-4, ge=0, description="least volume of a cell that no labelled slice meets, in µm³")
    rim_px: int = Field(2, ge=0, le=20, description="voxels along every outline that are flooded a second time")
    flow: Literal["dis", "machireddy2023", "released"] = Field("dis", description="how slices are matched")
    flow_reduction: int = Field(2, ge=1, le=16, description="slices are reduced by this before they are matched")
    neighbours: Literal["nearest", "both"] = Field("both", description="labelled slices that flow methods carry from")
    edge_nm: float = Field(20.0, ge=0, description="cuts this near to the edge of the interior are left out")
    smallest_body_um2: float = Field(0.08, ge=0, description="a smaller part of a slice is an island, never cut")
    tries: int = Field(5, ge=1, description="labelled slices that methods are tried on, evenly spread")
    try_px: int = Field(1024, ge=64, description="longest side of slices when methods are tried; larger are reduced")
    growth_gb: float = Field(
        4.0,
        gt=0,
        description="memory in which cells grow through one gap: where it would take more, they grow at a coarser "
        "resolution, and their outlines are found at the full one",
    )
    max_ram_gb: float = Field(
        4.0, gt=0, description="memory that decides how many gaps are worked on at a time; results do not depend on it"
    )


PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    "default": {},
    "machireddy2023": {
        "flow": "machireddy2023",
        "flow_reduction": 1,
        "neighbours": "nearest",
        "seeds": "centroid",
    },
}
"""Named starting points: the paper matched whole slices and went from the nearest labelled one, with centroids as
seeds. Its 5 px beside an edge and the 5,000 px of its islands are the defaults at its 4 nm."""


def cells_settings(project: Project | None, changes: Mapping[str, Any]) -> CellsSettings:
    """Return the settings of a separation: preset, then project file, then `changes`."""
    stored = project.stage_settings("cells") if project else {}
    preset = changes.get("preset", stored.get("preset", "default"))
    if preset not in PRESETS:
        raise UsageError(f"unknown preset {preset!r}; there are {', '.join(get_args(Preset))}")
    settings = resolve_settings(CellsSettings, PRESETS[preset], stored, changes)
    if settings.method not in ("auto", *METHODS):
        raise UsageError(f"unknown method {settings.method!r}; there are auto, {', '.join(METHODS)}")
    return settings


def separation(settings: CellsSettings, gap: Gap, voxel_size: Nanometres) -> SeparationSettings:
    """Return the settings of a separation in voxels, for one gap of slices of this voxel size."""
    pixel = min(voxel_size[1:])
    smallest = min(voxel_size)
    z, y, x = (size / smallest for size in voxel_size)
    growth = Growth(
        barrier=settings.barrier,
        steps=(z, y, x),
        new_depth=round(settings.new_depth * 255),
        weakest=settings.weakest * 255,
        new_voxels=max(1, round(settings.new_um3 * 1e9 / math.prod(voxel_size))),
        rim=settings.rim_px,
    )
    return SeparationSettings(
        interior_threshold=max(1, round(settings.interior_threshold * 255)),
        boundary_threshold=max(1, round(settings.boundary_threshold * 255)),
        edge_distance_px=settings.edge_nm / pixel,
        smallest_body_px=round(settings.smallest_body_um2 * 1e6 / (voxel_size[1] * voxel_size[2])),
        seeds=settings.seeds,
        neighbours=settings.neighbours,
        flow=replace(flow.PRESETS[settings.flow], reduction=settings.flow_reduction),
        growth=growth,
        reduction=reduction_for(gap, settings.growth_gb * 2**30),
    )

"""Settings of `cristae mesh`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from cristae.stages.colouring import COLOUR_BY, ColourBy

Format = Literal["glb", "ply", "stl", "precomputed"]


class MeshSettings(BaseModel):
    """Settings of `cristae mesh`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["found", "truth"] = Field(
        "found", description="what is meshed: objects and cells that cristae found, or the labels imported as truth"
    )
    classes: tuple[str, ...] = Field(
        (), description="classes to mesh; empty means all; with _fenestrations after its name, the holes of one"
    )
    objects: dict[str, tuple[int, ...]] = Field(
        default_factory=dict, description="ids of a class that are meshed; all of classes that are not named"
    )
    level: int | None = Field(
        None, ge=0, description="level of the pyramid; by default the finest with at most 2^28 voxels"
    )
    smoothing: int = Field(10, ge=0, le=100, description="pairs of smoothing steps; 0 keeps the steps of voxels")
    max_error_nm: float | None = Field(
        None,
        ge=0,
        description="triangles are merged while vertices stay, as root mean square, this near to the planes of those "
        "they stand for, in nm; 0 merges none; by default a quarter of the shortest side of a voxel",
    )
    keep_share: float = Field(0.0, ge=0, le=1, description="share of the triangles that is left at least")
    formats: tuple[Format, ...] = Field(("glb",), description="files to write, beside those that cristae render reads")
    colour_by: ColourBy = Field("class", description=f"in GLB and PLY, {COLOUR_BY}")
    block_side: int = Field(256, ge=16, le=1024, description="side of the blocks that are read, in voxels")

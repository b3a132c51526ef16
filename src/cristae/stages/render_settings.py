"""Settings of `cristae render`."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cristae.stages.colouring import COLOUR_BY, ColourBy

GLASS = {"cell": 0.13, "nucleus": 0.3}
"""Opacity of what holds other things."""
CELL_COLOUR = "#7D93A8"
"""Of cells that are glass, so that what is inside keeps its colours."""


class RenderSettings(BaseModel):
    """Settings of `cristae render`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["found", "truth"] = Field(
        "found", description="what is shown: objects and cells that cristae found, or the labels imported as truth"
    )
    classes: tuple[str, ...] = Field(
        (), description="classes to show; empty means all; with _fenestrations after its name, the holes of one"
    )
    objects: dict[str, tuple[int, ...]] = Field(
        default_factory=dict, description="ids of a class that are shown; all of classes that are not named"
    )
    colour_by: ColourBy = Field("class", description=COLOUR_BY)
    colours: dict[str, str] = Field(
        default_factory=dict,
        description="colour of a class as #rrggbb, in place of the palette's; cells that are glass are grey by default",
    )
    opacity: dict[str, float] = Field(
        default_factory=dict,
        description="of a class, above 0, to 1; by default 0.13 for cells, 0.3 for nuclei where what lies in them "
        "is shown and for what is shown with its fenestrations, else 1",
    )
    nucleus: str = Field("nucleus", description="class of nuclei")
    planes: dict[Literal["z", "y", "x"], int] = Field(
        default_factory=dict, description="slices of the image put up in the scene: number of a voxel along an axis"
    )
    azimuth: float = Field(30.0, description="from where: degrees around the vertical axis; 0 looks along z")
    elevation: float = Field(20.0, ge=-89, le=89, description="from where: degrees above")
    zoom: float = Field(1.0, gt=0, le=100, description="above 1, nearer than what shows everything")
    width: int = Field(1600, ge=16, le=8192, description="of the picture, in pixels")
    height: int = Field(1200, ge=16, le=8192, description="of the picture, in pixels")
    background: Literal["white", "dark"] = Field("white", description="of the picture")
    shade: float = Field(0.75, ge=0, le=1, description="how much darker crevices are; 0 is quicker")
    outlines: bool = Field(True, description="dark lines around what is not transparent")
    scale_bar: bool = Field(True, description="draw one; a fly-through has none, as it has no one scale")
    samples: int = Field(2, ge=1, le=4, description="each pixel is the mean of so many in either direction")
    movie: Literal["none", "turntable", "slices", "flythrough"] = Field(
        "none",
        description="turn the scene once around; or move a slice of the image through it along z; or fly through it",
    )
    movie_format: Literal["mp4", "gif"] = Field("mp4", description="MP4 needs ffmpeg; without one a GIF is written")
    seconds: float = Field(8.0, gt=0, le=600, description="length of the movie")
    frames_per_second: float = Field(20.0, ge=1, le=60, description="of the movie")
    movie_width: int = Field(960, ge=16, le=4096, description="of the movie, in pixels; its height is in proportion")

    @field_validator("opacity")
    @classmethod
    def _shares(cls, value: dict[str, float]) -> dict[str, float]:
        if any(not 0 < one <= 1 for one in value.values()):
            raise ValueError("an opacity lies above 0 and is at most 1; leave out what is not to be seen")
        return value

    @field_validator("colours")
    @classmethod
    def _colours(cls, value: dict[str, str]) -> dict[str, str]:
        for one in value.values():
            if not re.fullmatch("#[0-9a-fA-F]{6}", one):
                raise ValueError("a colour is written #rrggbb, such as #D55E00")
        return value

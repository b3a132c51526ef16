"""``project.toml``: what it holds, and what it may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cristae.annotations import check_class_name
from cristae.geometry import Nanometres

FORMAT = 1
"""Version of the project folder; a project with a larger number was made by a newer cristae."""
PREPARING = ("align", "equalise")
"""Stages that make an image."""
RUN_NAME = r"^(align|equalise)-[0-9a-f]+$"
"""Names of their runs."""


class ProjectFile(BaseModel):
    """What stands in ``project.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(FORMAT, ge=1, description="version of the project folder")
    voxel_size_nm: Nanometres = Field(description="voxel size along z, y, x in nanometres")
    classes: tuple[str, ...] = Field((), description="names of the structures to segment")
    bad_slices: tuple[int, ...] = Field(
        (), description="slices that nothing is learnt or measured from, and that are bridged as missing ones are"
    )
    prepared: str | None = Field(None, pattern=RUN_NAME, description="run whose image is in use; none: the raw image")
    aligned: str | None = Field(
        None, pattern=RUN_NAME, description="align run on whose slices the image in use lies; none: on the raw ones"
    )
    settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="per stage, the settings that differ from the defaults"
    )

    @field_validator("voxel_size_nm")
    @classmethod
    def _positive(cls, value: Nanometres) -> Nanometres:
        if not all(0 < size < 1e6 for size in value):
            raise ValueError(f"the voxel size is three positive numbers of nanometres (z, y, x), got {value}")
        return value

    @field_validator("classes")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            check_class_name(name)
        if len(set(value)) != len(value):
            raise ValueError(f"class names must differ, got {', '.join(value)}")
        return value

    @field_validator("bad_slices")
    @classmethod
    def _ascending(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(z < 0 for z in value):
            raise ValueError(f"slices are counted from 0, got {min(value)}")
        return tuple(sorted(set(value)))


def without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """TOML has no null: a setting that is None is simply absent, and absent means None."""
    return {
        key: without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }

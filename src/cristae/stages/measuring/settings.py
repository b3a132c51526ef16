"""Settings of `cristae measure`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cristae.errors import UsageError
from cristae.features.quantise import Quantisation
from cristae.features.registry import FEATURES, feature_names
from cristae.features.spectrum import Grains
from cristae.stages.measuring.textures import Texture

Family = Literal["shape", "holes", "texture", "zones", "spectrum", "features", "relations"]
FAMILIES: tuple[Family, ...] = ("shape", "holes", "texture", "zones", "spectrum", "features", "relations")
TEXTURES = ("texture", "zones", "spectrum")
"""Families that need the micrograph."""
EVERY = "*"
"""In place of names of classes: all but cells."""

_DEFAULT_FEATURES = {
    "curvature": (EVERY,),
    "invagination": ("nucleus", "nuclei"),
    "skeleton": ("mitochondrion", "mitochondria"),
}


class MeasureSettings(BaseModel):
    """Settings of `cristae measure`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Literal["found", "truth"] = Field(
        "found", description="what is measured: objects and cells that cristae found, or the labels imported as truth"
    )
    classes: tuple[str, ...] = Field((), description="classes to measure; empty means all")
    families: tuple[Family, ...] = Field(
        FAMILIES, description="what to measure; size and place are always measured, `features` are those of one object"
    )
    features: dict[str, tuple[str, ...]] | None = Field(
        None,
        description="features of one object, and classes whose objects have them; '*' for all but cells. By default "
        "curvature of all, invagination of nuclei, skeletons of mitochondria, and all that is installed beside cristae",
    )
    cell: str = Field("cell", description="class of cells among the truth")
    nucleus: str = Field("nucleus", description="class of nuclei")
    nucleolus: str = Field(
        "nucleolus", description="class of what lies in nuclei; its solidity is that of the volume with holes filled"
    )
    connectivity: Literal[6, 18, 26] = Field(26, description="neighbours that join voxels of a true mask to an object")
    sigma_px: float = Field(1.0, ge=0, le=5, description="smoothing of surfaces in voxels; 0 for none, as the IBSI")
    quantise_by: Literal["number", "width"] = Field(
        "number", description="grey levels are bins of each object's range: so many, or so wide"
    )
    bins: int = Field(32, ge=2, le=1024, description="grey levels of an object, by number")
    bin_width: float = Field(8.0, gt=0, description="grey values in a level, by width")
    distances: tuple[int, ...] = Field((1,), min_length=1, description="steps between the voxels of a pair, in voxels")
    aggregation: Literal["counts", "probabilities", "features"] = Field(
        "counts", description="how directions become one value: add matrices, average them, or average their features"
    )
    literal: bool = Field(False, description="add what Machireddy et al. (2023), eqs. 12 and 15, say to the letter")
    zone_connectivity: Literal[6, 18, 26] = Field(26, description="neighbours that join voxels of a level to a zone")
    spectrum_radius: int = Field(10, ge=1, le=64, description="largest radius of the pattern spectrum, in voxels")
    spectrum_shape: Literal["cube", "plane"] = Field(
        "cube", description="its elements: cubes, or squares in each slice where voxels are much thicker than wide"
    )
    spectrum_floor: Literal["zero", "minimum"] = Field(
        "zero", description="grey value that counts as nothing: 0 as in the paper, or each object's smallest"
    )
    pairs: tuple[tuple[str, str], ...] | None = Field(
        None, description="pairs of classes whose contacts are measured; by default all of organelles"
    )
    max_distance_nm: float = Field(200.0, gt=0, description="pairs of objects further apart are not listed")
    smallest_share: float = Field(
        0.05, ge=0, le=1, description="share of an object outside of its parent from which on that is a violation"
    )
    crop_voxels: int = Field(
        2**25, ge=2**12, description="a larger object is made coarser for features that need it whole"
    )
    block_side: int = Field(256, ge=16, description="side of blocks in voxels; results do not depend on it")
    max_ram_gb: float = Field(
        4.0, gt=0, description="memory for blocks that are worked on at a time, in GB; results do not depend on it"
    )

    @field_validator("distances")
    @classmethod
    def _steps(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 1 or max(value) > 64 or len(set(value)) != len(value):
            raise ValueError(f"distances are different whole numbers from 1 to 64, got {value}")
        return value

    @model_validator(mode="after")
    def _roles(self) -> Self:
        if len({self.cell, self.nucleus, self.nucleolus}) < 3:
            raise ValueError("cells, nuclei and nucleoli are three classes; give them different names")
        return self

    @property
    def texture(self) -> Texture:
        """What the kernels of texture need."""
        return Texture(
            quantisation=Quantisation(self.quantise_by, self.bins, self.bin_width),
            distances=self.distances,
            aggregation=self.aggregation,
            literal=self.literal,
            connectivity=self.zone_connectivity,
            grains=Grains(self.spectrum_radius, self.spectrum_shape),
            floor=self.spectrum_floor,
        )

    def features_of(self, name: str, cell: str) -> tuple[str, ...]:
        """Return the names of the features of one object that objects of a class have."""
        wanted = self.wanted_features
        return tuple(
            feature for feature, classes in wanted.items() if name in classes or (EVERY in classes and name != cell)
        )

    @property
    def wanted_features(self) -> dict[str, tuple[str, ...]]:
        """Return features and classes, those that are installed beside cristae included unless others were named.

        Raises
        ------
        UsageError
            If a name is unknown.
        """
        known = feature_names()
        if self.features is None:
            return _DEFAULT_FEATURES | {name: (EVERY,) for name in known if name not in FEATURES}
        unknown = [name for name in self.features if name not in known]
        if unknown:
            raise UsageError(f"unknown feature {unknown[0]!r}; there are {', '.join(known)}")
        return dict(self.features)

    def pairs_of(self, organelles: Sequence[str], layers: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """Return the pairs of classes to relate.

        Raises
        ------
        UsageError
            If a class that was named is not there.
        """
        if self.pairs is None:
            return tuple((a, b) for i, a in enumerate(organelles) for b in organelles[i:])
        for name in (name for pair in self.pairs for name in pair):
            if name not in layers:
                raise UsageError(f"no objects of {name} to relate; there are {', '.join(layers)}")
        return tuple(dict.fromkeys(self.pairs))

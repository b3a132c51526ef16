"""Settings of the phantom: what tissue to grow and how badly the microscope behaves."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

CLASSES: Final = ("nucleus", "nucleolus", "mitochondrion", "endosome", "lysosome")
"""Organelle classes in drawing order; each has its own instance ids."""

RENDER_HALO: Final = (12, 12, 12)
"""Voxels of labels around a box, (z, y, x), that its picture depends on."""

Extent = Annotated[int, Field(ge=1, le=1_000_000)]
Spacing = Annotated[float, Field(ge=0.5, le=500.0)]
Amplitude = Annotated[float, Field(ge=0.0, le=0.5)]


class PhantomSettings(BaseModel):
    """All that decides the phantom's bytes; two equal settings give equal volumes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[Extent, Extent, Extent] = Field(
        default=(96, 512, 512), description="Voxels of the volume, (z, y, x), each 1 to 1 000 000."
    )
    voxel_size: tuple[Spacing, Spacing, Spacing] = Field(
        default=(8.0, 8.0, 8.0), description="Edge lengths of a voxel in nm, (z, y, x), each 0.5 to 500."
    )
    seed: int = Field(default=0, ge=0, lt=2**63, description="Seed of every random choice, 0 to 2**63 - 1.")

    cell_diameter_nm: float = Field(
        default=2700.0, ge=2000.0, le=20000.0, description="Mean distance of neighbouring cells in nm, 2000 to 20000."
    )
    mitochondria_per_cell: int = Field(
        default=90, ge=0, le=400, description="Mitochondria tried in a cell of mean size, 0 to 400."
    )
    endosomes_per_cell: int = Field(
        default=64, ge=0, le=400, description="Endosomes tried in a cell of mean size, 0 to 400."
    )
    lysosomes_per_cell: int = Field(
        default=64, ge=0, le=400, description="Lysosomes tried in a cell of mean size, 0 to 400."
    )
    filopodia_per_channel: int = Field(
        default=5, ge=0, le=12, description="Filopodia tried in each wide extracellular channel, 0 to 12."
    )

    noise: Amplitude = Field(
        default=0.055, description="Standard deviation of the shot noise, as a fraction of full scale, 0 to 0.5."
    )
    brightness_jump: Amplitude = Field(
        default=0.06, description="Size of the brightness jumps between slices, fraction of full scale, 0 to 0.5."
    )
    drift_px_per_slice: float = Field(
        default=0.0, ge=0.0, le=5.0, description="In-plane drift of the specimen in pixels a slice, 0 (none) to 5."
    )
    curtaining: Amplitude = Field(
        default=0.03, description="Strength of the vertical milling stripes, fraction of full scale, 0 to 0.5."
    )
    charging: Amplitude = Field(
        default=0.06, description="Strength of bright and dark smears, fraction of full scale, 0 to 0.5."
    )
    missing_slices: tuple[int, ...] = Field(
        default=(), description="Slices (z, 0 to shape[0] - 1) that were lost: the image there is 0, labels stay."
    )

    @model_validator(mode="after")
    def _missing_slices_lie_inside(self) -> Self:
        """Refuse lost slices that the volume does not have."""
        outside = [z for z in self.missing_slices if not 0 <= z < self.shape[0]]
        if outside:
            raise ValueError(
                f"missing_slices must lie in 0..{self.shape[0] - 1}, got {outside}; remove them or enlarge shape[0]"
            )
        return self

"""`cristae equalise`: grey values of every slice are brought to one scale.

What a slice is matched to is counted first; then the stack is read once, a slab of whole slices at a time, and each
slice gets its table (`cristae.preprocess.equalise`). Padding (0) never counts and stays 0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cristae.allocation import keep_freed_memory
from cristae.errors import DataError, UsageError
from cristae.geometry import Block, Box
from cristae.io.ome_zarr import CHUNK, is_ome_zarr, open_volume
from cristae.preprocess.equalise import (
    Counts,
    Tiles,
    apply_table,
    clahe,
    equalising_table,
    grey_counts,
    matching_table,
)
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.limits import keep_memory_of_image
from cristae.stages.options import Options
from cristae.stages.prepared import begin_again, check_raw, describe, source_of, take_into_use, used_again, write_image
from cristae.volume import Volume

STACK = "stack"
"""Reference: the whole stack, pooled; of a large one slabs."""
_MOST_SLABS = 16
"""Slabs, evenly spread, that a volume's distribution is counted from; settings and docs say so in slices."""


class EqualiseSettings(BaseModel):
    """Settings of `cristae equalise`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["histogram", "clahe", "match"] = Field(
        "histogram",
        description="all grey values equally common in each slice; the same in tiles, contrast limited; or distributed "
        "as in a reference",
    )
    reference: str = Field(
        STACK,
        description="what slices are matched to: the whole stack (beyond 256 slices, 16 slabs of 16 evenly spread over "
        "it), the number of a slice, or another volume (path of a project or an OME-Zarr image; counted likewise)",
    )
    tile_px: int = Field(256, ge=8, description="side of the tiles of clahe")
    limit: float = Field(3.0, ge=1, description="times the mean count that a grey value may reach in a tile of clahe")


def equalise_settings(project: Project, changes: Mapping[str, Any]) -> EqualiseSettings:
    """Return the settings of an equalisation: defaults, then project file, then `changes`."""
    given = {**project.stage_settings("equalise"), **changes}
    if isinstance(given.get("reference"), int):
        given["reference"] = str(given["reference"])
    return resolve_settings(EqualiseSettings, given)


def equalise(project: Project, settings: EqualiseSettings | None = None, options: Options | None = None) -> Run:
    """Equalise the aligned image in use, or the raw one, and take the result into use.

    Writes ``image.ome.zarr``. An image that is equalised already is not equalised once more: another method begins with
    the image that it was made of.

    Raises
    ------
    DataError
        If there is no image, or the reference cannot be read, has other types of grey values or nothing but padding.
    UsageError
        If there is no such slice.
    ResourceError
        If the project is in use, the disk is full, or more memory is needed than allowed.
    """
    settings, options = settings or equalise_settings(project, {}), options or Options()
    check_raw(project)
    image, facts, aligned = source_of(project)
    inputs = {"from": str(facts["digest"])}
    if settings.method == "match" and not (settings.reference == STACK or settings.reference.isdigit()):
        other = _open_other(settings.reference, image)
        # Where it lies is nobody's business; what it holds decides.
        counts = _pooled(other, options)
        inputs["reference"] = _fingerprint(counts)
        kept = settings.model_copy(update={"reference": "another volume"})
    else:
        counts, kept = None, settings
    run = project.run("equalise", kept, inputs)
    if used_again(project, run, options):
        return run
    options = keep_memory_of_image("equalise", image.grid, image.dtype.itemsize, options)
    keep_freed_memory()
    with project.lock():
        with project.record(run, kept, inputs):
            if options.force:
                begin_again(run)
            options.notify(f"equalise ({settings.method}): {describe(image)}")
            if settings.method == "match" and counts is None:
                counts = _own_reference(image, settings.reference, options)
            write_image(Equalising(settings, counts), run, (image, facts), image.grid, options, reads=True)
            run.update(raw=str(project.raw_facts["digest"]), aligned=aligned, method=settings.method)
        take_into_use(project, run, options)
    return run


class Equalising:
    """Block function: every slice by itself; `reference` are the counts that slices are matched to, if they are."""

    def __init__(self, settings: EqualiseSettings, reference: Counts | None) -> None:
        self.method, self.reference = settings.method, reference
        self.tiles = Tiles(settings.tile_px, settings.limit)

    def __call__(self, block: Block, slab: np.ndarray) -> np.ndarray:
        """Return the slab with new grey values."""
        equalised = np.empty_like(slab)
        for plane, new in zip(slab, equalised, strict=True):
            new[:] = self._slice(plane)
        return equalised

    def _slice(self, plane: np.ndarray) -> np.ndarray:
        if self.method == "clahe":
            return clahe(plane, self.tiles)
        counts = grey_counts(plane)
        table = equalising_table(counts) if self.reference is None else matching_table(counts, self.reference)
        return apply_table(plane, table)


def _own_reference(image: Volume, reference: str, options: Options) -> Counts:
    if reference == STACK:
        return _filled(_pooled(image, options), "this stack")
    z = int(reference)
    if z >= image.shape[0]:
        raise UsageError(f"there is no slice {z} to match to; slices run from 0 to {image.shape[0] - 1}")
    return _filled(grey_counts(image.read(Box((z, 0, 0), (z + 1, *image.shape[1:])))), f"slice {z}")


def _filled(counts: Counts, name: str) -> Counts:
    if not counts[1:].any():
        raise DataError(
            f"{name} holds nothing but padding (0), so nothing can be matched to it; choose another reference"
        )
    return counts


def _open_other(reference: str, image: Volume) -> Volume:
    path = Path(reference)
    if (path / "project.toml").is_file():
        other = Project.open(path).image
    elif is_ome_zarr(path):
        other = open_volume(path)
    else:
        raise DataError(
            f"{reference!r} is no reference: expected {STACK!r}, the number of a slice, a project, or an OME-Zarr image"
        )
    if other.dtype != image.dtype:
        raise DataError(
            f"{reference} holds grey values of {other.dtype}, and this image {image.dtype}; slices can be matched only "
            "to grey values of their own type"
        )
    return other


def _pooled(volume: Volume, options: Options) -> Counts:
    """Count grey values in slabs spread evenly over a volume; of a small one in all of it."""
    n_slabs = -(-volume.shape[0] // CHUNK[0])
    chosen = sorted({round(at) for at in np.linspace(0, n_slabs - 1, min(n_slabs, _MOST_SLABS))})
    progress, total = options.progress("count grey values"), None
    for done, slab in enumerate(chosen, start=1):
        first, stop = slab * CHUNK[0], min((slab + 1) * CHUNK[0], volume.shape[0])
        counts = grey_counts(volume.read(Box((first, 0, 0), (stop, *volume.shape[1:]))))
        total = counts if total is None else total + counts
        progress(done, len(chosen))
    assert total is not None
    return total


def _fingerprint(counts: Counts) -> str:
    return hashlib.blake2b(_filled(counts, "the reference").tobytes(), digest_size=8).hexdigest()

"""What was exported, noted in the project, so that what other people changed in it can be told when it comes back.

::

    bx1/exports/<id>.json    layer, what its values mean, and a digest of every slice as it went out

A file that comes back is known by its content: names, and what other programs write beside the voxels, do not matter.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from cristae.annotations import IGNORE, IGNORE_ID
from cristae.blockwise import Progress
from cristae.files import write_atomically
from cristae.geometry import Box, Voxels
from cristae.io.ome_zarr import open_volume, read_facts
from cristae.io.opened import IGNORE_NAME
from cristae.project import Project
from cristae.stages.export_layers import Layer, joined_layers, layers
from cristae.stages.options import Options
from cristae.volume import Volume

_MOST_LOOKED_AT = 16
"""Slices of a prediction on which is looked which class lies inside which."""


class Receipt(BaseModel):
    """What was exported.

    Parameters
    ----------
    layer
        Name of the layer: ``annotations``, ``annotations/NAME``, the same of ``truth``, ``masks`` or ``NAME``.
    destination
        Name that the file had.
    aligned
        Align run on whose slices it lies; empty: the raw ones.
    shape
        Of the volume (z, y, x).
    values
        Value of each class; empty for ids of objects.
    background
        Value of voxels that are none of the classes.
    unseen
        Value of voxels that nobody looked at; none where there is no such value.
    inside
        Per class those that it lies inside of, as a nucleolus lies in its nucleus.
    digests
        Of every slice that is not `blank` all over.
    blank
        Value of all other slices.
    ours
        Digests of slices as the project would export them, where these differ from those in the file: a map cannot
        speak of classes that nobody looked for on a slice.
    exported
        Seconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str
    destination: str
    aligned: str
    shape: Voxels
    values: dict[str, int]
    background: int
    unseen: int | None
    inside: dict[str, tuple[str, ...]]
    digests: dict[int, str]
    blank: int
    ours: dict[int, str] = {}
    exported: float

    @property
    def kind(self) -> str:
        """``annotations``, ``truth`` or ``masks``: where the classes are kept, or that they were predicted."""
        kind = self.layer.partition("/")[0]
        return kind if kind in ("annotations", "truth") else "masks"

    def digest(self, z: int) -> str:
        """Return the digest of a slice as it was exported."""
        return self.digests.get(z) or digest_of(np.full(self.shape[1:], self.blank, np.uint32))


def digest_of(plane: np.ndarray) -> str:
    """Return a digest of the numbers in a slice, of whatever type they are stored in."""
    return hashlib.blake2b(np.ascontiguousarray(plane, np.uint32).tobytes(), digest_size=16).hexdigest()


def note_export(project: Project, layer: str, opened: Layer, destination: Path, options: Options) -> None:
    """Note an export of labels; one that cannot be noted, as in a folder that is read-only, is done all the same."""
    of_people = layer.startswith(("annotations", "truth"))
    predicted = layer == "masks" or layer in joined_layers(project).get("masks", {})
    if not (of_people or (predicted and opened.volume.dtype == np.uint8)):
        return
    receipt = _receipt(project, layer, opened, destination, options.progress(f"noting {layer}"))
    try:
        save_receipt(project, receipt)
    except OSError as error:
        folder = project.path / "exports"
        options.notify(f"{folder} cannot be written ({error.strerror}): changes to {destination.name} cannot be told")


def save_receipt(project: Project, receipt: Receipt) -> None:
    """Keep a note of an export, or of a file as it was when its changes were taken in."""
    folder = project.path / "exports"
    name = hashlib.blake2b(receipt.model_dump_json(exclude={"exported"}).encode(), digest_size=6).hexdigest()
    folder.mkdir(exist_ok=True)
    write_atomically(folder / f"{name}.json", receipt.model_dump_json())


def receipts(project: Project) -> list[Receipt]:
    """Return what was exported of a project, the newest first; notes that are damaged are passed over."""
    found = []
    for path in (project.path / "exports").glob("*.json"):
        try:
            found.append(Receipt.model_validate_json(path.read_text(encoding="utf-8")))
        except (OSError, ValidationError):
            continue
    return sorted(found, key=lambda one: -one.exported)


def parts_of(project: Project, layer: str) -> dict[str, Path]:
    """Return the classes of a layer that was exported, and where each is."""
    joined = joined_layers(project)
    if layer in joined:
        return joined[layer]
    single = layers(project)
    return {layer.rpartition("/")[2]: single[layer]} if layer in single else {}


def _receipt(project: Project, layer: str, opened: Layer, destination: Path, told: Progress) -> Receipt:
    volume, parts = opened.volume, parts_of(project, layer)
    values, background, unseen = _meaning(opened, layer, parts)
    n_slices, height, width = volume.shape
    labelled = _labelled(parts) if layer.startswith(("annotations", "truth")) else range(n_slices)
    digests = {}
    for done, z in enumerate(labelled, start=1):
        digests[z] = digest_of(volume.read(Box((z, 0, 0), (z + 1, height, width)))[0])
        told(done, len(labelled))
    others = [z for z in range(n_slices) if z not in digests]
    blank = int(volume.read(Box((others[0], 0, 0), (others[0] + 1, 1, 1))).item()) if others else background
    return Receipt(
        layer=layer,
        destination=destination.name,
        aligned=project.file.aligned or "",
        shape=volume.shape,
        values=values,
        background=background,
        unseen=unseen,
        inside=_nesting({name: open_volume(path) for name, path in parts.items()}, list(labelled)),
        digests=digests,
        blank=blank,
        exported=time.time(),
    )


def _meaning(opened: Layer, layer: str, parts: Mapping[str, Path]) -> tuple[dict[str, int], int, int | None]:
    """Return value of each class, of background, and of what nobody looked at."""
    if opened.values:
        return dict(opened.values), opened.background, opened.unseen
    by_name = {material.name: material.value for material in opened.materials}
    if by_name:
        # The classes of joined layers are numbered in their order, whatever their materials are called.
        return {name: i + 1 for i, name in enumerate(parts)}, 0, by_name.get(IGNORE_NAME)
    of_people = layer.startswith(("annotations", "truth"))
    if opened.volume.dtype == np.uint8:
        return {name: 1 for name in parts}, 0, IGNORE if of_people else None
    return {}, 0, IGNORE_ID if of_people else None


def _labelled(parts: Mapping[str, Path]) -> Sequence[int]:
    return sorted({int(z) for path in parts.values() for z in read_facts(path).get("slices", {})})


def _nesting(volumes: Mapping[str, Volume], slices: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """Return per class those in which most of it lies, by a few slices."""
    chosen = slices if len(slices) <= _MOST_LOOKED_AT else [slices[i] for i in _spread(len(slices))]
    counts = {(inner, outer): [0, 0] for inner in volumes for outer in volumes if inner != outer}
    for z in chosen if counts else ():
        painted, looked = {}, {}
        for name, volume in volumes.items():
            _, height, width = volume.shape
            plane = volume.read(Box((z, 0, 0), (z + 1, height, width)))[0]
            looked[name] = plane != np.iinfo(plane.dtype).max
            painted[name] = (plane != 0) & looked[name]
        for (inner, outer), count in counts.items():
            count[0] += int((painted[inner] & looked[outer]).sum())
            count[1] += int((painted[inner] & painted[outer]).sum())
    found: dict[str, tuple[str, ...]] = {}
    for (inner, outer), (n_looked, n_both) in counts.items():
        if n_both and 2 * n_both >= n_looked:
            found[inner] = (*found.get(inner, ()), outer)
    return found


def _spread(n: int) -> list[int]:
    return [round(float(i)) for i in np.linspace(0, n - 1, _MOST_LOOKED_AT)]

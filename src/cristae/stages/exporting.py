"""Export: any layer of a project as a TIFF stack or a folder of TIFFs, sizes and types intact.

Layers are ``image``, ``<class>`` (its newest mask), ``<class>/objects`` (ids of its objects), ``<class>/probability``,
``annotations/<class>`` and ``truth/<class>``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cristae.errors import UsageError
from cristae.files import writable
from cristae.io.ome_zarr import list_labels, open_volume
from cristae.io.tiff import write_folder, write_stack
from cristae.project import Project
from cristae.stages.options import Options
from cristae.volume import ArrayLike, Volume


class ExportSettings(BaseModel):
    """How a layer is exported."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask_value: int | None = Field(
        None,
        ge=1,
        le=255,
        description="value that every labelled voxel gets, such as 255 to see masks in any viewer; none: ids as stored",
    )


class Masked:
    """An array of labels with one value for all that is not 0; uint8."""

    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, array: ArrayLike, value: int) -> None:
        self._array, self._value = array, value
        self.shape = array.shape

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.where(np.asarray(self._array[index]) != 0, np.uint8(self._value), np.uint8(0))


def export(
    project: Project,
    layer: str,
    destination: Path,
    settings: ExportSettings | None = None,
    options: Options | None = None,
) -> Path:
    """Write one layer of a project as TIFF.

    Parameters
    ----------
    project
        Where the layer is.
    layer
        One of `layers`.
    destination
        A name that ends in ``.tif`` or ``.tiff`` becomes a stack with the voxel size in it, any other a folder of
        slices, numbered like the files that the image was imported from.
    settings, options
        With ``options.force`` files may be overwritten.

    Returns
    -------
    Path
        `destination`.

    Raises
    ------
    UsageError
        If there is no such layer, the destination exists, or a mask value is asked for where it has no meaning.
    ResourceError
        If the disk is full or the folder cannot be written.
    """
    settings, options = settings or ExportSettings(), options or Options()
    found = layers(project)
    if layer not in found:
        raise UsageError(f"no layer {layer!r} in {project.path}; there are: {', '.join(found) or 'none yet'}")
    volume = open_volume(found[layer])
    if settings.mask_value is not None:
        volume = _masked(volume, layer, settings.mask_value)
    progress = options.progress(f"writing {layer}")
    with writable(destination.parent):
        if destination.suffix.lower() in (".tif", ".tiff"):
            write_stack(volume, destination, overwrite=options.force, told=progress)
        else:
            first = int(project.image_facts.get("first_number", 0))
            stem = layer.replace("/", "_")
            write_folder(volume, destination, stem, first=first, overwrite=options.force, told=progress)
    size = " × ".join(f"{length:.6g}" for length in volume.grid.voxel_size)
    options.notify(
        f"{layer}: {' × '.join(map(str, volume.shape))} voxels (z, y, x) of {volume.dtype}, each {size} nm, "
        f"written to {destination}"
    )
    return destination


def layers(project: Project) -> dict[str, Path]:
    """Return the names of all layers that can be exported now, and where each is."""
    found: dict[str, Path] = {}
    if "digest" in project.image_facts:
        found["image"] = project.image_path
        if project.file.prepared:
            found["raw"] = project.raw_path
    predicted = project.latest("predict")
    for path in sorted(predicted.path.glob("*.ome.zarr")) if predicted else ():
        name = path.name.removesuffix(".ome.zarr")
        if (path / "labels" / name).is_dir():
            found[name] = path / "labels" / name
        found[f"{name}/probability"] = path
    labelled = project.latest("objects")
    if labelled:
        names = labelled.manifest["classes"]
        found |= {f"{name}/objects": labelled.path / f"{name}.ome.zarr" for name in names}
    for stage in ("cells", "track"):  # ids that were tracked are shown in place of those before
        run = project.latest(stage)
        if run:
            found[run.manifest["name"]] = run.path / f"{run.manifest['name']}.ome.zarr"
    for kind in ("annotations", "truth"):
        folder = project.labels_folder / f"{kind}.ome.zarr"
        found |= {f"{kind}/{name}": folder / "labels" / name for name in list_labels(folder)}
    return found


def _masked(volume: Volume, layer: str, value: int) -> Volume:
    if volume.kind != "labels":
        raise UsageError(f"{layer} holds {volume.kind} values, no labels; export it without a mask value")
    if layer.startswith(("annotations/", "truth/")):
        raise UsageError(f"{layer} holds a value where nobody looked, which is not background; export it as stored")
    return Volume(Masked(volume.array, value), volume.grid, "labels")

"""Export: any layer of a project in the format that the next program reads; sizes, ids and voxel size intact.

Layers are ``image``, ``<class>`` (its newest mask), ``<class>/objects`` (ids of its objects), ``<class>/probability``,
``annotations/<class>`` and ``truth/<class>``; all classes in one map are ``annotations``, ``truth`` and ``masks``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cristae.costs.steps import Memory
from cristae.costs.trials import export_memory
from cristae.costs.work import Work
from cristae.errors import UsageError
from cristae.files import writable
from cristae.io.ome_zarr import open_volume
from cristae.io.registry import split_source
from cristae.io.stored import StoredArray
from cristae.io.tiff import write_folder
from cristae.project import Project
from cristae.stages.export_layers import Layer, Masked, for_ilastik, joined_layers, layers, open_layer
from cristae.stages.limits import within
from cristae.stages.options import Options
from cristae.stages.receipts import note_export, parts_of
from cristae.volume import Volume

FormatName = Literal[
    "auto", "tiff", "mib", "mrc", "hdf5", "nrrd", "nifti", "precomputed", "webknossos", "nnunet", "ilastik"
]

_OF_SUFFIX = {
    ".tif": "tiff", ".tiff": "tiff", ".model": "mib", ".mrc": "mrc", ".rec": "mrc", ".h5": "hdf5", ".hdf5": "hdf5",
    ".nrrd": "nrrd", ".nii": "nifti", ".nii.gz": "nifti",
}  # fmt: skip
_WITH_NAMES = ("mib", "nnunet", "precomputed", "ilastik")
_WRITERS = {
    "tiff": "cristae.io.tiff:write_stack",
    "mib": "cristae.io.mib:write_mib",
    "mrc": "cristae.io.mrc:write_mrc",
    "hdf5": "cristae.io.hdf5:write_hdf5",
    "ilastik": "cristae.io.hdf5:write_hdf5",
    "nrrd": "cristae.io.nrrd:write_nrrd",
    "nifti": "cristae.io.nifti:write_nifti",
    "precomputed": "cristae.io.precomputed:write_precomputed",
    "webknossos": "cristae.io.webknossos:write_webknossos",
}
"""Module and function of each writer; its library is loaded when it is needed."""


class ExportSettings(BaseModel):
    """How a layer is exported."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask_value: int | None = Field(
        None,
        ge=1,
        le=255,
        description="value that every labelled voxel gets, such as 255; none: ids as they are stored",
    )
    format: FormatName = Field(
        "auto", description="format to write; auto: by the suffix of the destination, and TIFF slices without one"
    )
    unseen: Literal["ignore", "background"] = Field(
        "ignore",
        description="what becomes of voxels that nobody looked at, where classes are joined: a class `ignore`, or 0",
    )


def export(
    project: Project,
    layer: str,
    destination: Path,
    settings: ExportSettings | None = None,
    options: Options | None = None,
) -> Path:
    """Write one layer of a project in another format.

    Parameters
    ----------
    project
        Where the layer is.
    layer
        One of `layers` or `joined_layers`.
    destination
        File or folder to make. Its suffix says the format: ``.tif``, ``.model``, ``.mrc``, ``.h5`` (with a dataset
        behind a colon if you like), ``.nrrd``, ``.nii``, ``.nii.gz``. Any other becomes a folder: of TIFF slices,
        numbered like the files that the image was imported from, or of the format in the settings.
    settings, options
        With ``options.force`` files may be overwritten.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    UsageError
        If there is no such layer, the destination exists, or a setting has no meaning for it.
    DataError
        If the format cannot hold the layer.
    ResourceError
        If the disk is full, the folder cannot be written, or more memory is needed than allowed.
    """
    settings, options = settings or ExportSettings(), options or Options()
    form = _format(destination, settings)
    # In ilastik 0 is what nobody looked at, and background is a class that is painted.
    unseen = "ignore" if form == "ilastik" else settings.unseen
    opened = open_layer(project, layer, named=form in _WITH_NAMES, unseen=unseen)
    if form == "ilastik" and opened.volume.kind == "labels":
        opened = for_ilastik(opened, tuple(parts_of(project, layer)))
    if settings.mask_value is not None:
        opened = _masked(opened, layer, settings.mask_value)
    within("export", needs(opened, form), (0.0, 1), options)
    volume = opened.volume
    with writable(destination.parent):
        path = _write(project, layer, opened, (form, destination), options)
    if settings.mask_value is None:
        note_export(project, layer, opened, path, options)
    size = " × ".join(f"{length:.6g}" for length in volume.grid.voxel_size)
    options.notify(
        f"{layer}: {' × '.join(map(str, volume.shape))} voxels (z, y, x) of {volume.dtype}, each {size} nm, "
        f"written to {destination}"
    )
    if len(opened.materials) > 1:
        options.notify(", ".join(f"{material.value} {material.name}" for material in opened.materials))
    return path


def needs(opened: Layer, form: str) -> Memory:
    """Return what an export of a layer in a format needs."""
    volume = opened.volume
    joined = not isinstance(volume.array, StoredArray)
    return export_memory(Work(volume.shape, volume.dtype.itemsize), form, joined=joined)


def _write(project: Project, layer: str, opened: Layer, where: tuple[str, Path], options: Options) -> Path:
    """Write a layer by the writer of its format; all take the volume first, then the path, then what they need."""
    form, destination = where
    shared: dict[str, Any] = {"overwrite": options.force, "told": options.progress(f"writing {layer}")}
    name = layer.replace("/", "_")
    extra: tuple[Any, ...] = ()
    if form == "tiff" and destination.suffix.lower() not in (".tif", ".tiff"):
        first = int(project.image_facts.get("first_number", 0))
        return write_folder(opened.volume, destination, name, first=first, **shared)
    if form == "nnunet":
        return _write_nnunet(project, layer, opened, destination, shared)
    if form in ("hdf5", "ilastik"):
        destination, shared["inside"] = split_source(destination)
    elif form in ("mib", "precomputed"):
        extra = (opened.materials,)
    elif form == "webknossos":
        extra = (name,)
    module, _, function = _WRITERS[form].partition(":")
    write: Callable[..., Path] = getattr(import_module(module), function)
    return write(opened.volume, destination, *extra, **shared)


def _write_nnunet(project: Project, layer: str, opened: Layer, destination: Path, shared: dict[str, Any]) -> Path:
    from cristae.io.nnunet import write_nnunet  # noqa: PLC0415  its library is loaded when it is needed

    if not opened.materials:
        raise UsageError(f"nnU-Net learns classes; {layer} has none. Export annotations, truth or masks")
    image, case = open_volume(project.image_path), (project.name, opened.materials)
    return write_nnunet(image, opened.volume, destination, case, **shared)


def _format(destination: Path, settings: ExportSettings) -> str:
    """Return the format that is asked for by name, or else by the suffix."""
    name = split_source(destination)[0].name.lower()
    found = next((form for suffix, form in _OF_SUFFIX.items() if name.endswith(suffix)), "")
    chosen = settings.format
    if chosen == "auto":
        return found or "tiff"
    if found and found != (chosen if chosen != "ilastik" else "hdf5"):
        raise UsageError(
            f"{destination} is a name for {found}, not for {chosen}; choose another, or leave out the format"
        )
    if not found and chosen in ("mib", "mrc", "hdf5", "nrrd", "nifti", "ilastik"):
        ending = next((suffix for suffix, form in _OF_SUFFIX.items() if form == chosen), ".h5")
        raise UsageError(f"{destination} should end in {ending}, for that is how {chosen} files are known")
    return chosen


def _masked(opened: Layer, layer: str, value: int) -> Layer:
    volume = opened.volume
    if volume.kind != "labels":
        raise UsageError(f"{layer} holds {volume.kind} values, no labels; export it without a mask value")
    if layer.startswith(("annotations", "truth")):
        raise UsageError(f"{layer} holds a value where nobody looked, which is not background; export it as stored")
    return Layer(Volume(Masked(volume.array, value), volume.grid, "labels"))


__all__ = ["ExportSettings", "export", "joined_layers", "layers"]

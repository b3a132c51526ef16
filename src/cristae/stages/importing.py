"""Import: a micrograph and labelled slices from wherever they are into the project.

The image is copied once, into chunks that every later stage reads in any direction, and looked at once: mean and
deviation of each slice and a digest of the content. Until all that is done it lies in a hidden folder, so that a killed
import never looks finished; the same command run again goes on from the last finished block.

::

    bx1/.importing/     source (what is being copied) · journal (finished blocks) · image.ome.zarr
    bx1/image.ome.zarr  moved here at the end
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from cristae.allocation import keep_freed_memory
from cristae.annotations import Annotations, check_class_name
from cristae.blockwise import Progress
from cristae.errors import DataError, UsageError
from cristae.files import writable
from cristae.geometry import Grid
from cristae.io.images import ImageSource, open_images, same_voxel_size
from cristae.io.label_rules import LabelRules, LabelSource
from cristae.io.labels import open_labels, whole_shape
from cristae.io.ome_zarr import (
    build_pyramid,
    list_labels,
    open_volume,
    write_facts,
)
from cristae.io.registry import split_source
from cristae.project import Project
from cristae.stages.copying import copy_image, few_bits, fingerprint_of
from cristae.stages.limits import keep_memory_of_image
from cristae.stages.moving_labels import LabelFolder, carry, labels_on
from cristae.stages.options import Options
from cristae.stages.prepared import switch
from cristae.stages.survey import blank_inside, survey
from cristae.volume import Volume
from cristae.wording import number_ranges


class ImportImageSettings(BaseModel):
    """How a micrograph is imported."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow_missing: bool = Field(
        False, description="fill slices whose numbers are missing in the file names with 0 instead of refusing"
    )
    pad: bool = Field(
        False, description="fill slices that are smaller than the largest with 0 at the bottom and right, not refuse"
    )
    invert: bool = Field(False, description="make dark bright and bright dark, for scans whose membranes are bright")


class ImportLabelsSettings(BaseModel):
    """How labelled slices are imported."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    classes: dict[str, tuple[int, ...] | None] = Field(
        min_length=1,
        description="per class the values that are it in the files; none: every value but 0 and the ignore value",
    )
    slices: tuple[int, ...] | None = Field(
        None,
        description="z in the image, counted from 0: of each page in order, or which of a full stack are labelled",
    )
    first_slice: int | None = Field(
        None, description="number that file names give to slice 0 of the image; none: as in the names of the image"
    )
    ignore_value: int | None = Field(None, description="value in the files that says nobody looked")
    instances: bool = Field(
        False, description="values are ids of objects, as of cells, the same on every slice, and are kept"
    )
    complete: bool = Field(
        True, description="whether every object of the classes is painted on these slices; if not, 0 becomes ignore"
    )
    partial: tuple[str, ...] = Field((), description="classes of which not every object is painted, if others are")
    drawn_on: Literal["raw", "aligned"] | None = Field(
        None, description="slices that were painted: as imported, or as aligned; must be said once a stack is aligned"
    )

    @field_validator("classes", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: (one,) if isinstance(one, int) else one for name, one in value.items()}
        return value


def import_image(
    project: Project,
    source: Path | str,
    settings: ImportImageSettings | None = None,
    options: Options | None = None,
) -> Volume:
    """Copy a micrograph into the project, or leave it alone if it is there already.

    Parameters
    ----------
    project
        Its voxel size counts, whatever the files say.
    source
        Folder of slices, OME-Zarr, or a file of one of many formats; see `cristae.io.images.open_images`.
    settings, options
        With ``options.force`` another image may take the place of the one that is there.

    Returns
    -------
    Volume
        The image in the project, read lazily.

    Raises
    ------
    DataError
        If the source cannot be read, or another shape would leave annotations without their image.
    UsageError
        If another image is there already.
    ResourceError
        If another process works on the project, the disk is full, or the folder cannot be written.
    """
    settings, options = settings or ImportImageSettings(), options or Options()
    options.check()
    keep_freed_memory()
    with project.lock(), writable(project.path):
        path, inside = split_source(source)
        opened = open_images(source, project.file.voxel_size_nm, **settings.model_dump())
        for sentence in (_describe(f"{path.name}{inside and f':{inside}'}", opened.volume), *opened.notes):
            options.notify(sentence)
        fingerprint = fingerprint_of(path, inside, opened, inverted=settings.invert)
        if "digest" in project.raw_facts:
            if not options.force and _same(project, opened, fingerprint, options):
                options.notify(f"{project.name} holds this image already; nothing to do")
                shutil.rmtree(project.path / ".importing", ignore_errors=True)  # of an attempt that was given up
                return open_volume(project.raw_path)
            _check_replaceable(project, opened, options)
        options = keep_memory_of_image("import", opened.volume.grid, opened.volume.dtype.itemsize, options)
        workplace = project.path / ".importing"
        found = workplace / "image.ome.zarr"
        facts = copy_image(project, opened, fingerprint, options)
        if facts is None:
            facts = survey(open_volume(found), options.progress("surveying image"))
            options.notify("writing coarser levels")
            build_pyramid(found, options.crew(workplace).unordered)
        blank = blank_inside(facts)
        if set(blank) - set(opened.missing):
            options.notify(f"slices {number_ranges(blank)} are of one grey value throughout: they count as missing")
        if sentence := few_bits(opened.volume.dtype, facts["highest"]):
            options.notify(sentence)
        write_facts(
            found,
            {
                **facts,
                "missing": sorted({*opened.missing, *blank}),
                "first_number": opened.first_number,
                "source": fingerprint,
                "source_name": path.name,
                "stated_voxel_size_nm": opened.stated if any(opened.stated) else None,
            },
        )
        if project.file.bad_slices and project.raw_facts.get("digest") not in (None, facts["digest"]):
            options.notify("bad_slices in project.toml were those of the old image; the list is empty now")
            project.set_bad_slices(())
        if project.file.prepared:
            options.notify(f"{project.file.prepared} was made of the image before; the new one is in use as it is")
            switch(project, "", "", options)
        _put_in_place(project, workplace)
        options.notify(_describe(project.image_path.name, project.image))
        return project.image


def import_labels(
    project: Project, source: Path | str, settings: ImportLabelsSettings, options: Options | None = None
) -> Annotations:
    """Copy labelled slices into the project's annotations; slices that are there already are replaced.

    Parameters
    ----------
    project
        Must have its image. Classes that are new to it are added.
    source
        Folder of slices, TIFF stack, image or OME-Zarr; see `cristae.io.labels.open_labels`.
    settings
        Which values are which classes, and which pages which slices.
    options
        Shared options.

    Returns
    -------
    Annotations
        All annotations of the project.

    Raises
    ------
    DataError
        If files do not fit the image, hold values of no class, or label nothing. Nothing is written then.
    UsageError
        If the settings do not fit each other.
    ResourceError
        If another process works on the project, the disk is full, or the folder cannot be written.
    """
    with project.lock(), writable(project.path):
        _bring_in(project, "annotations", source, settings, options or Options())
        project.add_classes(tuple(settings.classes))
        return project.annotations


def import_truth(
    project: Project, source: Path | str, settings: ImportLabelsSettings, options: Options | None = None
) -> Annotations:
    """Copy labelled slices that results are scored against; no stage learns from them.

    As `import_labels`, except that the classes of the project stay as they are, and that there need be no image: labels
    in one stack of full depth are enough to be measured.
    """
    with project.lock(), writable(project.path):
        if project.has_image:
            _bring_in(project, "truth", source, settings, options or Options())
            return project.truth
        truth = project.truth if project.truth_classes else _without_image(project, source)
        _store(project, truth, source, settings, options or Options())
        return truth


def _bring_in(
    project: Project,
    layer: LabelFolder,
    source: Path | str,
    settings: ImportLabelsSettings,
    options: Options,
) -> None:
    """Store labels on the slices that they were painted on, and have them follow to those in use."""
    used = project.file.aligned or ""
    if used and settings.drawn_on is None:
        raise UsageError(
            f"the stack of {project.path} is aligned, so say on which slices these labels were painted: on those that "
            "were imported (--drawn-on raw), or on those that came out of the alignment (--drawn-on aligned)"
        )
    if not used and settings.drawn_on == "aligned":
        raise UsageError(
            f"the slices of {project.path} in use are the raw ones; take the aligned ones into use first: cristae "
            f"align {project.path}"
        )
    on_raw = not used or settings.drawn_on == "raw"
    slices = _store(project, labels_on(project, "" if on_raw else used, layer), source, settings, options)
    if used and on_raw:
        carry(project, layer, ("", used), {name: slices for name in settings.classes}, options)


def _without_image(project: Project, source: Path | str) -> Annotations:
    """Return the empty truth of a project that has labels only, if these are a whole volume."""
    shape = whole_shape(source)
    if shape is None:
        raise DataError(
            f"{project.path} has no image yet; import one with: cristae import image {project.path} SOURCE. Only "
            "labels in one stack of full depth, or OME-Zarr, can do without"
        )
    return Annotations(project.path / "truth.ome.zarr", Grid(shape, project.file.voxel_size_nm))


def _put_in_place(project: Project, workplace: Path) -> None:
    if project.raw_path.exists():
        project.raw_path.rename(workplace / "replaced.ome.zarr")
    (workplace / "image.ome.zarr").rename(project.raw_path)
    shutil.rmtree(workplace)


def _same(project: Project, opened: ImageSource, fingerprint: str, options: Options) -> bool:
    facts, image = project.raw_facts, open_volume(project.raw_path)
    if image.grid != opened.volume.grid or image.dtype != opened.volume.dtype:
        return False
    if facts.get("source") == fingerprint:
        return True
    return bool(survey(opened.volume, options.progress("comparing images"))["digest"] == facts["digest"])


def _check_replaceable(project: Project, opened: ImageSource, options: Options) -> None:
    image = open_volume(project.raw_path)
    if not options.force:
        raise UsageError(
            f"{project.path} holds another image ({_describe(str(project.raw_facts.get('source_name')), image)}); "
            "make a new project for this one, or replace it with --force"
        )
    layers = [name for name in ("annotations", "truth") if list_labels(project.path / f"{name}.ome.zarr")]
    if layers and image.shape != opened.volume.shape:
        raise DataError(
            f"{project.path} has {' and '.join(layers)} for an image of shape {image.shape}; an image of shape "
            f"{opened.volume.shape} does not fit them. Make a new project, or remove "
            f"{', '.join(f'{name}.ome.zarr' for name in layers)} first"
        )
    if layers:
        options.notify(f"{' and '.join(layers)} are kept and now belong to the new image")


def _store(
    project: Project, annotations: Annotations, source: Path | str, settings: ImportLabelsSettings, options: Options
) -> tuple[int, ...]:
    """Store labels, and return the slices that they are of."""
    for name in settings.classes:
        check_class_name(name)
    if strange := [name for name in settings.partial if name not in settings.classes]:
        raise UsageError(f"partial names {', '.join(strange)}, but the classes are {', '.join(settings.classes)}")
    first = settings.first_slice
    if first is None:
        first = int(project.raw_facts.get("first_number", 0))
    rules = LabelRules(settings.classes, settings.slices, first, settings.ignore_value, settings.instances)
    opened = open_labels(source, annotations.grid.shape, rules)
    for sentence in (*opened.notes, *_other_size(opened, annotations.grid)):
        options.notify(sentence)
    counts = opened.check()
    for name in settings.classes:
        complete = settings.complete and name not in settings.partial
        progress = options.progress(f"writing {name}")
        annotations.write_slices(name, _layer(opened, name, progress, len(counts)), complete=complete)
        if material := opened.material(name):
            facts = {"material": material.name, "colour": material.colour and list(material.colour)}
            write_facts(annotations.path / "labels" / name, facts)
    area = annotations.grid.shape[1] * annotations.grid.shape[2]
    for name in settings.classes:
        n_voxels = sum(count[name] for count in counts.values())
        options.notify(
            f"{name}: {n_voxels} voxels on {len(counts)} slices (z {number_ranges(sorted(counts))}), "
            f"{100 * n_voxels / (area * len(counts)):.2f} % of them"
        )
    return tuple(sorted(counts))


def _other_size(opened: LabelSource, grid: Grid) -> tuple[str, ...]:
    theirs, ours = opened.voxel_size, grid.voxel_size
    if theirs is None or same_voxel_size(theirs, ours):
        return ()
    said = [" × ".join(f"{length:.6g}" for length in size) for size in (theirs, ours)]
    return (f"{opened.source.name} states a voxel size of {said[0]} nm; that of the image, {said[1]} nm, counts",)


def _layer(opened: LabelSource, name: str, progress: Progress, total: int) -> Iterator[tuple[int, np.ndarray]]:
    for done, (z, layers) in enumerate(opened.slices(), start=1):
        yield z, layers[name]
        progress(done, total)


def _describe(name: str, volume: Volume) -> str:
    size = " × ".join(f"{length:.6g}" for length in volume.grid.voxel_size)
    extent = (n * length / 1e3 for n, length in zip(volume.shape, volume.grid.voxel_size, strict=True))
    return (
        f"{name}: {' × '.join(map(str, volume.shape))} voxels (z, y, x) of {volume.dtype}, "
        f"each {size} nm, in all {' × '.join(f'{length:.4g}' for length in extent)} µm"
    )


__all__ = [
    "ImportImageSettings",
    "ImportLabelsSettings",
    "import_image",
    "import_labels",
    "import_truth",
]

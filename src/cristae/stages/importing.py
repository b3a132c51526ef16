"""Import: a micrograph and labelled slices from wherever they are into the project.

The image is copied once, into chunks that every later stage reads in any direction, and looked at once: mean and
deviation of each slice and a digest of the content. Until all that is done it lies in a hidden folder, so that a killed
import never looks finished; the same command run again goes on from the last finished block.

::

    bx1/.importing/     source (what is being copied) · journal (finished blocks) · image.ome.zarr
    bx1/image.ome.zarr  moved here at the end
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from cristae.annotations import Annotations, check_class_name
from cristae.blockwise import Execution, Journal, Progress, map_blocks
from cristae.errors import DataError, UsageError
from cristae.files import writable, write_atomically
from cristae.geometry import Block, Grid
from cristae.io.images import ImageSource, open_images
from cristae.io.labels import LabelRules, LabelSource, open_labels, whole_shape
from cristae.io.ome_zarr import (
    build_pyramid,
    create_volume,
    is_ome_zarr,
    list_labels,
    open_volume,
    write_facts,
)
from cristae.project import Project
from cristae.stages.limits import keep_memory_of_import
from cristae.stages.options import Options
from cristae.stages.survey import black_slices, survey, whole_shards
from cristae.volume import Volume
from cristae.wording import number_ranges


class ImportImageSettings(BaseModel):
    """How a micrograph is imported."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow_missing: bool = Field(
        False, description="fill slices whose numbers are missing in the file names with 0 instead of refusing"
    )


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
        Folder of slices, TIFF stack or OME-Zarr; see `cristae.io.images.open_images`.
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
    with project.lock(), writable(project.path):
        opened = open_images(Path(source), project.file.voxel_size_nm, allow_missing=settings.allow_missing)
        for sentence in (_describe(Path(source).name, opened.volume), *opened.notes):
            options.notify(sentence)
        fingerprint = _fingerprint(Path(source), opened)
        if "digest" in project.image_facts:
            if not options.force and _same(project, opened, fingerprint, options):
                options.notify(f"{project.name} holds this image already; nothing to do")
                shutil.rmtree(project.path / ".importing", ignore_errors=True)  # of an attempt that was given up
                return project.image
            _check_replaceable(project, opened, options)
        options = keep_memory_of_import(opened.volume.grid, opened.volume.dtype.itemsize, options)
        workplace = _copy(project, opened, fingerprint, options)
        found = workplace / "image.ome.zarr"
        facts = survey(open_volume(found), options.progress("surveying image"))
        black = black_slices(facts["slice_mean"])
        if set(black) - set(opened.missing):
            options.notify(f"slices {number_ranges(black)} are black all over: they count as missing")
        options.notify("writing coarser levels")
        build_pyramid(found)
        write_facts(
            found,
            {
                **facts,
                "missing": sorted({*opened.missing, *black}),
                "first_number": opened.first_number,
                "source": fingerprint,
                "source_name": Path(source).name,
            },
        )
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
        annotations = _store(project, project.annotations, source, settings, options or Options())
        project.add_classes(tuple(settings.classes))
        return annotations


def import_truth(
    project: Project, source: Path | str, settings: ImportLabelsSettings, options: Options | None = None
) -> Annotations:
    """Copy labelled slices that results are scored against; no stage learns from them.

    As `import_labels`, except that the classes of the project stay as they are, and that there need be no image: labels
    in one stack of full depth are enough to be measured.
    """
    with project.lock(), writable(project.path):
        truth = project.truth if project.has_image or project.truth_classes else _without_image(project, Path(source))
        return _store(project, truth, source, settings, options or Options())


def _without_image(project: Project, source: Path) -> Annotations:
    """Return the empty truth of a project that has labels only, if these are a whole volume."""
    shape = whole_shape(source)
    if shape is None:
        raise DataError(
            f"{project.path} has no image yet; import one with: cristae import image {project.path} SOURCE. Only "
            "labels in one stack of full depth, or OME-Zarr, can do without"
        )
    return Annotations(project.path / "truth.ome.zarr", Grid(shape, project.file.voxel_size_nm))


def _copy(project: Project, opened: ImageSource, fingerprint: str, options: Options) -> Path:
    """Copy the voxels into the hidden folder, going on where a killed import of the same source stopped."""
    workplace = project.path / ".importing"
    marker, target = workplace / "source", workplace / "image.ome.zarr"
    if marker.is_file() and marker.read_text() == fingerprint and target.exists():
        options.notify("going on with an import that was interrupted")
        volume = open_volume(target, mode="r+")
    else:
        if workplace.exists():
            shutil.rmtree(workplace)
        workplace.mkdir()
        volume = create_volume(target, opened.volume.grid, opened.volume.dtype, "image")
        write_atomically(marker, fingerprint)

    def same(block: Block, values: np.ndarray) -> np.ndarray:
        return values

    execution = Execution(options.executor, options.progress("copying image"), Journal(workplace / "journal"))
    map_blocks(same, [opened.volume], [volume], block_shape=whole_shards(volume), execution=execution)
    return workplace


def _put_in_place(project: Project, workplace: Path) -> None:
    if project.image_path.exists():
        project.image_path.rename(workplace / "replaced.ome.zarr")
    (workplace / "image.ome.zarr").rename(project.image_path)
    shutil.rmtree(workplace)


def _same(project: Project, opened: ImageSource, fingerprint: str, options: Options) -> bool:
    facts, image = project.image_facts, project.image
    if image.grid != opened.volume.grid or image.dtype != opened.volume.dtype:
        return False
    if facts.get("source") == fingerprint:
        return True
    return bool(survey(opened.volume, options.progress("comparing images"))["digest"] == facts["digest"])


def _check_replaceable(project: Project, opened: ImageSource, options: Options) -> None:
    image = project.image
    if not options.force:
        raise UsageError(
            f"{project.path} holds another image ({_describe(str(project.image_facts.get('source_name')), image)}); "
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
) -> Annotations:
    for name in settings.classes:
        check_class_name(name)
    if strange := [name for name in settings.partial if name not in settings.classes]:
        raise UsageError(f"partial names {', '.join(strange)}, but the classes are {', '.join(settings.classes)}")
    first = settings.first_slice
    if first is None:
        first = int(project.image_facts.get("first_number", 0))
    rules = LabelRules(settings.classes, settings.slices, first, settings.ignore_value, settings.instances)
    opened = open_labels(Path(source), annotations.grid.shape, rules)
    counts = opened.check()
    for name in settings.classes:
        complete = settings.complete and name not in settings.partial
        progress = options.progress(f"writing {name}")
        annotations.write_slices(name, _layer(opened, name, progress, len(counts)), complete=complete)
    area = annotations.grid.shape[1] * annotations.grid.shape[2]
    for name in settings.classes:
        n_voxels = sum(count[name] for count in counts.values())
        options.notify(
            f"{name}: {n_voxels} voxels on {len(counts)} slices (z {number_ranges(sorted(counts))}), "
            f"{100 * n_voxels / (area * len(counts)):.2f} % of them"
        )
    return annotations


def _layer(opened: LabelSource, name: str, progress: Progress, total: int) -> Iterator[tuple[int, np.ndarray]]:
    for done, (z, layers) in enumerate(opened.slices(), start=1):
        yield z, layers[name]
        progress(done, total)


def _fingerprint(source: Path, opened: ImageSource) -> str:
    """Hash names, sizes and times of the files, and what is made of them: unchanged, the copy can go on."""
    if is_ome_zarr(source):
        files = sorted(path for path in source.rglob("*") if path.is_file())
    elif source.is_dir():
        files = [source / name for name in opened.files]
    else:
        files = [source]
    total = hashlib.blake2b(f"{opened.volume.grid} {opened.volume.dtype}".encode(), digest_size=16)
    for path in files:
        stat = path.stat()
        total.update(f"{path.relative_to(source)}:{stat.st_size}:{stat.st_mtime_ns};".encode())
    return total.hexdigest()


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

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
from cristae.geometry import Block, Voxels, blocks
from cristae.io.images import ImageSource, open_images
from cristae.io.labels import LabelRules, LabelSource, open_labels
from cristae.io.ome_zarr import (
    build_pyramid,
    create_volume,
    is_ome_zarr,
    list_labels,
    open_volume,
    shard_shape,
    write_facts,
)
from cristae.project import Project
from cristae.stages.options import Options
from cristae.volume import Volume

_BLOCK_BYTES = 2**28
"""A block of copying holds whole slices up to this size, bands of them beyond."""


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
        workplace = _copy(project, opened, fingerprint, options)
        found = workplace / "image.ome.zarr"
        facts = survey(open_volume(found), options.progress("surveying image"))
        options.notify("writing coarser levels")
        build_pyramid(found)
        write_facts(
            found,
            {
                **facts,
                "missing": list(opened.missing),
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

    As `import_labels`, except that the classes of the project stay as they are.
    """
    with project.lock(), writable(project.path):
        return _store(project, project.truth, source, settings, options or Options())


def survey(volume: Volume, progress: Progress) -> dict[str, Any]:
    """Return what later stages need to know of an image as a whole, in one pass.

    Returns
    -------
    dict
        ``digest``: the same voxels, the same text. ``slice_mean``, ``slice_std``: one float per slice over voxels
        that are not 0, which is padding; a slice without any, or of one grey value, has deviation 1.
    """
    depth = volume.shape[0]
    counts: list[np.ndarray] = [np.zeros(0, np.int64)] * depth
    digests = [hashlib.blake2b(digest_size=16) for _ in range(depth)]
    todo = list(blocks(volume.grid.box, _slab(volume)))
    for done, block in enumerate(todo, start=1):
        for z, values in enumerate(volume.read(block.write), start=block.write.start[0]):
            digests[z].update(np.ascontiguousarray(values).data)
            counts[z] = _add(counts[z], np.bincount(values.ravel()))
        progress(done, len(todo))
    total = hashlib.blake2b(f"{volume.shape} {volume.dtype.name}".encode(), digest_size=16)
    for digest in digests:
        total.update(digest.digest())
    moments = [grey_moments(count) for count in counts]
    return {
        "digest": total.hexdigest(),
        "slice_mean": [mean for mean, _ in moments],
        "slice_std": [deviation for _, deviation in moments],
    }


def grey_moments(counts: np.ndarray) -> tuple[float, float]:
    """Return mean and standard deviation of grey values that occur `counts` times, without value 0.

    Parameters
    ----------
    counts
        Integer ``(n,)``: how often the values 0 to n - 1 occur.

    Returns
    -------
    tuple of float
        ``(0, 1)`` where nothing is left; a deviation of 0 is given as 1, so that dividing by it is safe.
    """
    weights = counts[1:].astype(np.float64)
    if not weights.sum():
        return 0.0, 1.0
    values = np.arange(1, len(counts), dtype=np.float64)
    mean = float((weights * values).sum() / weights.sum())
    deviation = float(np.sqrt((weights * (values - mean) ** 2).sum() / weights.sum()))
    return mean, deviation or 1.0


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
    map_blocks(same, [opened.volume], [volume], block_shape=_slab(volume), execution=execution)
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
    rules = LabelRules(settings.classes, settings.slices, first, settings.ignore_value)
    opened = open_labels(Path(source), project.image.shape, rules)
    counts = opened.check()
    for name in settings.classes:
        complete = settings.complete and name not in settings.partial
        progress = options.progress(f"writing {name}")
        annotations.write_slices(name, _layer(opened, name, progress, len(counts)), complete=complete)
    area = project.image.shape[1] * project.image.shape[2]
    for name in settings.classes:
        n_voxels = sum(count[name] for count in counts.values())
        options.notify(
            f"{name}: {n_voxels} voxels on {len(counts)} slices (z {_ranges(sorted(counts))}), "
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


def _slab(volume: Volume) -> Voxels:
    """Return the shape of blocks that own whole shards and, as far as memory goes, whole slices."""
    depth, rows, columns = shard_shape(volume)
    if (depth, rows, columns) == (1, 1, 1):  # a source on its way in
        depth, rows = 16, 1024
    _, height, width = volume.shape
    row_bytes = max(1, depth * width * volume.dtype.itemsize)
    n_rows = max(1, _BLOCK_BYTES // row_bytes // rows) * rows
    return depth, n_rows if n_rows < height else -(-height // rows) * rows, -(-width // columns) * columns


def _add(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    total = longer.copy()
    total[: len(shorter)] += shorter
    return total


def _describe(name: str, volume: Volume) -> str:
    size = " × ".join(f"{length:.6g}" for length in volume.grid.voxel_size)
    extent = (n * length / 1e3 for n, length in zip(volume.shape, volume.grid.voxel_size, strict=True))
    return (
        f"{name}: {' × '.join(map(str, volume.shape))} voxels (z, y, x) of {volume.dtype}, "
        f"each {size} nm, in all {' × '.join(f'{length:.4g}' for length in extent)} µm"
    )


def _ranges(numbers: list[int]) -> str:
    """Write ascending numbers as people do: 0–19, 30."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}–{part[-1]}" for part in parts)


__all__ = [
    "ImportImageSettings",
    "ImportLabelsSettings",
    "grey_moments",
    "import_image",
    "import_labels",
    "import_truth",
    "survey",
]

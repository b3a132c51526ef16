"""Where the objects that are measured come from: what cristae found, or the labels imported as truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cristae.annotations import IGNORE, IGNORE_ID
from cristae.errors import DataError, UsageError
from cristae.io.ome_zarr import open_volume
from cristae.project import Project, Run
from cristae.stages.anatomy import current_objects
from cristae.stages.corrected import corrected_run, corrections_of, in_words, newest_cells
from cristae.stages.measuring.sample import Known, Layer, Sample
from cristae.stages.measuring.settings import EVERY, MeasureSettings
from cristae.stages.objects import ObjectsSettings, label_objects, mask_classes
from cristae.stages.options import Options
from cristae.volume import Volume


@dataclass(frozen=True)
class Source:
    """What is to be measured, before any voxel is read.

    Parameters
    ----------
    classes
        In the order of the table.
    cell
        Name of the class of cells.
    inputs
        What the result depends on beside the settings.
    runs
        The run that holds each class; none for the truth.
    """

    classes: tuple[str, ...]
    cell: str
    inputs: Mapping[str, str]
    runs: Mapping[str, Run]

    @property
    def corrections(self) -> str:
        """Which classes hold corrections by hand, in words; empty without any."""
        return in_words({name: run for name, run in self.runs.items() if name in self.classes})


def find_source(project: Project, settings: MeasureSettings, options: Options) -> Source:
    """Say what is to be measured; objects of predicted masks are made first where they are missing.

    Raises
    ------
    DataError
        If there is nothing to measure.
    UsageError
        If a class that is named is not there.
    """
    found = _truth(project, settings) if settings.source == "truth" else _found(project, options)
    classes = _chosen(found.classes, settings)
    inputs = dict(found.inputs)
    if settings.source == "truth":
        inputs["truth"] = project.truth.fingerprint(classes)
    if project.has_image:
        inputs["image"] = project.image_fingerprint
    inputs["voxel_size_nm"] = str(project.file.voxel_size_nm)
    inputs["features"] = ", ".join(sorted(settings.wanted_features)) if "features" in settings.families else ""
    return Source(classes, found.cell, inputs, found.runs)


def open_sample(project: Project, source: Source, settings: MeasureSettings, run: Run, options: Options) -> Sample:
    """Open all layers; objects of true masks are found first, and kept in the folder of the run.

    Raises
    ------
    DataError
        If layers and image do not fit each other.
    """
    raw = {name: _stored(project, source, name) for name in source.classes}
    first = next(iter(raw.values())).volume
    image = project.image if project.has_image else None
    lost = project.lost_slices if image else ()
    stored = Sample(project.name, first.grid, raw, image, source.cell, settings.nucleus, settings.nucleolus, lost)
    stored.check()
    labels = ObjectsSettings(connectivity=settings.connectivity, smallest_um3=0)
    return replace(stored, layers={name: _objects(layer, run, labels, options) for name, layer in raw.items()})


def _found(project: Project, options: Options) -> Source:
    cells, predicted = newest_cells(project), project.latest("predict")
    runs: dict[str, Run] = {}
    inputs = {"track": ""}
    if cells is not None:
        name = str(cells.manifest["name"])
        runs[name] = corrected_run(project, cells, name)
        inputs |= {cells.stage: cells.as_input} | corrections_of(project, cells, [name])
    if predicted is not None and mask_classes(project, predicted):
        labelled = current_objects(project, options)
        names = [str(name) for name in labelled.manifest["classes"]]
        runs |= {name: corrected_run(project, labelled, name) for name in names}
        inputs |= {"objects": labelled.as_input} | corrections_of(project, labelled, names)
    if not runs:
        raise DataError(
            f"{project.path} has no objects or cells yet; find some with: cristae predict {project.path}, or measure "
            f"imported labels with: cristae measure {project.path} --set measure.source=truth"
        )
    cell = str(cells.manifest["name"]) if cells else "cell"
    return Source(tuple(runs), cell, inputs, runs)


def _truth(project: Project, settings: MeasureSettings) -> Source:
    names = project.truth_classes
    if not names:
        raise DataError(
            f"{project.path} has no truth to measure; import labels with: cristae import truth {project.path} SOURCE "
            "--class NAME"
        )
    first = [name for name in names if name == settings.cell]
    return Source((*first, *(name for name in names if name != settings.cell)), settings.cell, {}, {})


def _chosen(there: Sequence[str], settings: MeasureSettings) -> tuple[str, ...]:
    unknown = [name for name in settings.classes if name not in there]
    if unknown:
        raise UsageError(f"no objects of {', '.join(unknown)}; there are {', '.join(there)}")
    wanted = [name for classes in (settings.features or {}).values() for name in classes]
    if strange := [name for name in wanted if name not in (EVERY, *there)]:
        raise UsageError(f"no objects of {', '.join(strange)} to have features; there are {', '.join(there)}")
    return tuple(name for name in there if name in settings.classes) if settings.classes else tuple(there)


def _stored(project: Project, source: Source, name: str) -> Layer:
    """Return what is on disk of a class: ids, or a mask."""
    if name in source.runs:
        return Layer(name, open_volume(source.runs[name].path / f"{name}.ome.zarr"))
    raw = project.truth.layer(name)
    unknown = IGNORE if raw.dtype == np.uint8 else IGNORE_ID
    return Layer(name, Volume(Known(raw.array, unknown), raw.grid, "labels"), raw)


def _objects(layer: Layer, run: Run, settings: ObjectsSettings, options: Options) -> Layer:
    """Return the objects of a class, those of a mask by finding them first."""
    if layer.volume.dtype != np.uint8:
        return layer
    label_objects(layer.volume, layer.name, run, settings, options)
    return Layer(layer.name, open_volume(run.path / f"{layer.name}.ome.zarr"), layer.seen)

"""What there is to do in a project, in numbers: what plans and limits of memory are made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cristae.costs.price import OPTIONAL
from cristae.costs.work import Measuring, Meshing, Network, Prediction, Separation, Training, Triple, Work
from cristae.geometry import Grid
from cristae.io.levels import factors_of, grids_of
from cristae.learn.footprint import Footprint, footprint
from cristae.learn.scale import reduction
from cristae.nets.contract import Build
from cristae.project import Project
from cristae.settings import resolve_settings
from cristae.stages.cells_settings import CellsSettings, cells_settings
from cristae.stages.measuring.settings import MeasureSettings
from cristae.stages.mesh import MOST_VOXELS, MeshSettings
from cristae.stages.options import Options
from cristae.stages.predict import PredictSettings
from cristae.stages.train_settings import PRESETS, TrainSettings, train_settings

Kind = TypeVar("Kind", bound=BaseModel)
_Length = Annotated[int, Field(ge=1)]
_Size = Annotated[float, Field(gt=0)]
_FOLLOWED_PX = 192
"""Side of the square on which networks are followed."""


class PlanSettings(BaseModel):
    """The volume that is planned for; what is left out is as the project has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[_Length, _Length, _Length] | None = Field(None, description="voxels along z, y, x")
    voxel_size: tuple[_Size, _Size, _Size] | None = Field(None, description="voxel size along z, y, x in nm")
    classes: int | None = Field(None, ge=0, description="classes of organelles")
    labelled: int | None = Field(None, ge=1, description="labelled slices, evenly spread")
    cells: bool | None = Field(None, description="whether cells are separated and tracked")
    truth: int | None = Field(None, ge=0, description="slices with a truth to score against")
    bits: Literal[8, 16] | None = Field(None, description="of a grey value")


@dataclass(frozen=True)
class Planned:
    """Settings of the stages that costs depend on."""

    train: TrainSettings
    predict: PredictSettings
    cells: CellsSettings
    measure: MeasureSettings
    mesh: MeshSettings


@dataclass(frozen=True)
class Subject:
    """A volume and what is known of it, from a project or from what was said of one."""

    grid: Grid
    itemsize: int
    groups: tuple[int, ...]
    n_masks: int
    cells: bool
    labelled: tuple[int, ...]
    n_learnt: int
    n_truth: int
    used: tuple[str, ...] = ()


def planned(project: Project | None, changes: Mapping[str, Mapping[str, Any]]) -> Planned:
    """Return the settings of all stages: defaults, then project file, then `changes`."""

    def resolved(kind: type[Kind], name: str) -> Kind:
        stored = project.stage_settings(name) if project else {}
        return resolve_settings(kind, stored, changes.get(name, {}))

    return Planned(
        _training(project, changes.get("train", {})),
        resolved(PredictSettings, "predict"),
        cells_settings(project, changes.get("cells", {})),
        resolved(MeasureSettings, "measure"),
        resolved(MeshSettings, "mesh"),
    )


def _training(project: Project | None, changes: Mapping[str, Any]) -> TrainSettings:
    """Return the settings of the training: those of the last one, unless others are asked for."""
    if project is None:
        return resolve_settings(TrainSettings, PRESETS.get(str(changes.get("preset", "default")), {}), changes)
    trained = None if changes else project.latest("train")
    if trained:
        try:
            return TrainSettings.model_validate(trained.settings)
        except (ValidationError, OSError):  # adapted from elsewhere, or by another version
            pass
    return train_settings(project, changes)


def subject_of(project: Project | None, how: PlanSettings, train: TrainSettings) -> Subject:
    """Return what is to be worked on: what a project has, and in its place what `how` says.

    Raises
    ------
    DataError
        If there is no image, and nothing was said of one.
    """
    grid, itemsize = _grid(project, how)
    annotations = project.annotations if project and project.has_image else None
    names = [name for name in annotations.classes if not train.classes or name in train.classes] if annotations else []
    instances = [name for name in names if annotations and annotations.has_instances(name)]
    n_masks = max(1, len(project.classes)) if project and not names else len(names) - len(instances)
    n_masks = how.classes if how.classes is not None else n_masks if project else 1
    with_cells = how.cells if how.cells is not None else bool(instances)
    labelled = annotations.labelled_slices(instances[0] if instances else None) if annotations else ()
    if how.labelled is not None or not labelled:
        labelled = tuple(int(z) for z in np.linspace(0, grid.shape[0] - 1, how.labelled or 7).round())
    n_learnt = len(train.slices) or len(labelled)
    if annotations and how.labelled is None and not train.slices:
        n_learnt = len(annotations.labelled_slices()) or n_learnt
    truth = project.truth.labelled_slices() if project and project.has_image else ()
    masks = (1,) * n_masks if train.separate else (n_masks,) if n_masks else ()
    groups = (*masks, *((2,) if with_cells else ()))
    n_truth = len(truth) if how.truth is None else how.truth
    return Subject(grid, itemsize, groups, n_masks, with_cells, labelled, n_learnt, n_truth, _used(project))


def _used(project: Project | None) -> tuple[str, ...]:
    """Return the stages of `OPTIONAL` that a project has used: its image is prepared, or there is a finished run."""
    if project is None:
        return ()
    used = {
        "align": bool(project.file.aligned),
        "equalise": (project.file.prepared or "").startswith("equalise-"),
        **{name: any(run.finished for run in project.runs(name)) for name in ("check", "mesh")},
    }
    return tuple(name for name in OPTIONAL if used[name])


def _grid(project: Project | None, how: PlanSettings) -> tuple[Grid, int]:
    bits = how.bits or 8
    if how.shape is None:
        assert project is not None
        if not project.has_image and project.truth_classes:  # labels alone, to be measured
            return project.truth.grid, 1
        image = project.image
        itemsize = bits // 8 if how.bits else image.dtype.itemsize
        return Grid(image.shape, how.voxel_size or image.grid.voxel_size), itemsize
    size = how.voxel_size or (project.file.voxel_size_nm if project else (4.0, 4.0, 4.0))
    return Grid(how.shape, size), bits // 8


def work_of(subject: Subject, settings: Planned, options: Options, *, with_networks: bool = True) -> Work:
    """Return the work in numbers; without networks where no stage that runs one is asked about."""
    grid, train = subject.grid, settings.train
    factor = reduction(grid, train.tile_px, train.context_nm)
    found: list[tuple[Network, Footprint]] = []
    for n_maps in subject.groups if with_networks else ():
        wanted = Build(2 * train.neighbours + 1, n_maps, train.size, train.base_width, train.tile_px)
        print_ = footprint(train.network, wanted, min(_FOLLOWED_PX, train.tile_px))
        weights = (print_.n_parameters, factor, print_.forward_bytes, print_.training_bytes)
        found.append((Network(n_maps, wanted.n_channels, *weights), print_))
    largest = min((one.largest for _, one in found if one.largest), default=0)
    limit = 1.5 * min(grid.voxel_size[1:])
    z, y, x = (2 if size <= limit and n > 1 else 1 for size, n in zip(grid.voxel_size, grid.shape, strict=True))
    return Work(
        shape=grid.shape,
        itemsize=subject.itemsize,
        halving=(z, y, x),
        n_masks=subject.n_masks,
        cells=subject.cells,
        n_labelled=len(subject.labelled),
        n_truth=subject.n_truth,
        longest_gap=_longest_gap(subject.labelled, grid.shape[0]),
        networks=tuple(network for network, _ in found),
        training=_as_training(train, subject.n_learnt, _n_processes(train) if with_networks else 1),
        prediction=_as_prediction(settings.predict, largest),
        separation=_as_separation(settings.cells),
        measuring=_as_measuring(settings.measure, grid),
        surfaces=_as_meshing(settings.mesh, grid),
        used=subject.used,
        workers=_workers(options.executor),
        gpu=_on_gpu(train.device) if with_networks else False,
    )


def _longest_gap(labelled: Sequence[int], depth: int) -> int:
    """Return the slices of the longest gap, both ends counted; gaps reach from the first slice to the last."""
    ends = sorted({0, *labelled, depth - 1})
    return max((high - low + 1 for low, high in pairwise(ends)), default=1)


def _as_training(train: TrainSettings, n_slices: int, n_processes: int = 1) -> Training:
    crossed = train.scheme != "supervised"
    sizes = (train.batch, train.tile_px, train.updates, train.check_every, train.holdout_share or 0.0625)
    return Training(*sizes, n_slices, train.unlabelled if crossed else 0, crossed, n_processes)


def _as_prediction(predict: PredictSettings, largest: int) -> Prediction:
    tile = min(predict.tile_px, largest) if largest else predict.tile_px
    n_axes = 1 if predict.axes == "z" else 3
    reach = int(np.ceil(3 * predict.smooth_z))
    return Prediction(tile, predict.overlap_px, predict.views, n_axes, reach, predict.max_ram_gb * 2**30)


def _as_separation(cells: CellsSettings) -> Separation:
    sizes = (cells.tries, cells.try_px, cells.growth_gb * 2**30, cells.max_ram_gb * 2**30)
    return Separation(cells.method, *sizes)


def _as_measuring(measure: MeasureSettings, grid: Grid) -> Measuring:
    """Return what is measured; the widest halo is that of spectrum, of pairs within a distance, or of surfaces."""
    wanted = [3]
    if "spectrum" in measure.families:
        wanted.append(measure.spectrum_radius + 1)
    far = measure.max_distance_nm if "relations" in measure.families else 0.0
    z, y, x = (max(*wanted, int(far / size) + 2) if far else max(wanted) for size in grid.voxel_size)
    halo: Triple = (z, y, x)
    memory = measure.max_ram_gb * 1e9
    return Measuring(measure.families, measure.block_side, halo, measure.crop_voxels, memory)


def _as_meshing(mesh: MeshSettings, grid: Grid) -> Meshing:
    """Return the level that is meshed, as the stage chooses it."""
    shapes = [one.shape for one in grids_of(grid, factors_of(grid))]
    if mesh.source == "truth":
        level = 0
    elif mesh.level is not None:
        level = min(mesh.level, len(shapes) - 1)
    else:
        small = (level for level, shape in enumerate(shapes) if math.prod(shape) <= MOST_VOXELS)
        level = next(small, len(shapes) - 1)
    return Meshing(shapes[level], mesh.block_side)


def _workers(executor: str) -> int:
    kind, _, number = executor.partition(":")
    return int(number) if kind == "threads" else 0


def _n_processes(train: TrainSettings) -> int:
    if train.devices == 1:
        return 1
    from cristae.stages.several import n_processes  # noqa: PLC0415  PyTorch is slow to load

    return n_processes(train)


def _on_gpu(wish: str) -> bool:
    import torch  # noqa: PLC0415  slow to load, and not needed for most stages

    return wish != "cpu" and torch.cuda.is_available()

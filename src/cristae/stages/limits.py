"""``--max-ram``: a stage keeps it by fewer and smaller blocks at a time, or says beforehand that it cannot.

Neither the size of blocks nor their number at a time changes what comes out, so that a limit is no part of a run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel

from cristae.costs.memory import MEMORY, allowed_memory, workers_of
from cristae.costs.price import needed_stages
from cristae.costs.steps import BASE, Memory
from cristae.costs.work import Work
from cristae.errors import ResourceError
from cristae.geometry import Grid
from cristae.project import Project
from cristae.stages.options import Options

Settings = TypeVar("Settings", bound=BaseModel)


class NoSettings(BaseModel):
    """Of what has none."""


_HELP = {
    "import": "nothing makes it smaller but a machine with more memory",
    "train": "lower train.batch or train.tile_px, take a smaller network (train.size, train.base_width), or learn from "
    "fewer slices (train.slices)",
    "predict": "lower predict.tile_px",
    "cells": "lower cells.growth_gb (cells then grow at a coarser resolution, which is another result), or label a "
    "slice in the longest gap",
    "measure": "lower measure.crop_voxels (larger objects are then measured at a coarser resolution)",
    "align": "keep to the raw frame (align.canvas=raw), which may be smaller",
    "mesh": "mesh a coarser level (mesh.level)",
    "render": "show less (render.classes, render.objects), merge more triangles (mesh.max_error_nm, mesh.level), or "
    "take a smaller picture (render.width, render.height, render.samples)",
    "adapt": "lower adapt.slices or adapt.batch",
    "study networks": "study smaller networks (train.size, train.base_width, study_networks.networks), or lower "
    "train.batch, train.tile_px or predict.tile_px",
    "study cells": "raise study_cells.reduction, lower cells.growth_gb, or study shorter gaps (study_cells.gaps)",
    "export": "choose TIFF, NRRD or HDF5, which need the least, or a folder for viewers",
}
_OTHERWISE = "nothing makes it smaller but a coarser volume"
Asked = tuple[float, int]
"""Bytes that blocks may take, and how many are worked on at a time."""


def keep_memory(stage: str, project: Project, settings: Settings, options: Options) -> tuple[Settings, Options]:
    """Return settings and options with which a stage keeps ``options.max_ram_gb``; they are as they were without one.

    Raises
    ------
    ResourceError
        If the stage needs more: how much, what for, and what would help. Call this before any work is done.
    """
    if options.max_ram_gb is None:
        return settings, options
    return within_limit(stage, _work(stage, project, settings, options), settings, options)


def keep_memory_of_image(stage: str, grid: Grid, itemsize: int, options: Options) -> Options:
    """Return options with which a stage keeps ``options.max_ram_gb`` that copies, looks at or changes an image.

    Raises
    ------
    ResourceError
        If it needs more.
    """
    if options.max_ram_gb is None:
        return options
    work = Work(grid.shape, itemsize, workers=n_threads(options))
    return within_limit(stage, work, NoSettings(), options)[1]


def within_limit(stage: str, work: Work, settings: Settings, options: Options) -> tuple[Settings, Options]:
    """Return settings and options with which a stage that has this to do keeps ``options.max_ram_gb``.

    Raises
    ------
    ResourceError
        If it needs more.
    """
    asked = allowed_memory(stage, work), workers_of(stage, work)
    allowed, options = within(stage, MEMORY[stage](work), asked, options)
    if "max_ram_gb" in type(settings).model_fields and math.isfinite(allowed):
        unit = 1e9 if stage == "measure" else 2**30
        settings = settings.model_copy(update={"max_ram_gb": allowed / unit})
    return settings, options


def within(stage: str, memory: Memory, asked: Asked, options: Options) -> tuple[float, Options]:
    """Return what blocks may take, and options with which a stage that needs this keeps ``options.max_ram_gb``.

    Neither is more than what was asked for; without a limit they are as they were.

    Raises
    ------
    ResourceError
        If it needs more.
    """
    if options.max_ram_gb is None:
        return asked[0], options
    kept = memory.within(options.max_ram_gb * 2**30, *asked)
    if kept is None:
        raise refusal(stage, memory, options)
    allowed, n = kept
    if n < asked[1] and options.executor.partition(":")[0] in ("serial", "threads"):
        # The serial executor has several blocks in memory at a time, one thread a single one.
        options = replace(options, executor=f"threads:{n}")
    _tell(stage, memory.peak(allowed, n), options)
    return allowed, options


def within_processes(stage: str, memory: Memory, allowed: float, options: Options) -> tuple[float, Options]:
    """Return the same as `within` for a stage whose workers are processes, each of which needs `memory`.

    Raises
    ------
    ResourceError
        If one of them alone, in this process, needs more.
    """
    if options.max_ram_gb is None:
        return allowed, options
    limit, threads = options.max_ram_gb * 2**30, n_threads(options)
    for n in range(threads, 0, -1):
        kept = memory.within((limit - BASE) / n, allowed, 1)
        if kept:
            peak, words = memory.peak(*kept)
            _tell(stage, (BASE + n * peak, words), options)
            return kept[0], replace(options, executor=f"threads:{n}")
    kept = memory.within(limit, allowed, 1)
    if kept is None:
        raise refusal(stage, memory, options)
    _tell(stage, memory.peak(*kept), options)
    return kept[0], replace(options, executor="serial") if threads else options


def _tell(stage: str, peak: tuple[float, str], options: Options) -> None:
    n_bytes, words = peak
    options.notify(f"{stage}: takes up to {n_bytes / 2**30:.2f} GB of memory ({words})")


def refusal(stage: str, memory: Memory, options: Options) -> ResourceError:
    """Return the error that says how much a stage needs at least, what for, and what would help."""
    needed, words = memory.least
    return ResourceError(
        f"{stage} needs about {needed / 2**30:.1f} GB of memory here ({words}), and --max-ram is "
        f"{options.max_ram_gb:g} GB; raise it, or {_HELP.get(stage, _OTHERWISE)}"
    )


def check_memory(project: Project, changes: Mapping[str, Mapping[str, Any]], options: Options) -> None:
    """Refuse a row of stages of which one cannot keep ``options.max_ram_gb``, before the first begins.

    Raises
    ------
    ResourceError
        If one of them needs more.
    """
    from cristae.stages.workload import PlanSettings, planned, subject_of, work_of  # noqa: PLC0415

    if options.max_ram_gb is None:
        return
    how = planned(project, {name: changes.get(name, {}) for name in ("train", "predict", "cells", "measure")})
    work = work_of(subject_of(project, PlanSettings(), how.train), how, options)
    for stage in needed_stages(replace(work, used=()))[1:]:
        within_limit(stage, work, NoSettings(), options)


def _work(stage: str, project: Project, settings: BaseModel, options: Options) -> Work:
    from cristae.stages.workload import PlanSettings, planned, subject_of, work_of  # noqa: PLC0415  it knows all stages

    how = planned(project, {})
    if stage in ("train", "predict", "cells", "measure"):
        how = replace(how, **_named(stage, settings))
    subject = subject_of(project, PlanSettings(), how.train)
    return work_of(subject, how, options, with_networks=stage in ("train", "predict"))


def _named(stage: str, settings: BaseModel) -> Mapping[str, Any]:
    return {stage: settings}


def n_threads(options: Options) -> int:
    """Return the number of threads that are asked for; 0 for other executors."""
    kind, _, number = options.executor.partition(":")
    return int(number) if kind == "threads" else 0

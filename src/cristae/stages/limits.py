"""``--max-ram``: a stage keeps it by fewer and smaller blocks at a time, or says beforehand that it cannot.

Neither the size of blocks nor their number at a time changes what comes out, so that a limit is no part of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel

from cristae.costs.memory import MEMORY, allowed_memory, workers_of
from cristae.costs.price import stages_of
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
}
_OTHERWISE = "nothing makes it smaller but a coarser volume"


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


def keep_memory_of_import(grid: Grid, itemsize: int, options: Options) -> Options:
    """Return options with which an import keeps ``options.max_ram_gb``.

    Raises
    ------
    ResourceError
        If it needs more.
    """
    if options.max_ram_gb is None:
        return options
    work = Work(grid.shape, itemsize, workers=_n_threads(options))
    return within_limit("import", work, NoSettings(), options)[1]


def within_limit(stage: str, work: Work, settings: Settings, options: Options) -> tuple[Settings, Options]:
    """Return settings and options with which a stage that has this to do keeps ``options.max_ram_gb``.

    Raises
    ------
    ResourceError
        If it needs more.
    """
    assert options.max_ram_gb is not None
    limit, memory, workers = options.max_ram_gb * 2**30, MEMORY[stage](work), workers_of(stage, work)
    kept = memory.within(limit, allowed_memory(stage, work), workers)
    if kept is None:
        needed, words = memory.least
        raise ResourceError(
            f"{stage} needs about {needed / 2**30:.1f} GB of memory here ({words}), and --max-ram is "
            f"{options.max_ram_gb:g} GB; raise it, or {_HELP.get(stage, _OTHERWISE)}"
        )
    allowed, n = kept
    if n < workers and options.executor.partition(":")[0] in ("serial", "threads"):
        # The serial executor has three blocks in memory at a time, one thread a single one.
        options = replace(options, executor=f"threads:{n}")
    if "max_ram_gb" in type(settings).model_fields:
        unit = 1e9 if stage == "measure" else 2**30
        settings = settings.model_copy(update={"max_ram_gb": allowed / unit})
    return settings, options


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
    for stage in stages_of(work)[1:]:
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


def _n_threads(options: Options) -> int:
    kind, _, number = options.executor.partition(":")
    return int(number) if kind == "threads" else 0

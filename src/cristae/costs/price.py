"""What every stage writes, and all its costs together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from cristae.costs.memory import MEMORY, allowed_memory, predict_vram, train_vram, workers_of
from cristae.costs.pace import SECONDS, START, Rates
from cristae.costs.surfaces import SURFACE
from cristae.costs.work import Cost, Machine, Work

IMAGE = 1.0
"""Bytes on disk per byte of a micrograph: its noise is not to be compressed."""
PROBABILITY = 0.3
"""Bytes on disk per voxel of a map of probabilities, as measured on the phantom (0.06 to 0.6)."""
MASK = 0.006
"""Bytes on disk per voxel of a mask."""
IDS = 0.03
"""Bytes on disk per voxel of a layer of ids."""
OPTIONAL = ("check", "align", "equalise", "mesh")
"""Stages that no other one needs: a plan has them in its total only where a project has used them."""
TABLES = 2e5
"""Bytes of manifests, tables and the like of a run."""


def disk(stage: str, work: Work) -> tuple[float, float]:
    """Return the bytes that a stage leaves, and those that it holds beside them while it works.

    What compresses well is within a factor of 4 of what is written, all of it together within 2.
    """
    return _DISK[stage](work)


def _import(work: Work) -> tuple[float, float]:
    return IMAGE * work.n_voxels * work.itemsize * work.pyramid, 0.0


def _checked(work: Work) -> tuple[float, float]:
    return TABLES, 3e4 * work.shape[0]


def _mesh(work: Work) -> tuple[float, float]:
    n_vertices = SURFACE * work.n_layers * math.prod(work.meshing.shape)
    # A tenth of the triangles is left, stored twice; pieces are names and triangles with their cells.
    return 2 * 3.6 * n_vertices + TABLES, 48 * n_vertices


def _train(work: Work) -> tuple[float, float]:
    twins = 2 if work.training.twins else 1
    weights = 4.0 * twins * sum(network.n_parameters for network in work.networks)
    return weights + TABLES, 6 * weights


def _predict(work: Work) -> tuple[float, float]:
    kept = (PROBABILITY + 2 * MASK) * work.n_maps * work.n_voxels * work.pyramid
    return kept + TABLES, 1.2 * PROBABILITY * work.n_maps * work.n_voxels * work.prediction.n_axes


def _one_layer(work: Work) -> tuple[float, float]:
    return IDS * work.n_voxels * work.pyramid + TABLES, 0.0


def _track(work: Work) -> tuple[float, float]:
    # A row of the table of links per region of each slice.
    return (2 * IDS * work.pyramid + 3e-3) * work.n_voxels + TABLES, 0.0


def _objects(work: Work) -> tuple[float, float]:
    faces = work.n_voxels * (2 / 32 + 4 / 1024) * 4 * 0.02 * work.n_masks
    return 2 * 0.3 * IDS * work.n_masks * work.n_voxels * work.pyramid + TABLES, faces


def _tables(work: Work) -> tuple[float, float]:
    return TABLES * (1 + work.n_layers), 0.0


def _report(work: Work) -> tuple[float, float]:
    return 1e6 * (1 + work.n_layers), 0.0


_DISK: Mapping[str, Callable[[Work], tuple[float, float]]] = {
    "import": _import,
    "check": _checked,
    "align": _import,
    "equalise": _import,
    "train": _train,
    "predict": _predict,
    "cells": _one_layer,
    "track": _track,
    "objects": _objects,
    "anatomy": _tables,
    "evaluate": _tables,
    "measure": _tables,
    "mesh": _mesh,
    "report": _report,
}


def stages_of(work: Work) -> tuple[str, ...]:
    """Return the stages that there is something to do for, in their order."""
    left_out = set()
    if not work.cells:
        left_out |= {"cells", "track"}
    if not work.n_masks:
        left_out |= {"objects"}
    if not (work.cells and work.n_masks):
        left_out |= {"anatomy"}
    if not work.n_layers:
        left_out |= {"mesh"}
    if not work.n_truth:
        left_out |= {"evaluate"}
    return tuple(stage for stage in MEMORY if stage not in left_out)


def needed_stages(work: Work) -> tuple[str, ...]:
    """Return the stages of `stages_of` without those that no other one needs and that were not used."""
    return tuple(stage for stage in stages_of(work) if stage not in OPTIONAL or stage in work.used)


def price(stage: str, work: Work, machine: Machine, rates: Rates, limit: float = math.inf) -> Cost:
    """Return what a stage takes.

    Parameters
    ----------
    stage
        A key of `cristae.costs.memory.MEMORY`.
    work, machine, rates
        What is to be done, on what, and how quick that is.
    limit
        Bytes of memory that are to be kept (``--max-ram``): fewer blocks at a time, or smaller ones, take longer.
        Where a stage cannot keep it, what it needs at least is returned.
    """
    memory, workers, allowed = MEMORY[stage](work), workers_of(stage, work), allowed_memory(stage, work)
    kept = memory.within(limit, allowed, workers) or (0.0, 1)
    peak, words = memory.peak(*kept)
    vram = {"train": train_vram, "predict": predict_vram}.get(stage)
    stays, scratch = disk(stage, work)
    slower = workers / kept[1] if work.workers else 1.0
    seconds = START + slower * SECONDS[stage](work, rates, machine)
    on_card = vram(work) if vram and work.gpu else 0.0
    optional = stage in OPTIONAL and stage not in work.used
    return Cost(stage, peak, on_card, stays, scratch, seconds, words, optional)

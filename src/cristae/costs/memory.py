"""Peak memory of every stage, and how it is kept within a limit.

A stage is a row of steps (`cristae.costs.steps`), one after the other. What a step holds does not depend on the number
of slices, except for tables of objects, which are small. Numbers of bytes per voxel stand where they are used: they
count the arrays that the code holds at its peak, and were compared with measured peaks (benchmark ``pipeline_memory``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from cristae.costs.preparing import align_memory, at_once, check_memory, equalise_memory
from cristae.costs.steps import BASE, Memory, Step, how_many, pyramid_step
from cristae.costs.surfaces import mesh_memory
from cristae.costs.work import IMPORT_BYTES, OBJECTS_BLOCK, SHARD, Network, Triple, Work

GROWTH_BYTES = 40
"""Per voxel of a gap in which cells grow in 3D, at the resolution they grow at."""
BLOCK_BYTES = 32
"""Per voxel of a block in which objects are measured."""
CROP_BYTES = 40
"""Per voxel of the crop of an object that is measured as a whole."""
SMALLEST_SIDE = 32
"""Of a block in which objects are measured."""


def prediction_blocks(work: Work, network: Network, halo: Triple) -> Iterator[tuple[Triple, float]]:
    """Yield blocks of whole shards in which networks may be applied, from large to small, and what they hold.

    Whole slices are best, for no tile is computed twice; where a few of them do not fit they are cut along y and x.

    Parameters
    ----------
    work
        Shape and bytes of a voxel; only these are looked at.
    network
        Channels, maps and reduction.
    halo
        Voxels around a block that are read where it does not span the slice.
    """
    _, n_y, n_x = work.shape
    shards = ((SHARD[0], n_y, n_x), (SHARD[0], SHARD[1] * 4, n_x), (SHARD[0], SHARD[1], n_x), SHARD)
    for depth, height, width in shards:
        rows = min(n_y, height + 2 * (halo[1] if height < n_y else 0))
        columns = min(n_x, width + 2 * (halo[2] if width < n_x else 0))
        read = work.itemsize * (depth + 2 * halo[0]) * rows * columns
        written = depth * min(height, n_y) * min(width, n_x) * network.n_maps
        plane = rows * columns / network.reduction**2
        floats = plane * (2 * network.n_channels + network.n_maps + 2) + 2 * min(height, n_y) * min(width, n_x)
        # Two blocks are read (this one and the next), two written (this one and the last).
        yield (depth, height, width), 2 * (read + written) + 4 * floats


def growth_reduction(gap: Triple, growth: float) -> int:
    """Return the least whole number by which slices are reduced so that growing through a gap takes `growth` bytes."""
    factor = 1
    while growth_bytes(gap, factor) > growth:
        factor += 1
    return factor


def growth_bytes(gap: Triple, factor: int) -> float:
    """Return what growing through a gap takes, its slices reduced by `factor`."""
    return float(gap[0] * math.prod(-(-n // factor) for n in gap[1:]) * GROWTH_BYTES)


def import_memory(work: Work) -> Memory:
    """Return what copying an image holds: blocks of whole slices up to `IMPORT_BYTES`, and a survey of each slice."""
    depth, height, width = min(SHARD[0], work.shape[0]), *work.shape[1:]
    row = depth * width * work.itemsize
    rows = min(height, max(1, IMPORT_BYTES // row // SHARD[1]) * SHARD[1])
    block = row * rows
    # A slice of the source is decoded as a whole, and copied once.
    copying = Step("blocks of slices that are copied", 0, block + 2 * work.plane * work.itemsize)
    # Grey values are counted as numbers of 8 bytes; of 16 bits, there are 65,536 counts for each slice of a block.
    survey = Step("grey values that are counted", block + 8 * rows * width + depth * 8 * 256**work.itemsize)
    return Memory((copying, survey, pyramid_step(work, work.itemsize, labels=False)))


def train_memory(work: Work) -> Memory:
    """Return what training holds: labelled slices at the network's resolution, weights, and features of a batch."""
    steps = []
    for network in work.networks:
        how, twins = work.training, 2 if work.training.twins else 1
        pixels = -(-work.shape[1] // network.reduction) * -(-work.shape[2] // network.reduction)
        # Image, target, weight, and a second weight without what is held out.
        slices = how.n_slices * 4 * pixels * (network.n_channels + 3 * network.n_maps)
        slices += how.n_unlabelled * 4 * pixels * (network.n_channels + 2 * network.n_maps)
        loading = work.plane * (9 * network.n_maps + 12 + work.itemsize)
        # Weights, gradients, two moments, the average, the best ones, and a checkpoint being written.
        weights = 4 * 7 * network.n_parameters * twins
        batch = -(-how.batch // how.n_processes) * how.tile_px**2 * (network.training_bytes + network.forward_bytes)
        judged = pixels * how.holdout_share if how.holdout_share else 0.0
        judging = (math.sqrt(judged) + 128) ** 2 * network.forward_bytes if judged else 0.0
        # Freed memory is kept, gradients come on top, and features of other sizes do not fit into what is kept.
        held = slices + max(loading, weights + (0 if work.gpu else 2.0 * twins * max(batch, judging)))
        if how.n_processes > 1:  # beside the one that begins them
            held = how.n_processes * (BASE + held)
        steps.append(Step("labelled slices, weights and features of a batch (train.batch, train.tile_px)", held))
    return Memory(tuple(steps) or (Step("nothing"),))


def train_vram(work: Work) -> float:
    """Return what training holds on each graphics card that it uses."""
    twins = 2 if work.training.twins else 1
    patches = -(-work.training.batch // work.training.n_processes) * work.training.tile_px**2
    # Features are numbers of 2 bytes there; libraries take half a gigabyte.
    each = [24 * n.n_parameters + patches * n.training_bytes / 2 for n in work.networks]
    return 5e8 + twins * max(each, default=0.0)


def predict_memory(work: Work) -> Memory:
    """Return what prediction holds: one tile in the network, blocks in flight, and blocks being smoothed."""
    how, steps = work.prediction, []
    for network in work.networks:
        tile = [min(how.tile_px, -(-n // network.reduction)) for n in work.shape[1:]]
        halo = (network.n_channels // 2, *(network.reduction * (side + 2) for side in tile))
        held = [found for _, found in prediction_blocks(work, network, (halo[0], halo[1], halo[2]))]
        # Weights as they are and as they are run; an engine of its own holds them once more.
        fixed = 16.0 * network.n_parameters
        fixed += 0 if work.gpu else 1.3 * tile[0] * tile[1] * network.forward_bytes * (2 if work.training.twins else 1)
        words = "one tile in the network (predict.tile_px), and blocks in flight"
        steps.append(Step(words, fixed, 0, min(held), max(held)))
    reach = how.smooth_reach
    rows = [min(s, n) for s, n in zip(SHARD, work.shape, strict=True)]
    # Read, weighted, summed and rounded as numbers of 4 bytes; twice written.
    one = rows[1] * rows[2] * ((rows[0] + 2 * reach) * (how.n_axes + 13) + 4 * rows[0])
    steps.append(Step("blocks that are smoothed along z", 0, one))
    steps.append(pyramid_step(work, 1, labels=False))
    return Memory(tuple(steps))


def predict_vram(work: Work) -> float:
    """Return what prediction holds on a graphics card: four tiles at a time, features of 2 bytes."""
    tile = [[min(work.prediction.tile_px, -(-n // net.reduction)) for n in work.shape[1:]] for net in work.networks]
    each = [
        8 * net.n_parameters + 4 * y * x * net.forward_bytes / 2
        for net, (y, x) in zip(work.networks, tile, strict=True)
    ]
    return 5e8 + max(each, default=0.0)


def cells_memory(work: Work) -> Memory:
    """Return what separation holds: planes of a gap in work, and what grows between its ends."""
    gap = (work.longest_gap or work.shape[0], *work.shape[1:])
    growing = growth_bytes(gap, growth_reduction(gap, work.separation.growth))
    # Slabs of the image and of two maps; labelled slices and carried ones as numbers of 8 bytes, flow, outlines.
    planes = work.plane * (16 * (work.itemsize + 2) + 120)
    words = "one gap between labelled slices (cells.growth_gb, or a labelled slice in the longest one)"
    # Of several gaps in work each has its planes, and all together grow in what is allowed.
    grow = Step(words, 0, planes, growing, growing * how_many(work))
    return Memory((grow, pyramid_step(work, 4, labels=True)))


def track_memory(work: Work) -> Memory:
    """Return what tracking holds: a few slices, and a table with a row for each region of each slice."""
    regions = 1e-2 * work.plane * work.shape[0]
    # Labelled slices are read when they are asked for, or held: 4 bytes a pixel.
    held = regions + 4 * work.plane * work.n_labelled
    return Memory((Step("slices in work, and a table of regions", held, 60 * work.plane), pyramid_step(work, 4, True)))


def objects_memory(work: Work) -> Memory:
    """Return what numbering objects holds: blocks, and the faces of a layer of them."""
    sides = [min(b, n) for b, n in zip(OBJECTS_BLOCK, work.shape, strict=True)]
    block = math.prod(sides)
    in_layer = math.prod(-(-n // b) for n, b in zip(work.shape[1:], OBJECTS_BLOCK[1:], strict=True))
    faces = 8 * (sides[1] * sides[2] + sides[0] * (sides[1] + sides[2]))
    steps = (
        Step("blocks in which parts are found", 0, 18 * block),
        Step("faces of a layer of blocks", (in_layer + 5) * 2 * faces),
        pyramid_step(work, 4, labels=True),
    )
    return Memory(steps)


def anatomy_memory(work: Work) -> Memory:
    """Return what relating objects to cells holds: blocks of ids of both."""
    block = math.prod(min(s, n) for s, n in zip(SHARD, work.shape, strict=True))
    return Memory((Step("blocks of ids, and a table of pairs", 5e7, 40 * block),))


def evaluate_memory(work: Work) -> Memory:
    """Return what scoring holds: slabs of prediction and probability, and a slice of the truth."""
    slab = max(work.plane, min(16 * work.plane, 2**28))
    return Memory((Step("slabs of the prediction, and a slice of the truth", 3 * slab + 60 * work.plane),))


def measure_memory(work: Work) -> Memory:
    """Return what measuring holds: blocks that are walked, or crops of single objects."""
    how = work.measuring

    def block(side: int) -> float:
        return BLOCK_BYTES * math.prod(min(n, side + 2 * h) for n, h in zip(work.shape, how.halo, strict=True))

    tables = 4e8  # kernels that are compiled the first time, too
    blocks = Step(
        "blocks in which objects are measured", tables, 0, block(SMALLEST_SIDE), how_many(work) * block(how.block_side)
    )
    crop = CROP_BYTES * min(how.crop_voxels, work.n_voxels)
    crops = Step("the crop of a large object (measure.crop_voxels)", tables, 0, crop, how_many(work) * crop)
    return Memory((blocks, crops) if "features" in how.families else (blocks,))


def report_memory(work: Work) -> Memory:
    """Return what the report holds: figures, and a few slices."""
    return Memory((Step("slices that are drawn, and figures", 3e8 + 30 * work.plane),))


MEMORY: Mapping[str, Callable[[Work], Memory]] = {
    "import": import_memory,
    "check": check_memory,
    "align": align_memory,
    "equalise": equalise_memory,
    "train": train_memory,
    "predict": predict_memory,
    "cells": cells_memory,
    "track": track_memory,
    "objects": objects_memory,
    "anatomy": anatomy_memory,
    "evaluate": evaluate_memory,
    "measure": measure_memory,
    "mesh": mesh_memory,
    "report": report_memory,
}
"""Memory of every stage, in their order."""


def allowed_memory(stage: str, work: Work) -> float:
    """Return what the setting ``max_ram_gb`` of a stage allows its blocks, in bytes; no limit without one."""
    settings = {"predict": work.prediction.memory, "cells": work.separation.memory, "measure": work.measuring.memory}
    return settings.get(stage, math.inf)


def workers_of(stage: str, work: Work) -> int:
    """Return how many blocks, gaps or slices of a stage are in memory at a time."""
    if stage in ("align", "equalise"):
        return at_once(work)
    return work.at_once if stage in ("import", "predict", "objects") else how_many(work)

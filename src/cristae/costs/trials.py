"""What adaptation and studies hold, which do the work of other stages over and over; what exports hold, too."""

from __future__ import annotations

from collections.abc import Mapping

from cristae.costs.memory import growth_bytes, growth_reduction, train_memory
from cristae.costs.steps import Memory, Step
from cristae.costs.work import SHARD, Network, Triple, Work

MEASURED_AT_ONCE = 8
"""Tiles in one batch when statistics are measured."""
SLAB_BYTES = 2**28
"""An export holds whole slices up to this size, at most 16."""
TILE = 1024
"""Side of the tiles that are written to folders for viewers, which are `_DEPTH` slices deep."""
_DEPTH = 64
_HELD: Mapping[str, float] = {"mib": 10}
"""Per voxel of a slab beside itself twice, where it is not 1: another type of numbers, turned."""
_TILED = ("precomputed", "webknossos")


def adapt_memory(work: Work, *, learns: bool) -> Memory:
    """Return what adaptation holds: slices at the network's resolution, features of a batch, and weights.

    Parameters
    ----------
    work
        Of its training, batch, tile, slices without labels and twins are looked at.
    learns
        Whether networks go on learning, and not only their statistics are measured.
    """
    how, twins, steps = work.training, 2 if work.training.twins else 1, []
    for network in work.networks:
        pixels = _reduced(work, network)
        # Image, with other grey values once more; an empty target and its weight; learning, labels and their weights.
        maps = 2 * network.n_channels + (6 if learns else 2) * network.n_maps
        slices = 4.0 * how.n_unlabelled * pixels * maps
        loading = work.plane * (12 + work.itemsize)
        weights = 4.0 * twins * network.n_parameters * (7 if learns else 2)
        patch = how.tile_px**2
        # Features of one layer are numbers of 8 bytes, and squares of these, while they are added up.
        features = 3 * MEASURED_AT_ONCE * patch * network.forward_bytes
        if learns:
            batch = 2 * how.batch * patch * (network.training_bytes + network.forward_bytes)
            features = twins * max(features, batch, _tile(work, network) * network.forward_bytes)
        # Features of other sizes do not fit into what was freed and is kept: up to half as much again was measured.
        held = slices + max(loading, weights + (0 if work.gpu else 1.6 * features))
        steps.append(Step("slices without labels, weights and features of a batch (adapt.slices, adapt.batch)", held))
    return Memory(tuple(steps) or (Step("nothing"),))


def trial_memory(work: Work) -> Memory:
    """Return what one training of a study holds, and the prediction of the slices that it is scored on."""
    how, twins, steps = work.prediction, 2 if work.training.twins else 1, list(train_memory(work).steps)
    for network in work.networks:
        around = how.smooth_reach + network.n_channels // 2
        # A slice as stored, and per class the probability, it smoothed as numbers of 4 bytes, and the mask.
        each = work.plane * (work.itemsize + 10.0 * network.n_maps)
        fixed = 16.0 * network.n_parameters + 60.0 * work.plane
        fixed += 0 if work.gpu else 1.3 * twins * _tile(work, network) * network.forward_bytes
        words = "one tile in the network (predict.tile_px), and slices that are scored"
        steps.append(Step(words, fixed, 0, (1 + 2 * around) * each, (SHARD[0] + 2 * around) * each))
    return Memory(tuple(steps))


def study_cells_memory(work: Work, factor: int) -> Memory:
    """Return what a study of cells holds, slices reduced by `factor`: of each stretch in work, planes and growth."""
    gap: Triple = (work.longest_gap, -(-work.shape[1] // factor), -(-work.shape[2] // factor))
    growing = growth_bytes(gap, growth_reduction(gap, work.separation.growth))
    # Slabs of image and maps; labelled slices, flow, outlines; a slice with its truth, pair by pair.
    planes = work.plane * (SHARD[0] * (work.itemsize + 2) + 180)
    words = "one stretch between labelled slices (study_cells.reduction, cells.growth_gb)"
    return Memory((Step(words, 0, planes + growing),))


def export_memory(work: Work, form: str, *, joined: bool) -> Memory:
    """Return what an export holds.

    Parameters
    ----------
    work
        Shape and bytes of a voxel; only these are looked at.
    form
        Name of the format.
    joined
        Whether classes are joined to one map as they are read.
    """
    if form in _TILED:
        block = min(_DEPTH, work.shape[0]) * min(TILE, work.shape[1]) * min(TILE, work.shape[2])
        # Read, waiting to be reduced, put together at coarser levels, encoded.
        return Memory((Step("tiles that are written", 5.0 * block * work.itemsize + (8 * block if joined else 0)),))
    slices = max(1, min(SHARD[0], SLAB_BYTES // max(1, work.plane * work.itemsize), work.shape[0]))
    # What is stored is decoded from whole chunks, however few slices are asked for.
    decoded = min(SHARD[0], work.shape[0]) * work.plane * work.itemsize if slices < SHARD[0] else 0
    each = 2 * work.itemsize + _HELD.get(form, 1) + (8 if joined else 0)
    return Memory((Step("slabs of slices that are written", float(slices * work.plane * each + decoded)),))


def _reduced(work: Work, network: Network) -> int:
    return -(-work.shape[1] // network.reduction) * -(-work.shape[2] // network.reduction)


def _tile(work: Work, network: Network) -> int:
    """Return the pixels of the largest tile that is put into a network at once."""
    height, width = (min(work.prediction.tile_px, -(-n // network.reduction)) for n in work.shape[1:])
    return height * width

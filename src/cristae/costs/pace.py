"""How long stages take, from rates measured on this machine and from committed ones scaled to it.

Time is core seconds over the cores that a stage keeps busy. Rates are core seconds per million voxels of 8 bits::

    seconds = Σ million voxels × rate / (speed of a core here × cores in use)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cristae.costs.surfaces import SURFACE
from cristae.costs.work import Machine, Network, Work

REFERENCE: Mapping[str, float] = {
    "decode": 0.003,
    "check": 0.006,
    "match": 0.009,
    "warp": 0.005,
    "equalise": 0.004,
    "survey": 0.0016,
    "levels": 0.006,
    "levels of labels": 0.0015,
    "prepare": 0.0006,
    "enlarge": 0.0027,
    "smooth": 0.020,
    "cells": 0.145,
    "cells by flow": 0.435,
    "cells by all methods": 1.78,
    "track": 0.0045,
    "objects": 0.006,
    "anatomy": 0.002,
    "evaluate": 0.012,
    "sizes": 0.020,
    "shape": 0.040,
    "holes": 0.015,
    "features": 0.020,
    "relations": 0.020,
    "texture": 0.010,
    "zones": 0.012,
    "spectrum": 0.055,
    "mesh": 0.015,
    "finish": 5.0,
}
"""Core seconds per million voxels on the machine of the committed benchmarks: cells from `cells_speed`, tracking from
`track_speed`, families of measuring from `measure_scale`, `measure_zones` and `measure_spectrum`, preparing from
`prepare_speed`, meshes (per million vertices: `finish`) from `mesh_speed`, the others from
single calls. Together they give the times of the row `demo`; a test compares."""
START = 6.0
"""Seconds that a command takes to begin: libraries, compiled kernels."""
BUSY = 0.86
"""Share of the time of a prediction in which the network runs (`predict_throughput`)."""


@dataclass(frozen=True)
class Rates:
    """What was measured on a machine.

    Parameters
    ----------
    speed
        Of a core, over that of the machine of the committed benchmarks.
    read_s, write_s
        Core seconds to read from, and to write to, the store a million bytes.
    forward_s, training_s
        For each network, seconds for a million pixels of its input, applied and trained, on all cores or the card.
    """

    speed: float = 1.0
    read_s: float = 0.002
    write_s: float = 0.004
    forward_s: tuple[float, ...] = ()
    training_s: tuple[float, ...] = ()

    def core_s(self, name: str) -> float:
        """Return core seconds per million voxels of what is in `REFERENCE`."""
        return REFERENCE[name] / self.speed


def n_tiles(extent: int, largest: int, overlap: int) -> int:
    """Return how many tiles of at most `largest` pixels, which overlap, cover `extent`."""
    overlap = min(overlap, largest // 2)
    return 1 if extent <= largest else math.ceil((extent - overlap) / (largest - overlap))


def tiled_pixels(work: Work, network: Network) -> float:
    """Return how many pixels a network is given for one slice, overlaps of tiles included."""
    how, pixels = work.prediction, 1.0
    for n in work.shape[1:]:
        extent = -(-n // network.reduction)
        pixels *= extent + (n_tiles(extent, how.tile_px, how.overlap_px) - 1) * min(how.overlap_px, how.tile_px // 2)
    return pixels


def _cores(work: Work, machine: Machine) -> int:
    return min(max(1, work.workers), machine.cores)


def _million(work: Work) -> float:
    return work.n_voxels / 1e6


def _pyramid_s(work: Work, rates: Rates, itemsize: int, what: str = "levels of labels") -> float:
    """Core seconds for the coarser levels of a million voxels."""
    more = work.pyramid - 1
    return (itemsize * (rates.read_s + more * rates.write_s) + rates.core_s(what)) if more else 0.0


def import_s(work: Work, rates: Rates, machine: Machine) -> float:
    """Return the time to copy, survey and reduce an image."""
    copying = work.itemsize * (rates.core_s("decode") + rates.write_s) / _cores(work, machine)
    survey = work.itemsize * rates.read_s + rates.core_s("survey") * work.itemsize
    return _million(work) * (copying + survey + _pyramid_s(work, rates, work.itemsize, "levels"))


def check_s(work: Work, rates: Rates, machine: Machine) -> float:
    """Return the time of a reading."""
    return _million(work) * (work.itemsize * rates.read_s + rates.core_s("check") / _cores(work, machine))


def align_s(work: Work, rates: Rates, machine: Machine) -> float:
    """Return the time of two readings, a writing, and what follows each writing of an image."""
    each = rates.core_s("match") + rates.core_s("warp") + work.itemsize * (2 * rates.read_s + rates.write_s)
    return _million(work) * (each / _cores(work, machine)) + _finishing_s(work, rates)


def equalise_s(work: Work, rates: Rates, machine: Machine) -> float:
    """Return the time of a reading, a writing, and what follows each writing of an image."""
    each = rates.core_s("equalise") + work.itemsize * (rates.read_s + rates.write_s)
    return _million(work) * (each / _cores(work, machine)) + _finishing_s(work, rates)


def _finishing_s(work: Work, rates: Rates) -> float:
    """Return the time of coarser levels and of a survey, one beside the other."""
    survey = work.itemsize * (rates.read_s + rates.core_s("survey"))
    return _million(work) * (survey + _pyramid_s(work, rates, work.itemsize, "levels"))


def train_s(work: Work, rates: Rates, machine: Machine) -> float:
    """Return the time of all updates and judgements of all networks."""
    how, total = work.training, 0.0
    n_checks = math.ceil(how.updates / how.check_every)
    twins = 2 if how.twins else 1
    for network, forward, learning in zip(work.networks, rates.forward_s, rates.training_s, strict=True):
        patches = how.batch * how.tile_px**2 / 1e6 * (2 if how.n_unlabelled else 1)
        slices = how.n_slices * work.plane / network.reduction**2 / 1e6
        total += twins * how.updates * patches * learning
        total += twins * n_checks * slices * how.holdout_share * forward
        total += (how.n_slices * network.n_channels + how.n_unlabelled) * work.plane / 1e6 * rates.core_s("prepare")
    return total


def predict_s(work: Work, rates: Rates, machine: Machine) -> float:
    """Return the time to apply all networks, to smooth and to reduce."""
    how, total = work.prediction, 0.0
    for network, forward in zip(work.networks, rates.forward_s, strict=True):
        tiles = work.shape[0] * tiled_pixels(work, network) / 1e6 * forward * how.views / BUSY
        around = rates.core_s("prepare") + network.n_maps * rates.core_s("enlarge")
        total += how.n_axes * (tiles + _million(work) * around)
    smooth = rates.core_s("smooth") + how.n_axes * rates.read_s + 2 * rates.write_s
    each = smooth / _cores(work, machine) + _pyramid_s(work, rates, 1, "levels") + _pyramid_s(work, rates, 1)
    return total + _million(work) * work.n_maps * each


def cells_s(work: Work, rates: Rates, machine: Machine) -> float:
    """Return the time to try methods, and to work off all gaps by the one that is used."""
    how = work.separation
    by_flow = "flow" in how.method
    each = rates.core_s("cells by flow" if by_flow else "cells") + (work.itemsize + 2) * rates.read_s
    total = _million(work) * (each / _cores(work, machine) + _pyramid_s(work, rates, 4))
    if how.method == "auto" and work.n_labelled >= 3:
        share = min(1.0, how.try_px / max(work.shape[1:])) ** 2
        slices = min(how.n_tries, work.n_labelled - 2) * 2 * (work.longest_gap or work.shape[0])
        total += slices * share * work.plane / 1e6 * rates.core_s("cells by all methods")
    return total


def track_s(work: Work, rates: Rates, machine: Machine) -> float:
    """Return the time of two readings and one writing."""
    each = rates.core_s("track") + 8 * rates.read_s + 4 * rates.write_s
    return _million(work) * (each / _cores(work, machine) + _pyramid_s(work, rates, 4))


def objects_s(work: Work, rates: Rates, machine: Machine) -> float:
    """Return the time of two readings of each mask and one writing."""
    each = rates.core_s("objects") + 2 * rates.read_s + 4 * rates.write_s
    return _million(work) * work.n_masks * (each / _cores(work, machine) + _pyramid_s(work, rates, 4))


def anatomy_s(work: Work, rates: Rates, machine: Machine) -> float:
    """Return the time to count what objects and cells share."""
    each = rates.core_s("anatomy") + 8 * rates.read_s
    return _million(work) * work.n_masks * each / _cores(work, machine)


def evaluate_s(work: Work, rates: Rates, machine: Machine) -> float:
    """Return the time to score the slices with a truth."""
    each = rates.core_s("evaluate") + 3 * rates.read_s
    return work.n_truth * work.plane / 1e6 * work.n_layers * each


def measure_s(work: Work, rates: Rates, machine: Machine) -> float:
    """Return the time of a pass for every family and class."""
    families = work.measuring.families
    each = rates.core_s("sizes") + sum(rates.core_s(name) + 4 * rates.read_s for name in families)
    return _million(work) * work.n_layers * each / _cores(work, machine)


def mesh_s(work: Work, rates: Rates, machine: Machine) -> float:
    """Return the time to find surfaces in a level of every layer, and to finish the meshes of all objects."""
    voxels = work.n_layers * math.prod(work.meshing.shape) / 1e6
    each = rates.core_s("mesh") + 4 * rates.read_s + SURFACE * rates.core_s("finish")
    return voxels * each / _cores(work, machine)


def report_s(work: Work, rates: Rates, machine: Machine) -> float:
    """Return the time to draw some slices of every class."""
    return (work.n_layers + 1) * (2.0 + 6 * work.plane / 1e6 * (0.05 + 16 * rates.read_s)) / rates.speed


SECONDS: Mapping[str, Callable[[Work, Rates, Machine], float]] = {
    "import": import_s,
    "check": check_s,
    "align": align_s,
    "equalise": equalise_s,
    "train": train_s,
    "predict": predict_s,
    "cells": cells_s,
    "track": track_s,
    "objects": objects_s,
    "anatomy": anatomy_s,
    "evaluate": evaluate_s,
    "measure": measure_s,
    "mesh": mesh_s,
    "report": report_s,
}
"""Time of every stage without its beginning."""

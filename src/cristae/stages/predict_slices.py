"""Masks of some slices of a volume by one network, as a whole prediction would have them: for scoring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cristae.geometry import Block, Box
from cristae.learn.checkpoint import load_model
from cristae.learn.infer import Inference, SlabPredictor
from cristae.project import Project
from cristae.stages.predict import PredictSettings, Smoothing
from cristae.stages.schemes import choose_device, view_for

_LONGEST = 16
"""Slices predicted at a time, at most."""


def predict_slices(
    project: Project, folder: Path, slices: Sequence[int], settings: PredictSettings
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Yield class, z and bool mask ``(y, x)`` of each slice; see `predict_planes`."""
    for name, z, _, mask in predict_planes(project, folder, slices, settings):
        yield name, z, mask


def predict_planes(
    project: Project, folder: Path, slices: Sequence[int], settings: PredictSettings
) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Yield class, z, uint8 probability × 255 and bool mask ``(y, x)`` of each slice, as a whole prediction has them.

    They are smoothed along z. Slices that lie close together share the work on the slices around them.

    Parameters
    ----------
    project
        Where the image is.
    folder
        Of one trained network.
    slices
        z of what is wanted.
    settings
        Of the prediction; it is made along z alone, whatever they say.
    """
    device = choose_device(settings.device)
    model, network = load_model(folder, device)
    image, view = project.image, view_for(project, model)
    inference = Inference.of(network, settings.tile_px, settings.overlap_px, settings.views)
    inference = replace(inference, batch=1 if device.type == "cpu" else 4)
    predictor = SlabPredictor(network, view, image.shape, inference, device)
    smoothing = Smoothing(settings.smooth_z, settings.threshold, frozenset(view.missing))
    around = smoothing.reach + view.reach
    # Per slice: as stored, and per class the probability, it smoothed as float32, and the mask.
    each = image.shape[1] * image.shape[2] * (image.dtype.itemsize + 10 * len(model.classes))
    longest = int(settings.max_ram_gb * 2**30 / each) - 2 * around
    for stretch in stretches(slices, 2 * smoothing.reach + 1, max(1, min(_LONGEST, longest))):
        write = Box((stretch[0], 0, 0), (stretch[-1] + 1, *image.shape[1:]))
        slab = write.grow((smoothing.reach, 0, 0)).clip(image.grid.box)
        read = slab.grow((view.reach, 0, 0)).clip(image.grid.box)
        probabilities = predictor(Block(read, slab), image.read(read))
        for name, probability in zip(model.classes, probabilities, strict=True):
            smooth, mask = smoothing(Block(slab, write), probability)
            for z in stretch:
                yield name, z, smooth[z - stretch[0]], mask[z - stretch[0]] > 0


def stretches(slices: Sequence[int], apart: int, longest: int) -> list[list[int]]:
    """Return slices, ascending, in groups in which neighbours are at most `apart` slices apart.

    From its first slice to its last no group spans more than `longest` slices.
    """
    found: list[list[int]] = []
    for z in sorted(set(slices)):
        if found and z - found[-1][-1] <= apart and z - found[-1][0] < longest:
            found[-1].append(z)
        else:
            found.append([z])
    return found

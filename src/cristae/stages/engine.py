"""Which engine runs the networks of a prediction, and whether 8 bits are good enough for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cristae.annotations import IGNORE
from cristae.errors import DataError, ResourceError
from cristae.files import write_atomically
from cristae.geometry import Block, Box
from cristae.learn.checkpoint import Model
from cristae.learn.eight_bit import Range
from cristae.learn.engines import Engine, EngineName, OpenVinoEngine, TorchEngine, describe_engine
from cristae.learn.infer import Inference, SlabPredictor
from cristae.learn.patches import View, hold_out, load_slices
from cristae.learn.targets import Target, targets_of
from cristae.nets.registry import NETWORKS
from cristae.project import Project, Run
from cristae.stages.start import boundary_nm

TOLERANCE = 0.002
"""Dice that 8 bits may cost."""
MOST_SLICES = 12
"""Labelled slices on which 8 bits are tried, evenly spread."""
MOST_TILES = 8
"""Tiles from which the range of values is taken."""

Dices = dict[str, float]


@dataclass(frozen=True)
class Group:
    """A trained network, ready to predict.

    Parameters
    ----------
    project, trained
        Where its labels are, and the run that trained it.
    model, network
        From `cristae.learn.checkpoint.load_model`.
    view, inference
        How it is applied along z.
    device
        Where it is.
    """

    project: Project
    trained: Run
    model: Model
    network: nn.Module
    view: View
    inference: Inference
    device: torch.device


@dataclass(frozen=True)
class Trial:
    """What was found out about 8 bits.

    Parameters
    ----------
    ranges
        For `cristae.learn.engines.OpenVinoEngine.eight_bit`.
    float32, int8
        Dice of each class on labelled slices.
    held_out
        Whether these were parts that the network had not learnt from, for every class.
    """

    ranges: list[Range]
    float32: Dices
    int8: Dices
    held_out: bool

    @property
    def passed(self) -> bool:
        """Whether no class lost more than `TOLERANCE`."""
        return all(self.float32[name] - self.int8[name] <= TOLERANCE for name in self.float32)


def make_engine(
    name: EngineName, optional: bool, group: Group, threshold: float, stored: Path, notify: Callable[[str], None]
) -> tuple[Engine, dict[str, Any]]:
    """Return the engine for a network, and what the manifest says of it.

    Parameters
    ----------
    name
        From `cristae.learn.engines.resolve_engine`.
    optional
        Whether PyTorch may stand in where OpenVINO cannot run the network.
    group
        The network.
    threshold
        Probability from which on a voxel is the class.
    stored
        Where the trial of 8 bits is kept: a resumed prediction does not decide anew.
    notify
        Told in words what was decided.

    Raises
    ------
    ResourceError
        If OpenVINO cannot run the network and need not be replaced.
    """
    disagreement, channels = group.inference.disagreement, group.view.n_channels
    if name == "torch":
        return TorchEngine(group.network, group.device, disagreement), {"engine": describe_engine("torch")}
    try:
        if optional and group.model.network not in NETWORKS:
            # Networks of others were never tried, and what OpenVINO cannot take may end the process.
            raise ResourceError(f"{group.model.network} is no network of cristae itself")
        engine = OpenVinoEngine(group.network, channels, disagreement)
    except ResourceError as error:
        if not optional:
            raise
        notify(f"predict: by torch, not openvino: {error}")
        fallback = TorchEngine(group.network, group.device, disagreement)
        return fallback, {"engine": describe_engine("torch"), "not_openvino": str(error)}
    facts: dict[str, Any] = {
        "engine": describe_engine("openvino"),
        "largest_difference_from_torch": engine.difference,
    }
    if name == "openvino":
        return engine, facts
    try:
        trial = _trial(group, engine, threshold, stored)
    except DataError as error:
        notify(f"predict: in float32, for 8 bits cannot be tried: {error}")
        return engine, facts | {"not_int8": str(error)}
    facts |= {"dice_float32": trial.float32, "dice_int8": trial.int8, "dice_on_held_out_parts": trial.held_out}
    words = ", ".join(f"{one} {trial.int8[one]:.4f} instead of {trial.float32[one]:.4f}" for one in trial.float32)
    if not trial.passed:
        reason = f"8 bits cost more than {TOLERANCE:g} of Dice on labelled slices ({words})"
        notify(f"predict: in float32, for {reason}")
        return engine, facts | {"not_int8": reason}
    notify(f"predict: in 8 bits; Dice on labelled slices {words}")
    return engine.eight_bit(trial.ranges), facts | {"engine": describe_engine("openvino-int8")}


def _trial(group: Group, engine: OpenVinoEngine, threshold: float, stored: Path) -> Trial:
    """Return the trial of 8 bits, from disk where it is done."""
    if stored.is_file():
        content = json.loads(stored.read_text())
        return Trial(**content)
    judged = _judged(group)
    tiles = _Tiles(engine)
    float32 = _dices(group, tiles, judged, threshold)
    ranges = engine.calibrate(tiles.kept)
    int8 = _dices(group, engine.eight_bit(ranges), judged, threshold)
    trial = Trial(ranges, float32, int8, judged.held_out)
    write_atomically(stored, json.dumps(vars(trial), indent=1) + "\n")
    return trial


class _Tiles:
    """An engine that keeps some of the tiles that it is given, evenly over the slices."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.kept, self.most = engine, list[Tensor](), 0

    def __call__(self, image: Tensor) -> Tensor:
        # Turned tiles of an oblong slice have another shape.
        if len(self.kept) < self.most and (not self.kept or image.shape == self.kept[0].shape):
            self.kept.append(image.clone())
        return self.engine(image)


@dataclass(frozen=True)
class _Judged:
    """What predictions are compared with.

    Parameters
    ----------
    targets
        The output maps, in order.
    masks
        By slice, bool ``(maps, y, x)`` in network pixels: where each map is judged.
    held_out
        Whether nothing of it was learnt from.
    """

    targets: Sequence[Target]
    masks: Mapping[int, np.ndarray]
    held_out: bool


def _judged(group: Group) -> _Judged:
    """Return the held-out parts of labelled slices, and for maps that have nothing there the slices as they are.

    An adapted network learnt from no label: the whole of each slice that has any is judged.

    Raises
    ------
    DataError
        If there are no labels, or not of every map.
    """
    annotations, facts, settings = group.project.annotations, group.trained.manifest, group.trained.settings
    adapted, width = "adapted" in facts, boundary_nm(group.trained)
    if width is None:
        raise DataError("the run does not say how wide the boundaries are that it learnt; adapt again")
    found = {one.name: one for one in targets_of(annotations, facts["learnt"], width)}
    targets = [found[name] for name in group.model.classes if name in found]
    painted = {z for one in targets for z in annotations.labelled_slices(one.layer)}
    shown = painted if adapted else painted & {z for one in targets for z in facts["labelled_slices"][one.name]}
    if len(targets) < len(group.model.classes) or not shown:
        raise DataError("classes that it learnt have no labels " + ("here" if adapted else "any more"))
    slices = load_slices(group.project.image, annotations, targets, group.view, sorted(shown))
    held = seen = np.stack([one.weight > 0 for one in slices])
    there = np.stack([one.target >= 0.5 for one in slices])
    if not adapted:
        rest, _ = hold_out(slices, settings["seed"], settings["holdout_share"])
        held = seen & (np.stack([one.weight for one in rest]) == 0)
    empty = ~(held & there).any((0, 2, 3))
    held[:, empty] = seen[:, empty]
    useful = [i for i in range(len(slices)) if held[i].any()]
    chosen = sorted({useful[round(i)] for i in np.linspace(0, len(useful) - 1, min(MOST_SLICES, len(useful)))})
    return _Judged(targets, {slices[i].z: held[i] for i in chosen}, adapted or not empty.any())


def _dices(group: Group, engine: Engine, judged: _Judged, threshold: float) -> Dices:
    """Return the Dice of each map, all voxels pooled; 1 where neither has any."""
    lowest = int(np.ceil(threshold * 255))
    both, total = np.zeros((2, len(judged.targets)))
    for probability, truth, where in _predicted(group, engine, judged):
        found = (probability >= lowest) & where
        both += (found & truth & where).sum((1, 2))
        total += found.sum((1, 2)) + (truth & where).sum((1, 2))
    return {one.name: float(2 * both[i] / total[i]) if total[i] else 1.0 for i, one in enumerate(judged.targets)}


def _predicted(group: Group, engine: Engine, judged: _Judged) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield probability × 255, truth and where to compare them, ``(maps, y, x)``, for a box of each judged slice."""
    image, annotations, view = group.project.image, group.project.annotations, group.view
    predictor = SlabPredictor(engine, view, image.shape, group.inference, group.device)
    for done, (z, mask) in enumerate(judged.masks.items(), start=1):
        if isinstance(engine, _Tiles):
            engine.most = -(-MOST_TILES * done // len(judged.masks))
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in ((0, 2), (0, 1)))
        factor = view.reduction
        box = Box(
            (z, int(rows[0]) * factor, int(columns[0]) * factor),
            (z + 1, int(rows[-1] + 1) * factor, int(columns[-1] + 1) * factor),
        ).clip(image.grid.box)
        read = box.grow(predictor.halo).clip(image.grid.box)
        probability = np.concatenate(predictor(Block(read, box), image.read(read))[: len(judged.targets)])
        inside = (slice(None), *box.slices[1:])
        labels = np.stack([one.read(annotations, z) for one in judged.targets])[inside]
        where = mask.repeat(factor, axis=1).repeat(factor, axis=2)[inside]
        yield probability, labels == 1, where & (labels != IGNORE)

"""Supervised training: the step function and the judge given to `cristae.learn.fit.fit`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cristae.learn.ahead import Ahead
from cristae.learn.fit import Score
from cristae.learn.infer import Inference, Tiled
from cristae.learn.objective import outputs_of
from cristae.learn.patches import LabelledSlice, PatchSampler
from cristae.nets.losses import loss_of

_LOOKED_UP = 128
"""Pixels around a place of a class at which it is looked up whether the class is predicted at all."""


class SupervisedStep:
    """Loss of one batch of labelled patches. The next batch is cut while this one is learnt.

    Parameters
    ----------
    sampler
        Where patches come from.
    classes
        Names of the output maps.
    cross_entropy
        Weight of the cross-entropy beside the Dice loss.
    device
        Where the network is.
    """

    def __init__(
        self, sampler: PatchSampler, classes: Sequence[str], cross_entropy: float, device: torch.device
    ) -> None:
        self.sampler, self.classes, self.cross_entropy, self.device = sampler, list(classes), cross_entropy, device
        self._ahead = Ahead(sampler.batch)

    def __call__(self, network: nn.Module, step: int) -> Tensor:
        """Return the loss of update `step`."""
        image, target, weight = (torch.from_numpy(array).to(self.device) for array in self._ahead.take(step))
        return loss_of(network, outputs_of(network, image), target, weight, self.cross_entropy)

    def rescue(self, name: str) -> None:
        """Show more of one class from the next update on."""
        self._ahead.forget()
        self.sampler.insist(self.classes.index(name))

    def close(self) -> None:
        """Stop cutting ahead."""
        self._ahead.close()


TILE_PX, OVERLAP_PX = 1152, 64
"""Largest side of the tiles in which a network is judged, and their smallest overlap: those of prediction."""


class HeldOutJudge:
    """Dice of each class on parts of the labelled slices, all voxels pooled; tiles are those of prediction.

    Of a class that is in none of the parts nobody can say how well it stands. Whether it is predicted at all is looked
    up where it was learnt, so that its collapse is noticed, too.

    Parameters
    ----------
    parts
        Held-out parts, at the network's resolution.
    classes
        Names of the output maps.
    learnt
        Slices that are learnt from.
    """

    def __init__(
        self, parts: Sequence[LabelledSlice], classes: Sequence[str], learnt: Sequence[LabelledSlice] = ()
    ) -> None:
        self.parts, self.classes = parts, classes
        absent = [i for i in range(len(classes)) if not any(_truth(part)[i].any() for part in parts)]
        self._elsewhere = [around for i in absent if (around := _around(learnt, i)) is not None]

    @torch.inference_mode()
    def __call__(self, network: nn.Module) -> Mapping[str, Score]:
        """Judge a network, which is left in evaluation mode."""
        network.eval()
        overlap, predicted, true = self._areas(network, self.parts)
        _, found, there = self._areas(network, self._elsewhere)
        return {
            name: Score(
                float(2 * overlap[i] / (predicted[i] + true[i])) if true[i] else math.nan,
                _ratio(predicted[i], true[i]) if true[i] else _ratio(found[i], there[i]),
            )
            for i, name in enumerate(self.classes)
        }

    def _areas(self, network: nn.Module, parts: Sequence[LabelledSlice]) -> np.ndarray:
        """Return overlap, predicted and true area ``(3, classes)`` of all parts together, in pixels."""
        areas = np.zeros((3, len(self.classes)))
        device = next(network.parameters()).device
        how = Inference.of(network, TILE_PX, OVERLAP_PX, 1)
        for part in parts:
            tiled = Tiled(lambda image: torch.sigmoid(network(image)), part.image.shape[1:], how, device)
            found, truth = (tiled.whole(part.image[None])[0] >= 0.5) & (part.weight > 0), _truth(part)
            areas += [one.sum((1, 2)) for one in (found & truth, found, truth)]
        return areas


def _ratio(predicted: float, true: float) -> float:
    return float(predicted / true) if true else math.nan


def _truth(one: LabelledSlice) -> np.ndarray:
    """Return where each class is known to be, bool ``(classes, y, x)``."""
    truth: np.ndarray = (one.target >= 0.5) & (one.weight > 0)
    return truth


def _around(slices: Sequence[LabelledSlice], index: int) -> LabelledSlice | None:
    """Return a piece of a slice with one class in the middle, which alone has weight; None where the class is not."""
    one = max(slices, key=lambda other: int(_truth(other)[index].sum()), default=None)
    if one is None or not _truth(one)[index].any():
        return None
    pixels = np.argwhere(_truth(one)[index])
    middle = pixels[len(pixels) // 2]
    low, high = np.maximum(middle - _LOOKED_UP, 0), middle + _LOOKED_UP
    part = (slice(None), slice(low[0], high[0]), slice(low[1], high[1]))
    weight = np.zeros_like(one.weight[part])
    weight[index] = one.weight[part][index]
    return LabelledSlice(one.z, one.image[part], one.target[part], weight)

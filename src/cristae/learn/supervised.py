"""Supervised training: the step function and the judge given to `cristae.learn.fit.fit`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from cristae.learn.ahead import Ahead
from cristae.learn.fit import Score
from cristae.learn.objective import loss_of, outputs_of
from cristae.learn.patches import LabelledSlice, PatchSampler


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


class HeldOutJudge:
    """Dice of each class on parts of the labelled slices, all voxels pooled.

    Parameters
    ----------
    parts
        Held-out parts, at the network's resolution.
    classes
        Names of the output maps.
    multiple
        Sides of the network's input must be multiples of this; parts are mirrored up to it.
    """

    def __init__(self, parts: Sequence[LabelledSlice], classes: Sequence[str], multiple: int) -> None:
        self.parts, self.classes, self.multiple = parts, classes, multiple

    @torch.inference_mode()
    def __call__(self, network: nn.Module) -> Mapping[str, Score]:
        """Judge a network, which is left in evaluation mode."""
        device = next(network.parameters()).device
        network.eval()
        overlap, predicted, true = np.zeros((3, len(self.classes)))
        for part in self.parts:
            height, width = part.image.shape[1:]
            padding = ((0, 0), (0, -height % self.multiple), (0, -width % self.multiple))
            image = torch.from_numpy(np.pad(part.image, padding, mode="symmetric")[None]).to(device)
            found = (network(image)[0, :, :height, :width] >= 0).cpu().numpy() & (part.weight > 0)
            truth = (part.target >= 0.5) & (part.weight > 0)
            overlap += (found & truth).sum((1, 2))
            predicted += found.sum((1, 2))
            true += truth.sum((1, 2))
        return {
            name: Score(
                float(2 * overlap[i] / (predicted[i] + true[i])) if true[i] else math.nan,
                float(predicted[i] / true[i]) if true[i] else math.nan,
            )
            for i, name in enumerate(self.classes)
        }

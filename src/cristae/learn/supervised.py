"""Supervised training: the step function and the judge given to `cristae.learn.fit.fit`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn

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
        self._pool = ThreadPoolExecutor(1)
        self._ahead: tuple[int, Future[tuple[np.ndarray, np.ndarray, np.ndarray]]] | None = None

    def __call__(self, network: nn.Module, step: int) -> Tensor:
        """Return the loss of update `step`."""
        ready = self._ahead is not None and self._ahead[0] == step
        arrays = self._ahead[1].result() if self._ahead and ready else self.sampler.batch(step)
        self._ahead = step + 1, self._pool.submit(self.sampler.batch, step + 1)
        image, target, weight = (torch.from_numpy(array).to(self.device) for array in arrays)
        return loss_of(network, outputs_of(network, image), target, weight, self.cross_entropy)

    def rescue(self, name: str) -> None:
        """Show more of one class from the next update on."""
        if self._ahead:
            self._ahead[1].result()  # let it end before the sampler changes under it
            self._ahead = None
        self.sampler.insist(self.classes.index(name))

    def close(self) -> None:
        """Stop cutting ahead."""
        self._pool.shutdown(cancel_futures=True)


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

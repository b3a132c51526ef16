"""Cross pseudo supervision: two networks learn from the labels, and from what the other says of unlabelled slices.

::

    labelled ─┬─> network 1 ─> loss <── labels ──> loss <── network 2 <─┬─ labelled
    unlabelled┘        └─> what it is sure of ──> loss × λ ────┘        └─ unlabelled     and the other way round

With CutMix each network looks at pairs of images mixed by boxes, and is taught by what the other says of the two
unmixed ones, mixed by the same boxes.

Papers: X. Chen et al. (2021), CVPR, "Cross Pseudo Supervision"; Pagano et al. (2023), "Semi-supervised learning", with
soft Dice in place of cross-entropy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cristae.learn.ahead import Ahead
from cristae.learn.cutmix import box_masks, mixed
from cristae.learn.objective import loss_of, outputs_of
from cristae.learn.patches import PatchSampler
from cristae.nets.pair import Pair

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]

LEAST = 1e-5
"""Share of λ before the warm-up."""
WARM_UP = (1 / 60, 1 / 15)
"""Parts of the training between which λ rises: epochs 5 and 20 of 300 in Pagano's."""


@dataclass(frozen=True)
class Crossing:
    """How networks teach each other.

    Parameters
    ----------
    weight
        λ: what their teaching weighs beside the labels once it is warmed up. With 0 each learns alone.
    cross_entropy
        See `cristae.learn.objective.loss_of`.
    updates
        Of the whole training.
    mix
        Whether images are mixed (CutMix).
    seed
        Of the boxes.
    alone
        Part of the training (0 to below 1) before all this, in which each learns from the labels alone: with no
        passes but over labelled images, and networks that know nothing have nothing to teach. The papers' is 0.
    """

    weight: float
    cross_entropy: float
    updates: int
    mix: bool = False
    seed: int = 0
    alone: float = 0.0

    def share(self, step: int) -> float:
        """Return λ at update `step` (from 0); 0 while each learns alone, then it rises over the rest."""
        first = self.alone * self.updates
        if step < first:
            return 0.0
        begin, end = WARM_UP
        risen = ((step - first) / (self.updates - first) - begin) / (end - begin)
        return self.weight * min(1.0, max(LEAST, risen))


class CrossPseudoStep:
    """Loss of one update of a `Pair`: as many unlabelled patches as labelled ones.

    Parameters
    ----------
    labelled, unlabelled
        Where patches come from; targets of the second are not looked at.
    classes
        Names of the output maps.
    crossing
        How they teach each other.
    device
        Where the networks are.
    """

    def __init__(
        self,
        labelled: PatchSampler,
        unlabelled: PatchSampler,
        classes: Sequence[str],
        crossing: Crossing,
        device: torch.device,
    ) -> None:
        self.labelled, self.unlabelled, self.classes = labelled, unlabelled, list(classes)
        self.crossing, self.device = crossing, device
        self._ahead = Ahead(self._batches)

    def __call__(self, network: nn.Module, step: int) -> Tensor:
        """Return the loss of update `step`."""
        if not isinstance(network, Pair):
            raise TypeError(f"expected a Pair of networks, got {type(network).__name__}")
        labelled, free = (
            [torch.from_numpy(array).to(self.device) for array in arrays] for arrays in self._ahead.take(step)
        )
        share = self.crossing.share(step)
        if share == 0:
            return torch.stack(
                [self._loss(one, outputs_of(one, labelled[0]), *labelled[1:]) for one in network.networks]
            ).sum()
        losses = (
            self._mixed(network, step, labelled, free) if self.crossing.mix else self._plain(network, labelled, free)
        )
        by_labels, by_other = losses
        return by_labels + share * by_other

    def _plain(self, pair: Pair, labelled: Sequence[Tensor], free: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the loss by the labels, and by the other network on labelled and unlabelled images."""
        image, target, weight = labelled
        both, seen = torch.cat((image, free[0])), torch.cat((torch.ones_like(weight), free[2]))
        found = [outputs_of(network, both) for network in pair.networks]
        taught = [(one["logits"].detach() > 0).float() for one in found]
        n = len(image)
        by_labels = [
            self._loss(network, _part(outputs, slice(n)), target, weight)
            for network, outputs in zip(pair.networks, found, strict=True)
        ]
        by_other = [
            self._loss(network, outputs, other, seen)
            for network, outputs, other in zip(pair.networks, found, reversed(taught), strict=True)
        ]
        return torch.stack(by_labels).sum(), torch.stack(by_other).sum()

    def _mixed(
        self, pair: Pair, step: int, labelled: Sequence[Tensor], free: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the loss by the labels, and by the other network on mixed images."""
        image, target, weight = labelled
        # Halves of the labelled and of the unlabelled images are mixed with the other halves; an odd one is left out.
        n, half = len(image), len(image) // 2
        one = torch.cat((image[:half], free[0][:half]))
        other = torch.cat((image[half : 2 * half], free[0][half : 2 * half]))
        rng = np.random.default_rng([self.crossing.seed, step, 29])
        masks = torch.from_numpy(box_masks(len(one), (image.shape[2], image.shape[3]), rng)).to(self.device)
        # One pass for what is labelled and what is mixed; what a network says of the labelled images is in it already.
        both = torch.cat((image, mixed(one, other, masks)))
        by_labels, found, taught = [], [], []
        for network in pair.networks:
            outputs = outputs_of(network, both)
            with torch.no_grad():
                said = outputs["logits"][:n], outputs_of(network, free[0][: 2 * half])["logits"]
                first, second = (torch.cat([part[i : i + half] for part in said]) for i in (0, half))
                taught.append((mixed(first, second, masks) > 0).float())
            by_labels.append(self._loss(network, _part(outputs, slice(n)), target, weight))
            found.append(_part(outputs, slice(n, None)))
        seen = torch.ones_like(taught[0])
        by_other = [
            self._loss(network, outputs, other, seen)
            for network, outputs, other in zip(pair.networks, found, reversed(taught), strict=True)
        ]
        return torch.stack(by_labels).sum(), torch.stack(by_other).sum()

    def rescue(self, name: str) -> None:
        """Show more of one class from the next update on."""
        self._ahead.forget()
        self.labelled.insist(self.classes.index(name))

    def close(self) -> None:
        """Stop cutting ahead."""
        self._ahead.close()

    def _loss(self, network: nn.Module, outputs: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> Tensor:
        return loss_of(network, outputs, target, weight, self.crossing.cross_entropy)

    def _batches(self, step: int) -> tuple[Arrays, Arrays]:
        return self.labelled.batch(step), self.unlabelled.batch(step)


def _part(outputs: Mapping[str, Tensor], images: slice) -> dict[str, Tensor]:
    """Return what a network says of some of the images."""
    return {name: value[images] for name, value in outputs.items()}

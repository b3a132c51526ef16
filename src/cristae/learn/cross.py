"""Cross pseudo supervision: two networks learn from the labels, and from what the other says of unlabelled slices.

::

    labelled ─┬─> network 1 ─> loss <── labels ──> loss <── network 2 <─┬─ labelled
    unlabelled┘        └─> what it is sure of ──> loss × λ ────┘        └─ unlabelled     and the other way round

With CutMix each network looks at pairs of images mixed by boxes, and is taught by what the other says of the two
unmixed ones, mixed by the same boxes. Where classes are rare, boxes are drawn so that labelled mixtures keep them.

Papers: X. Chen et al. (2021), CVPR, "Cross Pseudo Supervision"; Pagano et al. (2023), "Semi-supervised learning", with
soft Dice in place of cross-entropy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cristae.learn.ahead import Ahead
from cristae.learn.cutmix import box_masks, keeping_masks, mixed
from cristae.learn.fit import Judge
from cristae.learn.objective import outputs_of
from cristae.learn.patches import PatchSampler
from cristae.nets.losses import loss_of
from cristae.nets.pair import Pair, parts_of

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
        See `cristae.nets.losses.loss_of`.
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


class Mixing(NamedTuple):
    """Which images are mixed, and how.

    Parameters
    ----------
    one, other
        Numbers of the labelled images that make up the mixtures: `one` outside of the boxes, `other` inside.
    masks
        ``(n, 1, y, x)``, 1 inside the boxes: of the labelled mixtures, then of as many unlabelled ones.
    """

    one: Tensor
    other: Tensor
    masks: Tensor


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
        arrays = self._ahead.take(step)
        labelled, free = ([torch.from_numpy(array).to(self.device) for array in part] for part in arrays)
        share = self.crossing.share(step)
        if share == 0:
            return torch.stack(
                [self._loss(one, outputs_of(one, labelled[0]), *labelled[1:]) for one in network.networks]
            ).sum()
        if self.crossing.mix:
            by_labels, by_other = self._mixed(network, self._mixing(step, *arrays[0][1:]), labelled, free)
        else:
            by_labels, by_other = self._plain(network, labelled, free)
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

    def _mixing(self, step: int, target: np.ndarray, weight: np.ndarray) -> Mixing:
        """Say which images are mixed, and by which boxes, so that labelled mixtures keep what is rare."""
        # Halves of the labelled and of the unlabelled images are mixed with the other halves; an odd one is left out.
        half = len(target) // 2
        rng = np.random.default_rng([self.crossing.seed, step, 29])
        side = (target.shape[2], target.shape[3])
        rare, least = sorted(set(self.labelled.rare)), self.labelled.sampling.rare_pixels
        ones, others = np.arange(half), np.arange(half, 2 * half)
        if not (half and rare and self.labelled.share):
            masks = box_masks(2 * half, side, rng)
        else:
            # Rare ones are the first of a batch: every second of them gives the box, the others what is around it.
            ones[1::2], others[1::2] = others[1::2], ones[1::2].copy()
            there = (target * weight)[:, rare]
            masks = np.concatenate((keeping_masks(there[ones], there[others], least, rng), box_masks(half, side, rng)))
        one, other = (torch.from_numpy(part).to(self.device) for part in (ones, others))
        return Mixing(one, other, torch.from_numpy(masks).to(self.device))

    def _mixed(
        self, pair: Pair, mixing: Mixing, labelled: Sequence[Tensor], free: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return the loss by the labels, and by the other network on mixed images."""
        image, target, weight = labelled
        n, half, masks = len(image), len(mixing.one), mixing.masks
        one = torch.cat((image[mixing.one], free[0][:half]))
        other = torch.cat((image[mixing.other], free[0][half : 2 * half]))
        # One pass for what is labelled and what is mixed; what a network says of the labelled images is in it already.
        both = torch.cat((image, mixed(one, other, masks)))
        by_labels, found, taught = [], [], []
        for network in pair.networks:
            outputs = outputs_of(network, both)
            with torch.no_grad():
                known, guessed = outputs["logits"][:n], outputs_of(network, free[0][: 2 * half])["logits"]
                first = torch.cat((known[mixing.one], guessed[:half]))
                second = torch.cat((known[mixing.other], guessed[half:]))
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


def of_first(judge: Judge) -> Judge:
    """Return what judges a pair by its first network alone.

    With λ = 0 each learns alone, and the first must end as it would without the other: nothing that the other says may
    decide which of its weights are kept.
    """
    return lambda network: judge(parts_of(network)[0])

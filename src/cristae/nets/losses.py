"""Losses that leave out what nobody looked at."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cristae.nets.contract import OwnLoss, OwnSum

SMOOTH = 1e-5
"""Keeps the Dice ratio defined when a class is absent from prediction and target alike."""


def soft_dice_loss(probability: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return 1 − Dice with squared denominators, one ratio over the whole batch per class, averaged over classes.

    Parameters
    ----------
    probability
        ``(n, classes, y, x)``, 0–1.
    target
        ``(n, classes, y, x)``, 0–1; fractions where voxels were reduced.
    weight
        ``(n, classes, y, x)``, 1 where the class was looked at, 0 where ignored. A class that was looked at nowhere
        in the batch is left out of the average.

    Notes
    -----
    Machireddy et al. 2023, equation 2; smoothing inside the ratio after Pagano et al. 2023.
    """
    axes = (0, 2, 3)
    known = weight.sum(axes) > 0
    overlap = (weight * probability * target).sum(axes)
    sizes = (weight * (probability.square() + target.square())).sum(axes)
    dice = (2 * overlap + SMOOTH) / (sizes + SMOOTH)
    return 1 - (dice * known).sum() / known.sum().clamp(min=1)


def cross_entropy_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Return the mean binary cross-entropy over all voxels that were looked at; shapes as in `soft_dice_loss`."""
    loss = nn.functional.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum")
    return loss / weight.sum().clamp(min=1)


def segmentation_loss(logits: Tensor, target: Tensor, weight: Tensor, cross_entropy: float) -> Tensor:
    """Return soft Dice loss plus `cross_entropy` times the cross-entropy."""
    loss = soft_dice_loss(torch.sigmoid(logits), target, weight)
    if cross_entropy > 0:
        loss = loss + cross_entropy * cross_entropy_loss(logits, target, weight)
    return loss


def loss_of(
    network: nn.Module, outputs: Mapping[str, Tensor], target: Tensor, weight: Tensor, cross_entropy: float
) -> Tensor:
    """Return the loss by which a network is trained.

    Parameters
    ----------
    network
        Its loss is the usual one of its logits; or that of several outputs combined (`cristae.nets.contract.OwnSum`);
        or its own (`cristae.nets.contract.OwnLoss`).
    outputs
        What it says: ``logits``, and what else it has.
    target, weight
        Shapes as in `soft_dice_loss`.
    cross_entropy
        Weight of the cross-entropy beside the Dice loss; a loss of its own does not look at it.
    """
    if isinstance(network, OwnLoss):
        return network.loss(outputs, target, weight)
    if isinstance(network, OwnSum):
        return network.combined(
            outputs, lambda logits, share: segmentation_loss(logits, target, weight, share * cross_entropy)
        )
    return segmentation_loss(outputs["logits"], target, weight, cross_entropy)

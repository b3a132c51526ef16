"""How a network is run in training, and its loss on a batch: its own, or Dice and cross-entropy of its logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from cristae.nets.contract import OwnLoss
from cristae.nets.losses import segmentation_loss
from cristae.nets.pair import parts_of


def compile_parts(network: nn.Module, backend: str = "inductor") -> None:
    """Compile each network that learns by itself, in place; copies of it are not compiled, names of weights stay."""
    for part in parts_of(network):
        part.compile(backend=backend)


def outputs_of(network: nn.Module, image: Tensor) -> Mapping[str, Tensor]:
    """Return what the loss looks at: ``logits``, and what else a network with a loss of its own has, float32."""
    with torch.autocast(image.device.type, torch.bfloat16, enabled=image.device.type == "cuda"):
        found = network.outputs(image) if isinstance(network, OwnLoss) else {"logits": network(image)}
    return {name: value.float() for name, value in cast(Mapping[str, Tensor], found).items()}


def loss_of(
    network: nn.Module, outputs: Mapping[str, Tensor], target: Tensor, weight: Tensor, cross_entropy: float
) -> Tensor:
    """Return the loss of `outputs`, from `outputs_of`; `cross_entropy` is its weight where the network has no own loss.

    Shapes as in `cristae.nets.losses.soft_dice_loss`.
    """
    if isinstance(network, OwnLoss):
        return network.loss(outputs, target, weight)
    return segmentation_loss(outputs["logits"], target, weight, cross_entropy)

"""A class that collapsed to background starts anew: its probability is about one half everywhere.

For the training loop, which does so when a class has not been predicted for long, and for networks that say themselves
how it is done (`cristae.nets.contract.OwnHeads`).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from cristae.nets.contract import OwnHeads

_SPREAD = 0.01
"""Standard deviation of the new weights: a start that is not the same for all features, and next to no opinion."""


def make_undecided(network: nn.Module, index: int, generator: Generator) -> None:
    """Give the output of one class new weights, in place; without ``make_undecided`` or ``head`` nothing is done.

    Parameters
    ----------
    network
        Follows `cristae.nets.contract.Network`.
    index
        Of the class.
    generator
        Of random numbers, on the CPU: the same draws, the same weights.
    """
    if isinstance(network, OwnHeads):
        network.make_undecided(index, generator)
    elif isinstance(head := getattr(network, "head", None), nn.Conv2d):
        renew(head, index, generator)


@torch.no_grad()
def renew(layer: nn.Conv2d, index: int, generator: Generator) -> None:
    """Give output channel `index` of a convolution small random weights, and no bias."""
    layer.weight[index] = drawn(layer.weight[index], _SPREAD, generator)
    if layer.bias is not None:
        layer.bias[index] = 0.0


def drawn(like: Tensor, spread: float, generator: Generator) -> Tensor:
    """Return random numbers of mean 0 and standard deviation `spread`, of the shape and on the device of a tensor."""
    return spread * torch.randn(like.shape, generator=generator).to(like.device)

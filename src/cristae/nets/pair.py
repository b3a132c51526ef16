"""Two networks that learn from each other; their mean answers, and where they differ they are not sure."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Pair(nn.Module):
    """Networks with different random weights, as one.

    Parameters
    ----------
    networks
        They follow `cristae.nets.contract.Network`, and take inputs of the same sizes.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.multiple = int(getattr(networks[0], "multiple", 1))
        """Sides of the input are multiples of this."""
        largest = getattr(networks[0], "largest", None)
        if largest is not None:
            self.largest = int(largest)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(n, n_classes, y, x)`` of the mean probability for an image ``(n, n_channels, y, x)``."""
        return mean_logits(torch.stack([network(image) for network in self.networks], dim=1))

    def probabilities(self, image: Tensor) -> Tensor:
        """Return the probabilities of each network, ``(n_networks, n, n_classes, y, x)``."""
        return torch.stack([torch.sigmoid(network(image).float()) for network in self.networks])


def parts_of(network: nn.Module) -> list[nn.Module]:
    """Return the networks that learn by themselves: those of a pair, or the network alone."""
    return list(network.networks) if isinstance(network, Pair) else [network]


def mean_logits(branches: Tensor) -> Tensor:
    """Return the logit of the mean over axis 1 of the probabilities of `branches`, ``(n, heads, n_classes, y, x)``.

    From logarithms, so that it stays finite where every head is so sure that its probability rounds to 0 or 1.
    """
    branches = branches.float()
    # The number of heads that both means are divided by falls out of the difference.
    inside = nn.functional.logsigmoid(branches).logsumexp(1)
    outside = nn.functional.logsigmoid(-branches).logsumexp(1)
    return inside - outside

"""Batch normalisation measured anew: a network's idea of what its features are like, taken from another volume.

Papers: Y. Li et al. (2018), Pattern Recognition 80, "Adaptive Batch Normalization" (the target's statistics alone);
S. Schneider et al. (2020), NeurIPS, "Improving robustness against common corruptions", equation 2 (the blend).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Moments:
    """Mean and variance of all that one normalisation is given, channel by channel, pooled over batches."""

    def __init__(self) -> None:
        self.count = 0
        self.total = self.squares = torch.zeros(0, dtype=torch.float64)

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        features = inputs[0].detach().double().transpose(0, 1).flatten(1)
        if not self.count:
            self.total = self.squares = torch.zeros(len(features), dtype=torch.float64, device=features.device)
        self.count += features.shape[1]
        self.total = self.total + features.sum(1)
        self.squares = self.squares + features.square().sum(1)

    def mean(self) -> Tensor:
        return self.total / self.count

    def variance(self) -> Tensor:
        # What batch normalisation keeps is the estimate for all pixels there could be: divided by one less.
        spread = self.squares / self.count - self.mean().square()
        return spread.clamp(min=0) * (self.count / max(1, self.count - 1))


def normalisations(network: nn.Module) -> list[_BatchNorm]:
    """Return the batch normalisations of a network that keep statistics."""
    return [one for one in network.modules() if isinstance(one, _BatchNorm) and one.running_mean is not None]


@torch.no_grad()
def estimate_statistics(network: nn.Module, batches: Iterable[Tensor], blend: float) -> int:
    """Measure the statistics of every batch normalisation of `network` anew, in place.

    While they are measured, each normalisation works with the statistics of the batch, as in training: those further
    on see features as they will be. Weights stay as they are.

    Parameters
    ----------
    network
        Left in evaluation mode.
    batches
        Images ``(n, n_channels, y, x)``; the more tiles there are in each, the better.
    blend
        Share of the new statistics, 0–1; the rest are those that the network had. 0 changes nothing.

    Returns
    -------
    int
        How many normalisations were measured: 0 for a network without any.
    """
    network.eval()
    found = normalisations(network)
    if blend == 0 or not found:
        return 0
    before = [{name: value.clone() for name, value in one.named_buffers()} for one in found]
    moments = [_Moments() for _ in found]
    hooks = [one.register_forward_pre_hook(moment) for one, moment in zip(found, moments, strict=True)]
    for one in found:
        one.train()
    try:
        for images in batches:
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
        network.eval()
        for one, kept in zip(found, before, strict=True):
            for name, value in one.named_buffers():
                value.copy_(kept[name])
    measured = [(one, moment) for one, moment in zip(found, moments, strict=True) if moment.count]
    for one, moment in measured:
        one.running_mean.lerp_(moment.mean().to(one.running_mean), blend)  # type: ignore[union-attr]
        one.running_var.lerp_(moment.variance().to(one.running_var), blend)  # type: ignore[union-attr]
    return len(measured)

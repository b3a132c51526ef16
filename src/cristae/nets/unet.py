"""A small U-Net without residual blocks.

::

    double w ──────────────────────────────── double w ─ 1×1 ─> logits
        └ pool ÷2, double 2w ──────── double w ┘
              └ pool ÷4, double 4w double 2w ┘
                    └ pool ÷8, double 4w ┘

References
----------
Ronneberger et al. 2015, Figure 1. Widths, pooling and enlarging are those of the network that Pagano et al. 2023
trained by cross pseudo supervision and called ResUNet (section 2.4.1): 269,009 parameters at a width of 16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cristae.nets.contract import Build


def double(n_in: int, n_out: int, n_between: int) -> nn.Sequential:
    """Return conv3×3–BN–ReLU twice, ``(n, n_in, y, x)`` to ``(n, n_out, y, x)``."""
    return nn.Sequential(
        nn.Conv2d(n_in, n_between, 3, 1, 1),
        nn.BatchNorm2d(n_between),
        nn.ReLU(inplace=True),
        nn.Conv2d(n_between, n_out, 3, 1, 1),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    )


class SmallUNet(nn.Module):
    """U-Net of three levels below the full resolution, with one logit map per class.

    Parameters
    ----------
    n_channels
        Input channels: 1, or the slice and its neighbours.
    n_classes
        Output maps.
    width
        Channels at full resolution.
    """

    multiple = 8
    """Input sizes along y and x must be multiples of this."""

    def __init__(self, n_channels: int, n_classes: int, width: int = 16) -> None:
        super().__init__()
        # The deepest level does not double: what is enlarged and the skip that it is joined with are equally wide.
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.down = nn.ModuleList(
            double(n_in, n_out, n_out) for n_in, n_out in zip([n_channels, *widths[:-1]], widths, strict=True)
        )
        self.up = nn.ModuleList(
            double(2 * n, n_out, n) for n, n_out in zip(widths[2::-1], (2 * width, width, width), strict=True)
        )
        self.head = nn.Conv2d(width, n_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(n, n_classes, y, x)`` of an image ``(n, n_channels, y, x)``."""
        features, skips = image, list[Tensor]()
        for level, block in enumerate(self.down):
            features = block(nn.functional.max_pool2d(features, 2) if level else features)
            skips.append(features)
        features = skips.pop()
        for block in self.up:
            features = nn.functional.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=True)
            features = block(torch.cat((skips.pop(), features), dim=1))
        logits: Tensor = self.head(features)
        return logits


def build_unet_pagano(build: Build) -> SmallUNet:
    """Return the small U-Net; its base width is 16, in full size, too."""
    return SmallUNet(build.n_channels, build.n_classes, build.base_width or 16)

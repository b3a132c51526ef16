"""ResUNet: a U-Net of pre-activation residual blocks.

::

    stem ─ block b ───────────────────────────────── up b ─ 1×1 ─> logits
             └ block 2b ÷2 ─────────────────── up 2b ┘
                  └ block 4b ÷4 ──────── up 4b ┘
                       └ block 8b ÷8 up 8b ┘
                            └ bridge 16b ÷16 ┘

References
----------
Machireddy et al. 2023, Figure 1C–D and section 3.2. The paper's base width is 64 (32,474,817 parameters).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cristae.nets.contract import Build


class ResidualBlock(nn.Module):
    """BN–ReLU–conv3×3 twice, plus the input (projected by a 1×1 convolution where its shape changes)."""

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(n_in),
            nn.ReLU(inplace=False),
            nn.Conv2d(n_in, n_out, 3, stride, 1),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, 1, 1),
        )
        same = n_in == n_out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(n_in, n_out, 1, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, n_in, y, x)`` to ``(n, n_out, y / stride, x / stride)``."""
        result: Tensor = self.body(features) + self.shortcut(features)
        return result


class UpStep(nn.Module):
    """Double the resolution, halve the channels with a 2×2 convolution, join the skip, one residual block."""

    def __init__(self, n_in: int) -> None:
        super().__init__()
        self.halve = nn.Conv2d(n_in, n_in // 2, 2, padding=1)
        self.block = ResidualBlock(n_in, n_in // 2)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Join ``(n, c, y, x)`` with the skip ``(n, c / 2, 2y, 2x)``."""
        features = nn.functional.interpolate(features, scale_factor=2.0, mode="nearest")
        # An even kernel keeps the size when padded at the end only ('same' padding): the first row and column go.
        features = self.halve(features)[..., 1:, 1:]
        return self.block(torch.cat((features, skip), dim=1))


class ResUNet(nn.Module):
    """ResUNet with one logit map per class.

    Parameters
    ----------
    n_channels
        Input channels: 1, or the slice and its neighbours.
    n_classes
        Output maps.
    base_width
        Channels at full resolution; they double at each of four levels below.
    """

    multiple = 16
    """Input sizes along y and x must be multiples of this."""

    def __init__(self, n_channels: int, n_classes: int, base_width: int = 64) -> None:
        super().__init__()
        widths = [base_width * 2**level for level in range(5)]
        self.stem = nn.Conv2d(n_channels, base_width, 3, 1, 1)
        self.down = nn.ModuleList(
            ResidualBlock(n_in, n_out, 1 if level == 0 else 2)
            for level, (n_in, n_out) in enumerate(zip([base_width, *widths[:-1]], widths, strict=True))
        )
        self.up = nn.ModuleList(UpStep(width) for width in reversed(widths[1:]))
        self.head = nn.Conv2d(base_width, n_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(n, n_classes, y, x)`` of an image ``(n, n_channels, y, x)``."""
        features = self.stem(image)
        skips: list[Tensor] = []
        for block in self.down:
            features = block(features)
            skips.append(features)
        features = skips.pop()
        for step in self.up:
            features = step(features, skips.pop())
        logits: Tensor = self.head(features)
        return logits


def build_resunet(build: Build) -> ResUNet:
    """Return a ResUNet; its base width is 64 in full size, 16 in small."""
    return ResUNet(build.n_channels, build.n_classes, build.base_width or {"small": 16, "full": 64}[build.size])

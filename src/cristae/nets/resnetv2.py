"""The ResNet under the transformer of TransUNet: weight standardisation and group normalisation.

::

    image ─ 7×7 ÷2 ─┬─ max pooling ÷2 ─ stage 4b ─┬─ stage 8b ÷2 ─┬─ stage 16b ÷2 ─> features
                    └ skip b at 1/2               └ skip at 1/4   └ skip at 1/8

Its features do not depend on the other images of a batch. Parameters have the names that timm gives them.

References
----------
He et al. 2016, Figure 5 (bottlenecks); Qiao et al. 2019, equation 7 (weight standardisation); Kolesnikov et al. 2020
(BiT), whose root and widths these are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

WEIGHT_EPSILON = 1e-5
"""Added to the variance of a filter."""


class StandardisedConvolution(nn.Conv2d):
    """A convolution without bias, each of whose filters is shifted and scaled to mean 0 and variance 1."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(n_in, n_out, kernel, stride, kernel // 2, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, n_in, y, x)`` to ``(n, n_out, y / stride, x / stride)``."""
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        weight = (self.weight - mean) * (variance + WEIGHT_EPSILON).rsqrt()
        return nn.functional.conv2d(features, weight, None, self.stride, self.padding)


def _grouped(n_channels: int, groups: int) -> nn.GroupNorm:
    """Return a group normalisation of at most `groups` groups that divide the channels."""
    return nn.GroupNorm(math.gcd(n_channels, groups), n_channels, eps=1e-6)


class Projection(nn.Module):
    """The shortcut where a bottleneck changes the shape; each channel is normalised by itself."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv = StandardisedConvolution(n_in, n_out, 1, stride)
        self.norm = nn.GroupNorm(n_out, n_out)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, n_in, y, x)`` to ``(n, n_out, y / stride, x / stride)``."""
        result: Tensor = self.norm(self.conv(features))
        return result


class Bottleneck(nn.Module):
    """1×1 to a quarter of the channels, 3×3, 1×1 back, each normalised; plus the input; ReLU."""

    def __init__(self, n_in: int, n_out: int, stride: int, groups: int) -> None:
        super().__init__()
        inner = n_out // 4
        self.conv1 = StandardisedConvolution(n_in, inner, 1)
        self.norm1 = _grouped(inner, groups)
        self.conv2 = StandardisedConvolution(inner, inner, 3, stride)
        self.norm2 = _grouped(inner, groups)
        self.conv3 = StandardisedConvolution(inner, n_out, 1)
        self.norm3 = _grouped(n_out, groups)
        same = n_in == n_out and stride == 1
        self.downsample = nn.Identity() if same else Projection(n_in, n_out, stride)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, n_in, y, x)`` to ``(n, n_out, y / stride, x / stride)``."""
        inner = torch.relu(self.norm1(self.conv1(features)))
        inner = torch.relu(self.norm2(self.conv2(inner)))
        return torch.relu(self.norm3(self.conv3(inner)) + self.downsample(features))


class Root(nn.Module):
    """7×7 convolution of stride 2, normalised, ReLU."""

    def __init__(self, n_channels: int, n_out: int, groups: int) -> None:
        super().__init__()
        self.conv = StandardisedConvolution(n_channels, n_out, 7, 2)
        self.norm = _grouped(n_out, groups)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(n, n_channels, y, x)`` to ``(n, n_out, y / 2, x / 2)``."""
        return torch.relu(self.norm(self.conv(image)))


class Stage(nn.Module):
    """Bottlenecks, the first of which may halve the resolution."""

    def __init__(self, n_in: int, n_out: int, stride: int, units: int, groups: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(Bottleneck(n_in if i == 0 else n_out, n_out, stride if i == 0 else 1, groups) for i in range(units))
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, n_in, y, x)`` to ``(n, n_out, y / stride, x / stride)``."""
        result: Tensor = self.blocks(features)
        return result


class ResNetV2(nn.Module):
    """Features at 1/16 and, on the way, at 1/2, 1/4 and 1/8.

    Parameters
    ----------
    n_channels
        Of the image.
    width
        Channels of the root, b in the drawing.
    units
        Bottlenecks of each stage; (3, 4, 9) are those of a ResNet-50 without its last stage.
    groups
        Of the group normalisations, fewer where that does not divide the channels.
    """

    def __init__(self, n_channels: int, width: int, units: Sequence[int], groups: int) -> None:
        super().__init__()
        self.stem = Root(n_channels, width, groups)
        widths = [width, *(4 * width * 2**i for i in range(len(units)))]
        self.stages = nn.ModuleList(
            Stage(widths[i], widths[i + 1], 1 if i == 0 else 2, count, groups) for i, count in enumerate(units)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        """Map ``(n, n_channels, y, x)`` to maps at 1/2, 1/4, 1/8 and 1/16, of b, 4b, 8b and 16b channels."""
        features = self.stem(image)
        found = [features]
        features = nn.functional.max_pool2d(features, 3, 2)
        for level, stage in enumerate(self.stages, 2):
            features = stage(features)
            # Pooling without padding comes out one pixel short: zeros below and on the right, for the skip alone.
            short = [
                -(-side // 2**level) - have for side, have in zip(image.shape[2:], features.shape[2:], strict=True)
            ]
            found.append(nn.functional.pad(features, (0, short[1], 0, short[0])) if any(short) else features)
        return found

"""Units of FracTALResNet and CEECNet: residual and two-scale blocks that look back at their input by attention.

::

    attention      q, k, v = sigmoid(norm(conv(·)))     FT(q, k) per channel and per pixel, times v, norm

    FracTALResNet  x ─┬─ norm·relu·conv·norm·relu·conv ─ + ─ × ─>
                      ├─────────────────────────────────┘   │
                      └─ attention ·γ + 1 ──────────────────┘

    CEEC           x ─┬─ conv n/2 ─┬─ ÷2 n · n ─ ×2 n/2 ─┐
                      │            └────────────────────join─┐       compress, then expand
                      ├─ conv n/2 ─┬─ ×2 n/4 · n/4 ─ ÷2 n/2 ─┐ each looks
                      │            └──────────────────────join─ at the other ─ join ─ + ─ × ─>
                      ├───────────────────────────────────────────────────────────────┘   │
                      └─ attention ·γ + 1 ────────────────────────────────────────────────┘

In V1 "join" is a concatenation and a convolution; in V2 it is a `Fusion`, where each side looks at the other first.
All γ start at 0.

References
----------
Diakogiannis, Waldner and Caccetta 2021, "Looking for change? Roll the dice and demand attention", and the code released
with it. Pagano et al. 2023, sections 2.3.3 and 2.3.4, for the port.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cristae.nets.tanimoto import tanimoto_attention

_NORM_GROUPS = 4


@dataclass(frozen=True)
class Definition:
    """Where the published network and its port differ.

    Parameters
    ----------
    bias
        Convolutions before a normalisation have a bias, which changes nothing but the count of parameters.
    product
        Attention per channel and per pixel are multiplied instead of added.
    narrow_up
        Up-steps have half as many channels from below as from the skip, instead of as many.
    attention_depth
        Depth of the fractal in attention.
    """

    bias: bool = False
    product: bool = False
    narrow_up: bool = True
    attention_depth: int = 5


PUBLISHED = Definition()
"""As its authors released it."""
PAGANO = Definition(bias=True, product=True, narrow_up=False)
"""The port of Pagano et al. 2023."""


def norm(n_channels: int) -> nn.GroupNorm:
    """Return a normalisation in four groups, or as many as there can be."""
    return nn.GroupNorm(math.gcd(_NORM_GROUPS, n_channels), n_channels)


@dataclass(frozen=True)
class ConvNorms:
    """Makes convolutions followed by a normalisation, all of one definition.

    Parameters
    ----------
    definition
        Of the network.
    groups
        Of the convolutions; fewer where channels cannot be divided into so many.
    """

    definition: Definition
    groups: int = 1

    def __call__(self, n_in: int, n_out: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
        """Return convolution, normalisation and, unless told otherwise, ReLU: ``(n, n_in, y, x)`` to ``n_out``."""
        groups = math.gcd(self.groups, n_in, n_out)
        convolution = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, groups=groups, bias=self.definition.bias)
        return nn.Sequential(convolution, norm(n_out), *([nn.ReLU(inplace=True)] if relu else []))


class Attention(nn.Module):
    """Fractal Tanimoto attention of one map for another, and the strength γ of its effect, 0 at first.

    Parameters
    ----------
    n_channels
        Of all maps.
    convolve
        Makes the convolutions.
    """

    def __init__(self, n_channels: int, convolve: ConvNorms) -> None:
        super().__init__()
        self.query, self.key, self.value = (convolve(n_channels, n_channels, relu=False) for _ in range(3))
        self.norm = norm(n_channels)
        self.strength = nn.Parameter(torch.zeros(1))
        self.depth, self.product = convolve.definition.attention_depth, convolve.definition.product

    def forward(self, features: Tensor, other: Tensor) -> Tensor:
        """Return 1 + γ · attention; `features` ask and `other` answer, both ``(n, n_channels, y, x)``."""
        query, key, value = (
            torch.sigmoid(part(source))
            for part, source in ((self.query, features), (self.key, other), (self.value, other))
        )
        attention = self.norm(tanimoto_attention(query, key, value, self.depth, self.product))
        result: Tensor = 1 + self.strength * attention
        return result


class FractalUnit(nn.Module):
    """A residual block before activation, emphasised by attention of its input for itself."""

    def __init__(self, n_channels: int, heads: int, definition: Definition) -> None:
        super().__init__()
        groups = math.gcd(heads, n_channels)
        self.body = nn.Sequential(
            norm(n_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_channels, n_channels, 3, 1, 1, groups=groups, bias=False),
            norm(n_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_channels, n_channels, 3, 1, 1, groups=groups),
        )
        self.attention = Attention(n_channels, ConvNorms(definition, heads))

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, n_channels, y, x)`` to the same shape."""
        result: Tensor = (features + self.body(features)) * self.attention(features, features)
        return result


class Join(nn.Module):
    """Concatenate two maps; one convolution, normalisation, ReLU."""

    def __init__(self, n_in: int, n_out: int, convolve: ConvNorms) -> None:
        super().__init__()
        self.convolution = convolve(2 * n_in, n_out)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Join two ``(n, n_in, y, x)`` to ``(n, n_out, y, x)``."""
        result: Tensor = self.convolution(torch.cat((first, second), dim=1))
        return result


class Exchange(nn.Module):
    """Two maps, each emphasised by its attention for the other."""

    def __init__(self, n_channels: int, convolve: ConvNorms) -> None:
        super().__init__()
        self.first, self.second = Attention(n_channels, convolve), Attention(n_channels, convolve)

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Map two ``(n, n_channels, y, x)`` to two of the same shape."""
        return first * self.first(first, second), second * self.second(second, first)


class Fusion(Join):
    """A `Join` of two maps that look at each other first."""

    def __init__(self, n_in: int, n_out: int, convolve: ConvNorms) -> None:
        super().__init__(n_in, n_out, convolve)
        self.exchange = Exchange(n_in, convolve)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Join two ``(n, n_in, y, x)`` to ``(n, n_out, y, x)``."""
        return super().forward(*self.exchange(first, second))


def enlarged(features: Tensor) -> Tensor:
    """Double y and x, bilinear between pixel centres."""
    return nn.functional.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)


class CompressExpand(nn.Module):
    """Half the channels, seen at half the resolution and back."""

    def __init__(self, n_channels: int, convolve: ConvNorms, fuse: bool) -> None:
        super().__init__()
        half = n_channels // 2
        self.entry = convolve(n_channels, half, relu=False)
        self.compress = nn.Sequential(convolve(half, 2 * half, stride=2), convolve(2 * half, 2 * half))
        self.expand = convolve(2 * half, half)
        self.skip = convolve(half, half) if fuse else nn.Identity()
        self.join = (Fusion if fuse else Join)(half, half, convolve)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, n_channels, y, x)`` to ``(n, n_channels / 2, y, x)``."""
        entry = self.entry(features)
        result: Tensor = self.join(self.expand(enlarged(self.compress(entry))), self.skip(entry))
        return result


class ExpandCompress(nn.Module):
    """Half the channels, seen at twice the resolution and back."""

    def __init__(self, n_channels: int, convolve: ConvNorms, fuse: bool) -> None:
        super().__init__()
        half, quarter = n_channels // 2, max(1, n_channels // 4)
        self.entry = convolve(n_channels, half, relu=False)
        self.expand = nn.Sequential(convolve(half, quarter), convolve(quarter, quarter))
        self.compress = convolve(quarter, half, stride=2)
        self.join = (Fusion if fuse else Join)(half, half, convolve)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, n_channels, y, x)`` to ``(n, n_channels / 2, y, x)``."""
        entry = self.entry(features)
        result: Tensor = self.join(self.compress(self.expand(enlarged(entry))), entry)
        return result


class CEECUnit(nn.Module):
    """Compress–expand beside expand–compress, each emphasised by its attention for the other.

    Parameters
    ----------
    n_channels
        In and out.
    heads
        Groups of the convolutions.
    definition
        Of the network.
    fuse
        V2: joins are fusions.
    """

    def __init__(self, n_channels: int, heads: int, definition: Definition, fuse: bool) -> None:
        super().__init__()
        convolve, half = ConvNorms(definition, heads), n_channels // 2
        self.compress_expand = CompressExpand(n_channels, convolve, fuse)
        self.expand_compress = ExpandCompress(n_channels, convolve, fuse)
        self.exchange = Exchange(half, convolve)
        # One group: it is here that the groups of channels meet.
        self.collect = (Fusion if fuse else Join)(half, n_channels, ConvNorms(definition))
        self.attention = Attention(n_channels, convolve)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, n_channels, y, x)`` to the same shape."""
        both = self.exchange(self.compress_expand(features), self.expand_compress(features))
        result: Tensor = (features + self.collect(*both)) * self.attention(features, features)
        return result

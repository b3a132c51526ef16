"""UNet++: a U-Net whose skips are filled with nodes, so that every resolution of the encoder gets a decoder of its own.

::

    encoder          nodes x_{start}_{level}: each joins all that stands left of it in its row
                     with what stands below it, enlarged by 2

    1/2  features ─ x_3_3 ─── x_2_3 ─── x_1_3 ─── x_0_3 ─── x_0_4 ─ 3×3 ─> logits     x_0_4: full resolution
                  ⟋         ⟋         ⟋         ⟋
    1/4  features ─ x_2_2 ─── x_1_2 ─── x_0_2
                  ⟋         ⟋         ⟋
    1/8  features ─ x_1_1 ─── x_0_1
                  ⟋         ⟋
    1/16 features ─ x_0_0
                  ⟋
    1/32 features

With deep supervision the four nodes of the top row have a head each, too.

References
----------
Zhou et al. 2018, Figure 1, equation 1 (the nodes) and section 2.2 (deep supervision and its loss). Encoder, widths and
numbering of the nodes are those of the implementation that Pagano et al. 2023 (section 2.3.2) used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from cristae.nets.contract import Build, OutputLoss
from cristae.nets.pair import mean_logits
from cristae.nets.resnet import ResNet
from cristae.nets.undecided import renew

CROSS_ENTROPY = 0.5
"""Share of the cross-entropy asked for, under deep supervision: of 1 it is that of Zhou et al. 2018, equation 2."""


@dataclass(frozen=True)
class Plan:
    """Sizes of a UNet++.

    Parameters
    ----------
    width
        Of the encoder at half resolution.
    blocks
        In each layer of the encoder.
    decoder
        Channels of the nodes x_0_0, x_0_1, …: one more than the encoder has layers.
    """

    width: int = 64
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    decoder: tuple[int, ...] = (256, 128, 64, 32, 16)


class Node(nn.Module):
    """Enlarge by 2 (nearest), join the skips, conv3×3–BN–ReLU twice."""

    def __init__(self, n_below: int, n_skips: int, n_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_below + n_skips, n_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
        )

    def forward(self, below: Tensor, *skips: Tensor) -> Tensor:
        """Join ``(n, n_below, y, x)`` with skips ``(n, …, 2y, 2x)`` to ``(n, n_out, 2y, 2x)``."""
        enlarged = nn.functional.interpolate(below, scale_factor=2.0, mode="nearest")
        result: Tensor = self.body(torch.cat((enlarged, *skips), dim=1))
        return result


class UNetPlusPlus(nn.Module):
    """UNet++ with a ResNet encoder and one logit map per class.

    Parameters
    ----------
    n_channels
        Input channels: 1, or the slice and its neighbours.
    n_classes
        Output maps.
    plan
        Sizes; the default is the published one.
    """

    multiple: int
    """Input sizes along y and x must be multiples of this: 2 to the number of resolutions below the full one."""

    def __init__(self, n_channels: int, n_classes: int, plan: Plan | None = None) -> None:
        super().__init__()
        plan = plan or Plan()
        self.multiple = 2 ** len(plan.decoder)
        self.encoder = ResNet(n_channels, plan.width, plan.blocks)
        deepest, *skips = reversed(self.encoder.widths)
        self.n_levels = len(skips)
        self.nodes = nn.ModuleDict()
        below = [deepest]
        for level, (skip, first) in enumerate(zip(skips, plan.decoder[:-1], strict=True)):
            for start in range(level + 1):
                n_out = skip if start else first
                self.nodes[f"x_{start}_{level}"] = Node(below[start], skip * (level - start + 1), n_out)
            below = [first] + [skip] * (level + 1)
        self.nodes[f"x_0_{self.n_levels}"] = Node(below[0], 0, plan.decoder[-1])
        self.row_widths = below[:-1]
        """Channels of the nodes of the top row, the last one first."""
        self.head = nn.Conv2d(plan.decoder[-1], n_classes, 3, 1, 1)
        for module in self.nodes.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
        _begin_undecided(self.head)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(n, n_classes, y, x)`` of an image ``(n, n_channels, y, x)``."""
        logits: Tensor = self.head(self.decoded(image)[0])
        return logits

    def decoded(self, image: Tensor) -> list[Tensor]:
        """Return the node at full resolution, then the top row at half of it: x_0_3, x_1_3, x_2_3, x_3_3."""
        deepest, *skips = reversed(self.encoder(image))
        below = [deepest]
        for level, skip in enumerate(skips):
            row = [skip]
            for start in range(level, -1, -1):
                row.insert(0, self.nodes[f"x_{start}_{level}"](below[start], *row))
            below = row
        last: Tensor = self.nodes[f"x_0_{self.n_levels}"](below[0])
        return [last, *below[:-1]]

    def load_encoder(self, tensors: Mapping[str, Tensor]) -> None:
        """Take pretrained weights of the encoder: see `cristae.nets.resnet.ResNet.load_encoder`."""
        self.encoder.load_encoder(tensors)


class DeeplySupervisedUNetPlusPlus(UNetPlusPlus):
    """UNet++ with a head on every node of the top row, whose probabilities are averaged.

    Parameters are those of `UNetPlusPlus`. The heads of the row are 1×1 convolutions; their logits are enlarged by 2
    (bilinear).
    """

    def __init__(self, n_channels: int, n_classes: int, plan: Plan | None = None) -> None:
        super().__init__(n_channels, n_classes, plan)
        self.row_heads = nn.ModuleList(nn.Conv2d(width, n_classes, 1) for width in self.row_widths)
        for head in self.row_heads:
            _begin_undecided(head)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits of the mean probability, ``(n, n_classes, y, x)``."""
        return mean_logits(self.branches(image))

    def branches(self, image: Tensor) -> Tensor:
        """Return the logits of every head, ``(n, heads, n_classes, y, x)``: x_0_4 first, then the row from x_0_3."""
        last, *row = self.decoded(image)
        rough = torch.cat([head(node) for head, node in zip(self.row_heads, row, strict=True)], dim=1)
        row_logits = nn.functional.interpolate(rough, scale_factor=2.0, mode="bilinear", align_corners=False)
        return torch.stack([self.head(last), *row_logits.chunk(len(row), dim=1)], dim=1)

    def make_undecided(self, index: int, generator: Generator) -> None:
        """Give a class new weights in every head."""
        for head in (self.head, *self.row_heads):
            assert isinstance(head, nn.Conv2d)
            renew(head, index, generator)

    def outputs(self, image: Tensor) -> dict[str, Tensor]:
        """Return ``logits`` and ``branches``, as `forward` and `branches` do."""
        branches = self.branches(image)
        return {"logits": mean_logits(branches), "branches": branches}

    def combined(self, outputs: Mapping[str, Tensor], loss: OutputLoss) -> Tensor:
        """Return the mean loss of all heads, with half the cross-entropy that is asked for."""
        return torch.stack([loss(one, CROSS_ENTROPY) for one in outputs["branches"].unbind(1)]).mean()


def _begin_undecided(head: nn.Module) -> None:
    assert isinstance(head, nn.Conv2d)
    assert head.bias is not None
    nn.init.xavier_uniform_(head.weight)
    nn.init.zeros_(head.bias)


def _plan(build: Build) -> Plan:
    """Return the sizes of depth 5; the decoder's widths stay in proportion to the encoder's."""
    if build.size == "full":
        width = build.base_width or 64
        return Plan(width, (3, 4, 6, 3), (4 * width, 2 * width, width, -(-width // 2), -(-width // 4)))
    width = build.base_width or 16
    return Plan(width, (2, 2, 2, 2), (4 * width, 2 * width, width, width, width))


def build_unetplusplus(build: Build) -> DeeplySupervisedUNetPlusPlus:
    """Return a deeply supervised UNet++ of depth 5; its base width is 64 in full size, 16 in small."""
    return DeeplySupervisedUNetPlusPlus(build.n_channels, build.n_classes, _plan(build))


def build_unetplusplus_plain(build: Build) -> UNetPlusPlus:
    """Return a UNet++ of depth 5 with one head; its base width is 64 in full size, 16 in small."""
    return UNetPlusPlus(build.n_channels, build.n_classes, _plan(build))


def build_unetplusplus_pagano(build: Build) -> UNetPlusPlus:
    """Return the UNet++ of depth 3 of Pagano et al.'s CutMix runs; its base width is 64 in full size, 32 in small."""
    width = build.base_width or {"small": 32, "full": 64}[build.size]
    last = -(-width // {"small": 2, "full": 4}[build.size])
    return UNetPlusPlus(build.n_channels, build.n_classes, Plan(width, (3, 4), (2 * width, width, last)))

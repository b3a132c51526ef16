"""TransUNet: a ResNet whose deepest features pass through a transformer, and a U-Net decoder with the ResNet's skips.

::

    image ─ ResNet 1/2 ───────────────────────────────── skip ─ up 64 ─ up 16 ─ 3×3 ─> logits
               └ 1/4 ─────────────────────────── skip ─ up 128 ┘
                  └ 1/8 ───────────────── skip ─ up 256 ┘
                     └ 1/16 ─ 12 × transformer ─ 512 ┘

References
----------
Chen et al. 2021, Figure 1 and section 3 ("R50-ViT-B/16"); compared with others by Machireddy et al. 2023, Figure 6.
105,911,825 parameters for tiles of 512 px and one class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cristae.nets.contract import Build
from cristae.nets.resnetv2 import ResNetV2
from cristae.nets.vit import Form, VisionTransformer, as_map, positions_along


@dataclass(frozen=True)
class Shape:
    """Sizes of a TransUNet.

    Parameters
    ----------
    transformer
        Its form.
    root
        Channels of the ResNet at 1/2.
    units
        Bottlenecks of its three stages.
    groups
        Of its group normalisations.
    decoder
        Channels after the transformer, and after each of four up-steps.
    momentum
        Share of the newest batch in the running statistics of the batch normalisations.
    """

    transformer: Form
    root: int
    units: tuple[int, int, int]
    groups: int
    decoder: tuple[int, int, int, int, int]
    momentum: float = 0.1


SHAPES = {
    "full": Shape(Form(768, 12, 12, 3072, 0.1), 64, (3, 4, 9), 32, (512, 256, 128, 64, 16)),
    "small": Shape(Form(192, 4, 6, 768), 16, (2, 2, 2), 8, (128, 64, 32, 16, 16), momentum=0.3),
}
"""In a short training, features move faster than statistics that take a tenth of each batch can follow."""


class HybridEmbedding(nn.Module):
    """Patches that are the deepest features of a ResNet, one for each pixel at 1/16."""

    def __init__(self, n_channels: int, shape: Shape) -> None:
        super().__init__()
        self.backbone = ResNetV2(n_channels, shape.root, shape.units, shape.groups)
        self.proj = nn.Conv2d(16 * shape.root, shape.transformer.width, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return patches ``(n, width, y / 16, x / 16)`` and the skips at 1/2, 1/4 and 1/8."""
        *skips, deepest = self.backbone(image)
        return self.proj(deepest), skips


class UpStep(nn.Module):
    """Double the resolution, join the skip, twice conv3×3–BN–ReLU."""

    def __init__(self, n_in: int, n_skip: int, n_out: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_convolution(n_in + n_skip, n_out), *_convolution(n_out, n_out))

    def forward(self, features: Tensor, skip: Tensor | None) -> Tensor:
        """Join ``(n, n_in, y, x)`` with the skip ``(n, n_skip, 2y, 2x)``, if there is one."""
        features = nn.functional.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=True)
        result: Tensor = self.body(features if skip is None else torch.cat((features, skip), dim=1))
        return result


class TransUNet(nn.Module):
    """TransUNet with one logit map per class.

    Parameters
    ----------
    n_channels
        Input channels. One is repeated to three, as published; else the root takes as many as there are.
    n_classes
        Output maps.
    tile_px
        Side of the tiles that it learns from: it has a learnt position for each 16 × 16 pixels of it.
    shape
        Other sizes.
    """

    multiple = 16
    """Input sizes along y and x must be multiples of this."""

    def __init__(self, n_channels: int, n_classes: int, tile_px: int, shape: Shape) -> None:
        super().__init__()
        grid = positions_along(tile_px, self.multiple)
        self.largest = self.multiple * grid
        self.repeats = 3 if n_channels == 1 else 1
        self.encoder = VisionTransformer(HybridEmbedding(self.repeats * n_channels, shape), shape.transformer, grid)
        self.last = shape.transformer.depth - 1
        first, *widths = shape.decoder
        skips = (8 * shape.root, 4 * shape.root, shape.root, 0)
        self.enter = nn.Sequential(*_convolution(shape.transformer.width, first))
        self.up = nn.ModuleList(
            UpStep(n_in, n_skip, n_out) for n_in, n_skip, n_out in zip(shape.decoder, skips, widths, strict=False)
        )
        self.head = nn.Conv2d(widths[-1], n_classes, 3, padding=1)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = shape.momentum

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(n, n_classes, y, x)`` of an image ``(n, n_channels, y, x)``."""
        patches, skips = self.encoder.patch_embed(image.repeat(1, self.repeats, 1, 1) if self.repeats > 1 else image)
        tokens = self.encoder.norm(self.encoder(patches, {self.last})[self.last])
        features = self.enter(as_map(tokens, (patches.shape[2], patches.shape[3])))
        for step in self.up:
            features = step(features, skips.pop() if skips else None)
        logits: Tensor = self.head(features)
        return logits

    def load_encoder(self, tensors: Mapping[str, Tensor]) -> None:
        """Take pretrained weights: a state dict of timm's ``vit_base_r50_s16_224`` or ``_384`` for the full size.

        Raises
        ------
        ValueError
            If tensors are missing or have another shape; the message names the first ones.
        """
        self.encoder.load(tensors)


def _convolution(n_in: int, n_out: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(n_in, n_out, 3, padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)


def build_transunet(build: Build) -> TransUNet:
    """Return a TransUNet; its widths are those of the size (``base_width`` is not used)."""
    return TransUNet(build.n_channels, build.n_classes, build.tile_px, SHAPES[build.size])

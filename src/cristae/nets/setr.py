"""SETR: a plain vision transformer, and three simple ways from its tokens back to pixels.

::

    image ─ patches ─ block ─ … ─ block ─ … ─ block ─ norm ─┬─ naive: 1×1 ─ classes ─ enlarge ─> logits
                                                            ├─ PUP:   (3×3, enlarge 2×) … ─ classes ─ enlarge ─> logits
               └──────────┴ four layers ┴───────────────────┴─ MLA:   join, (3×3 …) of each, enlarge 4× ─ classes ─ …

While it learns, auxiliary heads at several layers predict the classes too, and their losses are added.

References
----------
Zheng et al. 2021, Figure 1 and sections 3.2 and 4.1; compared with others by Machireddy et al. 2023, Figure 6. The
published transformer is ViT-L/16: 303,623,168 parameters for tiles of 512 px of one channel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from cristae.nets.contract import Build, OutputLoss, Size
from cristae.nets.vit import EPSILON, Form, PatchEmbedding, VisionTransformer, as_map, positions_along

AUXILIARY = 0.4
"""Weight of the loss of each auxiliary head."""

Variant = Literal["naive", "pup", "mla"]


@dataclass(frozen=True)
class Shape:
    """Sizes of a SETR.

    Parameters
    ----------
    transformer
        Its form.
    patch
        Side of a patch in pixels, a power of 2 from 4.
    layers
        Blocks that the decoder looks at beside the last one, by variant: of naive and PUP for auxiliary heads, and of
        MLA for prediction. They count from 0.
    width
        Channels of the decoder.
    momentum
        Share of the newest batch in the running statistics of the batch normalisations.
    """

    transformer: Form
    patch: int
    layers: Mapping[Variant, tuple[int, ...]]
    width: int
    momentum: float = 0.1


SHAPES: Mapping[Size, Shape] = {
    "full": Shape(
        Form(1024, 24, 16, 4096), 16, {"naive": (9, 14, 19), "pup": (9, 14, 19, 23), "mla": (5, 11, 17, 23)}, 256
    ),
    "small": Shape(Form(192, 4, 6, 768), 8, {"naive": (0, 1, 2), "pup": (0, 1, 2, 3), "mla": (0, 1, 2, 3)}, 64, 0.3),
}
"""In a short training, features move faster than statistics that take a tenth of each batch can follow."""


class Seen(NamedTuple):
    """What the transformer made of an image.

    Parameters
    ----------
    tokens
        ``(n, y · x, width)`` after some of the blocks, by their number.
    last
        The same after the last block, normalised.
    grid
        (y, x), in patches.
    """

    tokens: Mapping[int, Tensor]
    last: Tensor
    grid: tuple[int, int]


class AuxiliaryHead(nn.Module):
    """LN, conv–BN–ReLU, enlarge, classes; from the tokens of one layer."""

    def __init__(self, n_in: int, width: int, n_classes: int, kernel: int, enlarge: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(n_in, eps=EPSILON)
        self.body = nn.Sequential(*_convolution(n_in, width, kernel, bias=True))
        self.enlarge = enlarge
        self.head = nn.Conv2d(width, n_classes, 1)

    def forward(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return logits ``(n, n_classes, y · enlarge, x · enlarge)``."""
        logits: Tensor = self.head(_enlarged(self.body(as_map(self.norm(tokens), grid)), self.enlarge))
        return logits


class UpDecoder(nn.Module):
    """The decoder of naive (one 1×1 convolution) and PUP (3×3 convolutions with 2× enlargements between them).

    Parameters
    ----------
    shape
        Sizes.
    variant
        ``naive`` or ``pup``.
    n_classes
        Of the auxiliary heads.
    """

    head_kernel = 1

    def __init__(self, shape: Shape, variant: Variant, n_classes: int) -> None:
        super().__init__()
        n_in, width = shape.transformer.width, shape.width
        # The last of PUP's enlargements comes after the classes.
        kernel, steps, enlarge = (1, 1, 1) if variant == "naive" else (3, int(math.log2(shape.patch)), 4)
        self.layers = shape.layers[variant]
        self.n_out = width
        self.steps = nn.ModuleList(
            nn.Sequential(*_convolution(n_in if i == 0 else width, width, kernel, bias=True)) for i in range(steps)
        )
        self.auxiliary = nn.ModuleList(AuxiliaryHead(n_in, width, n_classes, kernel, enlarge) for _ in self.layers)

    def forward(self, seen: Seen, auxiliary: bool) -> tuple[Tensor, list[Tensor]]:
        """Return features ``(n, n_out, y, x)`` and, where asked for, the logits of the auxiliary heads."""
        features = as_map(seen.last, seen.grid)
        for i, step in enumerate(self.steps):
            features = step(features if i == 0 else _enlarged(features, 2))
        if not auxiliary:
            return features, []
        return features, [
            head(seen.tokens[layer], seen.grid) for head, layer in zip(self.auxiliary, self.layers, strict=True)
        ]


class MultiLevelDecoder(nn.Module):
    """The decoder of MLA: four layers, each with the sum of the deeper ones, enlarged and put side by side.

    Parameters
    ----------
    shape
        Sizes.
    n_classes
        Of the auxiliary heads.
    """

    head_kernel = 3

    def __init__(self, shape: Shape, n_classes: int) -> None:
        super().__init__()
        n_in, width = shape.transformer.width, shape.width
        self.layers = shape.layers["mla"]
        self.n_out = len(self.layers) * (width // 2)
        # The last layer is normalised by the transformer.
        self.norms = nn.ModuleList(nn.LayerNorm(n_in, eps=EPSILON) for _ in self.layers[:-1])
        self.reduce = nn.ModuleList(nn.Sequential(*_convolution(n_in, width, 1, bias=False)) for _ in self.layers)
        self.smooth = nn.ModuleList(nn.Sequential(*_convolution(width, width, 3, bias=False)) for _ in self.layers)
        self.streams = nn.ModuleList(
            nn.Sequential(
                *_convolution(width, width // 2, 3, bias=False), *_convolution(width // 2, width // 2, 3, bias=False)
            )
            for _ in self.layers
        )
        self.auxiliary = nn.ModuleList(nn.Conv2d(width, n_classes, 1, bias=False) for _ in self.layers)

    def forward(self, seen: Seen, auxiliary: bool) -> tuple[Tensor, list[Tensor]]:
        """Return features ``(n, n_out, 4y, 4x)`` and, where asked for, the logits of the auxiliary heads."""
        normalised = [norm(seen.tokens[layer]) for norm, layer in zip(self.norms, self.layers, strict=False)]
        maps = [
            reduce(as_map(tokens, seen.grid))
            for reduce, tokens in zip(self.reduce, [*normalised, seen.last], strict=True)
        ]
        for i in reversed(range(len(maps) - 1)):
            maps[i] = maps[i] + maps[i + 1]
        maps = [smooth(one) for smooth, one in zip(self.smooth, maps, strict=True)]
        streams = [stream(one) for stream, one in zip(self.streams, maps, strict=True)]
        features = nn.functional.interpolate(
            torch.cat(streams, dim=1), scale_factor=4.0, mode="bilinear", align_corners=True
        )
        heads = zip(self.auxiliary, maps, strict=True) if auxiliary else ()
        return features, [head(one) for head, one in heads]


class SETR(nn.Module):
    """SETR with one logit map per class.

    Parameters
    ----------
    n_channels
        Input channels: 1, or the slice and its neighbours.
    n_classes
        Output maps.
    tile_px
        Side of the tiles that it learns from: it has a learnt position for each patch of it.
    shape
        Other sizes.
    variant
        The decoder: ``naive``, ``pup`` (progressive up-sampling) or ``mla`` (multi-level aggregation).
    """

    def __init__(self, n_channels: int, n_classes: int, tile_px: int, shape: Shape, variant: Variant) -> None:
        super().__init__()
        grid = positions_along(tile_px, shape.patch)
        self.multiple = shape.patch
        self.largest = shape.patch * grid
        embedding = PatchEmbedding(n_channels, shape.transformer.width, shape.patch)
        self.encoder = VisionTransformer(embedding, shape.transformer, grid)
        self.last = shape.transformer.depth - 1
        self.decoder: UpDecoder | MultiLevelDecoder = (
            MultiLevelDecoder(shape, n_classes) if variant == "mla" else UpDecoder(shape, variant, n_classes)
        )
        kernel = self.decoder.head_kernel
        self.head = nn.Conv2d(self.decoder.n_out, n_classes, kernel, padding=kernel // 2)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = shape.momentum

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(n, n_classes, y, x)`` of an image ``(n, n_channels, y, x)``."""
        return self._predict(image, auxiliary=False)[0]

    def outputs(self, image: Tensor) -> Mapping[str, Tensor]:
        """Return ``logits`` and those of the auxiliary heads, ``auxiliary_0`` …, all ``(n, n_classes, y, x)``."""
        logits, *others = self._predict(image, auxiliary=True)
        return {"logits": logits} | {f"auxiliary_{i}": other for i, other in enumerate(others)}

    def combined(self, outputs: Mapping[str, Tensor], loss: OutputLoss) -> Tensor:
        """Return the loss of the logits, and 0.4 times that of each auxiliary head."""
        total = loss(outputs["logits"], 1.0)
        for name, logits in outputs.items():
            if name.startswith("auxiliary_"):
                total = total + AUXILIARY * loss(logits, 1.0)
        return total

    def load_encoder(self, tensors: Mapping[str, Tensor]) -> None:
        """Take pretrained weights: a state dict of timm's ``vit_large_patch16_384`` or ``_224`` for the full size.

        Raises
        ------
        ValueError
            If tensors are missing or have another shape; the message names the first ones.
        """
        self.encoder.load(tensors)

    def _predict(self, image: Tensor, auxiliary: bool) -> Sequence[Tensor]:
        """Return logits and, where asked for, auxiliary ones, all of the image's size."""
        patches = self.encoder.patch_embed(image)
        tokens = self.encoder(patches, {*self.decoder.layers, self.last})
        seen = Seen(tokens, self.encoder.norm(tokens[self.last]), (patches.shape[2], patches.shape[3]))
        features, others = self.decoder(seen, auxiliary)
        size = image.shape[2:]
        return [
            nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
            for logits in (self.head(features), *others)
        ]


def _convolution(n_in: int, n_out: int, kernel: int, bias: bool) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2, bias=bias)
    return convolution, nn.BatchNorm2d(n_out), nn.ReLU(inplace=True)


def _enlarged(features: Tensor, factor: int) -> Tensor:
    if factor == 1:
        return features
    return nn.functional.interpolate(features, scale_factor=float(factor), mode="bilinear", align_corners=False)


def build_setr_naive(build: Build) -> SETR:
    """Return a SETR with the naive decoder; its widths are those of the size (``base_width`` is not used)."""
    return SETR(build.n_channels, build.n_classes, build.tile_px, SHAPES[build.size], "naive")


def build_setr_pup(build: Build) -> SETR:
    """Return a SETR that is enlarged step by step; its widths are those of the size (``base_width`` is not used)."""
    return SETR(build.n_channels, build.n_classes, build.tile_px, SHAPES[build.size], "pup")


def build_setr_mla(build: Build) -> SETR:
    """Return a SETR that joins four layers; its widths are those of the size (``base_width`` is not used)."""
    return SETR(build.n_channels, build.n_classes, build.tile_px, SHAPES[build.size], "mla")

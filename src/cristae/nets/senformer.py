r"""SenFormer: a Swin encoder, a pyramid of transformers, and a learner per scale that votes with the others.

::

    image ─ Swin ─┬ ÷32 ─ 1×1 ───── block ─ learner ─ d₄ ─┐
                  │          ↓ ×2                         │
                  ├ ÷16 ─ 1×1 + ─── block ─ learner ─ d₃ ─┤ enlarged to ÷4
                  │          ↓ ×2                         ├ log Σ σ(dₗ) − log Σ σ(−dₗ) ─ ×4 ─> logits
                  ├ ÷8 ── 1×1 + ─── block ─ learner ─ d₂ ─┤
                  │          ↓ ×2                         │
                  └ ÷4 ── 1×1 + ─── block ─ learner ─ d₁ ─┘

    learner:  embeddings (background, class) of each class
                 └ [ look at all features ─ look at each other ─ MLP ] × 6 ─ norm ─┐
              features ─ norm ──────────────────────────────────────── · (class − background) ─> d

The published network has classes that exclude each other, and a softmax. Here classes may overlap: each has its own
pair of embeddings, so a softmax over a pair is a sigmoid of the difference of its two maps, and a network of one class
is the published one of two.

References
----------
Bousselham et al. 2021, Efficient Self-Ensemble for Semantic Segmentation (SenFormer). Pagano et al. 2023, section
2.3.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from cristae.nets.contract import Build
from cristae.nets.losses import cross_entropy_loss, soft_dice_loss
from cristae.nets.swin import SWIN_S, Mlp, Swin, SwinBlock, SwinSizes, initialise, initialise_quick
from cristae.nets.undecided import drawn

Variant = Literal["unshared", "shared", "pagano"]


@dataclass(frozen=True)
class SenFormerSizes:
    """Sizes of a SenFormer.

    Parameters
    ----------
    swin
        Of the encoder.
    width, heads
        Channels of the pyramid and the learners, and heads that share them.
    blocks
        Blocks that a learner runs its embeddings through.
    quick
        Start from `cristae.nets.swin.initialise_quick`, not from the published distribution of weights.
    """

    swin: SwinSizes
    width: int
    heads: int
    blocks: int
    quick: bool = False


FULL = SenFormerSizes(SWIN_S, 512, 8, 6)
"""The published sizes."""
SMALL = SenFormerSizes(SwinSizes(32, (1, 1, 2, 1), 4, 6), 64, 4, 2, quick=True)
"""For two cores of a CPU."""
APART = 1e-4
"""Standard deviation of the embeddings of a class and of its background at first."""


class ClassAttention(nn.Module):
    """Attention of a few queries to many tokens.

    The projections of keys and values are worked into the few queries and the few results, so that no projection of
    all the tokens is ever computed: q·(K f) = (Kᵀ q)·f, and Σ a (V f) = V Σ a f.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Return what queries ``(n, q, width)`` find in tokens ``(n, t, width)``, as ``(n, q, width)``."""
        n, q, width = queries.shape
        each = width // self.heads
        query = self.query(queries).view(n, q, self.heads, each) * each**-0.5
        asked = torch.einsum("nqhe,hed->nqhd", query, self.key.weight.view(self.heads, each, width))
        offset = torch.einsum("nqhe,he->nqh", query, self.key.bias.view(self.heads, each))
        scores = asked.flatten(1, 2) @ tokens.transpose(1, 2) + offset.flatten(1)[..., None]
        mixed = (scores.softmax(-1) @ tokens).view(n, q, self.heads, width)
        value = torch.einsum("nqhd,hed->nqhe", mixed, self.value.weight.view(self.heads, each, width))
        result: Tensor = self.proj(value.flatten(2) + self.value.bias)
        return result


class DecoderBlock(nn.Module):
    """Embeddings look at the features, then at each other, then pass an MLP; each time normalised before."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.cross = ClassAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.attn = ClassAttention(width, heads)
        self.norm3 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, embeddings: Tensor, tokens: Tensor) -> Tensor:
        """Map embeddings ``(n, q, width)`` to the same shape, given the features' tokens ``(n, t, width)``."""
        embeddings = embeddings + self.cross(self.norm1(embeddings), tokens)
        seen = self.norm2(embeddings)
        embeddings = embeddings + self.attn(seen, seen)
        result: Tensor = embeddings + self.mlp(self.norm3(embeddings))
        return result


class Learner(nn.Module):
    """Segments the features of one scale, by embeddings of the classes that it fits to each image.

    Parameters
    ----------
    n_classes
        Classes; each has two embeddings, of its background and of itself.
    sizes
        Width, heads and blocks.
    shared
        All blocks have the same weights.
    """

    def __init__(self, n_classes: int, sizes: SenFormerSizes, shared: bool) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.empty(2 * n_classes, sizes.width))
        self.norm_features = nn.LayerNorm(sizes.width)
        n_own = 1 if shared else sizes.blocks
        self.blocks = nn.ModuleList(DecoderBlock(sizes.width, sizes.heads) for _ in range(n_own))
        self.repeats = sizes.blocks // n_own
        self.norm = nn.LayerNorm(sizes.width)
        # The published ones start at 0, where a class and its background are the same and all images get one answer.
        # That far from it the first update need not break the tie.
        nn.init.normal_(self.embeddings, std=APART)

    def forward(self, features: Tensor) -> Tensor:
        """Return the map of each class less that of its background, ``(n, n_classes, y, x)``.

        Parameters
        ----------
        features
            ``(n, y, x, width)``.
        """
        n, y, x, _ = features.shape
        tokens = self.norm_features(features).flatten(1, 2)
        embeddings = self.embeddings.expand(n, -1, -1)
        for _ in range(self.repeats):
            for block in self.blocks:
                embeddings = block(embeddings, tokens)
        background, present = self.norm(embeddings).unflatten(1, (-1, 2)).unbind(2)
        return ((present - background) @ tokens.transpose(1, 2)).view(n, -1, y, x)


class Pyramid(nn.Module):
    """Features of all scales at one width, each joined with the coarser ones and passed through a Swin block.

    Parameters
    ----------
    n_in
        Channels of the scales, finest first.
    sizes
        Width, heads and window.
    ring
        As in the released port of Pagano et al.: the 1×1 convolutions are padded, so each scale grows by a ring
        of one, and are followed by batch normalisation and ReLU.
    """

    def __init__(self, n_in: Sequence[int], sizes: SenFormerSizes, ring: bool) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            nn.Sequential(nn.Conv2d(n, sizes.width, 1, padding=1), nn.BatchNorm2d(sizes.width), nn.ReLU())
            if ring
            else nn.Conv2d(n, sizes.width, 1)
            for n in n_in
        )
        self.blocks = nn.ModuleList(SwinBlock(sizes.width, sizes.heads, sizes.swin.window) for _ in n_in)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Map ``(n, c, y, x)`` of each scale, finest first, to ``(n, y, x, width)``."""
        joined = [lateral(one) for lateral, one in zip(self.laterals, features, strict=True)]
        for i in reversed(range(len(joined) - 1)):
            joined[i] = joined[i] + F.interpolate(joined[i + 1], joined[i].shape[2:], mode="nearest")
        return [block(one.permute(0, 2, 3, 1)) for block, one in zip(self.blocks, joined, strict=True)]


def merged(differences: Tensor) -> Tensor:
    """Return log Σ p − log Σ (1 − p) over the learners, p being what each gives the class.

    Parameters
    ----------
    differences
        ``(n, learners, n_classes, y, x)``: the map of the class less that of its background; p is its sigmoid.

    Notes
    -----
    The published code adds probabilities, clamps the sum at 1e-15 and takes the logarithm. Sums of logarithms need no
    clamp, and keep a gradient where all learners are sure and wrong.
    """
    return F.logsigmoid(differences).logsumexp(1) - F.logsigmoid(-differences).logsumexp(1)


class SenFormer(nn.Module):
    """SenFormer with one logit map per class.

    Parameters
    ----------
    n_channels
        Input channels: 1, or the slice and its neighbours.
    n_classes
        Output maps.
    sizes
        Of encoder, pyramid and learners.
    variant
        ``unshared``: each block of a learner has its own weights. ``shared``: all blocks of a learner have the same.
        ``pagano``: unshared, with the pyramid of the released port (see `Pyramid`) and the loss without Dice.
    """

    multiple = 32
    """Input sizes along y and x must be multiples of this."""

    def __init__(
        self, n_channels: int, n_classes: int, sizes: SenFormerSizes = FULL, variant: Variant = "unshared"
    ) -> None:
        super().__init__()
        self.ring, self.dice = variant == "pagano", variant != "pagano"
        self.backbone = Swin(n_channels, sizes.swin)
        self.neck = Pyramid(sizes.swin.widths, sizes, self.ring)
        self.learners = nn.ModuleList(Learner(n_classes, sizes, variant == "shared") for _ in sizes.swin.depths)
        self.apply(initialise_quick if sizes.quick else initialise)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(n, n_classes, y, x)`` of an image ``(n, n_channels, y, x)``."""
        return self.outputs(image)["logits"]

    def outputs(self, image: Tensor) -> dict[str, Tensor]:
        """Return ``logits``, and ``learners`` ``(n, learners, n_classes, y / 4, x / 4)``, the logits of each alone."""
        maps = [learner(one) for learner, one in zip(self.learners, self.neck(self.backbone(image)), strict=True)]
        if self.ring:  # it lies outside the image
            maps = [one[..., 1:-1, 1:-1] for one in maps]
        differences = torch.stack([_enlarged(one, maps[0].shape[2:]) for one in maps], 1)
        return {"logits": _enlarged(merged(differences), image.shape[2:]), "learners": differences}

    def loss(self, outputs: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> Tensor:
        """Return the cross-entropy of the merged prediction, the mean of those of the learners, and the Dice loss.

        Each cross-entropy is the mean over all pixels that were looked at, of a class against its background. The
        soft Dice loss of the merged prediction is ours: in the cross-entropies, classes of a few per cent have little
        say. Parameters as in `cristae.nets.contract.OwnLoss.loss`.
        """
        learners = outputs["learners"]
        alone = _enlarged(learners.flatten(1, 2), target.shape[2:]).view(*learners.shape[:3], *target.shape[2:])
        many, where = target[:, None].expand_as(alone), weight[:, None].expand_as(alone)
        loss = cross_entropy_loss(outputs["logits"], target, weight) + cross_entropy_loss(alone, many, where)
        return loss + soft_dice_loss(torch.sigmoid(outputs["logits"]), target, weight) if self.dice else loss

    @torch.no_grad()
    def make_undecided(self, index: int, generator: Generator) -> None:
        """Let a class and its background begin again as nearly the same, in all learners."""
        for learner in self.learners:
            assert isinstance(learner, Learner)
            pair = learner.embeddings[2 * index : 2 * index + 2]
            pair.copy_(drawn(pair, APART, generator))

    def load_encoder(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the weights of a published Swin; see `cristae.nets.swin.Swin.load_encoder`."""
        self.backbone.load_encoder(tensors)


def _enlarged(maps: Tensor, shape: Sequence[int]) -> Tensor:
    if maps.shape[2:] == torch.Size(shape):
        return maps
    return F.interpolate(maps, tuple(shape), mode="bilinear", align_corners=False)


def build_senformer(build: Build) -> SenFormer:
    """Return a SenFormer on a Swin-S, or a small one; `base_width` is the width of Swin (96, small: 32)."""
    return _built(build, "unshared")


def build_senformer_shared(build: Build) -> SenFormer:
    """Return a SenFormer whose learners use the weights of one block again and again."""
    return _built(build, "shared")


def build_senformer_pagano(build: Build) -> SenFormer:
    """Return a SenFormer with the pyramid of the port that Pagano et al. released."""
    return _built(build, "pagano")


def _built(build: Build, variant: Variant) -> SenFormer:
    sizes = {"small": SMALL, "full": FULL}[build.size]
    if build.base_width:
        heads = _heads(build.base_width, sizes.swin.width // sizes.swin.heads)
        sizes = replace(sizes, swin=replace(sizes.swin, width=build.base_width, heads=heads))
    return SenFormer(build.n_channels, build.n_classes, sizes, variant)


def _heads(width: int, each: int) -> int:
    """Return the number of heads, of `each` channels or a little more, that share `width` evenly."""
    return max(heads for heads in range(1, max(1, width // each) + 1) if width % heads == 0)

"""Vision transformer: patches of an image become tokens, and every token looks at every other.

::

    image ─ patch_embed ─> patches (n, width, y / p, x / p) ─> tokens + pos_embed ─ block ─ block ─ … ─ norm
                                                                                  └ layer 0 └ layer 1

Shared by TransUNet and SETR. Parameters have the names that timm gives them, so that published weights fit.

References
----------
Dosovitskiy et al. 2021, Figure 1 and equations 1–4. Without the class token: segmentation has no use for it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

EPSILON = 1e-6
"""Of every layer normalisation, as in the published networks."""


@dataclass(frozen=True)
class Form:
    """Sizes of a transformer.

    Parameters
    ----------
    width
        Numbers in a token.
    depth
        Blocks.
    heads
        Of each attention; they share out the width.
    hidden
        Width of the hidden layer in each block.
    dropout
        Share of numbers set to 0 while learning, after the positions and in the hidden layers.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    dropout: float = 0.0


class Attention(nn.Module):
    """Multi-head self-attention: softmax(q kᵀ / √d) v within each head, then a linear map of all heads together."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``(n, tokens, width)`` to as many."""
        n, count, width = tokens.shape
        parts = self.qkv(tokens).reshape(n, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(*parts.unbind(0))
        result: Tensor = self.proj(mixed.transpose(1, 2).reshape(n, count, width))
        return result


class Perceptron(nn.Module):
    """Linear, GELU, linear, on each token by itself."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.fc1 = nn.Linear(form.width, form.hidden)
        self.fc2 = nn.Linear(form.hidden, form.width)
        self.drop = nn.Dropout(form.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``(n, tokens, width)`` to as many."""
        hidden = self.drop(nn.functional.gelu(self.fc1(tokens)))
        result: Tensor = self.drop(self.fc2(hidden))
        return result


class Block(nn.Module):
    """Attention and perceptron, each after a layer normalisation and each added to what came in."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(form.width, eps=EPSILON)
        self.attn = Attention(form.width, form.heads)
        self.norm2 = nn.LayerNorm(form.width, eps=EPSILON)
        self.mlp = Perceptron(form)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``(n, tokens, width)`` to as many."""
        tokens = tokens + self.attn(self.norm1(tokens))
        result: Tensor = tokens + self.mlp(self.norm2(tokens))
        return result


class PatchEmbedding(nn.Module):
    """Cut an image into squares and map each to a vector, by one convolution."""

    def __init__(self, n_channels: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(n_channels, width, patch, patch)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(n, n_channels, y, x)`` to ``(n, width, y / patch, x / patch)``."""
        patches: Tensor = self.proj(image)
        return patches


class VisionTransformer(nn.Module):
    """Tokens after any of its blocks.

    Parameters
    ----------
    patch_embed
        Makes patches of an image. It is kept here, where published weights have it, and called by the network, which
        may want more of it than patches.
    form
        Sizes.
    grid
        Patches along each side of the tile that it is built for: there are grid² learnt positions.
    """

    def __init__(self, patch_embed: nn.Module, form: Form, grid: int) -> None:
        super().__init__()
        self.patch_embed = patch_embed
        self.grid = grid
        self.pos_embed = nn.Parameter(torch.zeros(1, grid * grid, form.width))
        self.drop = nn.Dropout(form.dropout)
        self.blocks = nn.ModuleList(Block(form) for _ in range(form.depth))
        self.norm = nn.LayerNorm(form.width, eps=EPSILON)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, patches: Tensor, layers: Collection[int]) -> dict[int, Tensor]:
        """Return the tokens after some of the blocks, before `norm`.

        Parameters
        ----------
        patches
            ``(n, width, y, x)``, from `patch_embed`.
        layers
            Numbers of blocks, from 0.

        Returns
        -------
        dict
            ``(n, y · x, width)`` by number.
        """
        tokens = patches.flatten(2).transpose(1, 2)
        positions = resize_positions(self.pos_embed, (self.grid, self.grid), (patches.shape[2], patches.shape[3]))
        tokens = self.drop(tokens + positions)
        found: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks):
            tokens = block(tokens)
            if number in layers:
                found[number] = tokens
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights of a state dict of timm; what the network has no use for (heads, class token) is left out.

        A first convolution of 3 channels is summed over them and shared out over ours; positions are interpolated.

        Raises
        ------
        ValueError
            If tensors are missing or have another shape; the message names the first ones. Nothing is taken then.
        """
        own = self.state_dict()
        missing = [name for name in own if name not in tensors]
        given = {name: self._fitted(name, tensors, value) for name, value in own.items() if name in tensors}
        wrong = [
            f"{name} (expected {tuple(own[name].shape)}, got {tuple(value.shape)})"
            for name, value in given.items()
            if value.shape != own[name].shape
        ]
        if missing or wrong:
            faults = [
                f"{what} {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
                for what, names in ((f"{len(missing)} missing:", missing), (f"{len(wrong)} of wrong shape:", wrong))
                if names
            ]
            raise ValueError(f"not the weights of this encoder: {'; '.join(faults)}")
        self.load_state_dict(given)

    def _fitted(self, name: str, tensors: Mapping[str, Tensor], own: Tensor) -> Tensor:
        """Return a tensor in the shape of ours, where that makes sense; else as it is."""
        value = tensors[name]
        if name == "pos_embed" and value.ndim == own.ndim:
            value = value[:, 1:] if "cls_token" in tensors else value
            side = math.isqrt(value.shape[1])
            if side and side**2 == value.shape[1]:
                return resize_positions(value, (side, side), (self.grid, self.grid))
        if value.ndim == own.ndim == 4 and value.shape[1] == 3 != own.shape[1]:
            return value.sum(1, keepdim=True).expand(-1, own.shape[1], -1, -1) / own.shape[1]
        return value


def resize_positions(positions: Tensor, grid: tuple[int, int], wanted: tuple[int, int]) -> Tensor:
    """Interpolate positions ``(1, y · x, width)``, learnt on one grid ``(y, x)``, to another (bicubic)."""
    if grid == wanted:
        return positions
    as_image = as_map(positions, grid)
    large = nn.functional.interpolate(as_image.float(), size=wanted, mode="bicubic", align_corners=False)
    return large.flatten(2).transpose(1, 2).to(positions.dtype)


def as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Lay tokens ``(n, y · x, width)`` out as a map ``(n, width, y, x)``."""
    return tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], *grid)


def positions_along(tile_px: int, patch: int) -> int:
    """Return the number of patches that cover the side of a tile."""
    return max(1, -(-tile_px // patch))

"""Swin: a transformer whose tokens look at each other inside small windows, at four scales.

::

    image ─ 4×4 patches ─ blocks, w ÷4 ─ merge 2×2 ─ blocks, 2w ÷8 ─ merge ─ blocks, 4w ÷16 ─ merge ─ blocks, 8w ÷32
                             │norm0                    │norm1                  │norm2                  │norm3

    windows of even blocks      of odd blocks: shifted by half a window, so that neighbours exchange
    ┌───┬───┬───┐               ┌─┬───┬───┬─┐
    │   │   │   │               ├─┼───┼───┼─┤
    ├───┼───┼───┤               │ │   │   │ │
    │   │   │   │               │ │   │   │ │
    └───┴───┴───┘               └─┴───┴───┴─┘

Maps that windows do not divide are padded with zeros at the right and bottom for the attention, as in the published
segmentation networks. Names of parameters are those of timm's classifiers, whose weights `Swin.load_encoder` takes.

References
----------
Liu et al. 2021, Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, sections 3.1–3.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PATCH = 4
"""Side of the patches that become tokens, in pixels."""


@dataclass(frozen=True)
class SwinSizes:
    """Sizes of a Swin transformer.

    Parameters
    ----------
    width
        Channels at stride 4; they double at each of the following scales.
    depths
        Blocks per scale.
    heads
        Heads of attention at stride 4; they double as the channels do.
    window
        Side of a window in tokens.
    """

    width: int
    depths: tuple[int, ...]
    heads: int
    window: int

    @property
    def widths(self) -> list[int]:
        """Channels of each scale."""
        return [self.width * 2**scale for scale in range(len(self.depths))]


SWIN_S = SwinSizes(96, (2, 2, 18, 2), 3, 7)
"""The published Swin-S."""


def initialise(module: nn.Module) -> None:
    """Draw the weights of linear maps from a truncated normal distribution of deviation 0.02, with biases of 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@torch.no_grad()
def initialise_quick(module: nn.Module) -> None:
    """Draw weights that let a narrow transformer learn within a few hundred updates.

    The published start suits widths of hundreds and trainings of days. There attention begins as a plain mean over the
    window, and a deviation of 0.02 lets next to nothing through narrow layers. Here

    - linear maps keep the scale of what passes them (Glorot);
    - tokens know how bright their patch is: without a large bias, normalising them leaves of it the sign alone;
    - each head looks at another near place at first, as a convolution does: biases fall off with the square of the
      distance from it, and the places follow each other in a spiral of the golden angle.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, PatchEmbedding):
        nn.init.normal_(cast(Tensor, module.proj.bias), std=0.5)
    elif isinstance(module, WindowAttention):
        table = module.relative_position_bias_table
        reach = math.isqrt(len(table)) // 2
        head = torch.arange(module.heads)
        angle, radius = head * math.pi * (3 - math.sqrt(5)), head.sqrt()
        # Rows of the table are offsets from the token seen to the one that looks.
        y, x = (torch.cartesian_prod(*2 * [torch.arange(-reach, reach + 1)])[:, i, None] for i in (0, 1))
        squares = (y + radius * angle.sin()).square() + (x + radius * angle.cos()).square()
        table.copy_((-squares / 2).clamp(min=-20))


class Mlp(nn.Module):
    """Two linear maps with a GELU between, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(..., width)`` to the same shape."""
        result: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return result


class WindowAttention(nn.Module):
    """Attention among the tokens of a window, with a learnt bias for each offset between two tokens."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        offset = place[:, None] - place[None] + window - 1
        index = offset[..., 0] * (2 * window - 1) + offset[..., 1]
        self.register_buffer("relative_position_index", index, persistent=False)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, windows: Tensor, mask: Tensor | None = None) -> Tensor:
        """Let the tokens of each window look at each other.

        Parameters
        ----------
        windows
            ``(n, windows, tokens, width)``.
        mask
            ``(windows, tokens, tokens)``, bool: True where the first token must not see the second.
        """
        n, k, t, width = windows.shape
        qkv = self.qkv(windows).view(n, k, t, 3, self.heads, width // self.heads).permute(3, 0, 1, 4, 2, 5)
        query, key, value = qkv.unbind(0)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2) + bias
        if mask is not None:
            scores = scores.masked_fill(mask[:, None], -torch.inf)
        mixed = scores.softmax(-1) @ value
        result: Tensor = self.proj(mixed.transpose(2, 3).reshape(n, k, t, width))
        return result


class SwinBlock(nn.Module):
    """Attention in windows and an MLP, each after a layer normalisation and added to what came in.

    Parameters
    ----------
    width, heads
        Channels, and heads that share them.
    window
        Side of a window in tokens.
    shifted
        Shift the windows by half their side. Along an axis with one window alone there is nothing to exchange, and
        they stay.
    """

    def __init__(self, width: int, heads: int, window: int, shifted: bool = False) -> None:
        super().__init__()
        self.window, self.shift = window, window // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(n, y, x, width)`` to the same shape."""
        tokens = tokens + self._attend(self.norm1(tokens))
        result: Tensor = tokens + self.mlp(self.norm2(tokens))
        return result

    def _attend(self, tokens: Tensor) -> Tensor:
        y, x = tokens.shape[1:3]
        side = self.window
        below, right = -y % side, -x % side
        padded = F.pad(tokens, (0, 0, 0, right, 0, below)) if below or right else tokens
        shape = (y + below, x + right)
        shift = tuple(self.shift if length > side else 0 for length in shape)
        moved = any(shift)
        if moved:
            padded = padded.roll((-shift[0], -shift[1]), (1, 2))
        windows = partition(padded, side)
        mask = separated(shape, shift, side, tokens.device) if moved else None
        padded = assemble(self.attn(windows, mask), shape, side)
        if moved:
            padded = padded.roll(shift, (1, 2))
        return padded[:, :y, :x]


def partition(tokens: Tensor, side: int) -> Tensor:
    """Cut ``(n, y, x, c)`` into windows ``(n, windows, side², c)``, row by row."""
    n, y, x, width = tokens.shape
    parts = tokens.view(n, y // side, side, x // side, side, width).transpose(2, 3)
    return parts.reshape(n, -1, side * side, width)


def assemble(windows: Tensor, shape: tuple[int, int], side: int) -> Tensor:
    """Put the windows of `partition` together again, to ``(n, *shape, c)``."""
    n, width = windows.shape[0], windows.shape[-1]
    parts = windows.view(n, shape[0] // side, shape[1] // side, side, side, width).transpose(2, 3)
    return parts.reshape(n, *shape, width)


def separated(shape: tuple[int, int], shift: Sequence[int], side: int, device: torch.device) -> Tensor:
    """Return which tokens share a window only because rolling by `shift` brought opposite edges together.

    Returns
    -------
    Tensor
        ``(windows, side², side²)``, bool: True for pairs that are no neighbours.
    """
    wrapped = [
        torch.arange(length, device=device) >= length - by for length, by in zip(shape, shift, strict=True)
    ]  # of the windows, the last ones alone hold tokens of both sides
    region = wrapped[0][:, None] * 2 + wrapped[1][None]
    region = partition(region[None, :, :, None], side)[0, :, :, 0]
    return region[:, :, None] != region[:, None, :]


class PatchEmbedding(nn.Module):
    """A token for each patch of 4×4 pixels."""

    def __init__(self, n_channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(n_channels, width, PATCH, PATCH)
        self.norm = nn.LayerNorm(width)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(n, n_channels, y, x)`` to ``(n, y / 4, x / 4, width)``."""
        result: Tensor = self.norm(self.proj(image).permute(0, 2, 3, 1))
        return result


class PatchMerging(nn.Module):
    """Half the resolution: four neighbouring tokens become one of twice the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map ``(n, y, x, width)`` to ``(n, y / 2, x / 2, 2 width)``."""
        n, y, x, width = tokens.shape
        # The four follow each other with y running fastest, which is what published weights expect.
        quads = tokens.reshape(n, y // 2, 2, x // 2, 2, width).permute(0, 1, 3, 4, 2, 5)
        result: Tensor = self.reduction(self.norm(quads.flatten(3)))
        return result


class SwinStage(nn.Module):
    """The blocks of one scale, after the step down to it."""

    def __init__(self, sizes: SwinSizes, scale: int) -> None:
        super().__init__()
        width, heads = sizes.widths[scale], sizes.heads * 2**scale
        self.downsample = PatchMerging(width // 2) if scale else nn.Identity()
        self.blocks = nn.ModuleList(
            SwinBlock(width, heads, sizes.window, shifted=i % 2 == 1) for i in range(sizes.depths[scale])
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Map the tokens ``(n, y, x, c)`` of one scale to those of the next; the first keeps the resolution."""
        tokens = self.downsample(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class Swin(nn.Module):
    """Swin transformer that returns the features of all its scales.

    Parameters
    ----------
    n_channels
        Input channels.
    sizes
        Width, depths, heads and window.
    """

    def __init__(self, n_channels: int, sizes: SwinSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.patch_embed = PatchEmbedding(n_channels, sizes.width)
        self.layers = nn.ModuleList(SwinStage(sizes, scale) for scale in range(len(sizes.depths)))
        for scale, width in enumerate(sizes.widths):
            self.add_module(f"norm{scale}", nn.LayerNorm(width))
        self.apply(initialise)

    @property
    def multiple(self) -> int:
        """Sides of the input are multiples of this."""
        return PATCH * 2 ** (len(self.sizes.depths) - 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return features ``(n, w 2^i, y / 2^(i + 2), x / 2^(i + 2))``, finest first, of ``(n, n_channels, y, x)``."""
        tokens = self.patch_embed(image)
        features = []
        for scale, stage in enumerate(self.layers):
            tokens = stage(tokens)
            features.append(self.get_submodule(f"norm{scale}")(tokens).permute(0, 3, 1, 2))
        return features

    def load_encoder(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the weights of a published classifier.

        Parameters
        ----------
        tensors
            A state dict of timm or of Swin's authors. The first convolution is summed over its channels and divided
            over those of this network; biases of another window are interpolated. The classifier and its last
            normalisation are left out, and the normalisations of the four outputs, which no classifier has, stay.

        Raises
        ------
        ValueError
            If weights are missing, too many or of another shape; the message names the first of them.
        """
        found = _renamed(tensors)
        own = {name: value for name, value in self.state_dict().items() if name.startswith(("patch_embed", "layers"))}
        if missing := sorted(own.keys() - found.keys()):
            raise ValueError(_expected("weights that are missing", missing))
        if unknown := sorted(found.keys() - own.keys()):
            raise ValueError(_expected("weights that this Swin has no place for", unknown))
        fitted = {name: _fitted(name, found[name], value) for name, value in own.items()}
        wrong = [
            f"{name} {tuple(value.shape)} instead of {tuple(own[name].shape)}"
            for name, value in fitted.items()
            if value.shape != own[name].shape
        ]
        if wrong:
            raise ValueError(_expected("weights of another shape", wrong))
        self.load_state_dict(fitted, strict=False)


def _expected(fault: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"expected the weights of a Swin encoder of the same size, got {fault}: {', '.join(names[:3])}{more}"


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the encoder alone, under the names of this module."""
    own: dict[str, Tensor] = {}
    # Swin's authors and older releases of timm count the step down to the stage before it.
    earlier = any(name.startswith("layers.0.downsample.") for name in tensors)
    for name, value in tensors.items():
        part = name.split(".")
        if part[0] not in ("patch_embed", "layers") or part[-1] in ("relative_position_index", "attn_mask"):
            continue
        if earlier and part[2] == "downsample":
            part[1] = str(int(part[1]) + 1)
        own[".".join(part)] = value
    return own


def _fitted(name: str, tensor: Tensor, own: Tensor) -> Tensor:
    """Fit the first convolution to the channels and the biases to the window, where that is possible."""
    if name == "patch_embed.proj.weight" and tensor.ndim == own.ndim:
        n_channels = own.shape[1]
        return tensor.sum(1, keepdim=True).expand(-1, n_channels, -1, -1) / n_channels
    if name.endswith("relative_position_bias_table") and tensor.shape[1:] == own.shape[1:]:
        sides = [round(len(table) ** 0.5) for table in (tensor, own)]
        if sides[0] ** 2 == len(tensor) and sides[0] != sides[1]:
            square = tensor.T.reshape(1, -1, sides[0], sides[0])
            square = F.interpolate(square, (sides[1], sides[1]), mode="bicubic", align_corners=False)
            return square.reshape(-1, len(own)).T
    return tensor

r"""Applying a network to slices: tiles on one lattice for the whole slice, blended by half-sample cosine ramps.

The lattice depends on the shape of the slice and the settings alone, never on the block being worked on. A block
computes all tiles that reach into it, so that blocks agree with the whole::

    tile 0 |-------------|\
    tile 1            /|-------------|\          weights of neighbours in an overlap: w and 1 − w,
    tile 2                         /|-----------|  divided by their sum all the same
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from cristae.geometry import Block, Voxels
from cristae.learn.engines import Engine, TorchEngine
from cristae.learn.patches import View
from cristae.learn.scale import enlarge_slices


@dataclass(frozen=True)
class Tiling:
    """Tiles along one axis of a slice: of one length, evenly spread, overlapping by at least `overlap` pixels."""

    starts: tuple[int, ...]
    length: int
    overlap: int

    @classmethod
    def of(cls, extent: int, largest: int, overlap: int, multiple: int) -> Tiling:
        """Return the fewest tiles of at most `largest` pixels that cover `extent`.

        Lengths and starts are multiples of `multiple`: a network that halves its input again and again sees the same
        pixels together only if it starts at the same phase. The last tile may stick out, where the slice is mirrored.
        """
        # All in units of `multiple` from here on.
        whole, most = math.ceil(extent / multiple), max(1, largest // multiple)
        if whole <= most:
            return cls((0,), whole * multiple, 0)
        shared = min(math.ceil(overlap / multiple), most // 2)
        n = math.ceil((whole - shared) / (most - shared))
        length = math.ceil((whole + (n - 1) * shared) / n)
        starts = tuple(i * (whole - length) // (n - 1) * multiple for i in range(n))
        return cls(starts, length * multiple, shared * multiple)

    def weight(self) -> np.ndarray:
        """Return the weight of each pixel of a tile, float32: 1 in the middle, cosine ramps at both ends."""
        weight = np.ones(self.length, np.float32)
        if self.overlap:
            ramp = 0.5 * (1 - np.cos(np.pi * (np.arange(self.overlap) + 0.5) / self.overlap))
            weight[: self.overlap] = ramp
            weight[-self.overlap :] *= ramp[::-1].astype(np.float32)
        return weight

    def reaching(self, start: int, stop: int) -> list[int]:
        """Return the starts of the tiles that reach into the pixels from `start` to `stop`."""
        return [s for s in self.starts if s < stop and s + self.length > start]


@dataclass(frozen=True)
class Inference:
    """Settings of prediction in network pixels.

    Parameters
    ----------
    tile_px
        Largest side of a tile.
    overlap_px
        Smallest overlap of neighbouring tiles.
    views
        Mirrored and turned versions averaged: 1, 4 (mirrored) or 8 (also transposed).
    multiple
        Sides of the network's input must be multiples of this.
    batch
        Slices given to the network at a time.
    disagreement
        Whether the networks of a `cristae.nets.pair.Pair` also say how far apart they are, a map more for each class.
    """

    tile_px: int
    overlap_px: int
    views: int
    multiple: int
    batch: int = 1
    disagreement: bool = False

    @classmethod
    def of(cls, network: nn.Module, tile_px: int, overlap_px: int, views: int) -> Inference:
        """Return what suits a network: tiles no larger than it can take, slices one at a time."""
        largest = int(getattr(network, "largest", tile_px))
        return cls(min(tile_px, largest), overlap_px, views, int(getattr(network, "multiple", 1)))


class Tiled:
    """Applies an engine to slices of one size, tile by tile, and blends what it says.

    Parameters
    ----------
    engine
        Gives probabilities.
    extent
        Size of a slice ``(y, x)`` in network pixels.
    inference
        Tiles and views.
    device
        Where the engine is.
    """

    def __init__(self, engine: Engine, extent: tuple[int, int], inference: Inference, device: torch.device) -> None:
        self.engine, self.extent, self.inference, self.device = engine, extent, inference, device
        self.tilings = [Tiling.of(n, inference.tile_px, inference.overlap_px, inference.multiple) for n in extent]
        self._weight = np.outer(self.tilings[0].weight(), self.tilings[1].weight())

    def whole(self, planes: np.ndarray) -> np.ndarray:
        """Return probabilities ``(slices, classes, y, x)`` of whole slices, float32 ``(slices, channels, y, x)``."""
        return self.blend(planes, (0, 0), [(0, n) for n in self.extent])

    def blend(self, planes: np.ndarray, origin: Sequence[int], wanted: Sequence[tuple[int, int]]) -> np.ndarray:
        """Return probabilities ``(slices, classes, y, x)`` of the wanted network pixels; planes begin at `origin`."""
        (y0, y1), (x0, x1) = wanted
        total: np.ndarray | None = None
        weights = np.zeros((y1 - y0, x1 - x0), np.float32)
        length = [tiling.length for tiling in self.tilings]
        for y in self.tilings[0].reaching(y0, y1):
            for x in self.tilings[1].reaching(x0, x1):
                part = planes[..., y - origin[0] : y - origin[0] + length[0], x - origin[1] : x - origin[1] + length[1]]
                found = self._apply(part)
                inner = (slice(max(y0 - y, 0), y1 - y), slice(max(x0 - x, 0), x1 - x))
                found, weight = found[..., inner[0], inner[1]], self._weight[inner]
                size = found.shape[-2:]
                outer = (
                    slice(max(y - y0, 0), max(y - y0, 0) + size[0]),
                    slice(max(x - x0, 0), max(x - x0, 0) + size[1]),
                )
                if total is None:
                    total = np.zeros((*found.shape[:2], *weights.shape), np.float32)
                total[..., outer[0], outer[1]] += found * weight[: size[0], : size[1]]
                weights[outer] += weight[: size[0], : size[1]]
        assert total is not None
        total /= weights
        return total

    @torch.inference_mode()
    def _apply(self, part: np.ndarray) -> np.ndarray:
        """Return probabilities of one tile, averaged over the views."""
        height, width = part.shape[-2:]
        padding = ((0, 0), (0, 0), (0, self.tilings[0].length - height), (0, self.tilings[1].length - width))
        if any(after for _, after in padding):
            part = np.pad(part, padding, mode="symmetric")
        image = torch.from_numpy(np.ascontiguousarray(part)).to(self.device)
        views = [_view(image, index) for index in range(self.inference.views)]
        found = [_view_back(self.engine(view), index) for index, view in enumerate(views)]
        mean = found[0] if len(found) == 1 else torch.stack(found).mean(0)
        return mean[..., :height, :width].cpu().numpy()


class SlabPredictor:
    """The block function of prediction: a slab of the image in, one uint8 probability slab per class out.

    Parameters
    ----------
    network
        In evaluation mode, to be run by PyTorch; or what runs one (`cristae.learn.engines`).
    view
        How slices are prepared.
    shape
        Of the whole volume.
    inference
        Tiles and views.
    device
        Where the network is.
    """

    def __init__(
        self, network: nn.Module | Engine, view: View, shape: Voxels, inference: Inference, device: torch.device
    ) -> None:
        engine: Engine = network
        if isinstance(network, nn.Module):
            engine = TorchEngine(network, device, inference.disagreement)
        self.view, self.shape, self.inference = view, shape, inference
        extents = [-(-n // view.reduction) for n in shape[1:]]
        self._tiled = Tiled(engine, (extents[0], extents[1]), inference, device)

    @property
    def halo(self) -> Voxels:
        """Voxels around a block that are read: neighbouring slices, and whole tiles where blocks cut slices."""
        y, x = (self.view.reduction * (tiling.length + 2) for tiling in self._tiled.tilings)
        return (self.view.reach, y, x)

    def __call__(self, block: Block, image: np.ndarray) -> list[np.ndarray]:
        """Return one uint8 ``block.write.shape`` array per class: probability × 255; then the disagreements."""
        slabs: list[np.ndarray] = []
        first, stop = block.write.start[0], block.write.stop[0]
        for z in range(first, stop, self.inference.batch):
            chosen = range(z, min(z + self.inference.batch, stop))
            for at, planes in zip(chosen, self._slices(block, image, chosen), strict=True):
                slabs = slabs or [np.empty(block.write.shape, np.uint8) for _ in planes]
                for slab, plane in zip(slabs, planes, strict=True):
                    slab[at - first] = plane
        return slabs

    def whole(self, planes: np.ndarray) -> np.ndarray:
        """Return probabilities ``(slices, classes, y, x)`` of whole slices that are prepared, at their resolution.

        Planes are float32 ``(slices, channels, y, x)``.
        """
        return self._tiled.whole(planes)

    def _slices(self, block: Block, image: np.ndarray, chosen: Sequence[int]) -> list[list[np.ndarray]]:
        factor = self.view.reduction
        # Work in network pixels counted from the first whole one of the read box.
        origin = [-(-start // factor) for start in block.read.start[1:]]
        skip = [o * factor - start for o, start in zip(origin, block.read.start[1:], strict=True)]
        planes = self._planes(block, image[:, skip[0] :, skip[1] :], chosen)
        # One more network pixel on either side for the interpolation back to voxels.
        wanted = [
            (max(0, low // factor - 1), min(n, -(-high // factor) + 1))
            for low, high, n in zip(block.write.start[1:], block.write.stop[1:], self._tiled.extent, strict=True)
        ]
        probability = self._tiled.blend(planes, origin, wanted)
        result = []
        for one in probability:
            large = enlarge_slices(one, factor)
            cut = tuple(
                slice(low - w[0] * factor, high - w[0] * factor)
                for low, high, w in zip(block.write.start[1:], block.write.stop[1:], wanted, strict=True)
            )
            result.append(list(np.rint(large[:, cut[0], cut[1]] * np.float32(255)).astype(np.uint8)))
        return result

    def _planes(self, block: Block, image: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
        """Return the network's input ``(slices, channels, y, x)`` over the read box."""
        depth = self.shape[0]
        needed = sorted({k for z in chosen for k in self.view.channels(z, depth)})
        reduced = {k: self.view.prepare(image[k - block.read.start[0]][None], k)[0] for k in needed}
        return np.stack([np.stack([reduced[k] for k in self.view.channels(z, depth)]) for z in chosen])


def _view(image: Tensor, index: int) -> Tensor:
    """Return view `index` of an image: bit 0 mirrors x, bit 1 mirrors y, bit 2 transposes."""
    axes = [axis for bit, axis in ((1, -1), (2, -2)) if index & bit]
    image = image.flip(axes) if axes else image
    return image.transpose(-1, -2) if index & 4 else image


def _view_back(image: Tensor, index: int) -> Tensor:
    image = image.transpose(-1, -2) if index & 4 else image
    axes = [axis for bit, axis in ((1, -1), (2, -2)) if index & bit]
    return image.flip(axes) if axes else image

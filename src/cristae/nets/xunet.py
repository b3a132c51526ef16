"""FracTALResNet and CEECNet: a U-Net of attentive units, with one head for mask, boundary and distance.

::

    1×1 ─ unit b ───────────────────────── up, unit b ─┐
      │     └ unit 2b ÷2 ─────────── up, unit 2b       │  head   distance ─┐
      │          └ unit 4b ÷4 ─ up, unit 4b            ├──────>  boundary ─┤
      │               └ unit 8b ÷8, PSP                │         logits  <─┘
      └────────────────────────────────────────────────┘

    head:  features ─┬──────── distance ──┬──────────┐
                     └─ PSP ─┬─ boundary ─┴─ combine ─┴─┐
                             └──────────────────────────┴─ mask

Each task sees what the one before found. The logits are those of the mask, before its sigmoid.

References
----------
Diakogiannis, Waldner and Caccetta 2021, "Looking for change? Roll the dice and demand attention": the network that
segments one image, not the one that compares two. PSP pooling and the head come from Diakogiannis et al. 2020
(ResUNet-a). The port is that of Pagano et al. 2023, sections 2.3.3 and 2.3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn

from cristae.errors import UsageError
from cristae.nets.contract import Build, Constructor
from cristae.nets.fractal import PAGANO, PUBLISHED, CEECUnit, ConvNorms, Definition, FractalUnit
from cristae.nets.multitask import multitask_loss
from cristae.nets.undecided import renew

Unit = Callable[[int, int, Definition], nn.Module]
"""Makes a unit of so many channels and heads."""


def _ceec_v1(n_channels: int, heads: int, definition: Definition) -> nn.Module:
    return CEECUnit(n_channels, heads, definition, fuse=False)


def _ceec_v2(n_channels: int, heads: int, definition: Definition) -> nn.Module:
    return CEECUnit(n_channels, heads, definition, fuse=True)


@dataclass(frozen=True)
class Plan:
    """Sizes of an `XUNet`.

    Parameters
    ----------
    base_width
        Channels at full resolution; they double at each level below.
    levels
        Number of resolutions.
    heads
        Groups of the convolutions at full resolution; they double at each level below.
    pyramid
        Depth of PSP pooling.
    definition
        Published, or that of the port.
    """

    base_width: int
    levels: int
    heads: int
    pyramid: int = 4
    definition: Definition = PUBLISHED

    @property
    def multiple(self) -> int:
        """What sides have to be multiples of: the smallest map is cut into equal blocks."""
        return int(2 ** (self.levels - 1 + self.pyramid - 1))


class PyramidPooling(nn.Module):
    """PSP pooling: the largest values of a grid of 1, 4, 16, … blocks, beside the features themselves."""

    def __init__(self, n_in: int, n_out: int, depth: int, convolve: ConvNorms) -> None:
        super().__init__()
        self.levels = nn.ModuleList(convolve(n_in, n_out, 1, relu=False) for _ in range(depth))
        self.join = convolve(n_in + depth * n_out, n_out, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``(n, n_in, y, x)`` to ``(n, n_out, y, x)``."""
        parts = [features]
        for k, level in enumerate(self.levels):
            # Blocks are of one size, so that normalising one pixel for each equals normalising the enlarged map.
            blocks = nn.functional.adaptive_max_pool2d(features, 2**k)
            if k == 0:
                blocks = blocks.expand(-1, -1, 2, 2)  # PyTorch refuses to normalise a single pixel
            parts.append(nn.functional.interpolate(level(blocks), size=features.shape[-2:], mode="nearest"))
        result: Tensor = self.join(torch.cat(parts, dim=1))
        return result


class CrispSigmoid(nn.Module):
    """A sigmoid of learnt steepness, for thin structures."""

    def __init__(self) -> None:
        super().__init__()
        self.steepness = nn.Parameter(torch.ones(1))

    def forward(self, logits: Tensor) -> Tensor:
        """Return ``sigmoid(logits / (0.01 + sigmoid(steepness)))``."""
        return torch.sigmoid(logits / (0.01 + torch.sigmoid(self.steepness)))


def _single_head(n_in: int, width: int, n_classes: int, convolve: ConvNorms) -> nn.Sequential:
    return nn.Sequential(convolve(n_in, width), convolve(width, width), nn.Conv2d(width, n_classes, 1))


class MultitaskHead(nn.Module):
    """Distance, then boundary, then mask, each seeing what was found before (conditioned multitasking).

    Parameters
    ----------
    width
        Channels of the two maps it is given, and of its own.
    n_classes
        Maps of each task.
    pyramid
        Depth of PSP pooling.
    convolve
        Makes the convolutions.
    """

    def __init__(self, width: int, n_classes: int, pyramid: int, convolve: ConvNorms) -> None:
        super().__init__()
        self.pooling = PyramidPooling(2 * width, width, pyramid, convolve)
        self.distance = _single_head(2 * width, width, n_classes, convolve)
        self.from_distance = convolve(n_classes, width, 1)
        self.boundary = _single_head(2 * width, width, n_classes, convolve)
        self.crisp = CrispSigmoid()
        self.from_boundary = convolve(n_classes, width, 1)
        self.combine = convolve(2 * width, width, 1)
        self.mask = _single_head(2 * width, width, n_classes, convolve)

    def forward(self, first: Tensor, last: Tensor) -> dict[str, Tensor]:
        """Return ``logits``, ``boundary`` and ``distance``, the latter two 0–1, each ``(n, n_classes, y, x)``."""
        features = torch.cat((first, last), dim=1)
        pooled = self.pooling(features)
        distance = torch.sigmoid(self.distance(features))
        seen_distance = self.from_distance(distance)
        boundary = self.crisp(self.boundary(torch.cat((pooled, seen_distance), dim=1)))
        seen_boundary = self.from_boundary(boundary)
        combined = self.combine(torch.cat((seen_boundary, seen_distance), dim=1))
        logits = self.mask(torch.cat((combined, pooled), dim=1))
        return {"logits": logits, "boundary": boundary, "distance": distance}


class UpStep(nn.Module):
    """Double the resolution, halve (or quarter) the channels, join the skip by a 1×1 convolution."""

    def __init__(self, n_out: int, convolve: ConvNorms) -> None:
        super().__init__()
        n_up = n_out // 2 if convolve.definition.narrow_up else n_out
        self.reduce = convolve(2 * n_out, n_up, 1)
        self.join = convolve(n_up + n_out, n_out, 1, relu=False)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Join ``(n, 2 n_out, y, x)`` with the skip ``(n, n_out, 2y, 2x)`` to ``(n, n_out, 2y, 2x)``."""
        # A convolution of single pixels and its normalisation are the same before enlarging, at a quarter of the cost.
        features = nn.functional.interpolate(self.reduce(features), scale_factor=2.0, mode="nearest")
        result: Tensor = self.join(torch.cat((features, skip), dim=1))
        return result


class XUNet(nn.Module):
    """A U-Net of given units with a multitask head; it is trained by a loss of its own on three maps per class.

    Parameters
    ----------
    n_channels
        Input channels: 1, or the slice and its neighbours.
    n_classes
        Output maps; classes are independent, each with its own distance and boundary.
    unit
        What it is made of.
    plan
        Its sizes.

    Attributes
    ----------
    loss_depth
        Depth of the fractal Tanimoto loss, 0 at first; the training sets it before each update
        (`cristae.nets.contract.Deepening`). The papers add 10 each time that the learning rate is lowered; losses of
        different depths cannot be compared.
    """

    loss_depth: int

    def __init__(self, n_channels: int, n_classes: int, unit: Unit, plan: Plan) -> None:
        super().__init__()
        self.multiple, self.loss_depth = plan.multiple, 0
        convolve = ConvNorms(plan.definition)
        widths = [plan.base_width * 2**level for level in range(plan.levels)]
        heads = [plan.heads * 2**level for level in range(plan.levels)]
        self.first = convolve(n_channels, widths[0], 1, relu=False)
        self.down = nn.ModuleList(
            unit(width, n_heads, plan.definition) for width, n_heads in zip(widths, heads, strict=True)
        )
        self.shrink = nn.ModuleList(convolve(width, 2 * width, stride=2, relu=False) for width in widths[:-1])
        self.middle = PyramidPooling(widths[-1], widths[-1], plan.pyramid, convolve)
        self.enlarge = nn.ModuleList(UpStep(width, convolve) for width in reversed(widths[:-1]))
        # As many heads as the level below has.
        self.up = nn.ModuleList(
            unit(width, n_heads, plan.definition)
            for width, n_heads in zip(reversed(widths[:-1]), reversed(heads[1:]), strict=True)
        )
        self.tasks = MultitaskHead(widths[0], n_classes, plan.pyramid, convolve)

    @property
    def head(self) -> nn.Module:
        """The last convolution; channel i is the mask of class i."""
        return self.tasks.mask[-1]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(n, n_classes, y, x)`` of an image ``(n, n_channels, y, x)``."""
        return self.outputs(image)["logits"]

    def outputs(self, image: Tensor) -> dict[str, Tensor]:
        """Return ``logits``, and ``boundary`` and ``distance``, 0–1; each ``(n, n_classes, y, x)``."""
        first = self.first(image)
        if first.device.type == "cpu":
            # Grouped convolutions take less than half the time in this order, there and back.
            first = first.contiguous(memory_format=torch.channels_last)
        features = first
        skips: list[Tensor] = []
        for level, unit in enumerate(self.down):
            features = unit(features)
            if level < len(self.shrink):
                skips.append(features)
                features = self.shrink[level](features)
        features = self.middle(features)
        for enlarge, unit in zip(self.enlarge, self.up, strict=True):
            features = unit(enlarge(features, skips.pop()))
        found: dict[str, Tensor] = self.tasks(first, features)
        return found

    def make_undecided(self, index: int, generator: Generator) -> None:
        """Give mask, boundary and distance of a class new weights in their last convolutions.

        Masks of other classes see boundary and distance of this one, and change a little, too.
        """
        for task in (self.tasks.mask, self.tasks.boundary, self.tasks.distance):
            last = task[-1]
            assert isinstance(last, nn.Conv2d)
            renew(last, index, generator)

    def loss(self, outputs: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> Tensor:
        """Return the mean fractal Tanimoto loss of mask, boundary and distance, of depth `loss_depth`.

        See `cristae.nets.multitask.multitask_loss`.
        """
        return multitask_loss(outputs, target, weight, self.loss_depth)


_LEAST_WIDTH = 4


def _constructor(unit: Unit, small: Plan, full: Plan) -> Constructor:
    def build(build: Build) -> XUNet:
        plan = {"small": small, "full": full}[build.size]
        if build.base_width:
            plan = replace(plan, base_width=build.base_width)
        if plan.base_width < _LEAST_WIDTH:
            raise UsageError(
                f"expected a base width of at least {_LEAST_WIDTH}, a quarter of which some units have; got "
                f"{plan.base_width}. Set train.base_width to more, or to 0 for that of the size"
            )
        return XUNet(build.n_channels, build.n_classes, unit, plan)

    return build


_PUBLISHED, _PORT = Plan(32, 6, 4), Plan(16, 4, 2, definition=PAGANO)
_SMALL_FRACTAL = Plan(16, 4, 2)
# Units of CEECNet take two to four times as long: half as wide, one level more, so that there is still room to learn.
_SMALL_CEEC, _SMALL_CEEC_PORT = Plan(8, 5, 2, 3), Plan(8, 5, 2, 3, PAGANO)

build_fractalresnet = _constructor(FractalUnit, _SMALL_FRACTAL, _PUBLISHED)
"""Makes a FracTALResNet as published, or its small preset."""
build_ceecnet_v1 = _constructor(_ceec_v1, _SMALL_CEEC, _PUBLISHED)
"""Makes a CEECNet V1 as published, or its small preset."""
build_ceecnet_v2 = _constructor(_ceec_v2, _SMALL_CEEC, _PUBLISHED)
"""Makes a CEECNet V2 as published, or its small preset."""
build_fractalresnet_pagano = _constructor(FractalUnit, _PORT, _PORT)
"""Makes a FracTALResNet as ported by Pagano et al. 2023, or its small preset."""
build_ceecnet_v1_pagano = _constructor(_ceec_v1, _SMALL_CEEC_PORT, _PORT)
"""Makes a CEECNet V1 as ported by Pagano et al. 2023, or its small preset."""
build_ceecnet_v2_pagano = _constructor(_ceec_v2, _SMALL_CEEC_PORT, _PORT)
"""Makes a CEECNet V2 as ported by Pagano et al. 2023, or its small preset."""

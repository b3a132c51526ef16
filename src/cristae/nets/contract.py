"""What cristae asks of a network, and what it tells one that is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from torch import Generator, Tensor, nn

Size = Literal["small", "full"]


@dataclass(frozen=True)
class Build:
    """What a network is built for.

    Parameters
    ----------
    n_channels
        Input channels: 1, or the slice and its neighbours.
    n_classes
        Output maps.
    size
        ``full`` is the published size; ``small`` learns on two cores of a CPU.
    base_width
        Channels at the widest resolution, for networks that have a choice; 0 is that of the size.
    tile_px
        Side of the tiles that it will learn from. Networks with learnt positions have as many.
    """

    n_channels: int
    n_classes: int
    size: Size = "small"
    base_width: int = 0
    tile_px: int = 192


Constructor = Callable[[Build], nn.Module]
"""Makes a module that follows `Network`, with random weights drawn from PyTorch's global generator."""


class Network(Protocol):
    """A PyTorch module that maps slices to logits; a sigmoid makes probabilities of them, for each class its own.

    A module may also have ``largest``, the longest side of an input that it should be given (learnt positions say
    nothing about larger ones), and ``head``, the last convolution, whose channel i is class i: a class that collapses
    to background gets a new one. A network of which that convolution alone does not decide follows `OwnHeads`.
    """

    multiple: int
    """Sides of the input are multiples of this; cristae sees to that."""

    def __call__(self, image: Tensor) -> Tensor:
        """Map an image ``(n, n_channels, y, x)`` to logits ``(n, n_classes, y, x)``."""
        ...


@runtime_checkable
class OwnHeads(Protocol):
    """A network that says itself how a class starts anew: it has several heads, or none that is a convolution."""

    def make_undecided(self, index: int, generator: Generator) -> None:
        """Let class `index` be given a probability of about one half everywhere, and learn from there.

        Parameters
        ----------
        index
            Of the class.
        generator
            On the CPU. All that is drawn comes from it, so that a resumed training draws the same.
        """
        ...


@runtime_checkable
class OwnOutputs(Protocol):
    """A network that is trained on more than the logits; it follows `OwnLoss` or `OwnSum` too."""

    def outputs(self, image: Tensor) -> Mapping[str, Tensor]:
        """Return all that the loss looks at; ``logits`` is what the network returns when it is called."""
        ...


OutputLoss = Callable[[Tensor, float], Tensor]
"""``loss(logits, share)``: Dice loss of logits ``(n, n_classes, y, x)``, and `share` times the cross-entropy that is
asked for (``train.cross_entropy``)."""


@runtime_checkable
class OwnSum(OwnOutputs, Protocol):
    """A network with several outputs, each of which the usual loss compares with the labels."""

    def combined(self, outputs: Mapping[str, Tensor], loss: OutputLoss) -> Tensor:
        """Return the losses of the outputs, from `outputs`, combined to a scalar."""
        ...


@runtime_checkable
class OwnLoss(OwnOutputs, Protocol):
    """A network that is trained by a loss of its own; ``train.cross_entropy`` has no say in it."""

    def loss(self, outputs: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> Tensor:
        """Return the loss, a scalar.

        Parameters
        ----------
        outputs
            From `outputs`.
        target, weight
            ``(n, n_classes, y, x)``: 0–1, fractions where voxels were reduced; and 1 where the class was looked at, 0
            where ignored: no ignored pixel may change the loss.
        """
        ...


@runtime_checkable
class Deepening(Protocol):
    """A network whose own loss has a depth, which the training sets before each update (``train.loss_depth``)."""

    loss_depth: int

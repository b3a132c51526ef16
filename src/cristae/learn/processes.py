"""Those that learn together: one process by itself, or several of one machine that share every batch.

::

    patches of a batch     0   1   2   3   4
    learnt by process      0   1   0   1   0
                           each goes backward by itself; gradients are weighted by the patches, and added up:
                           all of them make the same update, and hold the same weights

Gradients are exchanged after the backward pass, whatever was called in it. A wrapper around the network would miss
what a step function asks of its parts, as cross pseudo supervision does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist

from cristae.errors import ResourceError
from cristae.learn.statistics import normalisations

Said = TypeVar("Said")


class PartedError(ResourceError):
    """Another process does not answer: why, it may have said itself."""


class Processes(Protocol):
    """What `cristae.learn.fit.fit` asks of those that learn together; each calls the same in the same order.

    Attributes
    ----------
    rank, size
        Number of this process, from 0, and of how many. The first alone judges, and writes to disk.
    """

    rank: int
    size: int

    def mean(self, network: nn.Module, loss: Tensor) -> Tensor:
        """Give `network` the gradients of the whole batch in place of those of a share, and return its loss."""
        ...

    def told(self, said: Said) -> Said:
        """Return what the first process says."""
        ...

    def any(self, asked: bool) -> bool:
        """Say whether any process says so."""
        ...


class Alone:
    """One process."""

    rank, size = 0, 1

    def mean(self, network: nn.Module, loss: Tensor) -> Tensor:
        """Return the loss: gradients are those of the whole batch already."""
        return loss

    def told(self, said: Said) -> Said:
        """Return what is said."""
        return said

    def any(self, asked: bool) -> bool:
        """Return what is asked."""
        return asked


ALONE = Alone()


class Several:
    """A process among others, in the process group of PyTorch that it is in.

    Parameters
    ----------
    batch
        Patches per update of all together, at least one for each.
    device
        Where the network is.
    asked
        Says whether somebody wants all to end.
    """

    def __init__(self, batch: int, device: torch.device, asked: Callable[[], bool]) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._weight = len(range(self.rank, batch, self.size)) / batch
        self._device, self._asked = device, asked

    @torch.no_grad()
    def mean(self, network: nn.Module, loss: Tensor) -> Tensor:
        """Give `network` the gradients of the whole batch, and return the loss; each share counts by its patches.

        Running statistics of batch normalisation are averaged along: each process has seen its own patches alone. A
        weight without gradient in all processes has none afterwards; where it has one in some, it is 0 in the others.
        """
        weights = list(network.parameters())
        kept = [
            value
            for one in normalisations(network)
            for value in (one.running_mean, one.running_var)
            if value is not None
        ]
        here = [torch.zeros_like(one) if one.grad is None else one.grad for one in weights]
        there = loss.new_tensor([one.grad is not None for one in weights])
        # One exchange for all.
        values = [*here, *kept, loss, there]
        flat = torch.cat([value.flatten() for value in values]).mul_(self._weight)
        with _answering():
            dist.all_reduce(flat)
        cuts = torch.split(flat, [value.numel() for value in values])
        parts = [part.view_as(value) for part, value in zip(cuts, values, strict=True)]
        for one, part, anywhere in zip(weights, parts, (parts[-1] > 0).tolist(), strict=False):
            one.grad = part if anywhere else None
        for value, part in zip(kept, parts[len(weights) :], strict=False):
            value.copy_(part)
        return parts[-2]

    def told(self, said: Said) -> Said:
        """Return what the first process says."""
        box = [said]
        with _answering():
            dist.broadcast_object_list(box, src=0)
        return box[0]

    def any(self, asked: bool) -> bool:
        """Say whether any process is asked, by its own signal or by the one that began them all."""
        flag = torch.tensor([asked or self._asked()], dtype=torch.int32, device=self._device)
        with _answering():
            dist.all_reduce(flag)
        return bool(flag.item())


@contextlib.contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PartedError(f"another of the processes that learn together does not answer: {error}") from error

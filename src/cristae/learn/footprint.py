"""What a network holds while it is applied and trained, found without computing anything.

PyTorch can follow a network on tensors that have a shape and no content ("meta" tensors): what would be allocated is
counted, which takes a fraction of a second for any size.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cristae.nets.contract import Build, OwnOutputs
from cristae.nets.registry import build_network


@dataclass(frozen=True)
class Footprint:
    """What a network holds.

    Parameters
    ----------
    n_parameters
        Weights.
    forward_bytes
        Per pixel of its input, at the peak, while it is applied: features in float32.
    training_bytes
        Per pixel of a batch: features that are kept for the gradient.
    multiple, largest
        Sides of its input are multiples of the one, and at most the other (0 for any).
    """

    n_parameters: int
    forward_bytes: float
    training_bytes: float
    multiple: int
    largest: int


def footprint(name: str, build: Build, side: int) -> Footprint:
    """Return what a network holds, followed on a square of about `side` pixels.

    Raises
    ------
    UsageError
        If there is no such network.
    """
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = build_network(name, build)
    multiple, largest = int(getattr(network, "multiple", 1)), int(getattr(network, "largest", 0))
    side = -(-side // multiple) * multiple
    image = torch.empty((1, build.n_channels, side, side), device="meta")
    with torch.inference_mode(), _Live() as live:
        network.eval()(image)
    return Footprint(
        sum(value.numel() for value in network.parameters()),
        live.peak / side**2,
        _kept_bytes(network.train(), image) / side**2,
        multiple,
        largest,
    )


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the memory of all tensors that are made, as long as they are there."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._seen: dict[int, int] = {}

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        found = function(*args, **(kwargs or {}))
        for value in tree_leaves(found):
            if isinstance(value, Tensor):
                self._add(value.untyped_storage())
        return found

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._seen:
            self._seen[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._seen.pop(key, 0)


def _kept_bytes(network: nn.Module, image: Tensor) -> int:
    """Return the bytes of features that are kept until gradients are known."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        kept[storage._cdata] = storage
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        found = network.outputs(image) if isinstance(network, OwnOutputs) else network(image)
    weights = {value.untyped_storage()._cdata for value in network.parameters()}
    del found
    return sum(storage.nbytes() for key, storage in kept.items() if key not in weights)

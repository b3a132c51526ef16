"""The networks by name. Third parties add theirs through the entry-point group ``cristae.networks``."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Protocol, cast

from torch import Tensor, nn

from cristae.errors import UsageError
from cristae.nets.resunet import ResUNet


class Network(Protocol):
    """What cristae asks of a network: logits of the size of the input, whose sides are multiples of ``multiple``."""

    multiple: int

    def __call__(self, image: Tensor) -> Tensor:
        """Map an image ``(n, n_channels, y, x)`` to logits ``(n, n_classes, y, x)``."""
        ...


NETWORKS: dict[str, Callable[[int, int, int], nn.Module]] = {"resunet": ResUNet}
"""Constructors: ``(n_channels, n_classes, base_width)`` to a module that follows `Network`."""


def network_names() -> tuple[str, ...]:
    """Return the names `build_network` knows."""
    return (*NETWORKS, *(entry.name for entry in entry_points(group="cristae.networks")))


def build_network(name: str, n_channels: int, n_classes: int, base_width: int) -> nn.Module:
    """Build a network with random weights.

    Raises
    ------
    UsageError
        If the name is unknown; the message lists the known ones.
    """
    if name in NETWORKS:
        return NETWORKS[name](n_channels, n_classes, base_width)
    for entry in entry_points(group="cristae.networks"):
        if entry.name == name:
            return cast(Callable[[int, int, int], nn.Module], entry.load())(n_channels, n_classes, base_width)
    raise UsageError(f"unknown network {name!r}; there are {', '.join(network_names())}")

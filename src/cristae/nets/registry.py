"""The networks by name. Third parties add theirs through the entry-point group ``cristae.networks``."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import cast

from torch import nn

from cristae.errors import UsageError
from cristae.nets.contract import Build, Constructor
from cristae.nets.resunet import build_resunet
from cristae.nets.senformer import build_senformer, build_senformer_pagano, build_senformer_shared

NETWORKS: dict[str, Constructor] = {
    "resunet": build_resunet,
    "senformer": build_senformer,
    "senformer_pagano": build_senformer_pagano,
    "senformer_shared": build_senformer_shared,
}
"""Constructors of the networks that come with cristae."""


def network_names() -> tuple[str, ...]:
    """Return the names `build_network` knows."""
    return (*NETWORKS, *(entry.name for entry in entry_points(group="cristae.networks")))


def build_network(name: str, build: Build) -> nn.Module:
    """Build a network with random weights.

    Raises
    ------
    UsageError
        If the name is unknown; the message lists the known ones.
    """
    if name in NETWORKS:
        return NETWORKS[name](build)
    for entry in entry_points(group="cristae.networks"):
        if entry.name == name:
            return cast(Constructor, entry.load())(build)
    raise UsageError(f"unknown network {name!r}; there are {', '.join(network_names())}")

"""The networks by name. Third parties add theirs through the entry-point group ``cristae.networks``."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import cast

from torch import nn

from cristae.errors import UsageError
from cristae.nets.contract import Build, Constructor
from cristae.nets.resunet import build_resunet
from cristae.nets.senformer import build_senformer, build_senformer_pagano, build_senformer_shared
from cristae.nets.setr import build_setr_mla, build_setr_naive, build_setr_pup
from cristae.nets.transunet import build_transunet
from cristae.nets.unet import build_unet_pagano
from cristae.nets.unetplusplus import build_unetplusplus, build_unetplusplus_pagano, build_unetplusplus_plain
from cristae.nets.xunet import (
    build_ceecnet_v1,
    build_ceecnet_v1_pagano,
    build_ceecnet_v2,
    build_ceecnet_v2_pagano,
    build_fractalresnet,
    build_fractalresnet_pagano,
)

NETWORKS: dict[str, Constructor] = {
    "resunet": build_resunet,
    "ceecnet_v1": build_ceecnet_v1,
    "ceecnet_v1_pagano": build_ceecnet_v1_pagano,
    "ceecnet_v2": build_ceecnet_v2,
    "ceecnet_v2_pagano": build_ceecnet_v2_pagano,
    "fractalresnet": build_fractalresnet,
    "fractalresnet_pagano": build_fractalresnet_pagano,
    "senformer": build_senformer,
    "senformer_pagano": build_senformer_pagano,
    "senformer_shared": build_senformer_shared,
    "setr_mla": build_setr_mla,
    "setr_naive": build_setr_naive,
    "setr_pup": build_setr_pup,
    "transunet": build_transunet,
    "unet_pagano": build_unet_pagano,
    "unetplusplus": build_unetplusplus,
    "unetplusplus_pagano": build_unetplusplus_pagano,
    "unetplusplus_plain": build_unetplusplus_plain,
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

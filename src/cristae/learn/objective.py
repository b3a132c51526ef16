"""How a network is run in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from cristae.nets.contract import OwnOutputs
from cristae.nets.pair import parts_of


def compile_parts(network: nn.Module, backend: str = "inductor") -> None:
    """Compile each network that learns by itself, in place; copies of it are not compiled, names of weights stay."""
    for part in parts_of(network):
        part.compile(backend=backend)


def outputs_of(network: nn.Module, image: Tensor) -> Mapping[str, Tensor]:
    """Return what the loss looks at: ``logits``, and what else a network has for it, float32."""
    with torch.autocast(image.device.type, torch.bfloat16, enabled=image.device.type == "cuda"):
        found = network.outputs(image) if isinstance(network, OwnOutputs) else {"logits": network(image)}
    return {name: value.float() for name, value in cast(Mapping[str, Tensor], found).items()}

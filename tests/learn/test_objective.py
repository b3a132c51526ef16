from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cristae.learn.objective import compile_parts, outputs_of
from cristae.nets.losses import loss_of
from cristae.nets.pair import Pair
from cristae.nets.resunet import ResUNet


def _network() -> nn.Module:
    torch.manual_seed(0)
    return ResUNet(3, 2, 4).train()


def _gradients(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the gradients of one update."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, 3, 32, 48, generator=generator)
    target = (torch.rand(2, 2, 32, 48, generator=generator) > 0.7).float()
    loss_of(network, outputs_of(network, image), target, torch.ones_like(target), 1.0).backward()
    return {name: value.grad for name, value in network.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("n_networks", [1, 2])
def test_each_network_is_compiled_and_its_copies_are_not(n_networks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[tuple[nn.Module, str]] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, backend: compiled.append((self, backend)))
    networks = [_network() for _ in range(n_networks)]
    compile_parts(networks[0] if n_networks == 1 else Pair(networks))
    assert [one for one, _ in compiled] == networks
    assert {backend for _, backend in compiled} == {"inductor"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_learns_the_same_and_keeps_its_names() -> None:
    network = _network()
    names = list(network.state_dict())
    compile_parts(network, backend="eager")
    found = _gradients(network)
    assert list(network.state_dict()) == names
    assert copy.deepcopy(network)._compiled_call_impl is None
    for name, value in _gradients(_network()).items():
        torch.testing.assert_close(found[name], value)

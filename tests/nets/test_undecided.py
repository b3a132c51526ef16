"""Whatever a network has come to say of a class, it can begin anew."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from cristae.nets.conformance import _check_anew
from cristae.nets.contract import Build, OwnHeads
from cristae.nets.registry import NETWORKS, build_network
from cristae.nets.undecided import make_undecided

KINDS = ["resunet", "fractalresnet", "senformer", "senformer_pagano", "setr_mla", "unetplusplus", "unetplusplus_plain"]
IMAGE = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))


def silent(name: str) -> nn.Module:
    """A network of two classes that says loudly, in all that it gives, that the second is nowhere."""
    torch.manual_seed(0)
    network = build_network(name, Build(1, 2, tile_px=64))
    with torch.no_grad():
        for _ in range(30):  # statistics of features
            network(IMAGE)
        for layer in network.eval().modules():
            if isinstance(layer, nn.Conv2d) and layer.out_channels == 2 and layer.bias is not None:
                layer.bias[1] = -60
    if name.startswith("senformer"):  # which has no such layer
        optimiser = torch.optim.Adam(network.parameters(), 1e-3)
        for _ in range(5):
            optimiser.zero_grad()
            nn.functional.softplus(network(IMAGE)[:, 1]).mean().backward()
            optimiser.step()
    return network


def probability(network: nn.Module) -> Tensor:
    """Of the second class."""
    with torch.no_grad():
        return torch.sigmoid(network(IMAGE))[:, 1]


@pytest.mark.parametrize("name", KINDS)
def test_a_class_that_was_nowhere_may_be_anywhere(name: str) -> None:
    network = silent(name)
    assert probability(network).max() < 0.1
    again = copy.deepcopy(network)
    for one in (network, again):
        make_undecided(one, 1, torch.Generator().manual_seed(3))
    assert (probability(network) - 0.5).abs().max() < 0.2
    for here, there in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(here, there)


@pytest.mark.parametrize("name", ["fractalresnet", "unetplusplus", "senformer"])
def test_all_heads_begin_anew_and_no_other_class_does(name: str) -> None:
    network = build_network(name, Build(1, 3, tile_px=64))
    before = copy.deepcopy(network.state_dict())
    torch.manual_seed(1)
    make_undecided(network, 1, torch.Generator().manual_seed(3))
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(1)))
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    heads = {"fractalresnet": 3, "unetplusplus": 5, "senformer": 4}[name]
    assert sum(not one.endswith("bias") for one in changed) == heads
    for one in changed:
        rows = network.state_dict()[one].unflatten(0, (3, -1)) != before[one].unflatten(0, (3, -1))
        assert rows[1].any() and not rows[[0, 2]].any()


def test_networks_of_which_one_convolution_does_not_decide_say_so() -> None:
    several = {name for name in NETWORKS if isinstance(build_network(name, Build(1, 1, tile_px=64)), OwnHeads)}
    expected = {name for name in NETWORKS if name.startswith(("senformer", "ceecnet", "fractalresnet"))}
    assert several == expected | {"unetplusplus"}


def test_a_network_without_any_head_is_left_as_it_is() -> None:
    network = nn.Linear(2, 2)
    before = copy.deepcopy(network.state_dict())
    make_undecided(network, 0, torch.Generator())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


class Drawing(nn.Module):
    """Draws from the global generator, or does nothing."""

    def __init__(self, does: bool) -> None:
        super().__init__()
        self.weight, self.does = nn.Parameter(torch.zeros(3)), does

    def make_undecided(self, index: int, generator: torch.Generator) -> None:
        if self.does:
            self.weight.data[index] = torch.rand(())


@pytest.mark.parametrize(("does", "words"), [(True, "got other weights in weight"), (False, "has its old weights")])
def test_what_does_not_begin_anew_as_it_should_is_told(does: bool, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        _check_anew(Drawing(does), 0)

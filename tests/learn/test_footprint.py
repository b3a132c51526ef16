"""What networks hold, against what PyTorch allocates for real."""

from __future__ import annotations

import pytest
import torch

from cristae.errors import UsageError
from cristae.learn.footprint import footprint
from cristae.nets.contract import Build
from cristae.nets.registry import NETWORKS, build_network


@pytest.mark.parametrize("name", ["resunet", "unet_pagano", "unetplusplus", "transunet", "setr_mla", "senformer"])
def test_weights_are_counted(name):
    build = Build(3, 2, "small", 0, 64)
    network = build_network(name, build)
    found = footprint(name, build, 64)
    assert found.n_parameters == sum(value.numel() for value in network.parameters())
    assert found.multiple == network.multiple
    # Input, output and one feature at least; what is kept for the gradient is more than what is held at a time.
    assert found.forward_bytes >= 4 * (3 + 2)
    assert found.training_bytes > found.forward_bytes


def test_what_is_kept_for_the_gradient_is_what_is_saved():
    build = Build(1, 1, "small", 4, 64)
    network, kept = build_network("resunet", build).train(), {}

    def keep(value):
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        total = network(torch.zeros((1, 1, 64, 64))).sum()
    weights = {value.untyped_storage().data_ptr() for value in network.parameters()}
    expected = sum(storage.nbytes() for key, storage in kept.items() if key not in weights)
    total.backward()
    assert footprint("resunet", build, 64).training_bytes * 64**2 == pytest.approx(expected, rel=0.02)


def test_memory_per_pixel_does_not_depend_on_the_square_and_grows_with_width():
    small, large = (footprint("resunet", Build(3, 2, "small", 8), side) for side in (64, 256))
    assert small.forward_bytes == pytest.approx(large.forward_bytes, rel=0.05)
    wide = footprint("resunet", Build(3, 2, "small", 16), 64)
    assert wide.forward_bytes > 1.7 * small.forward_bytes
    assert wide.training_bytes > 1.7 * small.training_bytes


def test_chance_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    footprint("resunet", Build(1, 1), 32)
    assert torch.equal(torch.rand(3), expected)


def test_unknown_networks_are_named():
    with pytest.raises(UsageError, match="unknown network"):
        footprint("nothing", Build(1, 1), 32)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", "full"])
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_can_be_followed(name, size):
    found = footprint(name, Build(3, 4, size, 0, 192), 192)
    assert found.training_bytes > found.forward_bytes > 0

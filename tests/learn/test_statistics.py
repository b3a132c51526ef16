from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cristae.learn.statistics import estimate_statistics, normalisations
from cristae.nets.resunet import ResUNet


def batches(n=3, scale=1.0, shift=0.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(4, 1, 32, 32, generator=generator) + shift for _ in range(n)]


def state(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_a_normalisation_learns_mean_and_variance_of_all_batches_together():
    network = nn.Sequential(nn.BatchNorm2d(1))
    given = [batch + i for i, batch in enumerate(batches(scale=2.0, shift=5.0))]
    assert estimate_statistics(network, given, 1.0) == 1
    pooled = torch.cat(given).double()
    assert network[0].running_mean.item() == pytest.approx(pooled.mean().item(), rel=1e-6)
    assert network[0].running_var.item() == pytest.approx(pooled.var().item(), rel=1e-5)


def test_what_a_volume_does_to_the_first_features_is_undone():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 1, 1)).eval()
    plain, stretched = batches(), batches(scale=4.0, shift=-2.0)
    estimate_statistics(network, plain, 1.0)
    other = copy.deepcopy(network)
    estimate_statistics(other, stretched, 1.0)
    with torch.no_grad():
        torch.testing.assert_close(other(stretched[0]), network(plain[0]), rtol=1e-3, atol=1e-3)
        assert (network(stretched[0]) - network(plain[0])).abs().max() > 0.3


@pytest.mark.parametrize("blend", [0.0, 0.25, 1.0])
def test_the_blend_is_between_the_statistics_before_and_the_new_ones(blend):
    before = nn.BatchNorm2d(1)
    before.running_mean.fill_(8.0)
    network = nn.Sequential(copy.deepcopy(before))
    estimate_statistics(network, batches(), blend)
    alone = nn.Sequential(copy.deepcopy(before))
    estimate_statistics(alone, batches(), 1.0)
    expected = (1 - blend) * 8.0 + blend * alone[0].running_mean
    torch.testing.assert_close(network[0].running_mean, expected)


def test_weights_stay_and_the_network_is_left_ready_to_predict():
    torch.manual_seed(0)
    network = ResUNet(1, 2, 2)
    before = state(network)
    assert estimate_statistics(network, batches(1, shift=1.0), 1.0) == len(normalisations(network)) > 10
    after = state(network)
    changed = {name.rsplit(".", 1)[1] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"running_mean", "running_var"}
    assert not any(module.training for module in network.modules())


def test_nothing_changes_without_tiles_without_share_or_without_normalisations():
    network = nn.Sequential(nn.BatchNorm2d(1))
    before = state(network)
    assert estimate_statistics(network, [], 1.0) == 0
    assert estimate_statistics(network, batches(), 0.0) == 0
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert estimate_statistics(nn.Sequential(nn.Conv2d(1, 1, 1)), batches(), 1.0) == 0


def test_a_network_that_fails_keeps_its_statistics():
    network = nn.Sequential(nn.BatchNorm2d(1))
    before = state(network)
    with pytest.raises(RuntimeError):
        estimate_statistics(network, [*batches(1, shift=3.0), torch.zeros(1, 2, 8, 8)], 1.0)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert not network[0]._forward_pre_hooks

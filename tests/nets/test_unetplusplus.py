from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from cristae.learn.objective import outputs_of
from cristae.nets.contract import Build
from cristae.nets.losses import SMOOTH, loss_of
from cristae.nets.pair import mean_logits
from cristae.nets.registry import build_network
from cristae.nets.unetplusplus import (
    DeeplySupervisedUNetPlusPlus,
    Plan,
    UNetPlusPlus,
    build_unetplusplus,
)

TINY = Plan(2, (1, 1, 1, 1), (6, 5, 4, 3, 2))


def _count(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def _full(name: str, n_channels: int = 1, base_width: int = 0) -> UNetPlusPlus:
    with torch.device("meta"):
        network = build_network(name, Build(n_channels, 1, "full", base_width))
    assert isinstance(network, UNetPlusPlus)
    return network


def test_parameter_counts_of_depth_five_are_the_published_ones() -> None:
    plain = _full("unetplusplus_plain")
    assert (_count(plain.encoder), _count(plain.nodes), _count(plain.head)) == (21_278_400, 4_793_792, 145)
    assert _count(plain) == 26_072_337


def test_deep_supervision_adds_four_heads_and_nothing_else() -> None:
    network = _full("unetplusplus")
    assert [head.in_channels for head in network.row_heads] == [32, 64, 64, 64]  # type: ignore[union-attr]
    assert _count(network) == 26_072_337 + (32 + 1) + 3 * (64 + 1)


def test_parameter_count_of_depth_three_is_the_published_one_without_the_layers_that_nothing_uses() -> None:
    network, deep = _full("unetplusplus_pagano"), _full("unetplusplus_plain")
    layers = [_count(deep.encoder.get_submodule(name)) for name in deep.encoder.layer_names]
    assert layers == [221_952, 1_116_416, 6_822_400, 13_114_368]
    assert network.encoder.layer_names == ["layer1", "layer2"]
    assert (_count(network.nodes), _count(network)) == (676_160, 2_017_937)
    assert _count(network) + layers[2] + layers[3] == 21_954_705


@pytest.mark.parametrize(
    ("name", "expected"),
    [("unetplusplus", 1_012_805), ("unetplusplus_plain", 1_012_737), ("unetplusplus_pagano", 510_513)],
)
def test_parameter_counts_of_the_small_ones_are_those_of_the_documentation(name: str, expected: int) -> None:
    assert _count(build_network(name, Build(1, 1))) == expected


@pytest.mark.parametrize("name", ["unetplusplus", "unetplusplus_plain", "unetplusplus_pagano"])
def test_width_is_that_of_the_encoder_and_everything_follows_it(name: str) -> None:
    half, whole = _full(name, base_width=32), _full(name)
    assert half.encoder.widths == [width // 2 for width in whole.encoder.widths]
    assert half.row_widths == [width // 2 for width in whole.row_widths]
    assert 2 * half.head.in_channels == whole.head.in_channels
    assert _full(name, base_width=1).head.in_channels == 1


def test_nodes_have_the_published_shapes() -> None:
    """Input and output channels of the first convolution of each node."""
    found = {}
    for name, node in _full("unetplusplus_plain").nodes.items():
        first = node.body[0]  # type: ignore[index, union-attr]
        found[name] = (first.in_channels, first.out_channels)
    assert found == {
        "x_0_0": (512 + 256, 256),
        "x_0_1": (256 + 2 * 128, 128),
        "x_1_1": (256 + 128, 128),
        "x_0_2": (128 + 3 * 64, 64),
        "x_1_2": (128 + 2 * 64, 64),
        "x_2_2": (128 + 64, 64),
        "x_0_3": (64 + 4 * 64, 32),
        "x_1_3": (64 + 3 * 64, 64),
        "x_2_3": (64 + 2 * 64, 64),
        "x_3_3": (64 + 64, 64),
        "x_0_4": (32, 16),
    }


def test_nodes_join_what_the_drawing_says() -> None:
    network = UNetPlusPlus(1, 1, TINY).eval()
    names = {id(node): name for name, node in network.nodes.items()}
    joined: dict[str, list[str]] = {}
    made: dict[int, str] = {}
    kept = []  # so that no two tensors get one id

    def note(node: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        joined[names[id(node)]] = [made[id(one)] for one in given]
        made[id(result)] = names[id(node)]
        kept.append(result)

    def note_features(_: nn.Module, __: tuple[Tensor, ...], features: list[Tensor]) -> None:
        made.update({id(one): f"1/{2 ** (level + 1)}" for level, one in enumerate(features)})
        kept.extend(features)

    network.encoder.register_forward_hook(note_features)
    for node in network.nodes.values():
        node.register_forward_hook(note)
    network(torch.rand(1, 1, 64, 64))
    assert joined == {
        "x_0_0": ["1/32", "1/16"],
        "x_1_1": ["1/16", "1/8"],
        "x_0_1": ["x_0_0", "x_1_1", "1/8"],
        "x_2_2": ["1/8", "1/4"],
        "x_1_2": ["x_1_1", "x_2_2", "1/4"],
        "x_0_2": ["x_0_1", "x_1_2", "x_2_2", "1/4"],
        "x_3_3": ["1/4", "1/2"],
        "x_2_3": ["x_2_2", "x_3_3", "1/2"],
        "x_1_3": ["x_1_2", "x_2_3", "x_3_3", "1/2"],
        "x_0_3": ["x_0_2", "x_1_3", "x_2_3", "x_3_3", "1/2"],
        "x_0_4": ["x_0_3"],
    }


def test_prediction_is_the_mean_probability_of_all_heads() -> None:
    network = DeeplySupervisedUNetPlusPlus(1, 2, TINY).eval()
    image = torch.rand(2, 1, 64, 96)
    outputs = network.outputs(image)
    assert outputs["branches"].shape == (2, 5, 2, 64, 96)
    assert torch.equal(outputs["logits"], network(image))
    torch.testing.assert_close(network(image).sigmoid(), outputs["branches"].sigmoid().mean(1))


def test_each_branch_is_the_head_of_its_node_enlarged() -> None:
    network = DeeplySupervisedUNetPlusPlus(1, 2, TINY).eval()
    image = torch.rand(2, 1, 64, 64)
    branches, (last, *row) = network.branches(image), network.decoded(image)
    torch.testing.assert_close(branches[:, 0], network.head(last))
    assert len(row) == len(network.row_heads) == 4
    for i, (node, head) in enumerate(zip(row, network.row_heads, strict=True), 1):
        assert node.shape[-2:] == (32, 32)
        expected = nn.functional.interpolate(head(node), (64, 64), mode="bilinear")
        torch.testing.assert_close(branches[:, i], expected)


def test_mean_logits_by_hand() -> None:
    # Probabilities 3/4 and 1/4 have the mean 1/2; 9/10 and 1/2 have 7/10.
    branches = torch.tensor([[math.log(3), -math.log(3)], [math.log(9), 0.0]]).reshape(2, 2, 1, 1, 1)
    assert mean_logits(branches).flatten().tolist() == pytest.approx([0, math.log(7 / 3)], abs=1e-6)


@pytest.mark.parametrize("value", [-1e4, -200.0, 200.0, 1e4])
def test_mean_logits_of_very_sure_heads_keep_value_and_gradient(value: float) -> None:
    branches = torch.full((1, 5, 1, 1, 1), value, requires_grad=True)
    logits = mean_logits(branches)
    logits.sum().backward()
    assert logits.item() == pytest.approx(value)
    assert branches.grad is not None
    assert branches.grad.flatten().tolist() == pytest.approx([0.2] * 5, abs=1e-4)


def test_loss_by_hand() -> None:
    """Two heads: one undecided, one at probability 3/4, against one pixel of each kind; a third one is ignored."""
    network = build_unetplusplus(Build(1, 1, base_width=1))
    branches = torch.stack([torch.zeros(3), torch.full((3,), math.log(3))]).reshape(1, 2, 1, 1, 3)
    target = torch.tensor([1.0, 0.0, 1.0]).reshape(1, 1, 1, 3)
    weight = torch.tensor([1.0, 1.0, 0.0]).reshape(1, 1, 1, 3)
    dice = [(2 * p + SMOOTH) / (2 * p * p + 1 + SMOOTH) for p in (0.5, 0.75)]
    entropy = [-(math.log(p) + math.log(1 - p)) / 2 for p in (0.5, 0.75)]
    outputs = {"logits": mean_logits(branches), "branches": branches}
    for asked_for in (1.0, 0.0, 7.0):  # 1 is as published, 0 the Dice loss of both papers
        expected = sum(1 - d + 0.5 * asked_for * e for d, e in zip(dice, entropy, strict=True)) / 2
        assert loss_of(network, outputs, target, weight, asked_for).item() == pytest.approx(expected, abs=1e-6)


def test_every_head_is_supervised_on_its_own() -> None:
    network = DeeplySupervisedUNetPlusPlus(1, 1, TINY)
    outputs = outputs_of(network, torch.rand(2, 1, 64, 64))
    target = (torch.rand(2, 1, 64, 64) > 0.5).float()
    branches = outputs["branches"].detach().requires_grad_()
    loss_of(network, {**outputs, "branches": branches}, target, torch.ones_like(target), 1.0).backward()
    assert branches.grad is not None
    assert (branches.grad.abs().sum((0, 2, 3, 4)) > 0).all()


def test_only_the_deeply_supervised_one_combines_losses() -> None:
    assert hasattr(build_network("unetplusplus", Build(1, 1)), "combined")
    for name in ("unetplusplus_plain", "unetplusplus_pagano"):
        assert not hasattr(build_network(name, Build(1, 1)), "combined")


@pytest.mark.parametrize(("name", "multiple"), [("unetplusplus_plain", 32), ("unetplusplus_pagano", 8)])
def test_smallest_inputs(name: str, multiple: int) -> None:
    network = build_network(name, Build(1, 1)).eval()
    assert network.multiple == multiple
    assert network(torch.rand(1, 1, multiple, 2 * multiple)).shape == (1, 1, multiple, 2 * multiple)


def test_it_takes_pretrained_weights_of_its_encoder() -> None:
    network = DeeplySupervisedUNetPlusPlus(1, 1, TINY)
    given = {key: torch.rand_like(value.float()) for key, value in network.encoder.state_dict().items()}
    network.load_encoder(given)
    key = "layer4.0.conv2.weight"
    assert torch.equal(network.state_dict()[f"encoder.{key}"], given[key])

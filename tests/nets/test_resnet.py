from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cristae.nets.resnet import BasicBlock, ResNet


def _weights(network: ResNet, n_colours: int = 3) -> dict[str, Tensor]:
    """Return what a file of pretrained weights has: the encoder's tensors for colour images, and a classifier."""
    given = {
        key: torch.rand(value.shape)
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    width = network.widths[0]
    return {
        **given,
        "conv1.weight": torch.rand(width, n_colours, 7, 7),
        "fc.weight": torch.rand(10, network.widths[-1]),
    }


def test_names_and_shapes_are_those_of_the_usual_files() -> None:
    with torch.device("meta"):
        state = ResNet(3).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["bn1.running_var"] == (64,)
    assert shapes["layer1.0.conv1.weight"] == (64, 64, 3, 3)
    assert shapes["layer2.0.downsample.0.weight"] == (128, 64, 1, 1)
    assert shapes["layer2.0.downsample.1.bias"] == (128,)
    assert shapes["layer3.5.bn2.weight"] == (256,)
    assert shapes["layer4.2.conv2.weight"] == (512, 512, 3, 3)
    assert "layer1.0.downsample.0.weight" not in shapes and "layer4.3.conv1.weight" not in shapes
    # ResNet-34: 36 convolutions with normalisation, each with five further tensors.
    assert len(shapes) == 36 * 6


@pytest.mark.parametrize(("n_channels", "expected"), [(1, 21_278_400), (3, 21_284_672)])
def test_parameter_counts_of_resnet_34(n_channels: int, expected: int) -> None:
    with torch.device("meta"):
        network = ResNet(n_channels)
    assert sum(value.numel() for value in network.parameters()) == expected


def test_features_are_halved_and_widened() -> None:
    with torch.device("meta"):
        features = ResNet(1)(torch.empty(2, 1, 96, 64))
    expected = [(64, 48, 32), (64, 24, 16), (128, 12, 8), (256, 6, 4), (512, 3, 2)]
    assert [tuple(one.shape[1:]) for one in features] == expected


def test_a_block_whose_convolutions_are_zero_is_the_rectified_input() -> None:
    block = BasicBlock(3, 3).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    features = torch.randn(2, 3, 8, 8)
    assert torch.equal(block(features), features.relu())


def test_colours_are_summed_so_that_a_grey_image_gives_the_same() -> None:
    colour, grey, neighbours = ResNet(3, 2, (1,)).eval(), ResNet(1, 2, (1,)).eval(), ResNet(5, 2, (1,)).eval()
    given = _weights(colour)
    colour.load_state_dict({key: value for key, value in given.items() if not key.startswith("fc.")}, strict=False)
    grey.load_encoder(given)
    neighbours.load_encoder(given)
    image = torch.rand(1, 1, 32, 32)
    for expected, one, several in zip(
        colour(image.expand(-1, 3, -1, -1)), grey(image), neighbours(image.expand(-1, 5, -1, -1)), strict=True
    ):
        torch.testing.assert_close(one, expected, rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(several, expected, rtol=1e-4, atol=1e-3)


def test_a_shallow_encoder_takes_the_first_layers_of_a_deep_one() -> None:
    given = _weights(ResNet(1, 2, (1, 2, 1, 1)))
    shallow = ResNet(1, 2, (1, 2))
    shallow.load_encoder(given)
    assert torch.equal(shallow.state_dict()["layer2.1.conv2.weight"], given["layer2.1.conv2.weight"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (_weights(ResNet(1, 2, (1, 1, 1, 1))), "1, 2 basic blocks.*missing: layer2.1.conv1.weight"),
        (_weights(ResNet(1, 2, (1, 3, 1, 1))), "unknown: layer2.2.conv1.weight"),
        (_weights(ResNet(1, 4, (1, 2, 1, 1))), "of another shape: conv1.weight, bn1.weight, bn1.bias"),
        ({}, "missing: conv1.weight"),
        ({**_weights(ResNet(1, 2, (1, 2))), "conv1.weight": torch.zeros(3)}, "of another shape: conv1.weight"),
    ],
)
def test_weights_of_another_network_are_refused_and_change_nothing(given: dict[str, Tensor], message: str) -> None:
    network = ResNet(1, 2, (1, 2))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        network.load_encoder(given)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())

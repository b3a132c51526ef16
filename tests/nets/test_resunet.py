import pytest
import torch

from cristae.errors import UsageError
from cristae.nets.registry import NETWORKS, build_network, network_names
from cristae.nets.resunet import ResUNet


@pytest.mark.parametrize(("base_width", "expected"), [(16, 2_033_841), (32, 8_124_257), (64, 32_474_817)])
def test_parameter_counts_are_the_published_ones(base_width: int, expected: int) -> None:
    network = ResUNet(1, 1, base_width)
    assert sum(value.numel() for value in network.parameters()) == expected


@pytest.mark.parametrize("name", sorted(NETWORKS))
@pytest.mark.parametrize(("n_channels", "n_classes"), [(1, 1), (3, 5)])
def test_every_network_maps_images_to_logits_of_their_size(name: str, n_channels: int, n_classes: int) -> None:
    network = build_network(name, n_channels, n_classes, 4)
    side = 3 * int(network.multiple)  # type: ignore[arg-type]
    logits = network(torch.rand(2, n_channels, side, 2 * side))
    assert logits.shape == (2, n_classes, side, 2 * side)
    logits.square().mean().backward()
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in network.parameters())


def test_every_output_pixel_sees_its_surroundings() -> None:
    network = build_network("resunet", 1, 1, 2).eval()
    image = torch.rand(1, 1, 128, 128, requires_grad=True)
    network(image)[0, 0, 64, 64].backward()
    seen = (image.grad[0, 0] != 0).nonzero()  # type: ignore[index]
    assert (seen.max(0).values - seen.min(0).values).min() > 60


def test_an_unknown_network_is_refused_with_the_known_names() -> None:
    with pytest.raises(UsageError, match="resunet"):
        build_network("resnet", 1, 1, 4)
    assert "resunet" in network_names()

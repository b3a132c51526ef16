import pytest
import torch

from cristae.nets.contract import Build
from cristae.nets.resunet import ResUNet, build_resunet


@pytest.mark.parametrize(("base_width", "expected"), [(16, 2_033_841), (32, 8_124_257), (64, 32_474_817)])
def test_parameter_counts_are_the_published_ones(base_width: int, expected: int) -> None:
    network = ResUNet(1, 1, base_width)
    assert sum(value.numel() for value in network.parameters()) == expected


def test_every_output_pixel_sees_its_surroundings() -> None:
    network = build_resunet(Build(1, 1, base_width=2)).eval()
    image = torch.rand(1, 1, 128, 128, requires_grad=True)
    network(image)[0, 0, 64, 64].backward()
    seen = (image.grad[0, 0] != 0).nonzero()  # type: ignore[index]
    assert (seen.max(0).values - seen.min(0).values).min() > 60


def test_sizes() -> None:
    widths = [
        build_resunet(build).head.in_channels for build in (Build(1, 1), Build(1, 1, "full"), Build(1, 1, "full", 5))
    ]
    assert widths == [16, 64, 5]

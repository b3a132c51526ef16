import torch

from cristae.nets.contract import Build
from cristae.nets.unet import SmallUNet, build_unet_pagano


def test_parameter_count_is_that_of_the_released_code() -> None:
    assert sum(value.numel() for value in SmallUNet(1, 1).parameters()) == 269_009


def test_shapes_of_the_parts() -> None:
    network = build_unet_pagano(Build(3, 2))
    assert [(block[0].in_channels, block[3].out_channels) for block in network.down] == [  # type: ignore[index]
        (3, 16),
        (16, 32),
        (32, 64),
        (64, 64),
    ]
    assert [(block[0].in_channels, block[0].out_channels, block[3].out_channels) for block in network.up] == [  # type: ignore[index]
        (128, 64, 32),
        (64, 32, 16),
        (32, 16, 16),
    ]
    assert network.head.out_channels == 2


def test_full_and_small_are_the_same_and_the_width_is_honoured() -> None:
    widths = [
        build_unet_pagano(build).head.in_channels
        for build in (Build(1, 1), Build(1, 1, "full"), Build(1, 1, "full", 5))
    ]
    assert widths == [16, 16, 5]


def test_an_output_pixel_sees_its_surroundings() -> None:
    torch.manual_seed(0)
    network = build_unet_pagano(Build(1, 1, base_width=8)).eval()
    image = torch.rand(1, 1, 128, 128, requires_grad=True)
    network(image)[0, 0, 64, 64].backward()
    seen = (image.grad[0, 0] != 0).nonzero()  # type: ignore[index]
    assert (seen.max(0).values - seen.min(0).values).min() > 60

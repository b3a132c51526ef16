import pytest
import torch
from torch import nn

from cristae.nets.contract import Build
from cristae.nets.resnetv2 import ResNetV2, StandardisedConvolution
from cristae.nets.transunet import TransUNet, build_transunet


def _count(*modules: nn.Module) -> int:
    return sum(value.numel() for module in modules for value in module.parameters())


def _full(tile_px: int = 512, n_channels: int = 1) -> TransUNet:
    with torch.device("meta"):
        return build_transunet(Build(n_channels, 1, "full", tile_px=tile_px))


@pytest.mark.parametrize(("tile_px", "expected"), [(512, 105_911_825), (224, 105_275_921)])
def test_parameter_counts_are_the_published_ones(tile_px: int, expected: int) -> None:
    assert _count(_full(tile_px)) == expected


def test_its_parts_have_the_published_sizes() -> None:
    network = _full()
    assert _count(network.encoder.patch_embed.backbone) == 11_894_848
    assert _count(network.encoder.blocks, network.encoder.norm) == 85_056_000
    assert _count(network.enter, network.up, network.head) == 7_387_345
    drops = [module.p for module in network.encoder.modules() if isinstance(module, nn.Dropout)]
    assert drops == [0.1] * 13


def test_its_encoder_has_the_names_of_timm() -> None:
    shapes = {name: tuple(value.shape) for name, value in _full(224).encoder.state_dict().items()}
    start = "patch_embed.backbone"
    assert shapes[f"{start}.stem.conv.weight"] == (64, 3, 7, 7)
    assert shapes[f"{start}.stem.norm.weight"] == (64,)
    assert shapes[f"{start}.stages.0.blocks.0.downsample.conv.weight"] == (256, 64, 1, 1)
    assert shapes[f"{start}.stages.1.blocks.0.downsample.norm.bias"] == (512,)
    assert shapes[f"{start}.stages.2.blocks.8.conv2.weight"] == (256, 256, 3, 3)
    assert shapes[f"{start}.stages.2.blocks.8.norm3.weight"] == (1024,)
    assert shapes["patch_embed.proj.weight"] == (768, 1024, 1, 1)
    assert shapes["blocks.11.attn.qkv.weight"] == (2304, 768)


def test_a_grey_image_is_repeated_and_more_channels_are_taken_as_they_are() -> None:
    torch.manual_seed(0)
    one, three = (build_transunet(Build(n_channels, 1, tile_px=64)).eval() for n_channels in (1, 3))
    three.load_state_dict(one.state_dict())
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.allclose(one(image), three(image.expand(-1, 3, -1, -1)), atol=1e-5)
    for n_channels, expected in ((1, 3), (3, 3), (5, 5)):
        assert _full(64, n_channels).encoder.patch_embed.backbone.stem.conv.in_channels == expected


def test_pretrained_weights_are_taken() -> None:
    network = build_transunet(Build(5, 1, tile_px=64))
    other = build_transunet(Build(3, 1, tile_px=96)).encoder.state_dict()
    other["pos_embed"] = torch.cat((torch.zeros(1, 1, 192), other["pos_embed"]), dim=1)
    network.load_encoder(other | {"cls_token": torch.zeros(1, 1, 192), "head.weight": torch.zeros(7, 192)})
    root = network.encoder.patch_embed.backbone.stem.conv.weight
    theirs = other["patch_embed.backbone.stem.conv.weight"]
    assert torch.allclose(5 * root[:, 2], theirs.sum(1), atol=1e-6)
    assert torch.equal(network.encoder.blocks[0].mlp.fc1.weight, other["blocks.0.mlp.fc1.weight"])
    with pytest.raises(ValueError, match=r"missing: pos_embed"):
        network.load_encoder({})


def test_filters_are_standardised() -> None:
    torch.manual_seed(0)
    convolution = StandardisedConvolution(3, 4, 3)
    features = torch.randn(2, 3, 8, 8)
    expected = convolution(features)
    flat = convolution.weight.detach().flatten(1)
    weight = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    by_hand = nn.functional.conv2d(features, weight.reshape(4, 3, 3, 3), padding=1)
    assert torch.allclose(expected, by_hand, atol=1e-5)
    with torch.no_grad():
        convolution.weight.mul_(7).add_(3)
    # Up to the 1e-5 that is added to the variance (0.01 here).
    assert torch.allclose(convolution(features), expected, atol=2e-2)


def test_skips_have_the_sizes_of_the_decoder() -> None:
    network = ResNetV2(1, 8, (1, 1, 1), 4)
    maps = network(torch.randn(1, 1, 64, 96))
    assert [tuple(one.shape[1:]) for one in maps] == [(8, 32, 48), (32, 16, 24), (64, 8, 12), (128, 4, 6)]
    # The pooling is one pixel short; zeros follow.
    assert (maps[1][:, :, -1] == 0).all()
    assert (maps[1][..., -1] == 0).all()
    assert (maps[1][:, :, -2].abs().sum() > 0) and (maps[1][..., -2].abs().sum() > 0)


def test_every_pixel_sees_the_whole_tile() -> None:
    torch.manual_seed(0)
    network = build_transunet(Build(1, 1, tile_px=64)).eval()
    image = torch.randn(1, 1, 64, 64, requires_grad=True)
    network(image)[0, 0, 3, 3].backward()
    assert image.grad is not None
    assert (image.grad[0, 0, -16:, -16:] != 0).any()


@pytest.mark.parametrize(("tile_px", "largest"), [(64, 64), (100, 112)])
def test_it_is_built_for_its_tile(tile_px: int, largest: int) -> None:
    network = build_transunet(Build(1, 1, tile_px=tile_px))
    assert (network.largest, network.encoder.pos_embed.shape[1]) == (largest, (largest // 16) ** 2)

import math

import pytest
import torch
from torch import Tensor, nn

from cristae.nets.contract import Build, OwnSum
from cristae.nets.losses import loss_of
from cristae.nets.registry import build_network
from cristae.nets.setr import SETR

VARIANTS = ("naive", "pup", "mla")


def _build(variant: str, build: Build) -> SETR:
    network = build_network(f"setr_{variant}", build)
    assert isinstance(network, SETR)
    return network


def _small(variant: str) -> SETR:
    torch.manual_seed(0)
    return _build(variant, Build(1, 2, tile_px=64))


def _count(*modules: nn.Module) -> int:
    return sum(value.numel() for module in modules for value in module.parameters())


@pytest.mark.parametrize(
    ("variant", "decoder", "auxiliary"),
    [("naive", 265_217, 3 * 265_217), ("pup", 4_134_145, 4 * 2_362_369), ("mla", 5_196_289, 4 * 256)],
)
def test_parameter_counts_are_the_published_ones(variant: str, decoder: int, auxiliary: int) -> None:
    with torch.device("meta"):
        network = _build(variant, Build(1, 1, "full", tile_px=512))
    # The transformer's last normalisation is what the papers count as the first layer of the decoder.
    assert _count(network.encoder) == 303_623_168
    assert _count(network.encoder.norm, network.decoder, network.head) == decoder + auxiliary
    assert _count(network.decoder.auxiliary) == auxiliary
    assert _count(network) == 303_621_120 + decoder + auxiliary


@pytest.mark.parametrize(("variant", "side", "channels"), [("naive", 32, 256), ("pup", 256, 256), ("mla", 128, 512)])
def test_classes_are_told_at_the_published_resolution(variant: str, side: int, channels: int) -> None:
    found: list[Tensor] = []
    with torch.device("meta"):
        network = _build(variant, Build(1, 3, "full", tile_px=512))
        network.head.register_forward_hook(lambda _, inputs, output: found.extend((*inputs, output)))
        outputs = network.outputs(torch.empty(2, 1, 512, 512))
    assert [tuple(one.shape) for one in found] == [(2, channels, side, side), (2, 3, side, side)]
    assert {tuple(one.shape) for one in outputs.values()} == {(2, 3, 512, 512)}


@pytest.mark.parametrize(
    ("variant", "layers"), [("naive", (9, 14, 19)), ("pup", (9, 14, 19, 23)), ("mla", (5, 11, 17, 23))]
)
def test_the_full_size_looks_at_the_published_layers(variant: str, layers: tuple[int, ...]) -> None:
    with torch.device("meta"):
        assert _build(variant, Build(1, 1, "full", tile_px=64)).decoder.layers == layers


@pytest.mark.parametrize("variant", ["naive", "pup"])
def test_each_auxiliary_head_learns_from_its_layer(variant: str) -> None:
    network = _small(variant)
    outputs = network.outputs(torch.randn(2, 1, 64, 64))
    for i, layer in enumerate(network.decoder.layers):
        network.zero_grad(set_to_none=True)
        outputs[f"auxiliary_{i}"].square().mean().backward(retain_graph=True)
        reached = [block.mlp.fc2.weight.grad is not None for block in network.encoder.blocks]
        assert reached == [number <= layer for number in range(4)]
        assert network.head.weight.grad is None


def test_streams_of_mla_hold_their_layer_and_the_deeper_ones() -> None:
    network = _small("mla")
    outputs = network.outputs(torch.randn(2, 1, 64, 64))
    for i in range(4):
        network.zero_grad(set_to_none=True)
        outputs[f"auxiliary_{i}"].square().mean().backward(retain_graph=True)
        reached = [reduce[0].weight.grad is not None for reduce in network.decoder.reduce]
        assert reached == [level >= i for level in range(4)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_auxiliary_heads_do_not_predict(variant: str) -> None:
    network = _small(variant).eval()
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        before, others = network(image), network.outputs(image)
        for value in network.decoder.auxiliary.parameters():
            value.add_(1)
        assert torch.equal(network(image), before)
        after = network.outputs(image)
    assert torch.equal(after["logits"], before)
    assert all(not torch.equal(after[name], value) for name, value in others.items() if name != "logits")


@pytest.mark.parametrize(("variant", "heads"), [("naive", 3), ("pup", 4), ("mla", 4)])
def test_the_loss_by_hand(variant: str, heads: int) -> None:
    network = _small(variant)
    assert isinstance(network, OwnSum)
    target = torch.ones(1, 2, 8, 8)
    weight = target.clone()
    weight[..., 4:] = 0
    undecided = torch.zeros_like(target)
    names = ["logits", *(f"auxiliary_{i}" for i in range(heads))]
    assert list(network.outputs(torch.randn(1, 1, 64, 64))) == names
    # Probability ½ everywhere, truth 1: Dice 2 · ½ / (¼ + 1), cross-entropy log 2.
    for asked_for in (1.0, 0.0, 3.0):  # 0: the Dice loss of both papers
        each = 1 - 1 / 1.25 + asked_for * math.log(2)
        loss = loss_of(network, dict.fromkeys(names, undecided), target, weight, asked_for)
        assert loss.item() == pytest.approx((1 + 0.4 * heads) * each, abs=1e-4)
        sure = dict.fromkeys(names, undecided) | {"logits": undecided + 30}
        assert loss_of(network, sure, target, weight, asked_for).item() == pytest.approx(0.4 * heads * each, abs=1e-4)


@pytest.mark.parametrize(
    ("size", "tile_px", "largest"), [("small", 64, 64), ("small", 100, 104), ("full", 100, 112), ("full", 384, 384)]
)
def test_it_is_built_for_its_tile(size: str, tile_px: int, largest: int) -> None:
    with torch.device("meta"):
        network = _build("naive", Build(1, 1, "full" if size == "full" else "small", tile_px=tile_px))
    assert network.largest == largest
    assert network.encoder.pos_embed.shape[1] == (largest // network.multiple) ** 2


def test_pretrained_weights_are_taken() -> None:
    network, other = _small("naive"), _build("pup", Build(3, 1, tile_px=96)).encoder.state_dict()
    other["pos_embed"] = torch.cat((torch.zeros(1, 1, 192), other["pos_embed"]), dim=1)
    network.load_encoder(other | {"cls_token": torch.zeros(1, 1, 192), "fc_norm.weight": torch.zeros(192)})
    assert torch.equal(network.encoder.blocks[3].attn.proj.weight, other["blocks.3.attn.proj.weight"])
    assert torch.allclose(
        network.encoder.patch_embed.proj.weight, other["patch_embed.proj.weight"].sum(1, keepdim=True), atol=1e-6
    )
    with pytest.raises(ValueError, match="missing: pos_embed"):
        network.load_encoder({})

import pytest
import torch
from torch import Tensor

from cristae.nets.vit import (
    Attention,
    Block,
    Form,
    PatchEmbedding,
    VisionTransformer,
    as_map,
    positions_along,
    resize_positions,
)

FORM = Form(width=8, depth=3, heads=2, hidden=16)


def _transformer(n_channels: int = 1, grid: int = 4) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(PatchEmbedding(n_channels, FORM.width, 4), FORM, grid).eval()


def _as_published(transformer: VisionTransformer, grid: int) -> dict[str, Tensor]:
    """The state dict of a transformer for RGB images with a class token and a classifier, as timm saves them."""
    tensors = {name: torch.randn_like(value) for name, value in transformer.state_dict().items()}
    tensors["patch_embed.proj.weight"] = torch.randn(FORM.width, 3, 4, 4)
    tensors["pos_embed"] = torch.randn(1, 1 + grid**2, FORM.width)
    return tensors | {"cls_token": torch.randn(1, 1, FORM.width), "head.weight": torch.randn(10, FORM.width)}


def test_the_blocks_of_vit_base_and_large() -> None:
    with torch.device("meta"):
        counts = [
            sum(value.numel() for value in Block(Form(width, 1, heads, 4 * width)).parameters())
            for width, heads in ((768, 12), (1024, 16))
        ]
    assert counts == [7_087_872, 12_596_224]


def test_parameters_have_the_names_of_timm() -> None:
    parts = [f"{part}.{kind}" for part in ("norm1", "attn.qkv", "attn.proj", "norm2") for kind in ("weight", "bias")]
    parts += [f"mlp.{part}.{kind}" for part in ("fc1", "fc2") for kind in ("weight", "bias")]
    blocks = {f"blocks.{i}.{part}" for i in range(FORM.depth) for part in parts}
    ends = {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"}
    assert set(_transformer().state_dict()) == blocks | ends


def test_attention_is_the_softmax_of_scaled_products() -> None:
    torch.manual_seed(0)
    attention = Attention(8, 2)
    tokens = torch.randn(3, 5, 8)
    q, k, v = attention.qkv(tokens).split(8, dim=-1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        shares = torch.softmax(q[..., part] @ k[..., part].transpose(1, 2) / 2, dim=-1)
        heads.append(shares @ v[..., part])
    expected = attention.proj(torch.cat(heads, dim=-1))
    assert torch.allclose(attention(tokens), expected, atol=1e-6)


def test_positions_alone_tell_tokens_where_they_are() -> None:
    transformer = _transformer()
    patches = torch.randn(1, 8, 4, 4)
    mirrored = as_map(transformer(patches.flip(3), {2})[2], (4, 4)).flip(3)
    there = as_map(transformer(patches, {2})[2], (4, 4))
    assert not torch.allclose(there, mirrored, atol=1e-4)
    with torch.no_grad():
        transformer.pos_embed.zero_()
    mirrored = as_map(transformer(patches.flip(3), {2})[2], (4, 4)).flip(3)
    assert torch.allclose(as_map(transformer(patches, {2})[2], (4, 4)), mirrored, atol=1e-5)


def test_every_token_sees_all_patches() -> None:
    patches = torch.randn(1, 8, 4, 6, requires_grad=True)
    _transformer()(patches, {0})[0][0, 0].square().sum().backward()
    assert patches.grad is not None
    assert (patches.grad.abs().sum(1) > 0).all()


def test_tokens_come_after_the_blocks_asked_for() -> None:
    transformer = _transformer()
    patches = torch.randn(1, 8, 4, 4)
    found = transformer(patches, {0, 2})
    assert list(found) == [0, 2]
    expected = transformer.blocks[2](transformer.blocks[1](found[0]))
    assert torch.allclose(found[2], expected, atol=1e-6)


def test_a_map_of_tokens_has_each_at_its_patch() -> None:
    image = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert torch.equal(as_map(image.flatten(2).transpose(1, 2), (3, 4)), image)


def test_positions_are_interpolated_along_the_right_axes() -> None:
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    positions = torch.stack((y, x), dim=-1).reshape(1, 64, 2)
    assert resize_positions(positions, (8, 8), (8, 8)) is positions
    large = resize_positions(positions, (8, 8), (16, 24)).reshape(16, 24, 2)
    # Centres of pixels: point i of n lies at (i + ½) · 8 / n − ½. PyTorch's cubic bends ramps by up to 0.05.
    expected_y = ((torch.arange(16) + 0.5) / 2 - 0.5)[:, None].expand(16, 24)
    expected_x = ((torch.arange(24) + 0.5) / 3 - 0.5)[None].expand(16, 24)
    assert torch.allclose(large[4:-4, :, 0], expected_y[4:-4], atol=0.06)
    assert torch.allclose(large[:, 6:-6, 1], expected_x[:, 6:-6], atol=0.06)


@pytest.mark.parametrize(("tile_px", "expected"), [(1, 1), (16, 1), (17, 2), (512, 32)])
def test_positions_cover_the_tile(tile_px: int, expected: int) -> None:
    assert positions_along(tile_px, 16) == expected


def test_published_weights_are_taken() -> None:
    transformer = _transformer(n_channels=2)
    tensors = _as_published(transformer, grid=4)
    transformer.load(tensors)
    assert torch.equal(transformer.blocks[1].attn.qkv.weight, tensors["blocks.1.attn.qkv.weight"])
    assert torch.equal(transformer.pos_embed, tensors["pos_embed"][:, 1:])
    grey = torch.randn(1, 1, 16, 16)
    expected = torch.nn.functional.conv2d(
        grey.expand(-1, 3, -1, -1), tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"], 4
    )
    assert torch.allclose(transformer.patch_embed(grey.expand(-1, 2, -1, -1)), expected, atol=1e-4)


def test_positions_of_another_tile_are_interpolated() -> None:
    transformer = _transformer()
    tensors = _as_published(transformer, grid=6)
    transformer.load(tensors)
    expected = resize_positions(tensors["pos_embed"][:, 1:], (6, 6), (4, 4))
    assert torch.equal(transformer.pos_embed, expected)


def test_weights_that_do_not_fit_are_refused_by_name_and_nothing_is_taken() -> None:
    transformer = _transformer()
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    tensors = _as_published(transformer, grid=4)
    del tensors["norm.bias"]
    tensors["blocks.0.mlp.fc1.weight"] = torch.zeros(5, 8)
    expected = (
        r"1 missing: norm\.bias; 1 of wrong shape: blocks\.0\.mlp\.fc1\.weight \(expected \(16, 8\), got \(5, 8\)\)"
    )
    with pytest.raises(ValueError, match=expected):
        transformer.load(tensors)
    with pytest.raises(ValueError, match=r"41 missing: pos_embed, patch_embed\.proj\.weight, .* …"):
        transformer.load({"fc.weight": torch.zeros(3)})
    assert all(torch.equal(before[name], value) for name, value in transformer.state_dict().items())

import pytest
import torch
from torch import Tensor, nn

from cristae.nets.swin import (
    SWIN_S,
    PatchMerging,
    Swin,
    SwinBlock,
    SwinSizes,
    WindowAttention,
    assemble,
    initialise_quick,
    partition,
)

TINY = SwinSizes(4, (1, 2, 1, 1), 1, 3)


def _count(network: nn.Module, *parts: str) -> int:
    return sum(value.numel() for name, value in network.named_parameters() if name.startswith(parts or ("",)))


def test_swin_s_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        colour, grey = Swin(3, SWIN_S), Swin(1, SWIN_S)
    classifier = 768 * 1000 + 1000 + 2 * 768
    assert _count(colour, "patch_embed", "layers") + classifier == 49_606_258  # torchvision and timm say so
    assert _count(grey) == 48_835_530


def test_shapes_of_the_features() -> None:
    with torch.device("meta"):
        features = Swin(1, SWIN_S)(torch.empty(2, 1, 512, 256))
    assert [tuple(one.shape) for one in features] == [
        (2, 96, 128, 64),
        (2, 192, 64, 32),
        (2, 384, 32, 16),
        (2, 768, 16, 8),
    ]
    assert [block.shift for block in Swin(1, TINY).layers[1].blocks] == [0, 1]  # type: ignore[index, union-attr]


def test_windows_are_put_together_as_they_were_cut() -> None:
    tokens = torch.arange(2 * 6 * 9 * 2).view(2, 6, 9, 2)
    windows = partition(tokens, 3)
    assert windows.shape == (2, 6, 9, 2)
    assert torch.equal(windows[1, 4], tokens[1, 3:6, 3:6].reshape(9, 2))
    assert torch.equal(assemble(windows, (6, 9), 3), tokens)


def test_attention_is_that_of_pytorch_with_a_bias() -> None:
    torch.manual_seed(0)
    attention = WindowAttention(8, 2, 3)
    windows = torch.randn(2, 4, 9, 8)
    query, key, value = attention.qkv(windows).chunk(3, -1)
    heads = [part.unflatten(-1, (2, 4)).transpose(2, 3) for part in (query, key, value)]
    bias = torch.zeros(2, 9, 9)
    for i in range(9):
        for j in range(9):
            row = (i // 3 - j // 3 + 2) * 5 + (i % 3 - j % 3 + 2)
            bias[:, i, j] = attention.relative_position_bias_table[row].detach()
    expected = nn.functional.scaled_dot_product_attention(*heads, attn_mask=bias.expand(2, 4, -1, -1, -1))
    expected = attention.proj(expected.transpose(2, 3).flatten(3))
    assert torch.allclose(attention(windows), expected, atol=1e-6)


def test_a_quick_start_lets_each_head_look_at_another_place() -> None:
    attention = WindowAttention(8, 4, 7)
    attention.apply(initialise_quick)
    bias = attention.relative_position_bias_table[attention.relative_position_index]
    middle = bias[24].detach().view(7, 7, 4)  # what the token in the middle of the window looks at
    first = [divmod(int(middle[..., head].argmax()), 7) for head in range(4)]
    assert first[0] == (3, 3)
    assert len(set(first)) == 4
    assert all(abs(y - 3) <= 2 and abs(x - 3) <= 2 for y, x in first)
    assert torch.allclose(bias[0, 8], bias[24, 32])  # wherever the token is
    assert first[1] == (4, 2)  # 1 away, at 137.5°: (0.68, -0.74)
    assert middle[0, 0, 0] == pytest.approx(-9)


def _seen(block: nn.Module, shape: tuple[int, int], place: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the first and last row and column of the tokens that one token of the result depends on."""
    torch.manual_seed(0)
    tokens = torch.randn(1, *shape, 8, requires_grad=True)
    block(tokens)[0, place[0], place[1]].square().sum().backward()
    found = (tokens.grad[0].abs().sum(-1) > 0).nonzero()  # type: ignore[index]
    first, last = found.min(0).values.tolist(), found.max(0).values.tolist()
    assert len(found) == (last[0] - first[0] + 1) * (last[1] - first[1] + 1)
    return first[0], last[0], first[1], last[1]


def test_a_token_sees_its_window_alone() -> None:
    plain, shifted = SwinBlock(8, 2, 4), SwinBlock(8, 2, 4, shifted=True)
    assert _seen(plain, (12, 12), (5, 0)) == (4, 7, 0, 3)
    assert _seen(shifted, (12, 12), (5, 2)) == (2, 5, 2, 5)


def test_opposite_edges_do_not_see_each_other() -> None:
    shifted = SwinBlock(8, 2, 4, shifted=True)
    assert _seen(shifted, (12, 12), (0, 1)) == (0, 1, 0, 1)
    assert _seen(shifted, (12, 12), (11, 11)) == (10, 11, 10, 11)
    assert _seen(shifted, (12, 12), (11, 3)) == (10, 11, 2, 5)


def test_maps_that_windows_do_not_divide_are_padded() -> None:
    assert _seen(SwinBlock(8, 2, 4), (10, 5), (9, 4)) == (8, 9, 4, 4)
    assert _seen(SwinBlock(8, 2, 4, shifted=True), (10, 5), (9, 4)) == (6, 9, 2, 4)


def test_one_window_alone_is_not_shifted() -> None:
    plain, shifted = SwinBlock(8, 2, 4), SwinBlock(8, 2, 4, shifted=True)
    shifted.load_state_dict(plain.state_dict())
    tokens = torch.randn(1, 3, 4, 8)
    assert torch.equal(plain(tokens), shifted(tokens))
    assert _seen(shifted, (3, 12), (0, 1)) == (0, 2, 0, 1)


def test_neighbours_merge_with_y_running_fastest() -> None:
    merging = PatchMerging(1)
    merging.norm = nn.Identity()  # type: ignore[assignment]
    merging.reduction = nn.Identity()  # type: ignore[assignment]
    tokens = torch.tensor([[11.0, 12.0, 13.0, 14.0], [21.0, 22.0, 23.0, 24.0]])[None, ..., None]
    assert merging(tokens)[0, 0].tolist() == [[11, 21, 12, 22], [13, 23, 14, 24]]


def _published(n_channels: int = 3, sizes: SwinSizes = TINY) -> dict[str, Tensor]:
    """Return weights as timm has them: without the four output normalisations, with a classifier."""
    torch.manual_seed(5)
    own = Swin(n_channels, sizes).state_dict()
    kept = {name: torch.randn_like(value) for name, value in own.items() if not name.startswith("norm")}
    return kept | {"norm.weight": torch.ones(32), "head.fc.weight": torch.ones(10, 32)}


def test_published_weights_are_taken_over() -> None:
    tensors = _published()
    swin = Swin(2, TINY)
    swin.load_encoder(tensors)
    found = swin.state_dict()
    name = "patch_embed.proj.weight"
    assert torch.allclose(found[name][:, 0], tensors[name].sum(1) / 2)
    assert torch.equal(found[name][:, 0], found[name][:, 1])
    assert (found["norm3.weight"] == 1).all()
    others = [key for key in tensors if key.startswith("layers")]
    assert len(others) > 50
    assert all(torch.equal(found[key], tensors[key]) for key in others)


def test_weights_of_a_grey_encoder_stay_as_they_are() -> None:
    tensors = _published(1)
    swin = Swin(1, TINY)
    swin.load_encoder(tensors)
    assert torch.equal(swin.patch_embed.proj.weight, tensors["patch_embed.proj.weight"])


def test_the_names_of_the_authors_are_known_too() -> None:
    tensors = _published()
    earlier = {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(9, 9)}
    for name, value in tensors.items():
        part = name.split(".")
        if len(part) > 2 and part[2] == "downsample":
            part[1] = str(int(part[1]) - 1)
        earlier[".".join(part)] = value
    assert "layers.0.downsample.norm.weight" in earlier
    one, other = Swin(1, TINY), Swin(1, TINY)
    one.load_encoder(tensors)
    other.load_encoder(earlier)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_biases_of_another_window_are_interpolated() -> None:
    tensors = _published(sizes=SwinSizes(4, (1, 2, 1, 1), 1, 6))
    name = "layers.1.blocks.0.attn.relative_position_bias_table"
    y, _ = torch.meshgrid(torch.arange(11.0), torch.arange(11.0), indexing="ij")
    tensors[name] = torch.stack((y.flatten(), torch.full((121,), 7.0)), 1)
    swin = Swin(1, TINY)
    swin.load_encoder(tensors)
    table = swin.state_dict()[name].view(5, 5, 2)
    assert torch.allclose(table[2, :, 0], torch.full((5,), 5.0), atol=1e-4)
    assert (table[1:, 2, 0] > table[:-1, 2, 0]).all()
    assert torch.allclose(table[..., 1], torch.full((5, 5), 7.0), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers.0.blocks.0.norm1.weight": None}, r"missing: layers\.0\.blocks\.0\.norm1\.weight$"),
        ({"layers.0.blocks.1.norm1.weight": torch.ones(4)}, r"no place for: layers\.0\.blocks\.1\.norm1\.weight$"),
        ({"layers.0.blocks.0.norm1.weight": torch.ones(5)}, r"shape: .*norm1\.weight \(5,\) instead of \(4,\)"),
        ({"patch_embed.proj.weight": torch.ones(4, 3, 2, 2)}, r"\(4, 1, 2, 2\) instead of \(4, 1, 4, 4\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(change: dict[str, Tensor | None], message: str) -> None:
    tensors = {name: value for name, value in (_published() | change).items() if value is not None}
    swin = Swin(1, TINY)
    before = {name: value.clone() for name, value in swin.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        swin.load_encoder(tensors)
    assert all(torch.equal(value, before[name]) for name, value in swin.state_dict().items())


def test_many_missing_weights_are_not_all_named() -> None:
    with pytest.raises(ValueError, match=r"and \d+ more"):
        Swin(1, TINY).load_encoder({})

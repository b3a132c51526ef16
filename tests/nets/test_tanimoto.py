import math

import pytest
import torch

from cristae.nets.tanimoto import fractal_tanimoto, tanimoto_attention, tanimoto_loss

FOUND = torch.tensor([0.9, 0.2, 0.6, 0.1])
TRUE = torch.tensor([1.0, 0.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("depth", "plain", "dual"),
    [
        (0, 0.872094, 0.878756),
        (1, 0.872094, 0.878756),
        (5, 0.606895, 0.619020),
        (10, 0.339606, 0.347756),
        (20, 0.170465, 0.174584),
    ],
)
def test_known_values(depth: int, plain: float, dual: float) -> None:
    assert fractal_tanimoto(FOUND, TRUE, (0,), depth, dual=False).item() == pytest.approx(plain, abs=2e-6)
    assert fractal_tanimoto(FOUND, TRUE, (0,), depth).item() == pytest.approx(dual, abs=2e-6)
    square = [part.reshape(1, 1, 2, 2) for part in (FOUND, TRUE)]
    loss = tanimoto_loss(*square, torch.ones(1, 1, 2, 2), depth)
    assert loss.item() == pytest.approx(1 - dual, abs=2e-6)


def test_the_printed_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = torch.rand(2, 3, 5, 7, generator=generator, dtype=torch.float64).unbind()
    expected = 0.0
    for k in range(4):
        for a, b in ((p, q), (1 - p, 1 - q)):
            top = (a * b).sum() + 1e-5
            bottom = 2**k * (a.square().sum() + b.square().sum()) - (2 ** (k + 1) - 1) * (a * b).sum() + 1e-5
            expected += float(top / bottom) / 8
    assert fractal_tanimoto(p, q, (0, 1, 2), 4).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("depth", [0, 1, 5, 20])
def test_equal_maps_are_alike_and_opposite_ones_are_not(depth: int) -> None:
    mask = (torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    for one in (mask, torch.zeros_like(mask), torch.ones_like(mask)):
        assert fractal_tanimoto(one, one, (2, 3), depth).item() == pytest.approx(1, abs=1e-6)
    assert fractal_tanimoto(mask, 1 - mask, (2, 3), depth).item() < 1e-6


@pytest.mark.parametrize("value", [1 - 2**-20, 1 - 3e-5, 3e-5, 0.5])
def test_rounding_in_a_large_map_does_not_take_it_out_of_bounds(value: float) -> None:
    flat = torch.full((1, 1, 512, 512), value)
    for other in (torch.zeros_like(flat), torch.ones_like(flat), flat):
        for depth in (0, 5):
            assert 0 <= fractal_tanimoto(flat, other, (2, 3), depth).item() <= 1 + 1e-6


def test_weights_take_pixels_out_of_every_sum() -> None:
    maps = torch.rand(2, 1, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    weight = torch.ones(1, 2, 8, 8)
    weight[..., 5:] = 0
    kept = maps[..., :5]
    for dual in (True, False):
        found = fractal_tanimoto(*maps, (2, 3), 3, weight, dual)
        assert torch.allclose(found, fractal_tanimoto(*kept, (2, 3), 3, None, dual))


def test_ignored_pixels_get_no_gradient() -> None:
    generator = torch.Generator().manual_seed(1)
    probability = torch.rand(2, 2, 6, 6, generator=generator).requires_grad_()
    target = (torch.rand(2, 2, 6, 6, generator=generator) > 0.5).float()
    weight = torch.ones_like(target)
    weight[:, :, :3] = 0
    loss = tanimoto_loss(probability, torch.where(weight > 0, target, torch.nan), weight, 10)
    loss.backward()
    assert math.isfinite(loss.item())
    gradient = probability.grad
    assert gradient is not None and (gradient[:, :, :3] == 0).all() and (gradient[:, :, 3:] != 0).all()


def test_each_sample_and_class_has_its_own_coefficient() -> None:
    maps = torch.rand(2, 3, 2, 8, 8, generator=torch.Generator().manual_seed(2))
    weight = torch.ones(3, 2, 8, 8)
    alone = [[tanimoto_loss(*(m[i : i + 1, c : c + 1] for m in (*maps, weight))) for c in (0, 1)] for i in range(3)]
    assert tanimoto_loss(*maps, weight).item() == pytest.approx(sum(map(sum, alone)).item() / 6)
    weight[1, 0] = 0  # nobody looked at class 0 in the second sample
    expected = ((alone[0][0] + alone[2][0]) / 2 + sum(row[1] for row in alone) / 3) / 2
    assert tanimoto_loss(*maps, weight).item() == pytest.approx(expected.item())
    weight[:, 0] = 0  # … nor anywhere
    assert tanimoto_loss(*maps, weight).item() == pytest.approx(sum(row[1] for row in alone).item() / 3)
    assert tanimoto_loss(*maps, 0 * weight).item() == 0


def test_attention_by_hand() -> None:
    query, key, value = torch.rand(3, 1, 2, 3, 3, generator=torch.Generator().manual_seed(3)).unbind()
    plain = tanimoto_attention(query, key, value, 5)
    product = tanimoto_attention(query, key, value, 5, product=True)
    for c, y, x in ((0, 0, 0), (1, 2, 1)):
        of_channel = fractal_tanimoto(query[0, c].flatten(), key[0, c].flatten(), (0,), 5).item()
        of_pixel = fractal_tanimoto(query[0, :, y, x], key[0, :, y, x], (0,), 5).item()
        v = value[0, c, y, x].item()
        assert plain[0, c, y, x].item() == pytest.approx(0.5 * (of_channel * v + of_pixel * v), rel=1e-5)
        assert product[0, c, y, x].item() == pytest.approx(0.5 * (of_channel * v * of_pixel * v), rel=1e-5)


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(4)
    maps = [torch.rand(1, 2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda p, q: fractal_tanimoto(p, q, (2, 3), 3), maps)

import math

import pytest
import torch

from cristae.nets.losses import cross_entropy_loss, segmentation_loss, soft_dice_loss


def _maps(*shape: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    probability = torch.rand(*shape, generator=generator)
    target = (torch.rand(*shape, generator=generator) > 0.5).float()
    return probability, target, torch.ones(shape)


def test_dice_by_hand() -> None:
    probability = torch.tensor([0.9, 0.2, 0.6, 0.1]).reshape(1, 1, 2, 2)
    target = torch.tensor([1.0, 0.0, 1.0, 0.0]).reshape(1, 1, 2, 2)
    expected = 1 - 2 * 1.5 / (0.81 + 0.04 + 0.36 + 0.01 + 2)
    assert soft_dice_loss(probability, target, torch.ones_like(target)).item() == pytest.approx(expected, abs=1e-4)


def test_a_perfect_prediction_costs_nothing_and_the_opposite_everything() -> None:
    _, target, weight = _maps(2, 3, 8, 8)
    assert soft_dice_loss(target, target, weight).item() == pytest.approx(0, abs=1e-5)
    assert soft_dice_loss(1 - target, target, weight).item() == pytest.approx(1, abs=1e-3)


def test_the_ratio_is_taken_once_over_the_batch() -> None:
    probability, target, weight = _maps(4, 1, 8, 8)
    whole = soft_dice_loss(probability, target, weight)
    folded = soft_dice_loss(*(part.reshape(1, 1, 32, 8) for part in (probability, target, weight)))
    assert whole.item() == pytest.approx(folded.item())


def test_ignored_pixels_change_neither_loss_nor_gradient() -> None:
    probability, target, weight = _maps(2, 2, 8, 8)
    weight[:, :, :4] = 0
    logits = torch.logit(probability.clamp(0.01, 0.99)).requires_grad_()
    loss = segmentation_loss(logits, target, weight, 1.0)
    loss.backward()
    other = target.clone()
    other[:, :, :4] = 1 - other[:, :, :4]
    assert segmentation_loss(logits, other, weight, 1.0).item() == loss.item()
    assert (logits.grad[:, :, :4] == 0).all()  # type: ignore[index]


def test_a_class_nobody_looked_at_is_left_out_of_the_mean() -> None:
    probability, target, weight = _maps(2, 2, 8, 8)
    weight[:, 1] = 0
    alone = soft_dice_loss(probability[:, :1], target[:, :1], weight[:, :1])
    assert soft_dice_loss(probability, target, weight).item() == pytest.approx(alone.item())


def test_nothing_known_at_all_is_no_disaster() -> None:
    probability, target, weight = _maps(1, 2, 4, 4)
    logits = torch.zeros_like(probability, requires_grad=True)
    loss = segmentation_loss(logits, target, torch.zeros_like(weight), 1.0)
    loss.backward()
    assert math.isfinite(loss.item()) and (logits.grad == 0).all()


def test_cross_entropy_of_undecided_logits() -> None:
    _, target, weight = _maps(1, 1, 4, 4)
    assert cross_entropy_loss(torch.zeros_like(target), target, weight).item() == pytest.approx(math.log(2))

"""The judge: tiles as in prediction, and classes that no held-out part shows."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cristae.geometry import Voxels
from cristae.learn.fit import Schedule, Watch, fit
from cristae.learn.infer import Inference, SlabPredictor
from cristae.learn.patches import LabelledSlice, View
from cristae.learn.supervised import _LOOKED_UP, OVERLAP_PX, TILE_PX, HeldOutJudge

CPU = torch.device("cpu")


class _Placed(nn.Module):
    """Sees a pixel, and where in its input it lies, as networks with learnt positions do."""

    multiple, largest = 8, 96

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))
        self.seen: list[tuple[int, int]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append((image.shape[2], image.shape[3]))
        place = torch.linspace(-1, 1, image.shape[3])[None, None, None]
        return self.gain * (image - 0.4) + 0.3 * place


def _noisy(shape: tuple[int, int]) -> LabelledSlice:
    rng = np.random.default_rng(3)
    target = (rng.random((1, *shape)) > 0.5).astype(np.float32)
    image = (target + 0.4 * rng.standard_normal(target.shape)).astype(np.float32)
    return LabelledSlice(0, image, target, np.ones_like(target))


@pytest.mark.parametrize("shape", [(90, 70), (200, 150), (97, 301)])
def test_a_network_is_judged_on_what_prediction_would_say(shape: tuple[int, int]) -> None:
    one, network = _noisy(shape), _Placed()
    score = HeldOutJudge([one], ["a"])(network)["a"]
    assert max(max(sides) for sides in network.seen) <= network.largest
    how = Inference.of(network, TILE_PX, OVERLAP_PX, 1)
    volume: Voxels = (1, *shape)
    said = SlabPredictor(network.eval(), View(1, 0, np.zeros(1), np.ones(1)), volume, how, CPU).whole(one.image[None])
    found, truth = said[0, 0] >= 0.5, one.target[0] > 0
    assert score.dice == pytest.approx(2 * (found & truth).sum() / (found.sum() + truth.sum()), abs=1e-3)
    assert score.area_ratio == pytest.approx(found.sum() / truth.sum(), abs=1e-3)


def test_where_nobody_looked_nothing_is_found_or_missed() -> None:
    one, network = _noisy((90, 70)), _Placed()
    one.weight[:, :, 60:] = 0
    score = HeldOutJudge([one], ["a"])(network)["a"]
    hidden = LabelledSlice(0, one.image, np.where(one.weight > 0, one.target, 1 - one.target), one.weight)
    assert HeldOutJudge([hidden], ["a"])(network)["a"] == score
    flooded = LabelledSlice(0, np.where(one.weight > 0, one.image, 9).astype(np.float32), one.target, one.weight)
    assert HeldOutJudge([flooded], ["a"])(network)["a"] == score


def test_a_network_is_judged_as_it_predicts_not_as_it_learns() -> None:
    class Dropping(_Placed):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(nn.functional.dropout(image, 0.9, self.training))

    one, network = _noisy((90, 70)), Dropping()
    assert HeldOutJudge([one], ["a"])(network.train()) == HeldOutJudge([one], ["a"])(_Placed())
    assert not network.training


class _Two(nn.Module):
    """Says that all bright pixels are of both classes, but for the second as loudly as it is told."""

    multiple = 1

    def __init__(self, second: float) -> None:
        super().__init__()
        self.offset, self.seen = nn.Parameter(torch.tensor([0.0, second])), 0

    def forward(self, image: Tensor) -> Tensor:
        self.seen += image[0, 0].numel()
        return image - 0.5 + self.offset[None, :, None, None]


def _elsewhere() -> tuple[LabelledSlice, LabelledSlice]:
    """A held-out part that shows the first class alone, and a slice that shows both, the second in a corner."""
    part, learnt = np.zeros((2, 40, 40), np.float32), np.zeros((2, 300, 300), np.float32)
    part[0, 10:30, 10:30] = 1
    learnt[0, 150:200, 150:200] = learnt[1, :10, :20] = 1
    return tuple(  # type: ignore[return-value]
        LabelledSlice(z, one.max(0, keepdims=True), one, np.ones_like(one)) for z, one in enumerate((part, learnt))
    )


def test_whether_a_class_that_is_not_held_out_is_predicted_is_seen_where_it_is_learnt() -> None:
    part, learnt = _elsewhere()
    found = HeldOutJudge([part], ["a", "b"], [learnt])(_Two(0.0))
    assert found["a"].dice == 1 and found["a"].area_ratio == 1
    assert math.isnan(found["b"].dice)  # what is learnt by heart says nothing of how good it is
    assert found["b"].area_ratio == pytest.approx(1)
    network = _Two(-9.0)
    assert HeldOutJudge([part], ["a", "b"], [learnt] * 5)(network)["b"].area_ratio == 0
    assert network.seen <= 40 * 40 + (10 + _LOOKED_UP) * (20 + _LOOKED_UP)  # one place, and not all of the slice
    assert math.isnan(HeldOutJudge([part], ["a", "b"])(network)["b"].area_ratio)
    ignored = LabelledSlice(1, learnt.image, learnt.target, 0 * learnt.weight)
    assert math.isnan(HeldOutJudge([part], ["a", "b"], [ignored])(network)["b"].area_ratio)


def test_classes_that_are_not_held_out_are_each_looked_up_where_there_is_most_of_them() -> None:
    image, target = np.zeros((1, 40, 900), np.float32), np.zeros((2, 40, 900), np.float32)
    target[0, 10:20, 10:20] = target[1, 10:20, 800:820] = 1
    image[0] = target.max(0)
    learnt = LabelledSlice(1, image, target, np.ones_like(target))
    nothing = LabelledSlice(2, 0 * image, 0 * target, learnt.weight)
    part = LabelledSlice(0, 0 * image[..., :40], 0 * target[..., :40], learnt.weight[..., :40])
    for slices in ([learnt], [nothing, learnt], [learnt, nothing]):
        found = HeldOutJudge([part], ["a", "b"], slices)(_Two(0.0))
        assert [found[name].area_ratio for name in "ab"] == pytest.approx([1, 1])


def test_the_collapse_of_a_class_that_is_not_held_out_raises_an_alarm(tmp_path: Path) -> None:
    part, learnt = _elsewhere()
    told: list[str] = []
    watch = Watch(lambda *_, **__: None, told.append, lambda _: None)
    network = _Two(-9.0)
    judge = HeldOutJudge([part], ["a", "b"], [learnt])
    schedule = Schedule(4, 1e-6, check_every=2)
    fit(network, lambda one, n: one(torch.ones(1, 1, 2, 2)).mean(), judge, schedule, tmp_path / "c", watch)
    assert len(told) == 1 and "class 'b' collapsed" in told[0]

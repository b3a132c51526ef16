"""Cross pseudo supervision: without it each network learns alone; with it they learn from each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from disc_slices import disc_slice, small_network
from torch import Tensor, nn

from cristae.learn.augment import Augmentation
from cristae.learn.checkpoint import Model, load_model, save_model
from cristae.learn.cross import Crossing, CrossPseudoStep
from cristae.learn.cutmix import box_masks
from cristae.learn.fit import Schedule, Watch, fit
from cristae.learn.patches import LabelledSlice, PatchSampler, Sampling
from cristae.learn.supervised import HeldOutJudge, SupervisedStep
from cristae.nets.losses import segmentation_loss
from cristae.nets.pair import Pair, parts_of

CPU = torch.device("cpu")
SAMPLING = Sampling(32, 2, 0.0, 1, Augmentation())


def _pair() -> Pair:
    return Pair([small_network(0), small_network(1)])


def _step(weight: float, mix: bool = False, updates: int = 60) -> CrossPseudoStep:
    free = LabelledSlice(9, disc_slice(9).image, np.zeros((1, 64, 64), np.float32), np.ones((1, 64, 64), np.float32))
    samplers = PatchSampler([disc_slice(0)], SAMPLING, 0), PatchSampler([free], SAMPLING, 5)
    return CrossPseudoStep(*samplers, ["disc"], Crossing(weight, 1.0, updates, mix), CPU)


class _Stop:
    def __init__(self, at: int) -> None:
        self.at = at

    def __call__(self, done: int, total: int, **facts: float) -> None:
        if done == self.at:
            raise KeyboardInterrupt


def _watch(at: int = -1) -> Watch:
    return Watch(_Stop(at), lambda _: None, lambda _: None)


def _judge() -> HeldOutJudge:
    return HeldOutJudge([disc_slice(0)], ["disc"])


def _same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("mix", [False, True])
def test_with_weight_0_each_network_learns_as_if_alone_bit_for_bit(tmp_path: Path, mix: bool) -> None:
    schedule = Schedule(12, 5e-3, check_every=6, averaging=0.9, clip=0.5, weight_decay=1e-3)
    pair = _pair()
    fit(pair, _step(0.0, mix), _judge(), schedule, tmp_path / "pair", _watch())
    for seed in (0, 1):
        alone = small_network(seed)
        step = SupervisedStep(PatchSampler([disc_slice(0)], SAMPLING, 0), ["disc"], 1.0, CPU)
        fit(alone, step, _judge(), schedule, tmp_path / f"{seed}", _watch())
        assert _same(alone, pair.networks[seed])


@pytest.mark.parametrize("mix", [False, True])
def test_a_pair_learns_and_resumed_equals_uninterrupted(tmp_path: Path, mix: bool) -> None:
    schedule = Schedule(60, 5e-3, check_every=20, averaging=0.9)
    whole, _ = fit(_pair(), _step(1.0, mix), _judge(), schedule, tmp_path / "whole", _watch())
    assert _judge()(whole)["disc"].dice > 0.93
    with pytest.raises(KeyboardInterrupt):
        fit(_pair(), _step(1.0, mix), _judge(), schedule, tmp_path / "cut", _watch(at=23))
    resumed, _ = fit(_pair(), _step(1.0, mix), _judge(), schedule, tmp_path / "cut", _watch())
    assert _same(whole, resumed)
    assert not _same(*parts_of(whole))


@pytest.mark.parametrize("mix", [False, True])
def test_what_the_other_says_is_taught_and_no_gradient_goes_back_to_it(mix: bool) -> None:
    class Loud(nn.Module):
        """Says one thing everywhere."""

        def __init__(self, logit: float) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.tensor(logit))

        def forward(self, image: Tensor) -> Tensor:
            return self.bias + 0 * image

    # The labels say background everywhere, with no weight: nothing but the other network teaches.
    blank = LabelledSlice(0, disc_slice(0).image, np.zeros((1, 64, 64), np.float32), np.zeros((1, 64, 64), np.float32))
    samplers = PatchSampler([blank], SAMPLING, 0), PatchSampler([disc_slice(9)], SAMPLING, 5)
    step = CrossPseudoStep(*samplers, ["disc"], Crossing(1.0, 1.0, 10, mix), CPU)
    pair = Pair([Loud(0.3), Loud(-0.2)])
    step(pair, 9).backward()  # type: ignore[no-untyped-call]
    first, second = (float(network.bias.grad) for network in pair.networks)  # type: ignore[arg-type, union-attr]
    assert first > 0 > second  # the first is taught background by the second, the second foreground by the first


def test_of_mixed_images_each_is_taught_what_the_other_says_of_the_unmixed_ones() -> None:
    class Pixelwise(nn.Module):
        """Says of each pixel what its grey value tells, so that saying and mixing may change places."""

        def __init__(self, gain: float, offset: float) -> None:
            super().__init__()
            self.gain, self.offset = nn.Parameter(torch.tensor(gain)), offset
            self.seen: list[Tensor] = []

        def forward(self, image: Tensor) -> Tensor:
            self.seen.append(image)
            return self.gain * image + self.offset

    pair, step = Pair([Pixelwise(2.0, -0.3), Pixelwise(-1.5, 0.4)]), _step(1.0, mix=True, updates=10)
    found = step(pair, 9)
    image, target, weight = (torch.from_numpy(array) for array in step.labelled.batch(9))
    mixtures = pair.networks[0].seen[0][len(image) :]  # type: ignore[index, union-attr]
    expected = torch.zeros(())
    for one, other in (pair.networks, reversed(list(pair.networks))):
        lesson = (other(mixtures) > 0).float()
        expected = expected + segmentation_loss(one(image), target, weight, 1.0)
        expected = expected + segmentation_loss(one(mixtures), lesson, torch.ones_like(lesson), 1.0)
    assert len(mixtures) and found.item() == pytest.approx(expected.item(), rel=1e-5)


def _rare_step(share: float, rank: int = 0, size: int = 1) -> CrossPseudoStep:
    """CutMix of a class that covers a thousandth of the labelled slice."""
    image, target = np.random.default_rng(0).standard_normal((1, 400, 400), np.float32), np.zeros((1, 400, 400))
    target[0, 120:132, 250:263] = 1
    labelled = LabelledSlice(0, image, target.astype(np.float32), np.ones((1, 400, 400), np.float32))
    patches = Sampling(96, 8, share, 50, Augmentation(), rank, size)
    samplers = PatchSampler([labelled], patches, 0), PatchSampler([labelled], replace(patches, rare_share=0.0), 5)
    return CrossPseudoStep(*samplers, ["dot"], Crossing(1.0, 1.0, 100, True), CPU)


@pytest.mark.parametrize(("rank", "size"), [(0, 1), (1, 2)])
def test_most_mixtures_that_should_show_a_rare_class_do(rank: int, size: int) -> None:
    step, expected, kept = _rare_step(0.5, rank, size), 0, 0
    for n in range(40):
        _, target, weight = step.labelled.batch(n)
        mixing = step._mixing(n, target, weight)
        again = step._mixing(n, target, weight)
        assert all(torch.equal(a, b) for a, b in zip(mixing, again, strict=True))
        half = len(target) // 2
        assert sorted([*mixing.one.tolist(), *mixing.other.tolist()]) == list(range(2 * half))
        assert len(mixing.masks) == 2 * half
        one, other = target[mixing.one], target[mixing.other]
        masks = mixing.masks[:half].numpy()
        there = (one * (1 - masks) + other * masks).sum((1, 2, 3)) >= 50
        enough = [part.sum((1, 2, 3)) >= 50 for part in (one, other)]
        expected += int((enough[0] | enough[1]).sum())
        kept += int(there.sum())
    assert kept > 0.9 * expected > 0


def test_rare_patches_are_on_both_sides_of_the_boxes() -> None:
    step = _rare_step(0.5)
    sides = np.zeros(2)
    for n in range(20):
        _, target, weight = step.labelled.batch(n)
        mixing = step._mixing(n, target, weight)
        sides += [(target[side].sum((1, 2, 3)) >= 50).sum() for side in (mixing.one, mixing.other)]
    assert sides.min() > 0.35 * sides.sum()


def test_what_has_no_weight_need_not_be_kept() -> None:
    step = _rare_step(0.5)
    _, target, weight = step.labelled.batch(0)
    held_out, nothing, there = (
        step._mixing(0, *one) for one in ((target, 0 * weight), (0 * target, weight), (target, weight))
    )
    assert torch.equal(held_out.masks, nothing.masks)
    assert not torch.equal(held_out.masks, there.masks)


def test_what_is_not_rare_has_no_say_in_the_boxes() -> None:
    alone, beside = _rare_step(0.5), _rare_step(0.5)
    beside.labelled.rare = [1]
    for n in range(5):
        _, target, weight = alone.labelled.batch(n)
        common = np.zeros_like(target)
        common[: len(common) // 2, :, :8, :8] = 1  # on one side of each mixture
        both = np.concatenate((common, target), axis=1), np.concatenate((weight, weight), axis=1)
        assert torch.equal(alone._mixing(n, target, weight).masks, beside._mixing(n, *both).masks)


def test_where_nothing_rare_is_asked_for_halves_are_mixed_by_any_boxes() -> None:
    step = _rare_step(0.0)
    _, target, weight = step.labelled.batch(3)
    mixing = step._mixing(3, target, weight)
    assert mixing.one.tolist() == [0, 1, 2, 3] and mixing.other.tolist() == [4, 5, 6, 7]
    assert np.array_equal(mixing.masks.numpy(), box_masks(8, (96, 96), np.random.default_rng([0, 3, 29])))


def test_the_weight_rises_as_in_the_paper() -> None:
    # Epochs of 300, as in Pagano's schedule: nothing until 5, all from 20 on.
    crossing = Crossing(1.0, 0.0, 300)
    found = [crossing.share(epoch) for epoch in (0, 4, 6, 10, 15, 20, 299)]
    assert found == pytest.approx([1e-5, 1e-5, 1 / 15, 1 / 3, 2 / 3, 1, 1])
    assert Crossing(2.5, 0.0, 300).share(299) == 2.5
    assert Crossing(0.0, 0.0, 300).share(299) == 0


def test_each_may_learn_alone_first_and_the_weight_rises_over_the_rest() -> None:
    late, paper = Crossing(1.0, 0.0, 500, alone=0.4), Crossing(1.0, 0.0, 300)
    assert [late.share(step) for step in (0, 100, 199)] == [0, 0, 0]
    assert [late.share(200 + step) for step in range(300)] == pytest.approx([paper.share(step) for step in range(300)])


def test_while_it_learns_alone_a_network_sees_nothing_of_the_other(tmp_path: Path) -> None:
    step, alone = _step(1.0, mix=True, updates=40), small_network(1)
    step.crossing = Crossing(1.0, 1.0, 40, True, alone=0.5)
    pair = _pair()
    fit(pair, step, _judge(), Schedule(20, 5e-3), tmp_path / "pair", _watch())
    labels = SupervisedStep(PatchSampler([disc_slice(0)], SAMPLING, 0), ["disc"], 1.0, CPU)
    fit(alone, labels, _judge(), Schedule(20, 5e-3), tmp_path / "alone", _watch())
    assert _same(alone, pair.networks[1])
    pair = _pair()
    fit(pair, step, _judge(), Schedule(40, 5e-3), tmp_path / "longer", _watch())
    fit(alone, labels, _judge(), Schedule(40, 5e-3), tmp_path / "alone", _watch())
    assert not _same(alone, pair.networks[1])


def test_a_pair_answers_with_the_mean_probability() -> None:
    pair = _pair().eval()
    image = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        each = torch.stack([torch.sigmoid(network(image)) for network in pair.networks])
        assert torch.allclose(torch.sigmoid(pair(image)), each.mean(0), atol=1e-5)
        assert torch.equal(pair.probabilities(image), each)
    assert pair.multiple == 16


def test_a_pair_is_saved_and_loaded(tmp_path: Path) -> None:
    pair = _pair().eval()
    model = Model("resunet", "small", 4, 32, ("disc",), 1, 0, (8.0, 8.0, 8.0), 2)
    save_model(tmp_path, model, pair)
    found, loaded = load_model(tmp_path)
    assert found == model
    assert isinstance(loaded, Pair)
    assert _same(pair, loaded)


def test_a_collapsed_class_is_recovered_in_both(tmp_path: Path) -> None:
    pair = _pair()
    with torch.no_grad():
        for network in pair.networks:
            network.head.bias.fill_(-60.0)  # type: ignore[union-attr, operator]
            network.head.weight.zero_()  # type: ignore[union-attr, operator]
    alarms: list[str] = []
    watch = Watch(_Stop(-1), alarms.append, lambda _: None)
    step = _step(0.0, updates=120)
    step.crossing = Crossing(0.0, 0.0, 120)
    best, _ = fit(pair, step, _judge(), Schedule(120, 5e-3, check_every=10), tmp_path / "c", watch)
    assert "collapsed" in alarms[0]
    assert all(_judge()(one)["disc"].dice > 0.9 for one in parts_of(best))


def test_one_network_alone_is_refused() -> None:
    with pytest.raises(TypeError, match="Pair"):
        _step(1.0)(small_network(0), 0)

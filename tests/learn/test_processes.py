"""Two real processes on a CPU: what they compute together, and that they stay the same."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from disc_slices import disc_slice, small_network
from torch import Tensor, nn
from torch import distributed as dist

from cristae.learn.augment import Augmentation
from cristae.learn.cross import Crossing, CrossPseudoStep
from cristae.learn.fit import Schedule, Score, Watch, fit
from cristae.learn.patches import PatchSampler, Sampling
from cristae.learn.processes import ALONE, Processes
from cristae.learn.supervised import HeldOutJudge, SupervisedStep
from cristae.nets.pair import Pair
from cristae.stages.options import Options
from cristae.stages.several import by_several
from cristae.stages.train_settings import TrainSettings

CPU = torch.device("cpu")
BATCH = 5
SAMPLING = Sampling(32, BATCH, 0.5, 1, Augmentation())


def _plain() -> nn.Module:
    """A network in which patches have nothing to do with one another."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))


def _share(processes: Processes) -> Sampling:
    return replace(SAMPLING, rank=processes.rank, size=processes.size)


def _watch(processes: Processes, alarms: list[str] | None = None, rescue: Any = lambda _: None) -> Watch:
    return Watch(lambda *_, **__: None, alarms.append if alarms is not None else lambda _: None, rescue, processes)


def gradients(processes: Processes) -> dict[str, Any]:
    """What comes of a loss that is the mean over patches, and of weights that not all processes used."""
    network = _plain()
    image, target, _ = map(torch.from_numpy, PatchSampler([disc_slice()], _share(processes), 0).batch(3))
    loss = (network(image) - target).square().mean()
    loss.backward()
    mean = processes.mean(network, loss)
    used = nn.ParameterList([torch.ones(2), torch.ones(2), torch.ones(2)])
    (used[0].sum() * 6 + (used[1].sum() if processes.rank == 1 else 0)).backward()
    processes.mean(used, torch.ones(()))
    return {
        "loss": float(mean.detach()),
        "gradients": [one.grad for one in network.parameters()],
        "used": [None if one.grad is None else one.grad.tolist() for one in used],
    }


def supervised(processes: Processes) -> tuple[nn.Module, Mapping[str, Score]]:
    network, judge = small_network(0), HeldOutJudge([disc_slice()], ["disc"])
    step = SupervisedStep(PatchSampler([disc_slice()], _share(processes), 0), ["disc"], 1.0, CPU)
    schedule = Schedule(40, 5e-3, check_every=20, averaging=0.9, clip=1.0)
    with tempfile.TemporaryDirectory() as folder:
        best, _ = fit(network, step, judge, schedule, Path(folder) / "c", _watch(processes))
    step.close()
    return network, judge(best)


def crossed(processes: Processes) -> tuple[nn.Module, Mapping[str, Score]]:
    pair, judge = Pair([small_network(0), small_network(1)]), HeldOutJudge([disc_slice()], ["disc"])
    labelled, free = (PatchSampler([disc_slice(z)], _share(processes), z) for z in (0, 5))
    step = CrossPseudoStep(labelled, free, ["disc"], Crossing(1.0, 1.0, 30, True, processes.rank, 0.3), CPU)
    schedule = Schedule(30, 5e-3, check_every=15, averaging=0.9)
    with tempfile.TemporaryDirectory() as folder:
        best, _ = fit(pair, step, judge, schedule, Path(folder) / "c", _watch(processes))
    step.close()
    return pair, judge(best)


def collapsed(processes: Processes) -> tuple[nn.Module, list[str], int]:
    """A class that the first process alone is told to be silent; also how often each was asked to judge."""
    judged, rescued = [], list[str]()

    def judge(network: nn.Module) -> Mapping[str, Score]:
        judged.append(network)
        return {"disc": Score(0.1, 0.0)}

    network = small_network(0)
    step = SupervisedStep(PatchSampler([disc_slice()], _share(processes), 0), ["disc"], 1.0, CPU)
    with tempfile.TemporaryDirectory() as folder:
        fit(
            network,
            step,
            judge,
            Schedule(12, 1e-3, check_every=1),
            Path(folder) / "c",
            _watch(processes, [], rescued.append),
        )
    step.close()
    return network, rescued, len(judged)


def dropping(processes: Processes) -> Tensor:
    """What a network that drops features by chance makes of the same image."""
    seen = []

    def step(network: nn.Module, n: int) -> Tensor:
        seen.append(network(torch.ones(1, 64)))
        return seen[-1].sum() + 0 * sum(one.sum() for one in network.parameters())

    network = nn.Sequential(nn.Linear(64, 64), nn.Dropout(0.5))
    with tempfile.TemporaryDirectory() as folder:
        fit(network, step, lambda _: {}, Schedule(1, 1e-3, check_every=2), Path(folder) / "c", _watch(processes))
    return seen[0].detach() == 0


def everything(options: Options, processes: Processes) -> dict[str, Any]:
    network, scores = supervised(processes)
    pair, of_pair = crossed(processes)
    found = {
        "gradients": gradients(processes),
        "supervised": (list(network.state_dict().values()), scores),
        "crossed": (list(pair.state_dict().values()), of_pair),
        "collapsed": collapsed(processes),
        "dropped": dropping(processes),
        "asked": [processes.any(processes.rank == which) for which in (0, 1, 2)],
        "told": processes.told("first" if processes.rank == 0 else "second"),
    }
    found["collapsed"] = (list(found["collapsed"][0].state_dict().values()), *found["collapsed"][1:])
    every: list[Any] = [None] * processes.size
    dist.all_gather_object(every, found)
    return {key: [one[key] for one in every] for key in found}


@pytest.fixture(scope="module")
def two() -> dict[str, Any]:
    """What each of two processes found."""
    return by_several(everything, 2, TrainSettings(batch=BATCH, device="cpu", devices=2), Options())


def _equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_loss_that_is_a_mean_over_patches_has_the_gradient_of_one_process_however_uneven_the_shares(two) -> None:
    alone = gradients(ALONE)
    for found in two["gradients"]:
        assert found["loss"] == pytest.approx(alone["loss"], rel=1e-6)
        for together, expected in zip(found["gradients"], alone["gradients"], strict=True):
            torch.testing.assert_close(together, expected, rtol=1e-5, atol=1e-7)
    assert _equal(*(found["gradients"] for found in two["gradients"]))


def test_a_weight_that_one_process_used_has_its_share_and_one_that_none_used_has_no_gradient(two) -> None:
    assert two["gradients"][0]["used"] == [[6.0, 6.0], pytest.approx([2 / 5, 2 / 5]), None]
    assert two["gradients"][1]["used"] == two["gradients"][0]["used"]


@pytest.mark.parametrize("scheme", ["supervised", "crossed"])
def test_all_end_with_the_same_weights_and_statistics_bit_for_bit_and_have_learnt(two, scheme) -> None:
    (weights, scores), (others, _) = two[scheme]
    assert _equal(weights, others)
    _, alone = {"supervised": supervised, "crossed": crossed}[scheme](ALONE)
    assert alone["disc"].dice > 0.9
    assert scores["disc"].dice == pytest.approx(alone["disc"].dice, abs=0.05)


def test_the_first_judges_for_all_and_each_recovers_and_is_shown_more(two) -> None:
    (weights, rescued, n_judged), (others, also, n_others) = two["collapsed"]
    assert (n_judged, n_others) == (12, 0)
    assert rescued == also and rescued[0] == "disc"
    assert _equal(weights, others)


def test_each_drops_other_features_and_the_first_those_that_one_process_drops(two) -> None:
    first, second = two["dropped"]
    assert torch.equal(first, dropping(ALONE))
    assert not torch.equal(first, second)


def test_one_who_is_asked_is_enough_and_the_first_has_the_word(two) -> None:
    assert two["asked"] == [[True, True, False]] * 2
    assert two["told"] == ["first", "first"]

"""What holds for every network in the registry."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cristae.errors import UsageError
from cristae.learn.augment import Augmentation
from cristae.learn.engines import folded
from cristae.learn.fit import Schedule, Watch, fit
from cristae.learn.patches import LabelledSlice, PatchSampler, Sampling
from cristae.learn.supervised import HeldOutJudge, SupervisedStep
from cristae.nets import registry
from cristae.nets.conformance import check_network
from cristae.nets.contract import Build, OwnOutputs
from cristae.nets.losses import loss_of
from cristae.nets.registry import NETWORKS, build_network, network_names
from cristae.nets.resunet import build_resunet

NAMES = sorted(NETWORKS)
# Of the others, fractalresnet_pagano has one size, and the rest would take gigabytes or minutes.
FULL = ("resunet", "unet_pagano", "unetplusplus_pagano", "unetplusplus", "unetplusplus_plain")
FULL_SLOWLY = ("ceecnet_v1_pagano", "ceecnet_v2_pagano")


@pytest.mark.parametrize("name", NAMES)
def test_every_network_keeps_to_the_contract(name: str) -> None:
    check_network(NETWORKS[name])


@pytest.mark.parametrize("name", [*FULL, *(pytest.param(name, marks=pytest.mark.slow) for name in FULL_SLOWLY)])
def test_the_published_size_keeps_to_the_contract(name: str) -> None:
    check_network(NETWORKS[name], "full")


@pytest.mark.parametrize("name", NAMES)
def test_the_published_size_learns_from_its_tile(name: str) -> None:
    # On the meta device: shapes are followed, there and back, and nothing is computed.
    with torch.device("meta"):
        network = build_network(name, Build(1, 1, "full", tile_px=512)).train()
        image, target = torch.empty(2, 1, 512, 512), torch.empty(2, 1, 512, 512)
        outputs = network.outputs(image) if isinstance(network, OwnOutputs) else {"logits": network(image)}
        assert outputs["logits"].shape == target.shape
        loss = loss_of(network, outputs, target, torch.empty_like(target), 1.0)
        loss.backward()  # type: ignore[no-untyped-call]
    assert loss.shape == ()
    assert [key for key, value in network.named_parameters() if value.grad is None] == []


@pytest.mark.parametrize("name", NAMES)
def test_normalisation_worked_into_the_weights_changes_nothing(name: str) -> None:
    network = build_network(name, Build(1, 2, tile_px=64))
    side = max(64, int(network.multiple))  # type: ignore[arg-type]
    image = torch.randn(2, 1, side, side)
    network.train()
    with torch.no_grad():
        network(image)  # statistics of the batch that are not 0 and 1
        network.eval()
        plain = network(image)
        fast = folded(network).to(memory_format=torch.channels_last)(  # type: ignore[call-overload]
            image.contiguous(memory_format=torch.channels_last)
        )
    assert (plain - fast).abs().max() < 1e-3 * (1 + plain.abs().max())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name.startswith("ceecnet") else name for name in NAMES]
)
def test_every_small_network_learns_a_slice_by_heart(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network(name, Build(1, 1, tile_px=64))
    side = max(64, int(network.multiple))  # type: ignore[arg-type]
    y, x = np.mgrid[:side, :side]
    target = (((y - 30) ** 2 + (x - 26) ** 2) < 200).astype(np.float32)[None]
    image = target + 0.5 * np.random.default_rng(0).standard_normal(target.shape, np.float32)
    one = LabelledSlice(0, image.astype(np.float32), target, np.ones_like(target))
    step = SupervisedStep(PatchSampler([one], Sampling(side, 2, 0, 1, Augmentation()), 0), ["disc"], 1.0, CPU)
    judge = HeldOutJudge([one], ["disc"])
    watch = Watch(lambda *_, **__: None, lambda _: None, lambda _: None)
    best, state = fit(network, step, judge, Schedule(40, 3e-3, clip=1.0, check_every=20), tmp_path / "c", watch)
    step.close()
    assert state.history[-1]["loss"] < state.history[0]["loss"]
    assert judge(best)["disc"].dice > 0.9


CPU = torch.device("cpu")


def test_an_unknown_network_is_refused_with_the_known_names() -> None:
    with pytest.raises(UsageError, match="resunet"):
        build_network("resnet", Build(1, 1))
    assert set(NAMES) <= set(network_names())


class _Third(nn.Conv2d):
    multiple = 1


def test_networks_of_others_are_found_by_their_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("mine", f"{__name__}:build_mine", "cristae.networks")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == entry.group else [])
    assert "mine" in network_names()
    assert isinstance(build_network("mine", Build(3, 2)), _Third)


def build_mine(build: Build) -> nn.Module:
    return _Third(build.n_channels, build.n_classes, 1)


class _Broken(nn.Module):
    """A ResUNet with one fault."""

    multiple = 16

    def __init__(self, fault: str, build: Build) -> None:
        super().__init__()
        self.fault, self.inner = fault, build_resunet(build)
        if fault == "is not used":
            self.unused = nn.Parameter(torch.zeros(3))
        if fault == "share their memory":
            self.twice = self.inner.head

    def forward(self, image: Tensor) -> Tensor:
        if self.fault == "changed its input":
            image.add_(1)
        logits: Tensor = self.inner(image)
        if self.fault == "depend on the other images":
            logits = logits + image.mean()
        if self.fault == "expected logits":
            logits = logits[..., ::2, ::2]
        if self.fault == "of one grey value are not finite":
            logits = logits / image.std((1, 2, 3), keepdim=True)
        return logits


class _OwnBroken(_Broken):
    def outputs(self, image: Tensor) -> Mapping[str, Tensor]:
        return {"logits": self(image)}

    def loss(self, outputs: Mapping[str, Tensor], target: Tensor, weight: Tensor) -> Tensor:
        return (outputs["logits"] - target).square().mean()


@pytest.mark.parametrize(
    "fault",
    [
        "is not used",
        "share their memory",
        "changed its input",
        "depend on the other images",
        "expected logits",
        "of one grey value are not finite",
    ],
)
def test_the_contract_finds_faults(fault: str) -> None:
    with pytest.raises(AssertionError, match=fault):
        check_network(lambda build: _Broken(fault, build))


def test_the_contract_finds_a_loss_that_looks_at_ignored_pixels() -> None:
    with pytest.raises(AssertionError, match="ignored pixels change the loss"):
        check_network(lambda build: _OwnBroken("", build))

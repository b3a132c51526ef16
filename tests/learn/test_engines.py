from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from cristae.blockwise import Execution, map_blocks
from cristae.errors import ResourceError
from cristae.geometry import Block, Grid
from cristae.learn import eight_bit, engines
from cristae.learn.eight_bit import scale_of
from cristae.learn.engines import OpenVinoEngine, TorchEngine, describe_engine, resolve_engine
from cristae.learn.infer import Inference, SlabPredictor
from cristae.learn.patches import View
from cristae.nets.contract import Build
from cristae.nets.pair import Pair
from cristae.nets.registry import NETWORKS
from cristae.nets.resunet import ResUNet
from cristae.volume import Volume

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest) -> None:
    if "without" not in request.node.name:
        pytest.importorskip("openvino")


def _network(name: str = "resunet", n_channels: int = 1, seed: int = 0, base_width: int = 4) -> nn.Module:
    """Return a network with random weights and, unlike a new one, statistics and biases other than 0 and 1."""
    torch.manual_seed(seed)
    network = NETWORKS[name](Build(n_channels, 2, base_width=base_width, tile_px=128))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.7, 1.4)
            nn.init.uniform_(module.weight, 0.7, 1.4)
            nn.init.normal_(module.bias, 0, 0.2)
    return network.eval()


# The port of CEECNet V2 is made of the parts of V2 and of the port of V1, and OpenVINO takes a minute for it.
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"ceecnet_v2_pagano"}))
def test_openvino_and_torch_agree_on_every_network(name: str) -> None:
    network = _network(name, base_width=0)
    image = torch.randn(1, 1, 128, 96)
    found, expected = OpenVinoEngine(network, 1)(image), TorchEngine(network, CPU)(image)
    assert found.shape == expected.shape == (1, 2, 128, 96)
    assert expected.std() > 1e-4
    assert float((found - expected).abs().max()) <= 1 / 255


def test_a_pair_gives_mean_and_disagreement() -> None:
    pair = Pair([_network("resunet", 3, seed) for seed in (0, 1)]).eval()
    image = torch.randn(2, 3, 48, 64)
    found, expected = OpenVinoEngine(pair, 3, True)(image), TorchEngine(pair, CPU, True)(image)
    assert found.shape == (2, 4, 48, 64)
    assert expected[:, 2:].max() > 0.05
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(OpenVinoEngine(pair, 3)(image), expected[:, :2], rtol=0, atol=1e-4)


@pytest.mark.parametrize("bits", [32, 8])
def test_blocks_and_threads_give_the_bits_of_the_whole(bits: int) -> None:
    torch.manual_seed(0)
    network = ResUNet(1, 2, 2).eval()
    image = np.random.default_rng(0).integers(0, 255, (4, 150, 170), np.uint8)
    grid = Grid((4, 150, 170), (8.0, 8.0, 8.0))
    engine = OpenVinoEngine(network, 1)
    if bits == 8:
        engine = engine.eight_bit(engine.calibrate([torch.randn(1, 1, 64, 64)]))
    view = View(1, 0, np.full(4, 100.0), np.full(4, 40.0))
    predictor = SlabPredictor(engine, view, grid.shape, Inference(64, 8, 4, 16), CPU)
    whole = predictor(Block(grid.box, grid.box), image)
    assert np.ptp(whole[0]) > 2
    for executor in ("serial", "threads:3"):
        parts = [Volume(np.zeros(grid.shape, np.uint8), grid, "probability") for _ in range(2)]
        blocks, halo = (1, 60, 90), predictor.halo
        map_blocks(
            predictor, [Volume(image, grid)], parts, block_shape=blocks, halo=halo, execution=Execution(executor)
        )
        for part, one in zip(parts, whole, strict=True):
            assert (part.read() == one).all()


def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network, image, found = _network(), torch.randn(1, 1, 128, 128), []
    for threads in (1, 2):
        monkeypatch.setattr("torch.get_num_threads", lambda n=threads: n)
        found.append(OpenVinoEngine(network, 1)(image))
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)


def test_answers_stay_when_another_image_is_asked_for() -> None:
    engine, images = OpenVinoEngine(_network(), 1), torch.randn(2, 1, 1, 64, 64)
    first = engine(images[0])
    kept = first.clone()
    engine(images[1])
    assert torch.equal(first, kept)


def test_eight_bits_are_near_and_not_the_same() -> None:
    network, images = _network("unetplusplus_plain"), torch.randn(3, 1, 1, 64, 64)
    exact = OpenVinoEngine(network, 1)
    ranges = exact.calibrate(list(images))
    assert len(ranges) > 20 and all((np.array(low) <= high).all() for low, high in ranges)
    difference = (exact.eight_bit(ranges)(images[0]) - exact(images[0])).abs()
    assert 1e-5 < float(difference.mean()) < 0.05


def test_ranges_are_means_of_what_tiles_hold() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1))
    images = [torch.full((1, 1, 64, 64), -2.0), torch.full((1, 1, 64, 64), 4.0)]
    images[1][0, 0, 0, 0] = 0  # the means of -2 and 0, and of -2 and 4, are -1 and 1
    assert OpenVinoEngine(network, 1).calibrate(images) == [[[-1.0], [1.0]]]


class _Uneven(nn.Module):
    """A map of hundreds joined to one of tenths, by convolutions that give both the same say."""

    def __init__(self) -> None:
        super().__init__()
        self.spread, self.mix = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 3, padding=1)
        with torch.no_grad():
            self.spread.weight *= torch.tensor([1000.0, 1.0])[:, None, None, None]
            self.mix.weight *= torch.tensor([0.001, 1.0])[None, :, None, None]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.mix(torch.relu(self.spread(image)))
        return logits


def test_small_maps_survive_beside_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    engine, image = OpenVinoEngine(_Uneven().eval(), 1), torch.randn(1, 1, 64, 64)
    expected, ranges = engine(image), engine.calibrate([image])
    ours = float((engine.eight_bit(ranges)(image) - expected).abs().mean() / expected.std())
    monkeypatch.setattr(eight_bit, "scale_of", lambda seen: np.full(len(seen[0]), np.abs(seen).max(), np.float32))
    one_step_for_all = float((engine.eight_bit(ranges)(image) - expected).abs().mean() / expected.std())
    assert ours < 0.1 and one_step_for_all > 3 * ours, (ours, one_step_for_all)


def test_without_openvino_scales_are_those_of_each_map_and_never_0() -> None:
    found = scale_of([[-3.0, 0.0, 0.0], [1.0, 0.5, 0.0]])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [3, 0.5, 0.03])
    np.testing.assert_array_equal(scale_of([[0.0, 0.0], [0.0, 0.0]]), [1, 1])


class _OtherWhenWide(nn.Module):
    """What it does depends on the size: following it once is not enough."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits = self.conv(image)
        return logits if image.shape[-1] <= 64 else 4 - logits


def test_a_network_that_looks_at_the_size_is_followed_at_each() -> None:
    torch.manual_seed(0)
    network = _OtherWhenWide().eval()
    engine = OpenVinoEngine(network, 1)
    for width in (48, 80, 64, 96):
        image = torch.randn(1, 1, 64, width)
        torch.testing.assert_close(engine(image), TorchEngine(network, CPU)(image), rtol=0, atol=1e-5)


class _ByChance(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + torch.rand_like(image)


class _Complex(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvals(image[..., :4, :4]).real.sum() + image


@pytest.mark.parametrize(("network", "words"), [(_ByChance(), "differ from PyTorch"), (_Complex(), "cannot run")])
def test_what_openvino_makes_something_else_of_is_refused(network: nn.Module, words: str) -> None:
    with pytest.raises(ResourceError, match=words) as error:
        OpenVinoEngine(network.eval(), 1)
    assert "predict.engine=torch" in str(error.value)
    assert "\n" not in str(error.value)


def test_global_random_numbers_are_left_alone() -> None:
    network = _network()
    before = torch.get_rng_state()
    OpenVinoEngine(network, 1)
    assert torch.equal(before, torch.get_rng_state())


def test_auto_is_openvino_on_the_cpu() -> None:
    assert resolve_engine("auto", CPU) == "openvino"
    assert resolve_engine("auto", torch.device("cuda")) == "torch"
    assert resolve_engine("torch", CPU) == "torch"
    assert describe_engine("openvino").startswith("openvino 20")
    with pytest.raises(ResourceError, match=r"predict\.device=cpu"):
        resolve_engine("openvino-int8", torch.device("cuda"))


def test_without_openvino_auto_is_torch_and_a_wish_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "openvino_version", lambda: "")
    assert resolve_engine("auto", CPU) == "torch"
    assert describe_engine("torch") == f"torch {torch.__version__}"
    for wish in ("openvino", "openvino-int8"):
        with pytest.raises(ResourceError, match=r"pip install 'cristae\[openvino\]'"):
            resolve_engine(wish, CPU)  # type: ignore[arg-type]


def test_without_being_asked_for_openvino_is_not_imported() -> None:
    code = "import sys, cristae.stages.predict; assert not any(name.startswith('openvino') for name in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cristae.blockwise import Execution, map_blocks
from cristae.geometry import Block, Box, Grid, blocks
from cristae.learn.engines import folded
from cristae.learn.infer import Inference, SlabPredictor, Tiling
from cristae.learn.patches import View
from cristae.nets.resunet import ResUNet
from cristae.volume import Volume

CPU = torch.device("cpu")


@given(extent=st.integers(1, 3000), largest=st.integers(16, 1024), overlap=st.integers(0, 200))
@settings(max_examples=150, deadline=None)
def test_tiles_cover_the_axis_and_their_weights_never_vanish(extent: int, largest: int, overlap: int) -> None:
    tiling = Tiling.of(extent, largest, overlap, 16)
    weight = np.zeros(extent + 16)
    for start in tiling.starts:
        assert start >= 0
        part = weight[start : start + tiling.length]
        part += tiling.weight()[: len(part)]
    assert tiling.length % 16 == 0
    assert all(start % 16 == 0 for start in tiling.starts)  # one phase for all, or strides see other grids
    assert tiling.starts[0] == 0 and tiling.starts[-1] + tiling.length >= extent
    assert (weight[:extent] > 0).all()


def test_half_sample_cosine_ramps_sum_to_one() -> None:
    tiling = Tiling((0, 96), 128, 32)
    total = np.zeros(224)
    for start in tiling.starts:
        total[start : start + 128] += tiling.weight()
    np.testing.assert_allclose(total[32:-32], 1, atol=1e-6)


def _view(depth: int, factor: int = 1, neighbours: int = 0) -> View:
    return View(factor, neighbours, np.full(depth, 100.0), np.full(depth, 40.0))


class _Shift(nn.Module):
    """A network that sees nothing but the pixel: prediction must be exact whatever the tiling."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image[:, image.shape[1] // 2][:, None]


def _predict(network: nn.Module, image: np.ndarray, view: View, inference: Inference) -> np.ndarray:
    predictor = SlabPredictor(network.eval(), view, image.shape, inference, CPU)  # type: ignore[arg-type]
    box = Box.of_shape(image.shape)  # type: ignore[arg-type]
    return predictor(Block(box, box), image)[0]


@pytest.mark.parametrize("tile", [32, 48, 512])
@pytest.mark.parametrize("views", [1, 4, 8])
def test_tiles_and_views_leave_pixelwise_networks_alone(tile: int, views: int) -> None:
    image = np.random.default_rng(0).integers(0, 255, (2, 70, 93), np.uint8)
    found = _predict(_Shift(), image, _view(2), Inference(tile, 8, views, 16))
    expected = 255 / (1 + np.exp(-(image.astype(float) - 100) / 40))
    assert np.abs(found - expected).max() <= 0.51


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("neighbours", [0, 1])
def test_blocks_give_the_bits_of_the_whole(factor: int, neighbours: int) -> None:
    torch.manual_seed(0)
    network = ResUNet(2 * neighbours + 1, 2, 2).eval()
    image = np.random.default_rng(0).integers(0, 255, (5, 150, 170), np.uint8)
    grid = Grid((5, 150, 170), (8.0, 8.0, 8.0))
    predictor = SlabPredictor(network, _view(5, factor, neighbours), grid.shape, Inference(32, 8, 1, 16), CPU)
    whole = predictor(Block(grid.box, grid.box), image)
    parts = [Volume(np.zeros(grid.shape, np.uint8), grid, "probability") for _ in range(2)]
    map_blocks(predictor, [Volume(image, grid)], parts, block_shape=(2, 60, 90), halo=predictor.halo)
    for part, one in zip(parts, whole, strict=True):
        assert (part.read() == one).all()


def test_executors_agree() -> None:
    torch.manual_seed(0)
    network = ResUNet(1, 1, 2).eval()
    image = Volume(np.random.default_rng(0).integers(0, 255, (4, 64, 64), np.uint8), Grid((4, 64, 64), (8.0, 8.0, 8.0)))
    predictor = SlabPredictor(network, _view(4), image.shape, Inference(32, 8, 1, 16), CPU)
    found = []
    for executor in ("serial", "threads:3"):
        output = Volume(np.zeros(image.shape, np.uint8), image.grid, "probability")
        map_blocks(predictor, [image], [output], block_shape=(1, 64, 64), execution=Execution(executor))
        found.append(output.read())
    assert (found[0] == found[1]).all()


def test_the_halo_reaches_every_tile_that_matters() -> None:
    predictor = SlabPredictor(_Shift(), _view(3, 3), (3, 400, 300), Inference(64, 16, 1, 16), CPU)
    domain = Box.of_shape((3, 400, 300))
    image = np.random.default_rng(0).integers(0, 255, (3, 400, 300), np.uint8)
    for block in blocks(domain, (3, 100, 100), predictor.halo):
        assert predictor(block, image[block.read.slices])[0].shape == block.write.shape


def test_folding_changes_the_time_and_nothing_else() -> None:
    torch.manual_seed(0)
    network = ResUNet(1, 2, 4).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fast = folded(network)
    image = torch.randn(1, 1, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(fast(image), network(image), rtol=1e-4, atol=1e-5)
    count = [sum(isinstance(module, nn.BatchNorm2d) for module in one.modules()) for one in (network, fast)]
    assert count == [18, 9]
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_tiles_are_no_larger_than_a_network_can_take() -> None:
    network = ResUNet(1, 1, 2)
    assert Inference.of(network, 512, 64, 4) == Inference(512, 64, 4, 16)
    network.largest = 96  # type: ignore[assignment]
    assert Inference.of(network, 512, 64, 4).tile_px == 96
    assert Inference.of(network, 64, 16, 1).tile_px == 64

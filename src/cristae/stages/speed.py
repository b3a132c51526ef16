"""A few seconds of work that say how quick a machine is: the networks on one tile, a kernel, a copy of some voxels."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cristae.costs.pace import Rates
from cristae.costs.work import SHARD
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, open_volume
from cristae.learn.engines import TorchEngine, openvino_version
from cristae.nets.contract import Build, OwnOutputs
from cristae.nets.registry import build_network
from cristae.separation.watershed import flood
from cristae.stages.train_settings import TrainSettings

KERNEL_S = 0.0132
"""Core seconds that the kernel takes on the machine of the committed benchmarks."""
OPENVINO = 1.13
"""How much quicker OpenVINO is than PyTorch (benchmark ``openvino``)."""
_LARGE = 2e7
"""Weights from which on a network is tried on a smaller tile."""


def measure_rates(train: TrainSettings, groups: Sequence[int], folder: Path, *, quick_engine: bool) -> Rates:
    """Return how quick this machine is.

    Parameters
    ----------
    train
        Which network, and on what it is trained.
    groups
        Maps of each network.
    folder
        Where voxels are copied: on the disk of the project.
    quick_engine
        Whether predictions may be made by OpenVINO where it is installed.
    """
    read_s, write_s = _store(folder)
    forward, training = [], []
    for n_maps in groups:
        applied, learnt = _network(train, n_maps)
        by_openvino = quick_engine and not torch.cuda.is_available() and bool(openvino_version())
        forward.append(applied / OPENVINO if by_openvino else applied)
        training.append(learnt)
    return Rates(KERNEL_S / _kernel(), read_s, write_s, tuple(forward), tuple(training))


def _least(work: Callable[[], object], n: int = 3) -> float:
    """Return the least core seconds of some calls after one to warm up: what others do meanwhile does not count."""
    work()
    found = []
    for _ in range(n):
        begun = time.process_time()
        work()
        found.append(time.process_time() - begun)
    return max(min(found), 1e-6)


def _kernel() -> float:
    """Return the core seconds of a flooding of noise, as separation and measuring do them."""
    rng = np.random.default_rng(0)
    levels = rng.integers(0, 255, (4, 256, 256), np.uint8)
    seeds = np.where(rng.random(levels.shape) < 1e-3, rng.integers(1, 99, levels.shape), 0).astype(np.int32)
    inside = np.ones(levels.shape, np.bool_)
    return _least(lambda: flood(levels, seeds, inside), 5)


def _store(folder: Path) -> tuple[float, float]:
    """Return core seconds to read and to write a million bytes of noise like that of a micrograph."""
    shape = SHARD
    values = np.random.default_rng(0).normal(128, 20, shape).clip(0, 255).astype(np.uint8)
    folder = folder if folder.is_dir() else Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix=".plan-", dir=folder) as place:
        volume = create_volume(Path(place) / "copy.ome.zarr", Grid(shape, (1.0, 1.0, 1.0)), np.uint8, "image")

        def write() -> None:
            volume.write(volume.grid.box, values)

        written = _least(write, 2)
        stored = open_volume(Path(place) / "copy.ome.zarr")
        return _least(lambda: stored.read(stored.grid.box), 2) / values.size * 1e6, written / values.size * 1e6


def _network(train: TrainSettings, n_maps: int) -> tuple[float, float]:
    """Return seconds for a million pixels applied, and trained, on all cores or on the card."""
    device = torch.device("cuda" if torch.cuda.is_available() and train.device != "cpu" else "cpu")
    wanted = Build(2 * train.neighbours + 1, n_maps, train.size, train.base_width, train.tile_px)
    with torch.random.fork_rng():
        network = build_network(train.network, wanted).to(device)
    large = sum(value.numel() for value in network.parameters()) > _LARGE
    multiple, most = int(getattr(network, "multiple", 1)), 96 if large and device.type == "cpu" else 256
    side = max(multiple, min(most, train.tile_px, int(getattr(network, "largest", most))) // multiple * multiple)
    image = torch.randn((1, wanted.n_channels, side, side), device=device)
    engine = TorchEngine(network.eval(), device)
    applied = _seconds(lambda: engine(image), device)
    learning = network.train()
    learnt = _seconds(lambda: _update(learning, image), device)
    return applied / side**2 * 1e6, learnt / side**2 * 1e6


def _update(network: nn.Module, image: Tensor) -> None:
    """Find the gradients of one patch, whatever the loss."""
    found = network.outputs(image) if isinstance(network, OwnOutputs) else {"logits": network(image)}
    total = torch.zeros((), device=image.device)
    for value in found.values():
        if isinstance(value, Tensor) and value.requires_grad:
            total = total + value.float().mean()
    total.backward()  # type: ignore[no-untyped-call]
    network.zero_grad()


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return seconds on all cores if nothing else ran, or on the card."""
    if device.type == "cpu":
        return _least(work, 2) / torch.get_num_threads()
    work()
    torch.cuda.synchronize()
    begun = time.perf_counter()
    for _ in range(5):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - begun) / 5

"""Trained networks, ready to predict, in as many processes as there are.

A network is pickled as where it lies: every process of a cluster reads it from the folder of its run, once.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cristae.allocation import keep_freed_memory
from cristae.errors import ResourceError
from cristae.geometry import Block
from cristae.learn.checkpoint import load_model
from cristae.learn.engines import Engine, EngineName
from cristae.learn.infer import Inference, SlabPredictor
from cristae.learn.turned import turn
from cristae.nets.pair import Pair
from cristae.project import Project, Run
from cristae.stages.engine import Group, make_engine
from cristae.stages.schemes import view_for
from cristae.volume import Volume


@dataclass(frozen=True)
class Tiles:
    """How slices are cut and seen; see `cristae.learn.infer.Inference`."""

    tile_px: int
    overlap_px: int
    views: int


@dataclass(frozen=True)
class Order:
    """Which network predicts, and how.

    Parameters
    ----------
    project, trained
        Where the image is, and the run that trained the network.
    name
        Of its group of classes.
    tiles
        How slices are cut and seen.
    threshold
        Probability from which on a voxel is the class.
    engine, optional
        What runs it, and whether PyTorch may stand in.
    device
        Where: ``cpu`` or ``cuda``.
    stored
        Where a trial of 8 bits is kept.
    """

    project: Project
    trained: Run
    name: str
    tiles: Tiles
    threshold: float
    engine: EngineName
    optional: bool
    device: str
    stored: Path


@dataclass(frozen=True)
class Prepared:
    """A network with its engine; `facts` are what the manifest says of the engine."""

    group: Group
    engine: Engine
    facts: dict[str, Any]


def _no_words(message: str) -> None:
    """Say nothing."""


def prepare(order: Order, notify: Callable[[str], None] = _no_words) -> Prepared:
    """Read a network and make its engine.

    Raises
    ------
    DataError
        If its files are missing or damaged.
    ResourceError
        If OpenVINO cannot run the network and need not be replaced.
    """
    keep_freed_memory()
    device = torch.device(order.device)
    folder = order.project.inside(Path("runs") / order.trained.path.name / order.name)
    model, network = load_model(folder, device)
    inference = replace(
        Inference.of(network, order.tiles.tile_px, order.tiles.overlap_px, order.tiles.views),
        batch=1 if device.type == "cpu" else 4,
        disagreement=isinstance(network, Pair),
    )
    view = view_for(order.project, model)
    group = Group(order.project, order.trained, model, network, view, inference, device)
    return Prepared(group, *make_engine(order.engine, order.optional, group, order.threshold, order.stored, notify))


class AxisPredictor:
    """The block function of a network along one axis.

    Parameters
    ----------
    order
        Which network.
    axis
        That slices follow: ``z``, ``y`` or ``x``.
    prepared
        That network, if it has been read.
    engine
        What must run it, as the manifest says; empty if that does not matter.
    """

    def __init__(self, order: Order, axis: str, prepared: Prepared | None = None, engine: str = "") -> None:
        self._order, self._axis = order, axis
        prepared = prepared or prepare(order)
        self._engine = str(prepared.facts["engine"])
        if engine not in ("", self._engine):
            raise ResourceError(
                f"the worker on {socket.gethostname()} would predict by {self._engine}, others by {engine}; install "
                "the same everywhere, or choose what all have with --set predict.engine=torch"
            )
        group = prepared.group
        self.image: Volume
        """The image as it looks along the axis."""
        self.image, view = turn(group.project.image, group.view, axis)
        self.slabs = SlabPredictor(prepared.engine, view, self.image.shape, group.inference, group.device)

    def __call__(self, block: Block, image: np.ndarray) -> list[np.ndarray]:
        """Return what `cristae.learn.infer.SlabPredictor` does."""
        return self.slabs(block, image)

    def __reduce__(self) -> tuple[Any, ...]:
        return AxisPredictor, (self._order, self._axis, None, self._engine)

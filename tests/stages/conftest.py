"""A project so small that whole stages run in a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from stage_projects import begin

from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, write_facts
from cristae.project import Project
from cristae.stages.survey import survey
from cristae.volume import Volume

SHAPE = (6, 64, 64)
SIZE = (40.0, 8.0, 8.0)
LABELLED = (0, 3, 5)
TINY = {
    "updates": 20,
    "base_width": 2,
    "batch": 2,
    "tile_px": 32,
    "context_nm": 256.0,
    "check_every": 10,
    "learning_rate": 3e-3,
    "device": "cpu",
}


def tissue(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return grey values, and the masks of a bright disc and of a small dark dot that drift along z."""
    depth, height, width = shape
    z, y, x = np.ogrid[:depth, :height, :width]
    disc = (y - height * 0.5) ** 2 + (x - 24 - z) ** 2 < 14**2
    dot = (y - 12) ** 2 + (x - 52 + z) ** 2 < 4**2
    noise = np.random.default_rng(seed).normal(100, 6, shape)
    return np.clip(noise + 80 * disc - 60 * dot, 1, 255).astype(np.uint8), {"disc": disc, "dot": dot}


def make_project(
    path: Path,
    shape: tuple[int, int, int] = SHAPE,
    labelled: Sequence[int] = LABELLED,
    *,
    missing: Sequence[int] = (),
    truth: bool = True,
) -> Project:
    """Make a project with image, annotations of two classes on the `labelled` slices, and truth on all."""
    grey, masks = tissue(shape)
    grey[list(missing)] = 0
    project = Project.create(path, SIZE, tuple(masks))
    image = create_volume(project.image_path, Grid(shape, SIZE), np.uint8, "image")
    image.write(image.grid.box, grey)
    facts = survey(Volume(grey, image.grid), lambda done, total, **facts: None)
    write_facts(project.image_path, {**facts, "missing": list(missing), "source_name": "small"})
    for name, mask in masks.items():
        project.annotations.write_slices(name, [(z, mask[z].astype(np.uint8)) for z in labelled])
        if truth:
            project.truth.write_slices(name, [(z, mask[z].astype(np.uint8)) for z in range(shape[0])])
    return project


@pytest.fixture
def small_project(tmp_path) -> Project:
    return make_project(tmp_path / "small")


@pytest.fixture
def make_small(tmp_path) -> Callable[..., Project]:
    """Make further projects, by name: ``make_small("other", missing=(2,))``."""
    return lambda name, **rules: make_project(tmp_path / name, **rules)


@pytest.fixture(scope="session")
def build() -> Callable[..., Project]:
    """Make a project at any path: ``build(path, shape=..., labelled=...)``."""
    return make_project


@pytest.fixture(scope="session")
def begun(tmp_path_factory) -> Project:
    """A project on which every stage from `predict` on has something to do; copy it."""
    return begin(tmp_path_factory.mktemp("begun") / "p", dict(TINY))


@pytest.fixture(scope="session")
def tiny() -> dict[str, object]:
    """Settings of a training of about half a second."""
    return dict(TINY)

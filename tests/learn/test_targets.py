"""What a network is to answer, made from labels."""

import numpy as np
import pytest

from cristae.annotations import IGNORE, IGNORE_ID, Annotations
from cristae.errors import UsageError
from cristae.geometry import Grid
from cristae.learn.targets import targets_of

GRID = Grid((3, 20, 30), (10.0, 5.0, 5.0))


@pytest.fixture
def annotations(tmp_path) -> Annotations:
    made = Annotations(tmp_path / "annotations.ome.zarr", GRID)
    cells = np.zeros(GRID.shape[1:], np.uint32)
    cells[:, :10], cells[:, 10:20] = 70_000, 3
    made.write_slice("cell", 0, cells)
    made.write_slice("cell", 2, cells, complete=False)
    made.write_slice("nucleus", 0, (cells == 3).astype(np.uint8))
    return made


def test_a_mask_is_one_map_and_instances_are_two(annotations) -> None:
    targets = targets_of(annotations, ("nucleus", "cell"), 20.0)
    assert [target.name for target in targets] == ["nucleus", "cell_interior", "cell_boundary"]
    assert [target.layer for target in targets] == ["nucleus", "cell", "cell"]
    assert targets[2].width == 4.0


def test_interior_and_boundary_of_a_complete_slice(annotations) -> None:
    _, interior, boundary = (one.read(annotations, 0) for one in targets_of(annotations, ("nucleus", "cell"), 20.0))
    assert (interior == (np.arange(30) < 20)).all()
    assert set(np.flatnonzero(boundary[5])) == {8, 9, 10, 11, 18, 19, 20, 21}
    assert boundary.max() == 1


def test_cells_that_nobody_painted_are_not_background(annotations) -> None:
    interior, boundary = (one.read(annotations, 2) for one in targets_of(annotations, ("cell",), 20.0))
    assert (interior[:, 20:] == IGNORE).all() and (interior[:, :20] == 1).all()
    assert (boundary[:, 20:] == IGNORE).all()
    assert (boundary[:, 18:20] == 1).all()  # the painted cell is whole: its rim is boundary


def test_instances_are_kept_apart_from_masks(annotations) -> None:
    assert annotations.has_instances("cell") and not annotations.has_instances("nucleus")
    assert annotations.read_ids("cell", 0)[0, 0] == 70_000
    assert (annotations.read_ids("cell", 1) == IGNORE_ID).all()
    assert (annotations.read_slice("cell", 1) == IGNORE).all()
    assert annotations.read_slice("cell", 0)[0, 0] == 1
    assert annotations.n_voxels("cell") == 2 * 20 * 20
    with pytest.raises(UsageError, match="--instances"):
        annotations.read_ids("nucleus", 0)
    with pytest.raises(UsageError, match="are masks, not ids"):
        annotations.write_slice("nucleus", 1, np.zeros(GRID.shape[1:], np.uint32))

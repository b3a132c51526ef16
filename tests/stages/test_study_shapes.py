"""The picture of truth and best method in 3D, from masks that are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cristae.geometry import Grid
from cristae.stages.study_shapes import FILE, keep_shapes, read_shapes
from cristae.stages.study_shapes_figure import draw_shapes

GRID = Grid((24, 400, 320), (40.0, 8.0, 8.0))


def ball(radius: float, centre: tuple[float, float, float] = (12, 200, 160)) -> np.ndarray:
    z, y, x = np.ogrid[: GRID.shape[0], : GRID.shape[1], : GRID.shape[2]]
    return (40.0 * (z - centre[0])) ** 2 + (8.0 * (y - centre[1])) ** 2 + (8.0 * (x - centre[2])) ** 2 < radius**2


def pairs(found: np.ndarray, truth: np.ndarray, slices, name: str = "nucleus") -> list:
    return [(name, z, found[z], truth[z].astype(np.uint8)) for z in slices]


def volume(values: np.ndarray, step_nm: tuple[float, float, float]) -> float:
    return float(values.astype(float).sum() / 255 * np.prod(step_nm))


def test_what_is_kept_is_small_and_has_the_volume_that_was_found(tmp_path) -> None:
    found, truth = ball(300), ball(400)
    every = pairs(found, truth, range(24))
    keep_shapes(tmp_path / FILE, [*every, *pairs(found, truth, range(24), "cell_boundary")], GRID)
    (shape,) = read_shapes(tmp_path / FILE)
    assert shape.name == "nucleus" and shape.values.shape == (2, 24, 133, 106)
    assert shape.step_nm[0] == 40 and shape.step_nm[1] == pytest.approx(8 * 400 / 133)
    for side, radius in enumerate((300, 400)):
        assert volume(shape.values[side], shape.step_nm) == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)
    assert (tmp_path / FILE).stat().st_size < 200_000
    # Slices that were shown are filled in from those beside them, both alike.
    keep_shapes(tmp_path / FILE, pairs(found, truth, [z for z in range(24) if z not in (0, 12, 23)]), GRID)
    (filled,) = read_shapes(tmp_path / FILE)
    same = np.abs(filled.values.astype(int) - shape.values).mean()
    assert same < 1
    np.testing.assert_array_equal(filled.values[:, 11], shape.values[:, 11])


def test_ignored_pixels_are_neither_found_nor_true(tmp_path) -> None:
    everything = np.ones(GRID.shape, bool)
    unknown = np.full(GRID.shape, 255, np.uint8)
    keep_shapes(tmp_path / FILE, [("a", z, everything[z], unknown[z]) for z in range(24)], GRID)
    assert not read_shapes(tmp_path / FILE)[0].values.any()


def table() -> pd.DataFrame:
    rows = [
        {"trial": trial, "network": network, "scheme": "cps", "context_nm": 3072.0, "class": "nucleus", "n_slices": n}
        | {"repeat": 0, "dice_3d": dice, "dice_2d": dice, "worst_dice": dice}
        | {"n_parameters": 1, "updates": 1, "training_seconds": 1.0}
        for trial, (network, n, dice) in enumerate(
            [("bad", 7, 0.1), ("good", 15, 0.9), ("good", 7, 0.8), ("bad", 15, 0)]
        )
    ]
    return pd.DataFrame(rows)


def test_the_picture_is_of_the_best_method_from_the_fewest_slices(build, tmp_path) -> None:
    project = build(tmp_path / "p")
    folders = {trial: tmp_path / str(trial) for trial in range(4)}
    folders[2].mkdir()
    keep_shapes(folders[2] / FILE, pairs(ball(400, (12, 200, 80)), ball(400), range(24)), GRID)
    paths = tmp_path / "shapes.png", tmp_path / "shapes.svg"
    assert draw_shapes(project, table(), folders, *paths) == ""
    assert "good, cps, 7 labelled slices" in paths[1].read_text()
    drawn = np.asarray(Image.open(paths[0]).convert("RGB")).astype(int)
    seen = np.ptp(drawn[100:-100], axis=2) > 40  # the surface; all else is grey
    left, right = (np.flatnonzero(half.any(0)) for half in np.split(seen[:, : seen.shape[1] // 2 * 2], 2, axis=1))
    assert len(left) > 50 and len(right) > 50
    assert abs(left.mean() - right.mean()) > 20, "what was found lies elsewhere"
    # One that is not there any more is no picture of this study.
    (folders[2] / FILE).unlink()
    assert "no truth of most slices" in draw_shapes(project, table(), folders, *paths)
    assert not any(path.exists() for path in paths)


def test_few_scored_slices_are_no_picture_of_the_volume(tmp_path) -> None:
    keep_shapes(tmp_path / FILE, pairs(ball(300), ball(300), (3, 9, 12, 20)), GRID)
    assert read_shapes(tmp_path / FILE) == [] and read_shapes(tmp_path / "none.npz") == []

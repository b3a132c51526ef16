"""A volume seen along another axis is the same volume."""

from dataclasses import replace

import numpy as np
import pytest

from cristae.geometry import Box, Grid
from cristae.learn.histogram import Curve
from cristae.learn.patches import View
from cristae.learn.scale import normalise
from cristae.learn.turned import ORDERS, turn, turn_back
from cristae.volume import Volume

SHAPE = (5, 6, 7)
GRID = Grid(SHAPE, (4.0, 5.0, 6.0))


def _image(missing: tuple[int, ...] = ()) -> tuple[Volume, View]:
    grey = np.random.default_rng(0).integers(1, 255, SHAPE).astype(np.uint8)
    grey[list(missing)] = 0
    mean, deviation = grey.mean((1, 2)), grey.std((1, 2)) + 1
    return Volume(grey, GRID), View(2, 1, mean, deviation, missing)


@pytest.mark.parametrize("axis", ORDERS)
def test_turning_back_gives_what_was_turned(axis: str) -> None:
    image, view = _image()
    turned, _ = turn(image, view, axis)
    assert turned.shape == tuple(SHAPE[i] for i in ORDERS[axis])
    back = turn_back(turned, axis)
    assert back.grid == GRID
    expected = image.read() if axis == "z" else normalise(image.read(), view.mean, view.deviation)
    np.testing.assert_array_equal(back.read(), expected)
    box = Box((1, 2, 3), (4, 5, 7))
    np.testing.assert_array_equal(back.read(box), expected[box.slices])


@pytest.mark.parametrize(("axis", "index"), [("y", (2, 3, 4)), ("x", (2, 3, 4))])
def test_slices_follow_the_axis(axis: str, index: tuple[int, int, int]) -> None:
    image, view = _image()
    turned, seen = turn(image, view, axis)
    whole = normalise(image.read(), view.mean, view.deviation)
    z, y, x = index
    place = {"y": (y, z, x), "x": (x, z, y)}[axis]
    assert turned.read()[place] == whole[index]
    assert turned.grid.voxel_size == {"y": (5.0, 4.0, 6.0), "x": (6.0, 4.0, 5.0)}[axis]
    assert (seen.reduction, seen.neighbours, len(seen.mean)) == (2, 1, turned.shape[0])


def test_missing_slices_are_filled_with_the_nearest_one() -> None:
    image, view = _image(missing=(2,))
    turned, _ = turn(image, view, "y")
    filled = turned.read()
    np.testing.assert_array_equal(filled[:, 2], filled[:, 1])


@pytest.mark.parametrize("axis", ["y", "x"])
def test_a_curve_acts_alike_along_all_axes(axis: str) -> None:
    image, view = _image()
    curved = replace(view, reduction=1, curve=Curve((-1.0, 0.0, 1.0), (-4.0, 0.0, 0.5)))
    turned, seen = turn(image, curved, axis)
    whole = curved.prepare(image.read(), 0)
    np.testing.assert_array_equal(seen.prepare(turned.read(), 0), whole.transpose(ORDERS[axis]))

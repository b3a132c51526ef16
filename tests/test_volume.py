from __future__ import annotations

import numpy as np
import pytest

from cristae.errors import DataError
from cristae.geometry import Box, Grid
from cristae.volume import Volume


def volume(dtype=np.uint8) -> Volume:
    return Volume(np.arange(24).reshape(2, 3, 4).astype(dtype), Grid((2, 3, 4), (45.0, 4.6, 4.6)))


def test_read_gives_the_box_and_without_one_everything():
    one = volume()
    assert (one.read() == one.array).all()
    assert (one.read(Box((1, 1, 1), (2, 3, 4))) == one.array[1:2, 1:3, 1:4]).all()


def test_write_then_read_round_trips():
    one, box = volume(), Box((0, 1, 1), (2, 2, 3))
    one.write(box, np.full(box.shape, 7, np.uint8))
    assert (one.read(box) == 7).all()
    assert one.read().sum() == sum(range(24)) - (5 + 6 + 17 + 18) + 4 * 7  # and nothing else changed


@pytest.mark.parametrize("box", [Box((0, 0, 0), (3, 1, 1)), Box((-1, 0, 0), (1, 1, 1))])
def test_a_box_that_leaves_the_volume_is_refused(box):
    with pytest.raises(DataError, match="leaves the volume"):
        volume().read(box)


def test_shape_and_type_of_what_is_written_must_fit():
    box = Box((0, 0, 0), (1, 1, 2))
    with pytest.raises(DataError, match="expected"):
        volume().write(box, np.zeros((1, 2, 1), np.uint8))
    with pytest.raises(DataError, match="float64"):
        volume().write(box, np.zeros(box.shape))


def test_array_and_grid_must_agree():
    with pytest.raises(DataError, match="its grid"):
        Volume(np.zeros((1, 2, 3)), Grid((1, 2, 4), (1.0, 1.0, 1.0)))


class Failing:
    """Storage whose compiled codec fails with a message, as zarrs does."""

    shape, dtype = (1, 2, 2), np.dtype(np.uint8)

    def __init__(self, message: str) -> None:
        self.message = message

    def __getitem__(self, index):
        raise RuntimeError(self.message)

    def __setitem__(self, index, values):
        raise RuntimeError(self.message)


def test_errors_of_the_codecs_are_told_apart():
    grid = Grid((1, 2, 2), (1.0, 1.0, 1.0))
    with pytest.raises(DataError, match=r"damaged \(the checksum is invalid\)"):
        Volume(Failing("the checksum is invalid"), grid).read()
    with pytest.raises(OSError, match="No space left") as caught:
        Volume(Failing("No space left on device (os error 28)"), grid).write(grid.box, np.zeros((1, 2, 2), np.uint8))
    assert caught.value.errno == 28


def test_an_empty_box_reads_as_nothing():
    assert volume().read(Box((1, 1, 1), (1, 3, 4))).shape == (0, 2, 3)

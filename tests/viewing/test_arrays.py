from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

from cristae.corrections.store import Corrections
from cristae.errors import UsageError
from cristae.geometry import Grid
from cristae.viewing.arrays import LazyArray, cut
from cristae.viewing.live import LiveLabels
from cristae.volume import Volume

SHAPE = (4, 6, 7)
VALUES = np.arange(np.prod(SHAPE), dtype=np.uint32).reshape(SHAPE)
GRID = Grid(SHAPE, (30.0, 6.0, 6.0))
INDICES = basic_indices(SHAPE).filter(
    lambda index: (
        not any(isinstance(one, slice) and (one.step or 1) < 0 for one in np.atleast_1d(np.array(index, object)))
    )
)


@given(INDICES)
def test_any_index_gives_what_numpy_gives(index):
    found = LazyArray(Volume(VALUES, GRID, "labels"))[index]
    assert np.array_equal(found, VALUES[index]) and np.shape(found) == np.shape(VALUES[index])


@given(st.lists(st.tuples(*(st.integers(-n, n - 1) for n in SHAPE)), max_size=5))
def test_lists_of_voxels_are_read(places):
    index = tuple(np.array(places, int).reshape(-1, 3).T)
    assert np.array_equal(LazyArray(Volume(VALUES, GRID, "labels"))[index], VALUES[index])


def test_the_box_that_is_read_is_no_larger_than_what_is_asked_for():
    box, _ = cut(np.s_[2, 1:3], SHAPE)
    assert (box.start, box.stop) == ((2, 1, 0), (3, 3, 7))
    box, _ = cut((np.array([0, 2]), 5, np.array([3, 3])), SHAPE)
    assert (box.start, box.stop) == ((0, 5, 3), (3, 6, 4))


@pytest.mark.parametrize("index", [9, np.s_[0, 0, 0, 0], 1.5, "a", (slice(None, None, -1),)])
def test_what_is_no_place_is_refused(index):
    with pytest.raises(IndexError):
        LazyArray(Volume(VALUES, GRID, "labels"))[index]


@pytest.fixture
def live(tmp_path):
    with Corrections(tmp_path / "cell", Volume(VALUES, GRID, "labels")) as opened:
        yield LiveLabels(opened)


def test_a_stroke_shows_at_once_and_becomes_one_edit(live):
    live[1, 2:4, 1:5] = 900
    live[1, 3, 3] = 901
    live[(np.array([1, 1]), np.array([5, 5]), np.array([0, 6]))] = np.array([7, 8])
    expected = VALUES.copy()
    expected[1, 2:4, 1:5], expected[1, 3, 3], expected[1, 5, 0], expected[1, 5, 6] = 900, 901, 7, 8
    assert np.array_equal(np.asarray(live), expected) and live.painting
    assert not live.corrections.entries
    done = live.commit()
    assert (done.kind, done.ids, done.n_voxels) == ("paint", (7, 8, 900, 901), 10)
    assert np.array_equal(np.asarray(live), expected) and not live.painting
    live.corrections.undo()
    assert np.array_equal(np.asarray(live), VALUES)


def test_setting_what_is_there_already_is_no_stroke(live):
    live[1] = VALUES[1]
    assert not live.painting and live.commit() is None
    live[1, 2, 3] = 0
    assert live.commit().kind == "erase"
    live[1, 2, 3] = 5
    live[1, 2, 3] = 0
    assert live.commit() is None  # there and back


def test_a_refused_stroke_is_dropped(live):
    live.corrections.close()
    live[1, 2, 3] = 5
    with pytest.raises(UsageError, match="closed"):
        live.commit()
    assert not live.painting and np.array_equal(np.asarray(live), VALUES)

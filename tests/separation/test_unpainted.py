"""Where nobody looked on a labelled slice the maps say what is there, and nothing that was painted changes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_gaps import dice, static, touching

from cristae.errors import DataError
from cristae.separation.combine import SeparationSettings
from cristae.separation.propagate import propagate_both
from cristae.separation.separate import METHODS, separate
from cristae.separation.unpainted import End, find_unpainted

SMALL = SeparationSettings(smallest_body_px=60, edge_distance_px=2)
MAPPED = pytest.mark.parametrize("method", [name for name in METHODS if name != "flow"])
ENDS = pytest.mark.parametrize("ends", [{}, {"after": None}, {"before": None}], ids=["both", "before", "after"])
SIZE = (40, 60)


def cells(gap, method, how=SMALL):
    return np.stack(list(separate(gap, method, how)))


def partly(stack, unpainted, **changes):
    """The gap of a stack on whose labelled slices only some cells were painted, and nothing else was looked at."""
    ends = [np.where(np.isin(plane, unpainted), 0, plane) for plane in (stack.truth[0], stack.truth[-1])]
    unseen = tuple(plane == 0 for plane in ends)
    known = {"before": ends[0], "after": ends[1], "unseen": unseen, "complete": (False, False), "first_new_id": 80_000}
    return stack.gap(**{**known, **changes})


@MAPPED
@ENDS
@pytest.mark.parametrize("unpainted", [(3,), (70_001,), (3, 7, 70_001)], ids=["apart", "touching", "all"])
def test_an_unpainted_cell_is_one_new_object_and_what_was_painted_stays(method, ends, unpainted):
    if method == "mask" and unpainted != (3,):
        pytest.skip("a mask alone cannot part cells that touch")
    stack = touching()
    found = cells(partly(stack, unpainted, **ends), method)
    painted = ~np.isin(stack.truth, (0, *unpainted))
    for z in [z for z, end in ((0, "before"), (-1, "after")) if end not in ends]:
        assert np.array_equal((found[z] == stack.truth[z])[painted[z]], painted[z][painted[z]])
    named = stack.truth.copy()
    for cell in unpainted:
        ids, n = np.unique(found[stack.truth == cell], return_counts=True)
        assert ids[np.argmax(n)] >= 80_000
        named[stack.truth == cell] = ids[np.argmax(n)]
    assert len(np.unique(named)) == len(np.unique(stack.truth))
    assert np.mean([dice(plane, right) for plane, right in zip(found, named, strict=True)]) > 0.85


@pytest.mark.parametrize("method", METHODS)
def test_a_hole_changes_nothing_but_the_hole(method):
    """Nobody looked at a third of cell 7, in the middle of it, and the other side knows it."""
    stack = static()
    hole = np.zeros(stack.truth[0].shape, bool)
    hole[44:56, 30:66] = True
    after = np.where(hole, 0, stack.truth[-1])
    both = replace(SMALL, neighbours="both")
    found = cells(stack.gap(after=after, unseen=(None, hole)), method, both)
    whole = cells(stack.gap(), method, both)
    assert np.array_equal(found[-1][~hole], stack.truth[-1][~hole])
    assert (found == whole).mean() > 0.995
    assert set(np.unique(found)) == set(np.unique(whole))
    lost = cells(stack.gap(after=after), method, both)  # as background it would be a hole indeed
    assert not lost[-1][hole].any()


def test_flow_from_both_sides_takes_what_one_of_them_knows():
    stack = static()
    unseen = stack.truth[0] == 3
    gap = stack.gap(before=np.where(unseen, 0, stack.truth[0]), unseen=(unseen, None))
    planes = list(propagate_both(gap, SMALL.flow))
    assert all(np.array_equal(plane.labels, truth) for plane, truth in zip(planes, stack.truth, strict=True))
    assert (planes[0].confidence[~unseen] == 1).all() and planes[0].confidence[unseen].max() < 0.5
    both = stack.gap(before=gap.before, after=gap.before, unseen=(unseen, unseen))
    assert all(np.array_equal(plane.labels, gap.before) for plane in propagate_both(both, SMALL.flow))


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 50), st.integers(2, 14)), max_size=4),
    st.booleans(),
    st.data(),
)
@settings(max_examples=40)
def test_what_was_painted_stays_and_objects_are_numbered_without_holes(squares, complete, data):
    inside, labels = np.zeros((2, *SIZE), np.int32)
    for y, x, side in squares:
        inside[y : y + side, x : x + side] = 1
    for number, (y, x, side) in enumerate(squares[:2], start=1):
        labels[y : y + side, x : x + side] = number
    unseen = np.zeros(SIZE, bool)
    unseen[:, data.draw(st.integers(0, SIZE[1])) :] = True
    boundary = np.zeros(SIZE, bool)
    boundary[:, data.draw(st.integers(0, SIZE[1] - 1))] = True
    found = find_unpainted(End(labels, unseen, complete), inside > 0, boundary, SMALL)
    assert np.array_equal(found[labels > 0], labels[labels > 0])
    rest = unseen & (labels == 0) & (inside > 0)
    assert not found[(labels == 0) & ~rest].any()
    new = np.unique(found[found < 0])
    assert np.array_equal(new, np.arange(-new.size, 0))
    if not complete:
        assert (found[rest] <= 0).all()


def test_a_rim_around_a_painted_cell_is_no_cell():
    labels = np.zeros(SIZE, np.int32)
    labels[12:28, 12:28] = 1
    inside = np.zeros(SIZE, bool)
    inside[10:30, 10:30] = True  # the map is two pixels too wide
    inside[5:35, 40:50] = True
    unseen = labels == 0
    found = find_unpainted(End(labels, unseen, complete=False), inside, None, SMALL)
    assert np.array_equal(found > 0, labels > 0)
    assert np.array_equal(found < 0, inside & (np.arange(SIZE[1]) >= 40))
    grown = find_unpainted(End(labels, unseen, complete=True), inside, None, SMALL)
    assert np.array_equal(grown == 1, inside & (np.arange(SIZE[1]) < 40))


def test_what_is_small_and_lies_apart_from_all_that_was_painted_is_kept():
    labels = np.zeros(SIZE, np.int32)
    labels[12:28, 12:28] = 1
    apart, beside = np.zeros((2, *SIZE), bool)
    apart[5:9, 40:44] = True
    beside[28:32, 12:16] = True  # as small, and no farther than a rim may be
    found = find_unpainted(End(labels, labels == 0, complete=False), apart | beside | (labels > 0), None, SMALL)
    assert np.array_equal(found < 0, apart)


def test_where_nobody_looked_must_fit_the_slices():
    stack = static()
    with pytest.raises(DataError, match=r"expected bool of .* where nobody looked, got"):
        stack.gap(unseen=(np.ones((3, 4), bool), None))
    with pytest.raises(DataError, match="where nobody looked, got uint8"):
        stack.gap(unseen=(None, np.ones(stack.truth[0].shape, np.uint8)))

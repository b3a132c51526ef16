from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.separation.grow import Growth, grow

PLAIN = Growth(new_voxels=10**9)


def _tubes(depth: int = 11) -> tuple[np.ndarray, np.ndarray]:
    """Two tubes side by side that bend by four pixels on their way down, and the membrane between them."""
    truth = np.ones((depth, 24, 24), np.int32)
    for z in range(depth):
        truth[z, :, 10 + round(4 * z / (depth - 1)) :] = 2
    boundary = np.zeros(truth.shape, np.uint8)
    edge = truth[:, :, 1:] != truth[:, :, :-1]
    boundary[:, :, 1:][edge] = 255
    boundary[:, :, :-1][edge] = 255
    return truth, boundary


def _labelled(truth: np.ndarray, *slices: int) -> np.ndarray:
    seeds = np.zeros(truth.shape, np.int32)
    for z in slices:
        seeds[z] = truth[z]
    return seeds


def _everywhere(truth: np.ndarray) -> np.ndarray:
    return np.ones(truth.shape, np.bool_)


@pytest.mark.parametrize("slices", [(0, 10), (0,), (10,), (5,)])
def test_cells_follow_their_membrane_through_the_gap(slices: tuple[int, ...]) -> None:
    truth, boundary = _tubes()
    found = grow(_labelled(truth, *slices), boundary, _everywhere(truth), PLAIN, 100)
    assert (found == truth).mean() > 0.99


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 3))
def test_a_stack_that_stands_still_is_carried_through_as_it_is(seed: int, rim: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.integers(0, 32, (6, 2))
    y, x = np.mgrid[:32, :32]
    plane = 1 + np.argmin([(y - a) ** 2 + (x - b) ** 2 for a, b in points], axis=0).astype(np.int32)
    truth = np.tile(plane, (7, 1, 1))
    edge = np.zeros(plane.shape, np.bool_)
    for axis in (0, 1):
        for side in (1, -1):
            edge |= np.roll(plane, side, axis) != plane
    boundary = np.tile(np.where(edge, np.uint8(200), np.uint8(0)), (7, 1, 1))
    found = grow(_labelled(truth, 0, 6), boundary, _everywhere(truth), replace(PLAIN, rim=rim), 100)
    inside = ~np.tile(edge, (7, 1, 1))
    assert (found[inside] == truth[inside]).all()
    assert (found[[0, 6]] == truth[[0, 6]]).all()


def test_a_cell_that_no_labelled_slice_meets_gets_an_id_of_its_own() -> None:
    truth, boundary = _tubes()
    ball = np.sum((np.indices(truth.shape) - np.array([5, 10, 4])[:, None, None, None]) ** 2, axis=0)
    shell, core = (ball <= 16) & (ball > 5), ball <= 5
    boundary[shell] = 255
    seeds = _labelled(truth, 0, 10)
    found = grow(seeds, boundary, _everywhere(truth), Growth(new_voxels=10), 100)
    assert set(np.unique(found[core])) == {100}
    assert set(np.unique(found)) == {1, 2, 100}
    assert (found[ball > 25] == truth[ball > 25]).mean() > 0.99
    assert 100 not in grow(seeds, boundary, _everywhere(truth), PLAIN, 100)


@pytest.mark.parametrize("by", ["paths", "basins"])
def test_a_leak_does_not_hide_a_cell_that_no_labelled_slice_meets(by) -> None:
    truth, boundary = _tubes()
    ball = np.sum((np.indices(truth.shape) - np.array([5, 10, 4])[:, None, None, None]) ** 2, axis=0)
    shell, core = (ball <= 16) & (ball > 5), ball <= 5
    boundary[shell] = 255
    leak = np.zeros(truth.shape, np.bool_)
    leak[5, 10, 5:] = True
    boundary[shell & leak] = 60  # a way out, one voxel wide
    found = grow(_labelled(truth, 0, 10), boundary, _everywhere(truth), Growth(by=by, new_voxels=10), 100)
    assert (found[core] == 100).mean() > 0.9


def test_nothing_grows_where_it_may_not_and_seeds_there_are_dropped() -> None:
    truth, boundary = _tubes()
    allowed = _everywhere(truth)
    allowed[:, :5] = False
    found = grow(_labelled(truth, 0), boundary, allowed, PLAIN, 100)
    assert not found[:, :5].any()
    assert found[:, 5:].all()


def test_a_thin_cell_outlives_the_rim() -> None:
    truth, boundary = _tubes()
    truth[:, 12, 2:4] = 7
    found = grow(_labelled(truth, 0, 10), boundary, _everywhere(truth), replace(PLAIN, rim=3), 100)
    assert (found == 7).any(axis=(1, 2)).sum() >= 2


def test_thick_slices_have_no_rim_along_z() -> None:
    truth = np.ones((5, 12, 12), np.int32)
    truth[3:] = 2
    boundary = np.zeros(truth.shape, np.uint8)
    found = grow(_labelled(truth, 0, 4), boundary, _everywhere(truth), replace(PLAIN, steps=(9.0, 1.0, 1.0)), 100)
    assert (found[:2] == 1).all() and (found[3:] == 2).all()


def test_basins_follow_their_membrane_too() -> None:
    truth, boundary = _tubes()
    found = grow(_labelled(truth, 0, 10), boundary, _everywhere(truth), Growth(by="basins"), 100)
    assert (found == truth).mean() > 0.98


@pytest.mark.parametrize("by", ["paths", "basins"])
def test_empty_gap(by) -> None:
    nothing = np.zeros((4, 8, 8), np.int32)
    barred = np.zeros(nothing.shape, np.bool_)
    assert not grow(nothing, nothing.astype(np.uint8), barred, Growth(by=by), 1).any()

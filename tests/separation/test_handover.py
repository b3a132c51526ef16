"""Cells with two names are noticed, others are left alone."""

import numpy as np
import pytest

from cristae.separation.handover import Handovers

SHAPE = (30, 40)


def watched(stack, before=None, after=None):
    handovers = Handovers(stack[0] if before is None else before, stack[-1] if after is None else after)
    for labels in stack:
        handovers.see(labels)
    return handovers.found()


def moving(n=9, step=1, dtype=np.int64):
    """One cell, 70_000, that moves aside."""
    stack = np.zeros((n, *SHAPE), dtype)
    for z in range(n):
        stack[z, 5:25, 4 + step * z : 20 + step * z] = 70_000
    return stack


@pytest.mark.parametrize("dtype", [np.uint32, np.int64])
def test_a_name_that_changes_half_way_is_noticed_whatever_the_ids(dtype) -> None:
    stack = moving(dtype=dtype)
    stack[4:] = np.where(stack[4:] > 0, 4_000_000_000, 0)
    (found,) = watched(stack)
    assert (found.before, found.after) == (70_000, 4_000_000_000)
    assert found.share == pytest.approx(300 / 320)


def test_a_front_that_is_tilted_is_noticed_too() -> None:
    stack = moving(step=0)
    columns = np.arange(SHAPE[1])
    for z in range(len(stack)):
        stack[z][(stack[z] > 0) & (columns < 4 + 2 * z)] = 7
    assert [(found.before, found.after) for found in watched(stack)] == [(70_000, 7)]


def test_cells_that_end_and_begin_are_no_handover() -> None:
    stack = np.zeros((9, *SHAPE), np.int64)
    stack[:4, 5:15, 5:15] = 1
    stack[5:, 5:15, 5:15] = 2  # at the same place, but with an empty slice between
    stack[:, 20:28, 5:15] = 3
    stack[:6, 5:15, 20:30] = 4
    stack[3:, 15:25, 20:30] = 5  # beside it
    assert watched(stack) == []


def test_cells_that_keep_their_id_and_gaps_at_an_end_hand_nothing_over() -> None:
    stack = moving()
    assert watched(stack) == []
    handovers = Handovers(stack[0], None)
    handovers.see(stack[0])
    assert handovers.found() == []
    nothing = np.zeros_like(stack)
    assert watched(nothing) == []

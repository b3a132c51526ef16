"""Dividing a region between the cells that share it."""

import numpy as np

from cristae.tracking.shared import divide


def bar(start, stop):
    mask = np.zeros((20, 60), bool)
    mask[5:15, start:stop] = True
    return mask


def test_a_region_is_divided_where_the_two_cells_meet_in_its_neighbours():
    part = divide(bar(5, 55), [([bar(5, 28)], [1.0]), ([bar(32, 55)], [1.0])])
    assert (part[bar(5, 29)] == 0).all()
    assert (part[bar(31, 55)] == 1).all()
    assert (part[~bar(5, 55)] == -1).all()


def test_the_border_moves_evenly_from_the_slice_before_to_the_slice_after():
    before, after = (bar(5, 20), bar(20, 55)), (bar(5, 40), bar(40, 55))
    borders = []
    for step in range(1, 4):
        weights = [1 - step / 4, step / 4]
        part = divide(bar(5, 55), [([b, a], weights) for b, a in zip(before, after, strict=True)])
        borders.append(int((part[10] == 0).sum()) + 5)
    assert np.allclose(borders, [25, 30, 35], atol=1)


def test_a_cell_without_a_shape_has_what_the_others_are_outside_of():
    part = divide(bar(5, 55), [([], []), ([bar(30, 55)], [1.0])])
    assert (part[bar(5, 30)] == 0).all()
    assert (part[bar(30, 55)] == 1).all()

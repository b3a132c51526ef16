import numpy as np
import pytest

from cristae.separation.maps import UNKNOWN, boundary_map, interior_map

IGNORE_ID = 2**32 - 1


def _two_cells(width: int = 20) -> np.ndarray:
    ids = np.zeros((12, width), np.uint32)
    ids[:, : width // 2] = 70_000
    ids[:, width // 2 :] = 7
    return ids


def test_interior_is_any_cell_and_keeps_the_unseen() -> None:
    ids = np.array([[0, 5, IGNORE_ID]], np.uint32)
    assert interior_map(ids, IGNORE_ID).tolist() == [[0, 1, UNKNOWN]]


@pytest.mark.parametrize(("width", "columns"), [(0.5, 2), (2, 2), (4, 4), (6, 6)])
def test_boundary_is_a_band_of_the_asked_width_on_the_line_between_two_cells(width: float, columns: int) -> None:
    band = boundary_map(_two_cells(), width, IGNORE_ID)
    assert band.sum() == 12 * columns
    assert (band[:, 10 - columns // 2 : 10 + columns // 2] == 1).all()


def test_boundary_lies_between_cell_and_background_but_not_at_the_border_of_the_slice() -> None:
    ids = np.zeros((10, 10), np.uint32)
    ids[:, :5] = 3
    band = boundary_map(ids, 2, IGNORE_ID)
    assert (band[:, 4:6] == 1).all()
    assert not band[:, :4].any() and not band[:, 6:].any()


def test_a_slice_of_one_cell_or_of_none_has_no_boundary() -> None:
    assert not boundary_map(np.zeros((5, 5), np.uint32), 4, IGNORE_ID).any()
    assert not boundary_map(np.full((5, 5), 9, np.uint32), 4, IGNORE_ID).any()


def test_where_nobody_looked_beyond_a_cell_its_rim_is_unknown_if_all_cells_were_painted() -> None:
    ids = np.full((8, 10), IGNORE_ID, np.uint32)
    ids[:, :5] = 3
    band = boundary_map(ids, 4, IGNORE_ID, complete=True)
    assert (band[:, :3] == 0).all()
    assert (band[:, 3:] == UNKNOWN).all()


def test_rim_of_a_painted_cell_is_boundary_where_others_were_not_painted() -> None:
    ids = np.full((8, 10), IGNORE_ID, np.uint32)
    ids[:, :5] = 3
    band = boundary_map(ids, 4, IGNORE_ID, complete=False)
    assert (band[:, 3:5] == 1).all()
    assert (band[:, :3] == 0).all()
    assert (band[:, 5:] == UNKNOWN).all()


def test_background_beside_the_unseen_is_no_boundary() -> None:
    ids = np.zeros((6, 6), np.uint32)
    ids[:, 3:] = IGNORE_ID
    assert not (boundary_map(ids, 4, IGNORE_ID) == 1).any()

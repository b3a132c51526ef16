"""Laws of the tables of relations: units, pairs, the nearest, and membranes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cristae.features.contacts import count_contacts
from cristae.features.distances import Distances, Reach, add_membrane_distances, pair_distances
from cristae.features.relations import DEFINITIONS, nearest_objects, tabulate_membranes, tabulate_relations

WHOLE = (slice(None),) * 3
SIZE = (30.0, 4.0, 8.0)


@pytest.fixture
def scene():
    """Two cells side by side; 1 within cell 1 at the membrane, 2 across, 3 deep in cell 2, 4 outside of cells."""
    cells = np.zeros((9, 20, 44), np.int32)
    cells[:, :18, :20] = 1
    cells[:, :18, 20:] = 2
    organelles = np.zeros_like(cells)
    organelles[2:4, 5:8, 15:20] = 1
    organelles[2:4, 10:13, 18:22] = 2
    organelles[4:6, 8:10, 30:32] = 3
    organelles[2, 19, 0] = 4
    return organelles, cells


def relations(first, second, far=100.0, size=SIZE):
    return tabulate_relations(
        count_contacts(first, second, WHOLE), pair_distances(first, second, WHOLE, Reach(size, far)), size
    )


def test_pairs_of_organelles_and_cells(scene):
    organelles, cells = scene
    table = relations(organelles, cells)
    row = table.set_index(["a_id", "b_id"])
    assert row["relation"].to_dict() == {
        (1, 1): "overlap", (1, 2): "contact", (2, 1): "overlap", (2, 2): "overlap", (3, 1): "near", (3, 2): "overlap",
        (4, 1): "near",
    }  # fmt: skip
    assert row.loc[(1, 1), "flush_um2"] == pytest.approx(2 * 3 * 30 * 4e-6)
    assert row.loc[(1, 2), "contact_um2"] == pytest.approx(2 * 3 * 30 * 4e-6)
    assert row.loc[(2, 1), "overlap_um3"] == pytest.approx(2 * 3 * 2 * 30 * 4 * 8e-9)
    assert row["min_dist_nm"].to_dict() == pytest.approx(
        {(1, 1): 0, (1, 2): 8, (2, 1): 0, (2, 2): 0, (3, 1): 88, (3, 2): 0, (4, 1): 8}
    )
    assert list(table.columns) == list(DEFINITIONS)[:7]
    assert table.notna().all(axis=None)


def test_neighbours_within_a_class_and_the_nearest(scene):
    organelles, _ = scene
    table = relations(organelles, None)
    assert table["relation"].tolist() == ["near"] * 3
    assert table[["a_id", "b_id"]].to_numpy().tolist() == [[1, 2], [1, 3], [2, 3]]
    distances = pair_distances(organelles, None, WHOLE, Reach(SIZE, 100))
    nearest = nearest_objects(distances + distances.swapped(), np.array([3, 1, 2, 4, 99]))
    assert nearest["nearest_id"].tolist() == [2, 2, 1, 0, 0]
    assert nearest["nearest_dist_nm"].iloc[1] == pytest.approx(12)
    assert nearest["nearest_dist_nm"].isna().tolist() == [False] * 3 + [True] * 2


def test_of_equally_near_objects_the_smallest_id_counts():
    distances = Distances(np.array([1, 1, 1]), np.array([4, 7, 9]), np.array([3.0, 2.0, 2.0]))
    assert nearest_objects(distances, np.array([1]))["nearest_id"].tolist() == [7]


def test_membranes_of_own_cells(scene):
    organelles, cells = scene
    cell_of = np.array([1, 2, 2, 0])
    distance = add_membrane_distances(organelles, 4, WHOLE, cells, cell_of, Reach(SIZE, 40))
    table = tabulate_membranes(count_contacts(organelles, cells, WHOLE), distance, np.arange(1, 5), cell_of, SIZE)
    assert table["membrane_dist_nm"].tolist() == pytest.approx([8, 0, 36, np.nan], nan_ok=True)
    assert table["membrane_contact_um2"].tolist() == pytest.approx([2 * 3 * 30 * 4e-6, 0, 0, np.nan], nan_ok=True)
    assert set(table.columns) <= set(DEFINITIONS)
    beyond = add_membrane_distances(organelles, 4, WHOLE, cells, cell_of, Reach(SIZE, 20))
    assert np.isinf(beyond[2])


@given(hnp.arrays(np.int32, (3, 4, 5), elements=st.integers(0, 3)))
def test_twice_the_voxel_size_makes_4_times_the_area_8_times_the_volume_2_times_the_distance(labels):
    other = np.roll(labels, 1, axis=2)
    once, twice = (relations(labels, other, far * 20, (far * 3.0, far * 1.0, far * 2.0)) for far in (1, 2))
    assert once["relation"].tolist() == twice["relation"].tolist()
    for column, factor in (("contact_um2", 4), ("flush_um2", 4), ("overlap_um3", 8), ("min_dist_nm", 2)):
        assert twice[column].to_numpy() == pytest.approx(factor * once[column].to_numpy())


def test_nothing_has_no_relations():
    nothing = np.zeros((2, 2, 2), np.int32)
    assert relations(nothing, None).empty
    assert nearest_objects(pair_distances(nothing, None, WHOLE, Reach(SIZE, 9)), np.zeros(0, int)).empty


def test_a_face_longer_than_the_largest_distance_is_still_a_contact():
    labels = np.array([[[1]], [[2]]], np.int32)
    table = relations(labels, None, far=10)
    assert table["relation"].tolist() == ["contact"]
    assert table["min_dist_nm"].isna().all()

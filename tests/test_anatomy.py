"""Laws of parentage: every object has one parent, and what lies across cells is listed."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cristae.anatomy import across_cells, parents
from cristae.metrics.instance import add_up, contingency

LARGEST = 2**32 - 1
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5)


@st.composite
def objects_and_cells(draw):
    shape = draw(SHAPES)
    cells = draw(hnp.arrays(np.uint32, shape, elements=st.sampled_from([0, 1, 2, LARGEST])))
    return draw(hnp.arrays(np.uint32, shape, elements=st.sampled_from([0, 3, 4, LARGEST]))), cells


@given(objects_and_cells())
def test_the_parent_holds_most_of_the_object(pair):
    objects, cells = pair
    table = parents(contingency(objects, cells))
    assert table["object_id"].tolist() == np.setdiff1d(objects, 0).tolist()
    for row in table.itertuples():
        within = cells[objects == row.object_id]
        assert row.n_voxels == within.size
        ids, n_voxels = np.unique(within[within > 0], return_counts=True)
        expected = ids[np.argmax(n_voxels)] if ids.size else 0
        assert row.parent_cell_id == expected
        assert row.share_inside == pytest.approx(np.mean(within == expected) if ids.size else 0)


@given(objects_and_cells(), st.sampled_from([0, 0.05, 0.3, 0.5]))
def test_across_lists_parent_and_every_other_cell_with_a_share(pair, smallest_share):
    objects, cells = pair
    table = contingency(objects, cells)
    across = across_cells(table, smallest_share)
    for row in parents(table).itertuples():
        within = cells[objects == row.object_id]
        share = {cell: float(np.mean(within == cell)) for cell in np.setdiff1d(within, 0)}
        others = {cell for cell, s in share.items() if cell != row.parent_cell_id and s >= smallest_share}
        rows = across[across["object_id"] == row.object_id]
        assert set(rows["cell_id"]) == (others | {row.parent_cell_id} if others else set())
        for named in rows.itertuples():
            assert named.share == pytest.approx(share[named.cell_id])
            assert named.n_voxels == np.sum(within == named.cell_id)
        if others:
            assert rows["cell_id"].iloc[0] == row.parent_cell_id
            assert rows["share"].is_monotonic_decreasing


@given(objects_and_cells(), st.data())
def test_blocks_equal_the_whole(pair, data):
    objects, cells = pair
    cut = data.draw(st.integers(0, objects.shape[1]))
    whole = contingency(objects, cells)
    parts = add_up([contingency(objects[:, :cut], cells[:, :cut]), contingency(objects[:, cut:], cells[:, cut:])])
    for table_of in (parents, across_cells):
        pd.testing.assert_frame_equal(table_of(parts), table_of(whole), check_exact=True)


def test_worked_example():
    cells = np.array([3] * 20 + [8] * 20 + [0] * 10)
    objects = np.zeros(50, int)
    objects[2:6] = 1  # inside cell 3
    objects[17:27] = 2  # 3 voxels in cell 3, 7 in cell 8
    objects[36:44] = 5  # half of it outside cells
    objects[46:48] = 4  # wholly outside
    table = parents(contingency(objects, cells))
    assert table["object_id"].tolist() == [1, 2, 4, 5]
    assert table["n_voxels"].tolist() == [4, 10, 2, 8]
    assert table["parent_cell_id"].tolist() == [3, 8, 0, 8]
    assert table["share_inside"].tolist() == [1, 0.7, 0, 0.5]
    across = across_cells(contingency(objects, cells), 0.3)
    assert across.to_dict("list") == {"object_id": [2, 2], "cell_id": [8, 3], "n_voxels": [7, 3], "share": [0.7, 0.3]}
    assert across_cells(contingency(objects, cells), 0.31).empty


@pytest.mark.parametrize("shape", [(0,), (2, 3)])
def test_nothing_has_no_parent(shape):
    nothing = np.zeros(shape, np.uint32)
    table, across = parents(contingency(nothing, nothing)), across_cells(contingency(nothing, nothing))
    assert table.dtypes.astype(str).to_dict() == {
        "object_id": "int64",
        "n_voxels": "int64",
        "parent_cell_id": "int64",
        "share_inside": "float64",
    }
    assert across.columns.tolist() == ["object_id", "cell_id", "n_voxels", "share"]
    assert table.empty
    assert across.empty
    orphans = parents(contingency(np.array([6, 6]), np.array([0, 0])))
    assert orphans.to_numpy().tolist() == [[6, 2, 0, 0]]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_impossible_shares_are_refused(share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        across_cells(contingency(np.ones(2, int), np.ones(2, int)), share)

"""What cells hold, against counting by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cristae.features.contents import DEFINITIONS, contents_of_cells


def objects(rows):
    columns = ["class", "object_id", "parent_cell_id", "n_voxels", "touches_edge"]
    return pd.DataFrame(rows, columns=columns)


SMALL = objects(
    [
        ("cell", 7, np.nan, 1000, False),
        ("cell", 2**32 - 1, np.nan, 500, True),
        ("mitochondrion", 1, 7, 100, False),
        ("mitochondrion", 2, 7, 50, True),
        ("mitochondrion", 3, 0, 70, False),
        ("lysosome", 1, 2**32 - 1, 25, False),
    ]
)


def test_by_hand():
    found = contents_of_cells(SMALL, "cell", 0.01)
    assert list(found.columns) == list(DEFINITIONS)
    assert found[["cell_id", "class", "n_objects"]].to_numpy().tolist() == [
        [7, "mitochondrion", 2],
        [7, "lysosome", 0],
        [2**32 - 1, "mitochondrion", 0],
        [2**32 - 1, "lysosome", 1],
    ]
    assert found["volume_um3"].tolist() == pytest.approx([1.5, 0, 0, 0.25])
    assert found["share_of_cell"].tolist() == pytest.approx([0.15, 0, 0, 0.05])
    assert found["touches_edge"].tolist() == [False, False, True, True]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4), st.integers(1, 9)), max_size=20))
def test_all_that_lies_in_a_cell_is_counted_once(organelles):
    rows = [("cell", cell, np.nan, 100, False) for cell in (1, 2, 3)]
    rows += [(kind, place, parent, n, False) for place, (kind, parent, n) in enumerate(organelles)]
    found = contents_of_cells(objects(rows), "cell", 1.0)
    inside = [(kind, n) for kind, parent, n in organelles if 1 <= parent <= 3]
    assert found["n_objects"].sum() == len(inside)
    assert found["volume_um3"].sum() == sum(n for _, n in inside)


def test_nothing_to_hold_or_to_be_held():
    assert contents_of_cells(SMALL[:2], "cell", 1.0).empty
    assert contents_of_cells(SMALL[2:], "cell", 1.0).empty


def test_a_cell_that_is_there_twice_is_refused():
    with pytest.raises(ValueError, match="two with the id 7"):
        contents_of_cells(pd.concat([SMALL, SMALL[:1]]), "cell", 1.0)

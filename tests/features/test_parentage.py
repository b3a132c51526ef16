"""Laws of violations: what lies where it should is not listed, everything else is, with its share."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cristae.features.parentage import DEFINITIONS, KINDS, Link, violations
from cristae.metrics.instance import add_up, contingency

IDS = [0, 1, 2, 2**32 - 1]


@st.composite
def two_layers(draw):
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=4))
    return tuple(draw(hnp.arrays(np.uint32, shape, elements=st.sampled_from(IDS))) for _ in range(2))


def nuclei_in_cells(nuclei, cells, **options):
    return violations([Link("nucleus", "cell", contingency(nuclei, cells))], **options)


@given(two_layers(), st.sampled_from([0, 0.05, 0.4, 1]))
def test_shares_are_those_of_the_masks(pair, smallest_share):
    nuclei, cells = pair
    table = nuclei_in_cells(nuclei, cells, smallest_share=smallest_share)
    expected = []
    for nucleus in np.setdiff1d(nuclei, 0):
        within = cells[nuclei == nucleus]
        held, n = np.unique(within[within > 0], return_counts=True)
        parent = int(held[np.argmax(n)]) if held.size else 0
        nowhere, others = np.mean(within == 0), np.mean((within != 0) & (within != parent))
        if not parent:
            expected.append((nucleus, 0, "no parent", 1.0))
        elif nowhere > 0 and nowhere >= smallest_share:
            expected.append((nucleus, parent, "outside", nowhere))
        if others > 0 and others >= smallest_share:
            expected.append((nucleus, parent, "across", others))
    found = table[["object_id", "parent_id", "kind", "share_outside"]].itertuples(index=False, name=None)
    for one, other in zip(found, expected, strict=True):
        assert one[:3] == other[:3]
        assert one[3] == pytest.approx(other[3])


@given(two_layers(), st.data())
def test_blocks_equal_the_whole(pair, data):
    nuclei, cells = pair
    cut = data.draw(st.integers(0, nuclei.shape[1]))
    parts = add_up([contingency(nuclei[:, :cut], cells[:, :cut]), contingency(nuclei[:, cut:], cells[:, cut:])])
    whole = nuclei_in_cells(nuclei, cells, most={"nucleus": 1})
    pd.testing.assert_frame_equal(violations([Link("nucleus", "cell", parts)], most={"nucleus": 1}), whole)


@given(two_layers())
def test_objects_cut_to_their_parents_break_nothing(pair):
    nuclei, cells = pair
    inside = np.where(cells > 0, cells.astype(np.int64) * 2 + (nuclei > 1), 0)  # up to two in a cell
    assert nuclei_in_cells(inside, cells, smallest_share=0, most={"nucleus": 2}).empty
    assert nuclei_in_cells(np.zeros_like(nuclei), cells).empty


def test_worked_example():
    cells = np.array([1] * 20 + [2] * 30 + [0] * 10)
    nuclei = np.zeros(60, int)
    nuclei[2:8] = 1  # as it should be
    nuclei[17:27] = 2  # 3 voxels in cell 1, 7 in cell 2
    nuclei[45:52] = 3  # 2 of 7 outside
    nuclei[55:58] = 4  # wholly outside
    nuclei[30:31] = 5
    nucleoli = np.zeros(60, int)
    nucleoli[3:5] = 10
    nucleoli[17:19] = 11  # in nucleus 2, which lies in cell 2, but itself in cell 1
    nucleoli[8:10] = 12  # beside nucleus 1
    table = violations(
        [
            Link("nucleus", "cell", contingency(nuclei, cells)),
            Link("nucleolus", "nucleus", contingency(nucleoli, nuclei)),
            Link("nucleolus", "cell", contingency(nucleoli, cells)),
        ],
        most={"nucleus": 2},
    )
    nan = np.nan
    expected = pd.DataFrame(
        [
            ("nucleus", 2, "cell", 2, "across", 0.3),
            ("nucleus", 2, "cell", 2, "too many", nan),
            ("nucleus", 3, "cell", 2, "outside", 2 / 7),
            ("nucleus", 3, "cell", 2, "too many", nan),
            ("nucleus", 4, "cell", 0, "no parent", 1),
            ("nucleus", 5, "cell", 2, "too many", nan),
            ("nucleolus", 12, "nucleus", 0, "no parent", 1),
            ("nucleolus", 11, "cell", 1, "other line", nan),
        ],
        columns=list(DEFINITIONS),
    )
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    assert set(table["kind"]) == set(KINDS)
    assert not (
        violations([Link("nucleus", "cell", contingency(nuclei, cells))], most={"nucleus": 3})["kind"] == "too many"
    ).any()


def test_nothing_is_in_order():
    assert violations([]).empty
    nothing = contingency(np.zeros(0, int), np.zeros(0, int))
    table = violations([Link("nucleus", "cell", nothing)], most={"nucleus": 1})
    assert table.empty
    assert list(table.columns) == list(DEFINITIONS) == list(violations([]).columns)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_impossible_shares_are_refused(share):
    with pytest.raises(ValueError, match="between 0 and 1"):
        violations([], smallest_share=share)

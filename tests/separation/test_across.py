"""Objects on both sides of a labelled slice get one id, and ids that people gave are never joined."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cristae.separation.across import Shared, one_id

HIGHEST = 10
NONE = np.zeros(0, np.int64)


def strip(*ids):
    """Return a plane of squares of 4 × 4 pixels with these ids."""
    return np.repeat(np.repeat(np.array([ids], np.int64), 4, axis=1), 4, axis=0)


def test_a_chain_of_slices_is_one_object():
    chain = [Shared(strip(11), strip(21), NONE), Shared(strip(21), strip(31), NONE)]
    assert one_id(chain, HIGHEST) == one_id(chain[::-1], HIGHEST) == {21: 11, 31: 11}


def test_an_id_that_people_gave_goes_first_and_two_of_them_never_join():
    assert one_id([Shared(strip(11), strip(3), NONE)], HIGHEST) == {11: 3}
    assert one_id([Shared(strip(4), strip(11), NONE), Shared(strip(11), strip(3), NONE)], HIGHEST) in ({11: 3}, {11: 4})
    assert one_id([Shared(strip(4), strip(3), NONE)], HIGHEST) == {}
    # The surer of the two partners names it.
    clear = Shared(strip(11, 11, 11), strip(3, 3, 3), NONE)
    assert one_id([Shared(strip(4, 4, 0), strip(11, 11, 11), NONE), clear], HIGHEST) == {11: 3}


def test_beside_a_cell_that_was_painted_as_a_whole_lies_another_one():
    assert one_id([Shared(strip(11), strip(3), np.array([3]))], HIGHEST) == {}
    assert one_id([Shared(strip(11), strip(3), np.array([4]))], HIGHEST) == {11: 3}


def test_only_the_best_partner_counts_and_a_graze_does_not():
    assert one_id([Shared(strip(11, 11, 12), strip(21, 21, 21), NONE)], HIGHEST) == {21: 11}
    assert one_id([Shared(strip(11, 11, 11, 0), strip(0, 0, 21, 21), NONE)], HIGHEST) == {}
    assert one_id([Shared(strip(11, 0), strip(0, 21), NONE)], HIGHEST) == {}


planes = hnp.arrays(np.int64, (4, 6), elements=st.sampled_from([0, 2, 3, 11, 12, 13]))


@given(st.lists(st.tuples(planes, planes), max_size=4))
def test_names_are_final_and_no_two_objects_of_one_gap_become_one_new_object(pairs):
    """Gap k has new ids from 10 · k + 1 on; slice k lies between gaps k and k + 1."""
    slices = [
        Shared(*(np.where(plane > HIGHEST, plane + 10 * gap, plane) for gap, plane in ((k, a), (k + 1, b))), NONE)
        for k, (a, b) in enumerate(pairs)
    ]
    same = one_id(slices, HIGHEST)
    assert all(one > HIGHEST and other not in same and other < one for one, other in same.items())
    for shared in slices:
        for plane in (shared.before, shared.after):
            new = [same.get(one, one) for one in np.unique(plane[plane > HIGHEST]).tolist()]
            assert len({one for one in new if one > HIGHEST}) == len([one for one in new if one > HIGHEST])

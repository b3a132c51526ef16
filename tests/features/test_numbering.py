"""Numbers from 1 stand for the same voxels as the ids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cristae.features.numbering import number_from_one

IDS = st.sampled_from([0, 1, 2, 7, 255])


@given(npst.arrays(st.sampled_from([np.uint8, np.int16, np.uint32, np.int64]), (3, 4, 5), elements=IDS))
def test_ids_come_back_from_numbers(labels):
    ids, numbers = number_from_one(labels)
    assert ids.dtype == np.int64 and numbers.dtype == np.int32
    assert ids.tolist() == sorted({*labels.ravel().tolist()} - {0})
    np.testing.assert_array_equal(np.concatenate([[0], ids])[numbers], labels)


@given(st.lists(st.tuples(IDS, st.integers(1, 40)), min_size=1), st.integers(1, 70))
def test_runs_of_any_length_in_rows_of_any_length(runs, width):
    voxels = np.concatenate([np.full(length, label, np.uint32) for label, length in runs])
    labels = np.resize(voxels, (2, 3, width))
    ids, numbers = number_from_one(labels)
    np.testing.assert_array_equal(ids, np.setdiff1d(labels, [0]))
    np.testing.assert_array_equal(np.concatenate([[0], ids])[numbers], labels)


def test_large_ids_and_views():
    labels = np.array([0, 2**32 - 1, 5, 2**32 - 2, 0, 5, 5, 0], np.uint32).reshape(2, 2, 2)
    ids, numbers = number_from_one(labels)
    assert ids.tolist() == [5, 2**32 - 2, 2**32 - 1]
    assert numbers.ravel().tolist() == [0, 3, 1, 2, 0, 1, 1, 0]
    np.testing.assert_array_equal(number_from_one(labels.T)[1], numbers.T)
    assert number_from_one(np.zeros((0, 3, 3), np.uint8))[0].size == 0


def test_what_is_no_id_is_refused():
    with pytest.raises(ValueError, match="-4"):
        number_from_one(np.full((1, 1, 2), -4, np.int32))
    with pytest.raises(ValueError, match="number the objects anew"):
        number_from_one(np.full((1, 1, 2), 2**63 + 1, np.uint64))
    with pytest.raises(ValueError, match="float64"):
        number_from_one(np.zeros((1, 1, 2)))
    with pytest.raises(ValueError, match="shape"):
        number_from_one(np.zeros((1, 2), np.uint8))

"""Laws of runs: nothing is lost, and counts are exact."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cristae.separation.runs import compress, expand, overlaps, unique_ids

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9)


@given(
    st.sampled_from([np.uint8, np.int32, np.uint32, np.uint64]).flatmap(
        lambda dtype: hnp.arrays(dtype, SHAPES, elements=st.sampled_from([0, 1, 2, int(np.iinfo(dtype).max)]))
    )
)
def test_runs_expand_to_what_was_compressed(labels):
    runs = compress(labels)
    back = expand(runs)
    assert back.dtype == labels.dtype and np.array_equal(back, labels)
    assert (runs.lengths > 0).all()
    assert (runs.ids[1:] != runs.ids[:-1]).all()
    assert np.array_equal(expand(compress(labels.T)), labels.T)
    assert np.array_equal(unique_ids(labels), np.unique(labels[labels > 0]))


@given(SHAPES.flatmap(lambda shape: st.tuples(*[hnp.arrays(np.int32, shape, elements=st.integers(0, 3))] * 2)))
def test_overlaps_count_every_pair_of_ids(pair):
    first, second = pair
    counted = {(a, b): n for a, b, n in zip(*overlaps(first, second), strict=True)}
    expected = {}
    for a, b in zip(first.flat, second.flat, strict=True):
        if a and b:
            expected[a, b] = expected.get((a, b), 0) + 1
    assert counted == expected
    assert list(counted) == sorted(counted)

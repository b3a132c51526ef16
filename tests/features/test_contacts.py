"""Laws of contacts: every face counted once, whatever the blocks, and areas of slabs and balls."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cristae.features.contacts import HALO, area_um2, count_contacts

WHOLE = (slice(None),) * 3
IDS = [0, 1, 2, 5]


def layers():
    shapes = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5)
    return shapes.flatmap(
        lambda shape: st.tuples(*(hnp.arrays(np.int32, shape, elements=st.sampled_from(IDS)) for _ in range(2)))
    )


def blocks_of(shape, block, halo):
    for start in itertools.product(*(range(0, size, step) for size, step in zip(shape, block, strict=True))):
        stop = [min(s + b, size) for s, b, size in zip(start, block, shape, strict=True)]
        low = [max(0, s - h) for s, h in zip(start, halo, strict=True)]
        high = [min(size, s + h) for s, h, size in zip(stop, halo, shape, strict=True)]
        read = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        yield read, tuple(slice(a - c, b - c) for a, b, c in zip(start, stop, low, strict=True))


def as_dict(contacts):
    counts = zip(contacts.n_faces.tolist(), contacts.n_flush.tolist(), contacts.n_shared.tolist(), strict=True)
    return dict(zip(zip(contacts.a.tolist(), contacts.b.tolist(), strict=True), counts, strict=True))


def faces_one_by_one(first, second):
    """Count as the definitions are worded, face by face."""
    contact, flush, shared = Counter(), Counter(), Counter()
    for p in np.ndindex(first.shape):
        shared[first[p], second[p]] += 1
        for axis in range(3):
            q = tuple(np.add(p, np.eye(3, dtype=int)[axis]))
            if q[axis] == first.shape[axis]:
                continue
            for a, b in itertools.product(IDS[1:], IDS[1:]):
                ends = (first[p] == a) != (first[q] == a) and (second[p] == b) != (second[q] == b)
                if ends and (first[p] == a) == (second[p] == b):
                    flush[a, b, axis] += 1
                elif ends:
                    contact[a, b, axis] += 1
    pairs = {key[:2] for counter in (contact, flush, shared) for key in counter if 0 not in key[:2]}
    return {
        (a, b): ([contact[a, b, k] for k in range(3)], [flush[a, b, k] for k in range(3)], shared[a, b])
        for a, b in pairs
    }


@given(layers())
def test_faces_are_those_of_the_definition(pair):
    first, second = pair
    assert as_dict(count_contacts(first, second, WHOLE)) == faces_one_by_one(first, second)


@given(layers())
def test_neighbours_within_a_volume_are_pairs_of_it(pair):
    first, _ = pair
    expected = {
        key: (faces, [0, 0, 0], 0) for key, (faces, _, _) in faces_one_by_one(first, first).items() if key[0] < key[1]
    }
    assert as_dict(count_contacts(first, None, WHOLE)) == expected


@given(layers(), st.tuples(*[st.integers(1, 5)] * 3), st.booleans())
def test_blocks_equal_the_whole(pair, block, same):
    first, second = pair
    total = None
    for read, inner in blocks_of(first.shape, block, HALO):
        part = count_contacts(first[read], None if same else second[read], inner)
        total = part if total is None else total + part
    assert as_dict(total) == as_dict(count_contacts(first, None if same else second, WHOLE))


@given(layers())
def test_swapping_the_volumes_swaps_the_pairs(pair):
    first, second = pair
    swapped = as_dict(count_contacts(second, first, WHOLE))
    assert {(b, a): counts for (a, b), counts in swapped.items()} == as_dict(count_contacts(first, second, WHOLE))


@given(layers())
def test_dense_ids_can_be_given_their_names(pair):
    first, second = pair
    names_a, names_b = np.array([0, 70, 9, 0, 0, 2**40]), np.array([0, 3, 8, 0, 0, 5])
    renamed = as_dict(count_contacts(first, second, WHOLE).renamed(names_a, names_b))
    expected = as_dict(count_contacts(first, second, WHOLE))
    assert renamed == {(names_a[a], names_b[b]): counts for (a, b), counts in expected.items()}
    for a, b in as_dict(count_contacts(first, None, WHOLE).renamed(names_a, names_a, same=True)):
        assert a < b


def test_areas_of_a_slab_and_an_organelle_at_the_membrane():
    cells = np.ones((6, 10, 20), np.int32)
    cells[:, :, 12:] = 2
    organelles = np.zeros_like(cells)
    organelles[1:4, 2:7, 8:12] = 4  # 3 × 5 faces against the membrane
    touching = count_contacts(cells, None, WHOLE)
    assert area_um2(touching.n_faces, (30.0, 4.0, 8.0)) == pytest.approx([6 * 10 * 30 * 4 * 1e-6])
    table = as_dict(count_contacts(organelles, cells, WHOLE))
    assert table == {(4, 1): ([0, 0, 0], [0, 0, 15], 60), (4, 2): ([0, 0, 15], [0, 0, 0], 0)}


def test_a_ball_has_one_and_a_half_times_its_area_in_faces():
    z, y, x = np.indices((41, 81, 161)) - np.array([20, 40, 80])[:, None, None, None]
    voxel_size = (20.0, 10.0, 5.0)
    ball = ((z * 20) ** 2 + (y * 10) ** 2 + (x * 5) ** 2 <= 350**2).astype(np.int32)
    contacts = count_contacts(ball, 1 - ball, WHOLE)
    assert area_um2(contacts.n_faces, voxel_size)[0] == pytest.approx(1.5 * 4 * np.pi * 0.35**2, rel=0.02)
    assert not contacts.n_shared.any()


def test_what_does_not_fit_is_refused():
    ones = np.ones((2, 2, 2), np.int32)
    with pytest.raises(ValueError, match="one shape"):
        count_contacts(ones, ones[:1], WHOLE)
    with pytest.raises(ValueError, match="integer ids"):
        count_contacts(ones.astype(float), None, WHOLE)
    for wrong in (-1, 2**31):
        with pytest.raises(ValueError, match="2³¹"):
            count_contacts(np.full((1, 1, 1), wrong, np.int64), None, WHOLE)
    nothing = count_contacts(np.zeros((0, 3, 3), np.int32), None, WHOLE)
    assert nothing.a.size == 0
    assert nothing.n_faces.shape == (0, 3)

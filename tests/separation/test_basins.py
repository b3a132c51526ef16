import heapq
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from cristae.separation.agglomerate import Contacts, agglomerate, contacts
from cristae.separation.basins import Joining, join_basins
from cristae.separation.paths import BYTES_PER_VOXEL
from cristae.testing import assert_same_objects


def _contacts(*edges: tuple[int, int, float, int]) -> Contacts:
    pairs = np.array([(a, b) for a, b, _, _ in edges], np.int64).reshape(-1, 2)
    return Contacts(pairs, np.array([mean * n for _, _, mean, n in edges], float), np.array([n for *_, n in edges]))


def _groups(stand_in: np.ndarray) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(stand_in == s).tolist()) - {0} for s in np.unique(stand_in[1:])}


def test_the_picture_in_the_docstring() -> None:
    # 1, 2 known; a, b, c = 3, 4, 5
    edges = _contacts((1, 3, 25, 10), (3, 4, 50, 10), (1, 2, 230, 10), (4, 5, 204, 10), (2, 5, 25, 10))
    stand_in = agglomerate(edges, np.array([0, 7, 9, 0, 0, 0]), 128)
    assert _groups(stand_in) == {frozenset({1, 3, 4}), frozenset({2, 5})}


def test_an_average_does_not_care_about_a_leak_and_known_cells_never_join() -> None:
    leaky = _contacts((1, 2, 200, 99), (2, 3, 10, 5))
    assert _groups(agglomerate(leaky, np.array([0, 0, 0, 0]), 128)) == {frozenset({1}), frozenset({2, 3})}
    soft = _contacts((1, 2, 5, 10))
    assert _groups(agglomerate(soft, np.array([0, 4, 6]), 255)) == {frozenset({1}), frozenset({2})}
    assert _groups(agglomerate(soft, np.array([0, 4, 4]), 0)) == {frozenset({1, 2})}


def test_what_was_joined_is_averaged_over_all_contacts() -> None:
    # 1-2 join first; their common contact to 3 has mean (10·1 + 250·9) / 10 = 226
    edges = _contacts((1, 2, 1, 5), (1, 3, 10, 1), (2, 3, 250, 9))
    assert _groups(agglomerate(edges, np.zeros(4, np.int64), 128)) == {frozenset({1, 2}), frozenset({3})}


def test_a_hub_with_many_leaves_is_not_looked_at_again_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each leaf that joins touches one of the next, so that one contact changes: the work grows as the leaves, not as
    # their square.
    pushed: list[tuple[float, int, int]] = []
    push = heapq.heappush
    monkeypatch.setattr(heapq, "heappush", lambda heap, item: (pushed.append(item), push(heap, item)))
    n = 200
    leaves = [(1, leaf, 10 + leaf / n, 3) for leaf in range(2, n + 2)]
    neighbours = [(leaf, leaf + 1, 250, 1) for leaf in range(2, n + 1)]
    stand_in = agglomerate(_contacts(*leaves, *neighbours), np.zeros(n + 2, np.int64), 128)
    assert _groups(stand_in) == {frozenset(range(1, n + 2))}
    assert 0 < len(pushed) <= 2 * n


def test_ripples_of_the_map_inside_a_cell_are_one_basin() -> None:
    # Two rooms with a wall; noise of a few grey values in each. Nothing is known, and no joining is allowed: each
    # room is one cell only if the ripples were no basins of their own.
    boundary = np.random.default_rng(0).integers(0, 8, (6, 20, 41)).astype(np.uint8)
    boundary[:, :, 20] = 250
    found = join_basins(np.zeros(boundary.shape, np.int32), boundary, boundary < 200, Joining(-1.0, 1), 1)
    assert np.array_equal(np.unique(found[:, :, :20]), [1])
    assert np.array_equal(np.unique(found[:, :, 21:]), [2])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_contacts_count_every_touching_pair_of_voxels_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    basins = rng.integers(0, 4, (3, 4, 5)).astype(np.int32)
    boundary = rng.integers(0, 256, basins.shape).astype(np.uint8)
    found = contacts(basins, boundary)
    expected: dict[tuple[int, int], list[int]] = {}
    for place in np.ndindex(basins.shape):
        for axis in range(3):
            other = tuple(p + (i == axis) for i, p in enumerate(place))
            if other[axis] < basins.shape[axis] and 0 != basins[place] != basins[other] != 0:
                pair = (int(min(basins[place], basins[other])), int(max(basins[place], basins[other])))
                expected.setdefault(pair, []).append(int(max(boundary[place], boundary[other])))
    assert {tuple(p): (t, n) for p, t, n in zip(found.pairs.tolist(), found.total, found.n_faces, strict=True)} == {
        pair: (sum(heights), len(heights)) for pair, heights in expected.items()
    }


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_names_of_basins_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 8
    pairs = np.array([(a, b) for a in range(1, n + 1) for b in range(a + 1, n + 1) if rng.random() < 0.5])
    edges = Contacts(pairs.reshape(-1, 2), rng.permutation(1000)[: len(pairs)] / 4.0, np.ones(len(pairs), np.int64))
    ids = np.where(rng.random(n + 1) < 0.3, rng.integers(1, 4, n + 1), 0)
    ids[0] = 0
    order = np.r_[0, 1 + rng.permutation(n)]
    renamed = np.sort(order[edges.pairs], axis=1) if len(pairs) else edges.pairs
    other_ids = np.zeros_like(ids)
    other_ids[order] = ids
    found = agglomerate(edges, ids, 120)
    other = agglomerate(Contacts(renamed, edges.total, edges.n_faces), other_ids, 120)
    assert_same_objects(other[order][None, None, 1:] + 1, found[None, None, 1:] + 1)


def _two_cells_and_a_hidden_one() -> tuple[np.ndarray, np.ndarray]:
    truth = np.ones((9, 20, 30), np.int32)
    truth[:, :, 15:] = 2
    truth[3:6, 5:15, 4:11] = 3
    boundary = np.zeros(truth.shape, np.uint8)
    for axis in range(3):
        low = tuple(slice(None, -1) if i == axis else slice(None) for i in range(3))
        high = tuple(slice(1, None) if i == axis else slice(None) for i in range(3))
        edge = truth[low] != truth[high]
        boundary[low][edge] = 255
        boundary[high][edge] = 255
    boundary[4, 5, 7] = boundary[4, 4, 7] = 60  # a leak
    return truth, boundary


def test_a_cell_that_no_labelled_slice_meets_comes_out_whole_in_spite_of_a_leak() -> None:
    truth, boundary = _two_cells_and_a_hidden_one()
    seeds = np.zeros_like(truth)
    seeds[[0, -1]] = truth[[0, -1]]
    everywhere = np.ones(truth.shape, bool)
    found = join_basins(seeds, boundary, everywhere, Joining(new_voxels=20), 50)
    inside = boundary == 0
    assert (found[inside & (truth == 3)] == 50).mean() > 0.95
    assert (found[inside & (truth < 3)] == truth[inside & (truth < 3)]).mean() > 0.95
    small = join_basins(seeds, boundary, everywhere, Joining(new_voxels=10_000), 50)
    assert not (small == 50).any()


def test_nothing_where_it_is_not_allowed_and_nothing_of_nothing() -> None:
    truth, boundary = _two_cells_and_a_hidden_one()
    allowed = np.ones(truth.shape, bool)
    allowed[:, :3] = False
    seeds = np.zeros_like(truth)
    seeds[0] = truth[0]
    assert not join_basins(seeds, boundary, allowed, Joining(), 50)[:, :3].any()
    assert not join_basins(seeds, boundary, np.zeros(truth.shape, bool), Joining(), 50).any()


def test_of_a_map_that_is_all_noise_memory_stays_within_half_as_much_again_as_is_planned() -> None:
    noise = gaussian_filter(np.random.default_rng(0).standard_normal((128, 128, 128)), 0.8)
    boundary = ((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8)
    seeds = np.zeros(boundary.shape, np.int32)
    seeds[0, :64], seeds[0, 64:] = 1, 2
    everywhere = np.ones(boundary.shape, bool)
    join_basins(seeds[:4], boundary[:4], everywhere[:4], Joining(), 3)  # compile
    tracemalloc.start()
    try:
        found = join_basins(seeds, boundary, everywhere, Joining(), 3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * BYTES_PER_VOXEL * boundary.size
    assert {1, 2} <= set(np.unique(found).tolist())

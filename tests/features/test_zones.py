"""Zones are those of the IBSI, and those of the whole whatever the blocks and their order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from texture_phantom import PHANTOM, REGION, boxes, dense, turned, within_last_digit

from cristae.features import zone_merge
from cristae.features.zone_merge import ZoneMerge, merge_zones
from cristae.features.zone_parts import _count_equal, find_zones
from cristae.features.zones import DEFINITIONS, zone_table

ONE = np.array([1])


def rows(zones):
    return np.column_stack([zones.object_id, zones.level, zones.size, zones.n_zones]).tolist()


def zones_of(labels, levels, connectivity=26):
    own, ids = dense(labels)
    return merge_zones([find_zones(own, ids, levels, (0, 0, 0), labels.shape, connectivity)])


def zones_in_blocks(labels, levels, block_shape, connectivity=26):
    for box, _, start in boxes(labels.shape, block_shape):
        own, ids = dense(labels[box])
        yield find_zones(own, ids, levels[box], start, labels.shape, connectivity)


def zones_the_slow_way(labels, levels, connectivity):
    found = {}
    structure = ndimage.generate_binary_structure(3, {6: 1, 18: 2, 26: 3}[connectivity])
    for i in np.unique(labels[labels > 0]):
        for level in np.unique(levels[labels == i]):
            parts, _ = ndimage.label((labels == i) & (levels == level), structure)
            for size in np.bincount(parts.ravel())[1:]:
                key = int(i), int(level), int(size)
                found[key] = found.get(key, 0) + 1
    return [[*key, n] for key, n in sorted(found.items())]


@st.composite
def volumes(draw):
    shape = draw(st.tuples(*[st.integers(1, 8)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = rng.choice([0, 3, 3, 3, 2**40], shape) if draw(st.booleans()) else np.full(shape, 5)
    n_levels = draw(st.integers(1, 4))
    return labels.astype(np.int64), rng.integers(1, n_levels + 1, shape).astype(draw(st.sampled_from("BH")))


@settings(max_examples=60)
@given(volumes(), st.sampled_from([6, 18, 26]))
def test_zones_are_connected_components(volume, connectivity):
    assert rows(zones_of(*volume, connectivity)) == zones_the_slow_way(*volume, connectivity)


@settings(max_examples=150)
@given(volumes(), st.tuples(*[st.integers(1, 6)] * 3), st.sampled_from([6, 18, 26]), st.randoms())
def test_blocks_in_any_order_equal_the_whole(volume, block_shape, connectivity, random):
    parts = list(zones_in_blocks(*volume, block_shape, connectivity))
    random.shuffle(parts)
    assert rows(merge_zones(parts)) == rows(zones_of(*volume, connectivity))


def test_zones_are_forgotten_when_nothing_can_join_them_any_more(monkeypatch):
    monkeypatch.setattr(zone_merge, "ROWS_AT_LEAST", 0)
    rng = np.random.default_rng(0)
    labels = np.repeat(rng.integers(0, 3, (60, 6, 6)), 2, axis=2)
    levels = rng.integers(1, 4, labels.shape).astype(np.uint8)
    merge, n_open = ZoneMerge(), []
    for part in zones_in_blocks(labels, levels, (3, 6, 6)):
        merge.add(part)
        n_open.append(merge.n_open)
    assert rows(merge.result()) == rows(zones_of(labels, levels))
    assert merge.n_open == 0
    assert max(n_open) < 200
    assert sum(part.size.size for part in zones_in_blocks(labels, levels, (3, 6, 6))) > 800


def test_a_zone_that_winds_through_many_blocks_is_one():
    # A comb that closes only at its far end: it is joined late, and over several blocks at once.
    levels = np.ones((9, 9, 40), np.uint8)
    levels[:, 1::2, :-1] = 2
    labels = np.ones(levels.shape, np.int64)
    expected = [[1, 1, 9 * (5 * 40 + 4), 1], [1, 2, 9 * 39, 4]]
    assert rows(merge_zones(zones_in_blocks(labels, levels, (4, 4, 8)))) == expected


def test_blocks_share_corners_only():
    levels = np.full((2, 2, 2), 2, np.uint8)
    levels[0, 0, 0] = levels[1, 1, 1] = 1
    labels = np.ones((2, 2, 2), np.int64)
    assert rows(merge_zones(zones_in_blocks(labels, levels, (1, 1, 1), 26))) == [[1, 1, 2, 1], [1, 2, 6, 1]]
    assert rows(merge_zones(zones_in_blocks(labels, levels, (1, 1, 1), 18))) == [[1, 1, 1, 2], [1, 2, 6, 1]]


def test_phantom_of_the_ibsi():
    zones = zones_of(REGION, PHANTOM)
    assert rows(zones) == [[1, 1, 50, 1], [1, 3, 1, 1], [1, 4, 2, 1], [1, 4, 14, 1], [1, 6, 7, 1]]
    values = zone_table(zones, ONE, literal=True).iloc[0]
    printed = {
        "n_zones": 5, "zone_percentage": 0.0676, "sze": 0.255, "lze": 550, "lgze": 0.253, "hgze": 15.6,
        "szlge": 0.0256, "szhge": 2.76, "lzlge": 503, "lzhge": 1490, "glnu": 1.4, "zsnu": 1.0,
        "level_variance": 2.64, "size_variance": 331, "entropy": 2.32, "szhge_eq15": 1.56,
    }  # fmt: skip
    for name, value in printed.items():
        assert within_last_digit(values[f"szm_{name}"], value), name
    assert values.szm_szhge == pytest.approx(2.7633, abs=5e-5)
    assert values.szm_centroid_size == pytest.approx(14.8)
    assert values.szm_centroid_level == pytest.approx(3.6)
    assert set(values.index) == set(DEFINITIONS)


def test_phantom_with_six_neighbours():
    values = zone_table(zones_of(REGION, PHANTOM, 6), ONE).iloc[0]
    assert values.szm_n_zones == 6
    assert values.szm_zone_percentage == pytest.approx(0.0811, abs=5e-5)
    assert values.szm_szhge == pytest.approx(2.4288, abs=5e-5)


def test_worked_example_of_pyradiomics():
    levels = np.array([[[5, 2, 5, 4, 4], [3, 3, 3, 1, 3], [2, 1, 1, 1, 3], [4, 2, 2, 2, 3], [3, 5, 3, 3, 2]]], np.uint8)
    matrix = np.zeros((5, 5), int)
    zones = zones_of(np.ones(levels.shape, np.int64), levels)
    matrix[zones.level - 1, zones.size - 1] = zones.n_zones
    assert matrix.tolist() == [[0, 0, 0, 1, 0], [1, 0, 0, 0, 1], [1, 0, 1, 0, 1], [1, 1, 0, 0, 0], [3, 0, 0, 0, 0]]


def test_turned_and_mirrored_objects_have_the_same_zones():
    rng = np.random.default_rng(2)
    labels, levels = rng.integers(0, 2, (4, 5, 6)), rng.integers(1, 4, (4, 5, 6)).astype(np.uint8)
    for connectivity in (6, 18, 26):
        expected = rows(zones_of(labels, levels, connectivity))
        for own, own_levels in zip(turned(labels), turned(levels), strict=True):
            assert rows(zones_of(own, own_levels, connectivity)) == expected


def test_one_voxel_one_grey_value_and_no_zone():
    labels = np.zeros((3, 3, 4), np.int64)
    labels[0, 0, 0], labels[1:] = 8, 4
    table = zone_table(zones_of(labels, np.full(labels.shape, 2, np.uint8)), np.array([8, 6, 4]))
    assert table.szm_n_zones.tolist()[::2] == [1, 1]
    assert table.szm_zone_percentage.tolist()[::2] == [1, 1 / 24]
    assert table.szm_szhge.tolist()[::2] == [4, 4 / 24**2]
    assert table.szm_entropy.tolist()[::2] == [0, 0]
    assert table.iloc[1].isna().all()


def test_tables_do_not_depend_on_the_order_of_ids_and_leave_out_other_objects():
    rng = np.random.default_rng(6)
    labels, levels = rng.integers(0, 6, (5, 6, 7)), rng.integers(1, 5, (5, 6, 7)).astype(np.uint8)
    zones = zones_of(labels, levels)
    whole = zone_table(zones, np.arange(1, 6))
    assert zone_table(zones, np.array([4, 2])).equals(whole.iloc[[3, 1]].reset_index(drop=True))
    for i in (1, 5):
        alone = zone_table(zones_of(np.where(labels == i, i, 0), levels), np.array([i]))
        assert alone.iloc[0].equals(whole.iloc[i - 1].rename(0))


def test_zones_of_nothing():
    zones = zones_of(np.zeros((2, 3, 4), np.int64), np.zeros((2, 3, 4), np.uint8))
    assert rows(zones) == []
    assert zone_table(zones, ONE).isna().all(axis=None)
    assert len(zone_table(zones, np.zeros(0, np.int64))) == 0
    assert rows(zones + zones_of(REGION, PHANTOM)) == rows(zones_of(REGION, PHANTOM))


def test_ids_levels_and_sizes_that_do_not_fit_into_one_number():
    keys = np.array([(3 << 61) + 1, (3 << 61) + 1, (3 << 61) + 2], np.uint64)
    ids = np.array([9, 8, 7])
    assert rows(_count_equal(keys, np.array([2, 2, 2], np.int32), ids, 61)) == [[7, 1, 2, 2], [7, 2, 2, 1]]
    assert rows(_count_equal(keys % (1 << 61) + (3 << 40), np.array([2, 2, 2], np.int32), ids, 40)) == [
        [7, 1, 2, 2],
        [7, 2, 2, 1],
    ]


def test_many_objects_with_many_levels():
    labels = np.array([[[1, 70000, 70000, 0, 1]]], np.int32)
    levels = np.array([[[1, 65535, 65535, 0, 1]]], np.uint16)
    part = find_zones(labels, np.arange(70000) + 10, levels, (0, 0, 0), (1, 1, 6))
    assert rows(part.closed) == [[10, 1, 1, 1], [70009, 65535, 2, 1]]
    assert (part.object_id.tolist(), part.level.tolist(), part.size.tolist()) == ([10], [1], [1])


def test_impossible_input_is_refused():
    ones, levels = np.ones((2, 2, 2), np.int32), np.ones((2, 2, 2), np.uint8)
    with pytest.raises(ValueError, match="one shape"):
        find_zones(ones, ONE, levels[1:], (0, 0, 0), (2, 2, 2))
    with pytest.raises(ValueError, match="6, 18 or 26"):
        find_zones(ones, ONE, levels, (0, 0, 0), (2, 2, 2), 8)
    with pytest.raises(ValueError, match="does not lie"):
        find_zones(ones, ONE, levels, (1, 0, 0), (2, 2, 2))
    for wrong_labels, wrong_levels in [(ones * 2, levels), (-ones, levels), (ones, levels * 0)]:
        with pytest.raises(ValueError, match="ids from 0 to 1 and, inside objects, levels from 1"):
            find_zones(wrong_labels, ONE, wrong_levels, (0, 0, 0), (2, 2, 2))


def test_blocks_that_do_not_belong_together_are_refused():
    labels, levels = np.ones((4, 4, 4), np.int64), np.ones((4, 4, 4), np.uint8)
    first, second, *others = zones_in_blocks(labels, levels, (2, 2, 2))
    with pytest.raises(ValueError, match="came twice"):
        merge_zones([first, first])
    with pytest.raises(ValueError, match="blocks are missing"):
        merge_zones([first, second, *others[:-1]])
    with pytest.raises(ValueError, match="connectivity 26, got 6"):
        merge_zones([first, next(zones_in_blocks(labels, levels, (2, 2, 2), 6))])
    coarse = find_zones(labels[:2, :, 2:].astype(np.int32), ONE, levels[:2, :, 2:], (0, 0, 2), (4, 4, 4))
    with pytest.raises(ValueError, match="as a grid"):
        merge_zones([first, coarse])

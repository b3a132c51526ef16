"""Red flags: what is odd is named, what is ordinary is not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from cristae.advice.extents import NOWHERE, extents, joined
from cristae.advice.flags import (
    COLUMNS,
    anatomy_flags,
    island_flags,
    jumps,
    odd_objects,
    put_together,
    severity_of,
)


def _objects(volumes: list[float], **columns: object) -> pd.DataFrame:
    return pd.DataFrame(
        {"class": "mito", "object_id": np.arange(1, len(volumes) + 1), "volume_um3": volumes, **columns}
    )


def test_the_odd_object_is_named_and_the_others_are_not():
    volumes = [*np.random.default_rng(0).lognormal(0, 0.3, 40), 60.0, 0.002]
    found = odd_objects(_objects(volumes)).set_index("object_id")
    assert {41, 42} <= set(found.index) and len(found) <= 3
    assert "larger" in found.loc[41, "reason"] and "smaller" in found.loc[42, "reason"]
    assert found.loc[42, "severity"] > found.loc[41, "severity"] > 0


def test_units_and_order_do_not_matter():
    table = _objects([1, 1.1, 0.9, 1.05, 1.2, 0.95, 1, 1.1, 30])
    other = table.assign(volume_um3=table["volume_um3"] * 1000).sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(odd_objects(other), odd_objects(table))
    assert odd_objects(table)["object_id"].tolist() == [9]


def test_cut_objects_are_neither_odd_nor_a_measure():
    table = _objects([1, 1.1, 0.9, 1.05, 1.2, 0.95, 1, 1.1, 0.001], touches_edge=[False] * 8 + [True])
    assert odd_objects(table).empty


def test_few_objects_raise_no_flag():
    assert odd_objects(_objects([1, 1, 1, 1, 1, 1, 500])).empty


def test_shape_counts_too():
    table = _objects([1.0] * 12, fill=[0.5] * 11 + [0.05], elongation=[1.5, 12.0] + [1.5] * 10)
    reasons = odd_objects(table).set_index("object_id")["reason"]
    assert set(reasons.index) == {2, 12}
    assert "ragged" in reasons[12] and "8 times as long" in reasons[2]


def _along(areas: list[int], shared: list[int] | None = None) -> pd.DataFrame:
    before = [np.nan, *areas[:-1]]
    both = shared or [0, *(min(pair) * 9 // 10 for pair in pairwise(areas))]
    return pd.DataFrame(
        {"class": "mito", "z": range(len(areas)), "n_predicted": areas, "n_before": before, "n_shared": both}
    )


def test_a_slice_with_much_less_is_a_jump():
    areas = [1000 + 5 * z for z in range(20)]
    assert jumps(_along(areas)).empty
    areas[9] = 150
    found = jumps(_along(areas))
    assert found.iloc[0]["z"] == 9 and "less of mito" in found.iloc[0]["reason"]
    assert set(found["z"]) <= {9, 10}


def test_a_slice_that_lies_elsewhere_is_a_jump():
    shared = [0, *[900] * 19]
    shared[7] = 200
    found = jumps(_along([1000] * 20, shared))
    assert found["z"].tolist() == [7] and "elsewhere" in found.iloc[0]["reason"]


def test_bad_slices_are_passed_over():
    areas = [1000] * 20
    areas[9] = 0
    table = _along(areas).assign(usable=[z not in (9, 10) for z in range(20)])
    assert jumps(table).empty


def _parents(rows: list[tuple[str, int, int, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["class", "object_id", "parent_cell_id", "share_inside"])


ACROSS = pd.DataFrame({"class": ["mito", "mito"], "object_id": [4, 4], "cell_id": [1, 2], "share": [0.6, 0.4]})


def test_anatomy_that_cannot_be():
    parents = _parents([("nucleus", 1, 7, 1.0), ("nucleus", 2, 7, 1.0), ("nucleus", 3, 0, 0.0), ("mito", 4, 1, 0.6)])
    parents["parent_nucleus_id"] = pd.array([None] * 4, dtype="Int64")
    parents.loc[4] = ["nucleolus", 5, 7, 1.0, 0]
    found = anatomy_flags(parents, ACROSS)
    by_kind = {(one.kind, one.object_id): one.reason for one in found.itertuples()}
    assert set(by_kind) == {("no parent", 3), ("no parent", 5), ("across cells", 4), ("several nuclei", 7)}
    assert "1, 2" in by_kind["several nuclei", 7] and "cells 1, 2" in by_kind["across cells", 4]
    assert by_kind["no parent", 5] == "nucleolus in no nucleus"


def test_in_order_means_no_flags():
    parents = _parents([("nucleus", 1, 7, 1.0), ("nucleus", 2, 8, 0.98), ("mito", 4, 7, 0.9)])
    assert anatomy_flags(parents, ACROSS.iloc[:0]).empty


def test_islands_without_a_cell():
    tracked = pd.DataFrame({"object": [1, 2, 3], "kind": ["labelled", "island", "island"], "n_voxels": [9, 5, 50]})
    found = island_flags(tracked).set_index("object_id")["severity"]
    assert found[3] > found[2] and list(found.index) == [2, 3]


def test_all_flags_together_worst_first():
    tables = [island_flags(pd.DataFrame({"object": [2], "kind": ["island"]})), odd_objects(_objects([1.0] * 9 + [90]))]
    found = put_together([*tables, tables[0].iloc[:0]])
    assert list(found["severity"]) == sorted(found["severity"], reverse=True) and len(found) == 2
    assert put_together([]).dtypes.astype(str).replace("object", "str").to_dict() == COLUMNS


def test_severity_grows_from_the_threshold():
    assert severity_of(np.array([0, 4, 8, -40]), 4) == pytest.approx([0, 0, 0.5, 0.9])


def test_boxes_of_blocks_are_those_of_the_whole():
    labels = np.zeros((8, 20, 20), np.uint32)
    labels[1:5, 3:9, 2:4], labels[6, 19, 0], labels[2:8, 10, 10:20] = 5, 2**31 + 5, 70
    wanted = np.array([5, 60, 70, 2**31 + 5], np.uint64)
    whole = extents(labels, wanted)
    assert whole[0].tolist() == [1, 3, 2, 5, 9, 4] and whole[3].tolist() == [6, 19, 0, 7, 20, 1]
    assert whole[1].tolist() == [NOWHERE] * 3 + [0] * 3
    parts = [extents(labels[z : z + 3, :, x : x + 7], wanted, (z, 0, x)) for z in (0, 3, 6) for x in (0, 7, 14)]
    found = parts[0]
    for part in parts[1:]:
        found = joined(found, part)
    assert np.array_equal(found, whole)
    assert extents(labels, np.array([], np.uint64)).shape == (0, 6)
    with pytest.raises(ValueError, match="ascend"):
        extents(labels, np.array([5, 5], np.uint64))

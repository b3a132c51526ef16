"""Laws of the scores that match objects, against slow and plain versions of the same definitions."""

import math
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from cristae.metrics.instance import Contingency, add_up, contingency, within_truth
from cristae.metrics.matching import (
    detections,
    dice_by_id,
    dice_by_match,
    island_share,
    islands,
    named_as_truth,
    smeared_ids,
    smeared_objects,
    summarise_dice,
)

LARGEST = 2**32 - 1
SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5)
NAMES = np.array([0, LARGEST, 7, 12, 10**9, 5, 6], np.uint32)


@st.composite
def two_labellings(draw):
    """Truth, and a segmentation that has objects of it, pieces of them and accidents."""
    shape = draw(SHAPES)
    truth = draw(hnp.arrays(np.uint32, shape, elements=st.integers(0, 4)))
    other = draw(hnp.arrays(np.uint32, shape, elements=st.integers(0, 6)))
    agrees = draw(hnp.arrays(bool, shape))
    return np.where(agrees, truth, other), truth


def dices(found, truth):
    """Dice of every pair of ids (true ids down, found ids across), by masks."""
    return {
        (t, f): 2 * np.sum((truth == t) & (found == f)) / (np.sum(truth == t) + np.sum(found == f))
        for t in np.unique(truth[truth > 0])
        for f in np.unique(found[found > 0])
    }


@given(hnp.arrays(np.uint32, SHAPES, elements=st.integers(0, 4)))
def test_a_labelling_agrees_perfectly_with_itself(ids):
    table = contingency(ids, ids)
    for scores in (dice_by_id(table), dice_by_match(table), dice_by_match(table, known=[1, 2])):
        assert scores["object_id"].tolist() == np.setdiff1d(ids, 0).tolist()
        assert (scores["dice"] == 1).all()
        assert (scores["n_voxels"] == scores["n_shared_voxels"]).all()
    for threshold in (0.5, 0.75):
        found = detections(table, threshold)
        assert found.panoptic_quality == found.average_precision == found.segmentation_quality == 1
    assert island_share(table) == 1 or not ids.any()


@given(two_labellings())
def test_dice_by_id_is_dice_of_masks(pair):
    found, truth = pair
    scores = dice_by_id(contingency(found, truth), smallest=3)
    sizes = Counter(truth[truth > 0].tolist())
    assert scores["object_id"].tolist() == sorted(i for i, n in sizes.items() if n >= 3)
    expected = dices(found, truth)
    for row in scores.itertuples():
        assert row.n_voxels == sizes[row.object_id]
        assert row.dice == pytest.approx(expected.get((row.object_id, row.object_id), 0))
        assert row.found_id in (0, row.object_id)
        assert row.n_found_voxels == (np.sum(found == row.found_id) if row.found_id else 0)


@settings(max_examples=200)
@given(two_labellings())
def test_matching_is_the_best_there_is(pair):
    found, truth = pair
    scores = dice_by_match(contingency(found, truth))
    expected = dices(found, truth)
    n_found = np.setdiff1d(found, 0).size
    matrix = np.array(list(expected.values())).reshape(-1, n_found) if expected else np.zeros((0, 0))
    best = matrix[linear_sum_assignment(matrix, maximize=True)].sum()
    assert scores["dice"].sum() == pytest.approx(best)
    for row in scores[scores["found_id"] > 0].itertuples():
        assert row.dice == pytest.approx(expected[row.object_id, row.found_id])
    partners = scores.loc[scores["found_id"] > 0, "found_id"]
    assert partners.is_unique


@given(two_labellings())
def test_names_of_found_objects_do_not_matter_to_matches(pair):
    found, truth = pair
    as_it_was, renamed = contingency(found, truth), contingency(NAMES[found], truth)
    assert detections(as_it_was) == detections(renamed)
    assert dice_by_match(renamed)["dice"].sum() == pytest.approx(dice_by_match(as_it_was)["dice"].sum())
    both = contingency(NAMES[found], NAMES[truth])
    assert sorted(dice_by_id(both)["dice"]) == sorted(dice_by_id(as_it_was)["dice"])
    assert both.truth.max() <= LARGEST


@given(two_labellings())
def test_matching_is_never_worse_than_ids_and_known_ids_lie_between(pair):
    table = contingency(*pair)
    by_id, mixed, free = (
        scores["dice"].sum() for scores in (dice_by_id(table), dice_by_match(table, known={1, 2}), dice_by_match(table))
    )
    assert by_id - 1e-9 <= mixed <= free + 1e-9
    everything = dice_by_match(table, known=range(7))
    pd.testing.assert_frame_equal(everything, dice_by_id(table))


@given(two_labellings())
def test_known_ids_are_compared_by_id_and_given_to_nobody_else(pair):
    table = contingency(*pair)
    mixed, by_id = (scores.set_index("object_id") for scores in (dice_by_match(table, known=[1, 5]), dice_by_id(table)))
    assert 5 not in mixed["found_id"].to_numpy()  # an object of a cell that is not in this part of the truth
    assert 1 not in mixed["found_id"].drop(1, errors="ignore").to_numpy()
    if 1 in by_id.index:
        assert mixed.loc[1].equals(by_id.loc[1])


@given(two_labellings(), st.integers(1, 9))
def test_smallest_only_leaves_rows_out(pair, smallest):
    table = contingency(*pair)
    for score in (dice_by_id, dice_by_match):
        everything = score(table)
        kept = everything[everything["n_voxels"] >= smallest].reset_index(drop=True)
        pd.testing.assert_frame_equal(score(table, smallest), kept)


@given(two_labellings(), st.sampled_from([0.5, 0.6, 0.75]))
def test_detections_count_pairs_of_masks(pair, threshold):
    found, truth = pair
    ious = {pair: d / (2 - d) for pair, d in dices(found, truth).items()}
    # an IoU of exactly the threshold is no match; rounding must not decide it here either
    hits = {pair: iou for pair, iou in ious.items() if iou > threshold + 1e-12}
    result = detections(contingency(found, truth), threshold)
    assert len({t for t, _ in hits}) == len({f for _, f in hits}) == len(hits) == result.n_matched
    assert result.n_matched + result.n_missed == np.setdiff1d(truth, 0).size
    assert result.n_matched + result.n_invented == np.setdiff1d(found, 0).size
    assert result.sum_iou == pytest.approx(sum(hits.values()))


@given(two_labellings())
def test_panoptic_quality_is_the_formula_of_the_paper_and_symmetric(pair):
    found, truth = pair
    result, mirrored = detections(contingency(found, truth)), detections(contingency(truth, found))
    assert result.panoptic_quality == result.segmentation_quality * result.recognition_quality
    assert result.panoptic_quality == pytest.approx(mirrored.panoptic_quality)
    assert result.average_precision == mirrored.average_precision
    assert (result.n_missed, result.n_invented) == (mirrored.n_invented, mirrored.n_missed)
    n_objects = result.n_matched + (result.n_missed + result.n_invented) / 2
    if n_objects:
        assert result.panoptic_quality == pytest.approx(result.sum_iou / n_objects)


@given(two_labellings(), st.data())
def test_blocks_equal_the_whole(pair, data):
    found, truth = pair
    cut = data.draw(st.integers(0, found.shape[2]))
    parts = add_up([contingency(found[..., :cut], truth[..., :cut]), contingency(found[..., cut:], truth[..., cut:])])
    whole = contingency(found, truth)
    pd.testing.assert_frame_equal(dice_by_match(parts, known=[1]), dice_by_match(whole, known=[1]), check_exact=True)
    assert detections(parts) == detections(whole)


@given(two_labellings())
def test_what_nobody_annotated_can_be_left_out(pair):
    found, truth = pair
    looked_at = within_truth(contingency(found, truth))
    wiped = contingency(np.where(truth == 0, 0, found), truth)
    assert detections(looked_at) == detections(wiped)
    pd.testing.assert_frame_equal(dice_by_match(looked_at), dice_by_match(wiped))


@given(two_labellings())
def test_island_share_counts_voxels_with_the_right_id(pair):
    found, truth = pair
    islands = truth > 2
    share = island_share(contingency(found[islands], truth[islands]))
    if islands.any():
        assert share == pytest.approx(np.mean(found[islands] == truth[islands]))
    else:
        assert math.isnan(share)


def test_worked_example():
    truth = np.array([1, 1, 1, 1, 2, 2, 2, 3, 0, 0])
    found = np.array([1, 1, 1, 0, 9, 9, 0, 9, 4, 4])
    table = contingency(found, truth)
    assert dice_by_id(table)["dice"].tolist() == [6 / 7, 0, 0]
    matched = dice_by_match(table)
    assert matched["found_id"].tolist() == [1, 9, 0]
    assert matched["n_found_voxels"].tolist() == [3, 3, 0]
    assert matched["dice"].tolist() == pytest.approx([6 / 7, 4 / 6, 0])
    assert detections(table).n_matched == 1  # cell 2 and object 9 have an IoU of exactly 1/2
    assert detections(table).panoptic_quality == pytest.approx(0.75 / 3)
    assert detections(table).average_precision == 1 / 5
    assert detections(table, 0.75).n_matched == 0
    assert detections(within_truth(table)).n_invented == 1
    assert island_share(table) == 3 / 8


@pytest.mark.parametrize("seed", range(5))
def test_matching_many_rivals_is_the_best_there_is(seed):
    shared = np.random.default_rng(seed).integers(0, 40, (12, 15)) // 4
    true_id, found_id = np.nonzero(shared)
    table = Contingency(found_id + 1, true_id + 1, shared[true_id, found_id])
    dice = 2 * shared / (shared.sum(1, keepdims=True) + shared.sum(0))
    best = dice[linear_sum_assignment(dice, maximize=True)].sum()
    assert dice_by_match(table)["dice"].sum() == pytest.approx(best)


def test_the_sum_counts_not_the_first_come():
    """Cell 1 likes found 5 best, but leaves it to cell 2, which has nothing else."""
    truth = np.array([1] * 10 + [2] * 6)
    found = np.array([5] * 5 + [6] * 5 + [5] * 3 + [0] * 3)
    assert dice_by_match(contingency(found, truth))["found_id"].tolist() == [6, 5]


def test_summary():
    scores = pd.DataFrame({"object_id": [9, 3, 4, LARGEST], "dice": [0.5, 1.0, 0.5, 0.8]})
    summary = summarise_dice(scores)
    assert (summary.n_objects, summary.mean, summary.worst, summary.worst_id) == (4, pytest.approx(0.7), 0.5, 4)
    assert summary.sd == pytest.approx(np.std(scores["dice"], ddof=1))
    assert summarise_dice(scores[scores["object_id"] != 4]).worst_id == 9
    assert math.isnan(summarise_dice(scores[:1]).sd)
    nothing = summarise_dice(scores[:0])
    assert nothing.n_objects == 0
    assert math.isnan(nothing.mean)


@pytest.mark.parametrize("shape", [(0,), (2, 3)])
def test_nothing_to_score_is_defined(shape):
    empty = contingency(np.zeros(shape, np.uint32), np.zeros(shape, np.uint32))
    for scores in (dice_by_id(empty), dice_by_match(empty, known=[1])):
        assert scores.empty
        assert scores.dtypes.astype(str).tolist() == ["int64"] * 5 + ["float64"]
    assert detections(empty).panoptic_quality == detections(empty).average_precision == 1
    assert math.isnan(island_share(empty))


def test_nothing_found_and_nothing_true():
    ids, nothing = np.array([1, 1, 2]), np.zeros(3, int)
    missed, invented = contingency(nothing, ids), contingency(ids, nothing)
    assert dice_by_match(missed)["dice"].tolist() == [0, 0]
    assert dice_by_match(invented).empty
    for table in (missed, invented):
        result = detections(table)
        assert result.panoptic_quality == result.segmentation_quality == result.average_precision == 0
    assert detections(missed).n_missed == detections(invented).n_invented == 2


def test_a_wide_net_of_overlaps_is_matched_in_no_time():
    """All objects hang together, as in tissue: a dense table of 20,000 by 20,000 would take 3 GB."""
    ids = np.arange(1, 20_001)
    table = Contingency(np.concatenate([ids, ids % 20_000 + 1]), np.concatenate([ids, ids]), np.repeat([3, 2], 20_000))
    scores = dice_by_match(table)
    assert (scores["found_id"] == scores["object_id"]).all()
    assert scores["dice"].to_numpy() == pytest.approx(0.6)


@pytest.mark.parametrize("threshold", [0.49, 1, math.nan])
def test_thresholds_at_which_matches_are_not_unique_are_refused(threshold):
    with pytest.raises(ValueError, match="threshold of IoU"):
        detections(contingency(np.ones(3, int), np.ones(3, int)), threshold)


@given(hnp.arrays(np.uint32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.sampled_from([0, 1, 9])))
def test_islands_are_all_but_one_largest_part_of_every_object(labels):
    apart = islands(labels)
    assert apart.dtype == np.bool_ and not apart[labels == 0].any()
    for name in np.unique(labels[labels > 0]):
        parts, n_parts = ndimage.label(labels == name, np.ones((3, 3)))
        sizes = [np.sum(parts == part) for part in range(1, n_parts + 1)]
        lonely = [bool(apart[parts == part].all()) for part in range(1, n_parts + 1)]
        assert [bool(apart[parts == part].any()) for part in range(1, n_parts + 1)] == lonely, "a part is whole"
        assert lonely.index(False) == int(np.argmax(sizes)) and lonely.count(False) == 1


def test_islands_of_an_empty_and_of_a_full_slice():
    assert not islands(np.zeros((3, 4), np.uint32)).any()
    assert not islands(np.full((3, 4), LARGEST, np.uint32)).any()


@given(two_labellings(), st.sets(st.integers(1, 4)))
def test_objects_named_as_the_truth_are_scored_by_id_as_they_were_by_match(pair, known):
    found, truth = pair
    table = contingency(found, truth)
    scores = dice_by_match(table, known=known)
    renamed = named_as_truth(table, scores, known)
    assert np.unique(renamed.segmentation).size == np.unique(table.segmentation).size
    assert ((renamed.segmentation == 0) == (table.segmentation == 0)).all()
    pd.testing.assert_series_equal(dice_by_id(renamed)["dice"], scores["dice"])


@given(st.lists(two_labellings(), max_size=4))
def test_parts_add_up_to_the_table_of_the_whole(pairs):
    whole = add_up(contingency(*pair) for pair in pairs)
    sides = [
        np.concatenate([np.zeros(0, np.int64), *(side.ravel() for side in one)]) for one in zip(*pairs, strict=True)
    ]
    expected = contingency(*sides or (np.zeros(0, np.int64),) * 2)
    for name in ("segmentation", "truth", "n_voxels"):
        assert (getattr(whole, name) == getattr(expected, name)).all()
    assert whole.n_voxels.sum() == sum(found.size for found, _ in pairs)


@given(two_labellings())
def test_smeared_objects_count_by_their_size_and_as_one_at_most(pair):
    table = contingency(*pair)
    known = {int(one) for one in np.union1d(*pair) if one}
    ids = smeared_ids(table, known)
    assert 0 <= smeared_objects(table, known) <= len(ids)
    assert (smeared_objects(table, known) > 0) == bool(len(ids))
    alone = contingency(pair[0], np.zeros_like(pair[0]))  # nothing true is there to be measured by
    assert smeared_objects(alone, known) == len(smeared_ids(alone, known))


def test_a_rest_is_measured_by_the_median_of_true_objects():
    truth = np.array([[1, 1, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0]])
    found = np.array([[1, 1, 2, 2, 2, 2, 3, 4, 4, 4, 4, 4, 5]])
    table = contingency(found, truth)
    assert smeared_objects(table, {1, 2, 3, 4}) == pytest.approx(1 / 3 + 1)
    assert smeared_objects(table, {1, 2, 3, 4}, smallest=2) == 1
    assert smeared_objects(table, {2, 3}) == pytest.approx(1 / 4)


def test_smeared_are_known_objects_found_where_the_truth_has_none_of_them():
    truth = np.array([[1, 1, 2, 2, 0, 0, 0, 3]])
    found = np.array([[1, 4, 2, 4, 4, 5, 5, 6]])
    table = contingency(found, truth)
    assert smeared_ids(table, {1, 2, 4, 5, 7}).tolist() == [4, 5]
    assert smeared_ids(table, {1, 2, 4, 5, 7}, smallest=3).tolist() == [4]
    assert smeared_ids(table, {1, 2, 3}).tolist() == []
    assert smeared_ids(contingency(truth, truth), {1, 2, 3}).tolist() == []

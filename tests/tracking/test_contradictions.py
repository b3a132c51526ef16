"""One name for two cells is listed, one cell with two arms is not; a name that changes bit by bit is."""

import numpy as np
import pytest

from cristae.tracking import TrackSettings, find_tracks

N = 8


def tracks_of(stack, labelled=(0, N - 1), **rules):
    return find_tracks(stack, {z: stack[z] for z in labelled}, settings=TrackSettings(smallest_body_px=20, **rules))


def two_parts(apart=20):
    stack = np.zeros((N, 30, 60), np.uint32)
    stack[:, 5:15, 4:14] = stack[:, 5:15, 14 + apart : 24 + apart] = 70_001
    stack[:, 20:28, 4:14] = 3
    return stack


def test_parts_that_never_meet_are_listed_where_they_are_labelled() -> None:
    table = tracks_of(two_parts()).doubles()
    assert table["object"].tolist() == [70_001, 70_001]
    assert table["slice"].tolist() == [0, N - 1]
    assert table[["region", "other_region", "apart_px"]].to_numpy().tolist() == [[0, 1, 20]] * 2


@pytest.mark.parametrize("change", ["meet", "near", "island", "unlabelled"])
def test_what_may_well_be_one_cell_is_not(change) -> None:
    stack = two_parts(5 if change == "near" else 20)
    if change == "meet":
        stack[4, 5:15, 4:44] = 70_001
    if change == "island":
        stack[:, 5:15, 34:44] = 0
        stack[:, 5:8, 34:37] = 70_001
    assert tracks_of(stack, () if change == "unlabelled" else (0, N - 1)).doubles().empty


def test_parts_that_meet_beyond_a_missing_slice_are_one_cell() -> None:
    stack = two_parts()
    stack[4:, 5:15, 4:44] = 70_001
    stack[3] = 0
    assert tracks_of(stack, (0,), bad_slices=(3,)).doubles().empty


def test_a_cell_that_changes_its_name_bit_by_bit_is_a_conflict() -> None:
    stack = two_parts()
    stack[stack == 70_001] = 0
    stack[:, 5:15, 20:40] = 5
    for z in range(N):
        stack[z, 5:15, 20 : 20 + 20 * z // (N - 1)] = 6
    conflicts = tracks_of(stack).conflicts()
    assert conflicts[["object", "next_object"]].to_numpy().tolist() == [[5, 6]]
    assert conflicts["overlap_px"].item() == 200


def test_nothing_contradicts_nothing() -> None:
    tracks = tracks_of(np.zeros((N, 9, 9), np.uint32))
    assert tracks.doubles().empty and tracks.conflicts().empty


def test_a_cell_that_only_the_input_has_is_not_named_differently_by_the_expert() -> None:
    """Object 6 takes the place of 5 in the input, but on the last slice nobody looked at it."""
    stack = two_parts()
    stack[stack == 70_001] = 0
    stack[:, 5:15, 20:40] = 5
    for z in range(N):
        stack[z, 5:15, 20 : 20 + 20 * z // (N - 1)] = 6
    unseen = np.uint32(2**32 - 1)
    anchors = {0: stack[0], N - 1: np.where(stack[-1] == 6, unseen, stack[-1])}
    rules = TrackSettings(smallest_body_px=20, unseen_id=int(unseen))
    assert find_tracks(stack, anchors, settings=rules).conflicts().empty

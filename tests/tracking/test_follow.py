"""What tracking promises: one id per cell, whatever the slices call it, and a reason for each."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cristae.tracking import TrackSettings, find_tracks, follow, relabelled

SHAPE = (40, 60)
BODY_PX = 40
METHODS = pytest.mark.parametrize("method", ["assign", "greedy", "greedy_nearest"])


def track(labels, anchors=None, **given):
    """Track a stack held in memory; return the relabelled stack and the tracks."""
    result = np.full(np.shape(labels), 99, np.uint32)

    def write(z, plane):
        result[z] = plane

    tracks = follow(labels, write, anchors, settings=TrackSettings(**{"smallest_body_px": BODY_PX} | given))
    return result, tracks


def same_objects(a, b):
    """Say whether two labellings are equal up to the names of ids."""
    if not np.array_equal(a == 0, b == 0):
        return False
    pairs = np.unique(np.stack([a[a > 0], b[a > 0]]), axis=1)
    return all(len(np.unique(side)) == pairs.shape[1] for side in pairs)


def disc(y, x, radius):
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def two_bodies(n=12):
    truth = np.zeros((n, *SHAPE), np.uint8)
    for z in range(n):
        truth[z][disc(22, 12 + 0.3 * z, 9)] = 1
        truth[z][disc(22, 45 - 0.3 * z, 9)] = 2
    return truth


def with_filopodium(n=12):
    """Two bodies, and an island that sinks into the right one: cell 2 from the start."""
    truth = two_bodies(n)
    for z in range(n):
        truth[z][disc(3 + 1.2 * z, 44, 2) & (truth[z] == 0)] = 2
    return truth


def anonymous(truth, seed=0):
    """Give every connected part of every slice a random id of its own; islands share one, 200."""
    random = np.random.default_rng(seed)
    result = np.zeros(truth.shape, np.uint16)
    for z, plane in enumerate(truth):
        names = iter(random.permutation(np.arange(1, 200)))
        for cell in np.unique(plane[plane > 0]):
            n, parts = cv2.connectedComponents((plane == cell).astype(np.uint8), connectivity=8)
            for part in range(1, n):
                island = (parts == part).sum() < BODY_PX
                result[z][parts == part] = 200 if island else next(names)
    return result


@METHODS
def test_an_island_belongs_to_the_body_it_meets_from_its_first_slice_on(method):
    truth = with_filopodium()
    result, tracks = track(anonymous(truth), {0: two_bodies()[0] * 7}, method=method, island_id=200)
    result[0] = np.where(truth[0] > 0, truth[0] * 7, 0)  # the expert's slice is what the expert says
    assert np.array_equal(result, truth.astype(np.uint32) * 7)
    reasons = set(tracks.links().query("`object` == 14").reason)
    assert "met body" in reasons
    assert "island" not in set(tracks.objects().kind)


@METHODS
def test_a_piece_that_breaks_off_keeps_the_id(method):
    truth = with_filopodium()[::-1]
    result, tracks = track(anonymous(truth), {0: truth[0]}, method=method, island_id=200)
    assert np.array_equal(result, truth)
    assert "broke off" in set(tracks.links().reason)


@METHODS
@pytest.mark.parametrize("edge", [3, 8])
def test_an_island_that_reaches_no_body_stays_an_object_of_its_own_and_is_listed(method, edge):
    truth = two_bodies()
    truth[3:8, 2 : 2 + edge, 25 : 25 + edge] = 3
    labels = anonymous(truth)
    labels[truth == 3] = 200  # a mark counts, whatever the size
    result, tracks = track(labels, {0: truth[0]}, method=method, island_id=200)
    assert same_objects(result, truth)
    islands = tracks.objects().query("kind == 'island'")
    assert islands[["first_slice", "last_slice", "n_regions", "n_voxels"]].to_numpy().tolist() == [
        [3, 7, 5, 5 * edge**2]
    ]
    assert set(tracks.links().query(f"`object` == {islands['object'].iloc[0]}").reason) == {"island", "overlap"}


@METHODS
def test_identical_slices_are_certain_and_an_island_that_reaches_no_cell_is_not(method):
    truth = np.repeat(two_bodies(1), 6, axis=0)
    truth[2:5, 2:5, 25:28] = 3
    _, tracks = track(truth, {0: two_bodies(1)[0]}, method=method)
    assert tracks.objects().set_index("kind")["certainty"].to_dict() == {"labelled": 1, "island": 0}
    links = tracks.links()
    linked = links["linked_slice"] >= 0
    assert (links["share"][linked] == 1).all() and not links["share"][~linked].any()
    assert (links["certainty"][links["object"] < 3] == 1).all()


def test_what_hangs_on_a_weak_link_is_no_surer_than_that_link():
    truth = np.zeros((8, *SHAPE), np.uint8)
    truth[:3, 10:20, 10:30] = 4
    truth[3:, 10:20, 22:42] = 4  # 8 of 20 columns stay
    truth[:, 25:35, 10:30] = 6
    _, tracks = track(truth, {0: truth[0]}, method="greedy")
    links = tracks.links().set_index(["object", "slice"]).sort_index()
    assert links.loc[4, "share"].tolist() == [0, 1, 1, 0.4, 1, 1, 1, 1]
    assert links.loc[4, "certainty"].tolist() == [1] * 3 + [0.4] * 5
    certainty = tracks.objects().set_index("object")["certainty"]
    assert certainty[6] == 1
    assert certainty[4] == pytest.approx((3 + 0.4 * 5) / 8)


def test_a_second_labelled_slice_makes_it_surer_from_the_other_side():
    truth = np.zeros((8, *SHAPE), np.uint8)
    truth[:3, 10:20, 10:30] = 4
    truth[3:, 10:20, 20:40] = 4
    one, both = (track(truth, {z: truth[z] for z in known})[1].links() for known in ((0,), (0, 7)))
    assert one.sort_values("slice")["certainty"].tolist() == [1] * 3 + [0.5] * 5
    assert both.sort_values("slice")["certainty"].tolist() == [1] * 8


def test_names_in_the_slices_do_not_matter():
    truth = with_filopodium()
    one, two = (track(anonymous(truth, seed), island_id=200)[0] for seed in (1, 2))
    assert np.array_equal(one, two)
    assert same_objects(one, truth)


def test_one_id_for_two_cells_is_two_regions():
    truth = two_bodies()
    result, _ = track((truth > 0).astype(np.uint8))
    assert same_objects(result, truth)


@METHODS
def test_a_missing_slice_is_bridged(method):
    truth = two_bodies()
    truth[5:7] = 0
    result, tracks = track(anonymous(truth), {0: truth[0]}, method=method)
    assert np.array_equal(result, truth)
    if method != "greedy_nearest":
        assert (tracks.links().query("slice == 7").reason == "bridge").all()


def test_a_bad_slice_gets_the_ids_of_its_neighbours_and_joins_no_cells():
    truth = two_bodies()
    labels = anonymous(truth)
    labels[5] = labels[5].max() * disc(22, 28, 24)
    result, _ = track(labels, bad_slices=(5,))
    good = [z for z in range(12) if z != 5]
    assert same_objects(result[good], truth[good])
    assert set(np.unique(result[5])) <= set(np.unique(result[4]))


def test_a_cell_that_begins_and_one_that_ends_between_labelled_slices():
    truth = two_bodies()
    truth[4:, :6, 20:40] = 3
    truth[8:][truth[8:] == 1] = 0
    result, tracks = track(anonymous(truth), {0: truth[0], 11: truth[11]})
    assert np.array_equal(result, truth)
    assert tracks.objects().query("`object` == 1").last_slice.item() == 7
    result, tracks = track(anonymous(truth), {0: truth[0]})
    assert same_objects(result, truth)
    assert tracks.objects().kind.tolist() == ["labelled", "labelled", "body"]
    assert tracks.objects().object.tolist() == [1, 2, 3]


def test_two_labelled_cells_are_never_merged_where_their_slices_did_not_separate_them():
    truth = np.zeros((14, *SHAPE), np.uint8)
    truth[:, 10:30, 5:25] = 1
    truth[:, 10:30, 26:55] = 2
    labels = anonymous(truth)
    labels[4:10, 10:30, 5:55] = 9
    for anchors in ({0: truth[0], 13: truth[13]}, {0: truth[0]}, None):
        result, tracks = track(labels, anchors)
        assert same_objects(result[:, :, :25], truth[:, :, :25])
        assert same_objects(result[:, :, 26:], truth[:, :, 26:])
        assert set(tracks.links().query("reason == 'shared'").slice) == set(range(4, 10))
    labels[4:] = 9 * (truth[4:] > 0)
    labels[4:, 10:30, 25] = 9
    result, _ = track(labels, {0: truth[0]})  # they are not separated again
    assert np.array_equal(result[:, :, :25], truth[:, :, :25])
    assert np.array_equal(result[:, :, 26:], truth[:, :, 26:])


def test_the_border_of_a_shared_region_moves_from_where_it_was_to_where_it_will_be():
    truth = np.zeros((12, *SHAPE), np.uint8)
    for z in range(12):
        truth[z, 5:35, 5 : 20 + 2 * z] = 1
        truth[z, 5:35, 20 + 2 * z : 57] = 2
    labels = anonymous(truth)
    labels[3:9] = truth[3:9] > 0
    result, _ = track(labels, {0: truth[0], 11: truth[11]})
    assert ((result != truth).sum(axis=(1, 2)) <= 30).all()  # a column


def test_bodies_that_stay_together_are_lobes_of_one_cell_if_no_expert_says_otherwise():
    truth = np.zeros((10, *SHAPE), np.uint8)
    truth[:, 10:30, 5:25] = 1
    truth[:, 10:30, 30:55] = 1
    truth[5:, 10:30, 5:55] = 1
    result, _ = track(anonymous(truth))
    assert same_objects(result, truth)


def test_two_bodies_that_an_island_connects_stay_two():
    truth = np.zeros((13, *SHAPE), np.uint8)
    truth[:4, :, :20] = truth[4:, :, :10] = 1
    truth[:9, :, 40:] = truth[9:, :, 24:] = 2
    for z in range(4, 9):
        truth[z, 10:14, 7 + 2 * z : 12 + 2 * z] = 3  # breaks off from 1, and 2 closes over it
    result, _ = track(anonymous(truth), island_id=200)
    assert len(np.unique(result)) == 3
    assert same_objects(np.where(truth == 3, 0, result), np.where(truth == 3, 0, truth))
    again, _ = track(anonymous(truth), {0: truth[0]}, island_id=200)
    assert same_objects(result, again)


def test_names_that_disagree_meet_half_way_and_are_told():
    stack = np.repeat(two_bodies(1), 11, axis=0)
    other = np.where(stack[10] == 2, 5, stack[10])
    result, tracks = track(anonymous(stack), {0: stack[0], 10: other})
    assert np.array_equal(result[:5], stack[:5])
    assert np.array_equal(result[6:], np.repeat(other[None], 5, axis=0))
    conflict = tracks.conflicts().iloc[0]
    assert (conflict.object, conflict.next_object, conflict.iou) == (2, 5, 1)
    assert conflict.slice in (4, 5)
    assert not (tracks.links().reason == "shared").any()


@METHODS
def test_a_static_stack_stays_as_it_is(method):
    stack = np.repeat(with_filopodium(1), 6, axis=0)
    result, _ = track(stack, {2: stack[0]}, method=method)
    assert np.array_equal(result, stack)


@METHODS
def test_empty_slices_one_slice_and_no_slice(method):
    assert not track(np.zeros((3, 8, 9), np.uint8), method=method)[0].any()
    assert not track(np.zeros((1, 8, 9), np.uint8), {0: np.zeros((8, 9), int)}, method=method)[0].any()
    one, tracks = track(with_filopodium(1), method=method)
    assert same_objects(one[0], cv2.connectedComponents((with_filopodium(1)[0] > 0).astype(np.uint8))[1])
    assert len(tracks.links()) == len(tracks.objects()) == 3
    none, tracks = track(np.zeros((0, 8, 9), np.uint8), method=method)
    assert none.size == len(tracks.links()) == len(tracks.objects()) == len(tracks.conflicts()) == 0


def test_islands_of_unknown_cell_in_a_labelled_slice_are_tracked():
    truth = with_filopodium()
    expert = np.where((truth[0] == 2) & ~disc(22, 45, 9), 28, truth[0])
    kept, _ = track(anonymous(truth), {0: expert})
    assert 28 in kept[0]
    assert np.array_equal(track(anonymous(truth), {0: expert}, unassigned_id=28)[0], truth)


def test_the_released_rule_knows_a_body_by_the_nearest_labelled_slice():
    truth = two_bodies()
    labels = anonymous(truth)
    labels[3:6] = 0
    labels[4, 15:30, 5:50] = 1  # in the previous slice is nonsense
    assert np.array_equal(track(labels, {0: truth[0]}, method="greedy_nearest")[0][6:], truth[6:])
    assert not np.array_equal(track(labels, {0: truth[0]}, method="greedy")[0][6:], truth[6:])


STACKS = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=7).flatmap(
    lambda shape: hnp.arrays(np.uint8, shape, elements=st.integers(0, 3))
)


@st.composite
def stacks_with_anchors(draw):
    stack = draw(STACKS)
    labelled = draw(st.sets(st.integers(0, len(stack) - 1), max_size=3))
    return stack, {z: draw(hnp.arrays(np.uint16, stack.shape[1:], elements=st.integers(0, 3))) for z in labelled}


@settings(max_examples=150)
@given(stacks_with_anchors(), st.integers(1, 12), st.sampled_from(["assign", "greedy", "greedy_nearest"]))
def test_laws_of_any_stack(given_stack, smallest, method):
    stack, anchors = given_stack
    result, tracks = track(stack, anchors, smallest_body_px=smallest, method=method)
    expected = stack.astype(np.uint32)
    for z, plane in anchors.items():
        assert np.array_equal(result[z], plane)
        expected[z] = plane
    assert np.array_equal(result > 0, expected > 0)
    links, regions = tracks.links(), tracks.regions
    assert len(links) == regions.n_regions + len(tracks.shared.id)
    assert (links.object.to_numpy()[: regions.n_regions] == tracks.ids).all()
    linked = links[(links.linked_region >= 0)]
    source = tracks.ids[regions.first[linked.linked_slice] + linked.linked_region.to_numpy()]
    assert (source == linked.object).all()
    assert (linked.overlap_px > 0).all() and (linked.slice != linked.linked_slice).all()
    at_source = tracks.certainty[regions.first[linked.linked_slice] + linked.linked_region.to_numpy()]
    assert (linked.certainty >= np.minimum(linked.share, at_source)).all()
    drawn = [tracks.ids[regions.first[z] : regions.first[z + 1]] for z in anchors]
    if len(drawn) < 2 and all(len(np.unique(ids)) == len(ids) for ids in drawn):  # each id begins in one place
        assert (linked.certainty == np.minimum(linked.share, at_source)).all()
    assert (linked.share > 0).all() and (linked.share <= 1).all()
    begin = links[(links.linked_region < 0) & (links.reason != "shared")]
    certain = begin.groupby("reason", observed=True)["certainty"].agg(["min", "max"])
    assert (certain.reindex(["anchor", "new body"]).dropna() == 1).all(axis=None)
    assert not certain.reindex(["island"]).dropna().any(axis=None)
    assert set(begin.reason) <= {"anchor", "new body", "island", "nearest labelled slice"}
    if method != "greedy_nearest":
        unlabelled = begin[begin.reason != "anchor"]
        assert not unlabelled.object.duplicated().any()  # an object begins once


@settings(max_examples=150)
@given(stacks_with_anchors(), st.integers(1, 12))
def test_turned_around_the_volume_gives_the_same_objects(given_stack, smallest):
    stack, anchors = given_stack
    result, _ = track(stack, anchors, smallest_body_px=smallest)
    mirrored = {len(stack) - 1 - z: plane for z, plane in anchors.items()}
    back, _ = track(stack[::-1], mirrored, smallest_body_px=smallest)
    assert same_objects(result, back[::-1])


@METHODS
def test_number_of_workers_and_repetition_change_nothing(method):
    random = np.random.default_rng(5)
    stack = random.integers(0, 4, (9, 30, 30)).repeat(3, axis=1).repeat(3, axis=2).astype(np.uint8)
    anchors = {0: stack[0], 6: stack[5]}
    first, tracks = track(stack, anchors, method=method)
    for workers in (1, 2, 5):
        again, tracks_again = track(stack, anchors, method=method, workers=workers)
        assert np.array_equal(first, again)
        assert tracks.links().equals(tracks_again.links())


def test_slices_are_read_one_by_one_and_progress_is_told():
    class Lazy:
        asked = 0

        def __len__(self):
            return 5

        def __getitem__(self, z):
            assert isinstance(z, int)
            self.asked += 1
            return two_bodies(5)[z]

    lazy, told = Lazy(), []
    follow(lazy, lambda z, plane: None, progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 10) for n in range(1, 11)]
    assert lazy.asked == 10


def test_what_does_not_fit_is_refused():
    stack = two_bodies(4)
    for wrong, message in (
        ({"anchors": {4: stack[0]}}, r"labelled slices must lie in 0\.\.3"),
        ({"anchors": {0: stack[0, 1:]}}, "differ in shape"),
        ({"anchors": {0: stack[0] - np.int64(5)}}, "slice 0: ids must lie"),
        ({"bad_slices": (7,)}, "bad slices must lie"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"smallest_body_px": 0}, "smallest_body_px must be at least 1"),
        ({"island_id": (1, 2)}, "island id for each of 4"),
    ):
        with pytest.raises(ValueError, match=message):
            track(stack, **wrong)
    tracks = find_tracks(stack)
    with pytest.raises(ValueError, match="changed since"):
        list(relabelled(stack[::-1], tracks))
    with pytest.raises(ValueError, match="4 slices, got 3"):
        list(relabelled(stack[:3], tracks))
    with pytest.raises(ValueError, match="must fit uint32"):
        track(stack, {0: stack[0].astype(np.int64) << 40})


def test_ids_beyond_16_bits_pass_through():
    truth = two_bodies(3).astype(np.int64)
    truth[truth == 2] = 4_000_000_000
    assert np.array_equal(track(truth, {0: truth[0]})[0], truth)


UNSEEN = 2**32 - 1


def partly(plane, painted):
    """Return what someone who painted only some cells of a slice, and looked at nothing else, would have."""
    return np.where(painted, plane, np.uint32(UNSEEN)).astype(np.uint32)


@METHODS
def test_where_the_expert_did_not_look_the_slice_itself_counts(method):
    # The released rule knows no bodies but those of labelled slices, so that no island can meet one.
    truth = two_bodies() if method == "greedy_nearest" else with_filopodium()
    anchors = {z: partly(plane + np.uint32(70_000), plane == 1) for z, plane in enumerate(truth) if z in (2, 9)}
    for z, anchor in anchors.items():
        result, tracks = track(anonymous(truth), anchors, method=method, unseen_id=UNSEEN, island_id=200)
        assert np.array_equal(result[z] == 70_001, anchor == 70_001)
    assert same_objects(result, truth)
    assert (result[truth == 1] == 70_001).all()
    assert result[truth == 2].min() > 70_001
    assert tracks.objects()["kind"].tolist() == ["labelled", "body"]
    reasons = tracks.links().query("slice == 2").set_index("object")["reason"]
    assert reasons[70_001] == "anchor" and (reasons.drop(70_001) != "anchor").all()


@METHODS
def test_a_hole_in_a_labelled_slice_is_no_background(method):
    """Nobody looked at cell 2 on slice 5, and at a part of cell 1; what is known to be empty stays so."""
    truth = two_bodies()
    ignored = (truth[5] == 2) | ((truth[5] == 1) & (np.arange(SHAPE[0])[:, None] < 20))
    anchors = {0: truth[0], 5: partly(truth[5], ~ignored), 11: truth[11]}
    labels = anonymous(truth)
    labels[5, :4] = 7  # a mistake of the input, where the expert saw that there is nothing
    result, tracks = track(labels, anchors, method=method, unseen_id=UNSEEN)
    assert np.array_equal(result, truth)
    assert tracks.conflicts().empty
    gone, _ = track(labels, anchors | {5: np.where(ignored, 0, truth[5])}, method=method)
    assert not gone[5][truth[5] == 2].any()


@METHODS
def test_the_highest_id_of_a_slice_marks_islands_also_where_an_expert_painted_a_part(method):
    truth = two_bodies()
    truth[:, 2:10, 25:33] = 3
    labels = anonymous(truth)
    labels[truth == 3] = 200
    anchors = {z: partly(truth[z], truth[z] == 1) for z in (0, 5)}
    anchors[8] = truth[8] % 3  # the expert saw that there is none
    marks = "highest", 200, tuple(int(plane.max()) for plane in labels)
    found = [track(labels, anchors, method=method, unseen_id=UNSEEN, island_id=one) for one in marks]
    for result, tracks in found:
        assert np.array_equal(result, found[1][0]) and not result[8][truth[8] == 3].any()
        kinds = tracks.objects().set_index("object")["kind"]
        assert set(kinds[np.unique(result[:8][truth[:8] == 3])]) == {"island"}


def test_two_cells_that_were_painted_are_never_joined_on_slices_painted_in_part_either():
    """The input has them as one region on every slice between."""
    truth = np.zeros((7, *SHAPE), np.uint8)
    truth[:, 5:30, 5:30] = 1
    truth[:, 5:30, 30:55] = 2
    labels = (truth > 0).astype(np.uint8)
    for painted in ((0, 6), (0, 3, 6)):
        anchors = {z: partly(truth[z], truth[z] > 0) for z in painted}
        result, _ = track(labels, anchors, unseen_id=UNSEEN)
        for z in painted:
            assert np.array_equal(result[z], truth[z])
        assert set(np.unique(result)) == {0, 1, 2}


def test_ids_that_leave_no_room_and_slices_of_another_size_are_refused():
    truth = two_bodies(2)
    with pytest.raises(ValueError, match=r"slice 0: .*below 2\*\*62"):
        track(truth.astype(np.int64) << 61, {0: partly(truth[0], truth[0] == 1)}, unseen_id=UNSEEN)
    with pytest.raises(ValueError, match=r"slice 0: .*shape"):
        track(truth, {0: partly(truth[0], truth[0] == 1)[1:]}, unseen_id=UNSEEN)

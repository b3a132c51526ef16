"""The rows of Table 2 on synthetic gaps: ids go where they belong, cells begin and end, nothing lies outside."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from synthetic_gaps import Disc, dice, stack_of, static, touching

from cristae.errors import DataError, UsageError
from cristae.flow import PRESETS, Farneback, dense_flow
from cristae.separation import propagate
from cristae.separation.bridge import bridged
from cristae.separation.combine import SeparationSettings, combine
from cristae.separation.gap import Gap
from cristae.separation.outlines import depth_inside
from cristae.separation.separate import METHODS, TABLE2, separate

SMALL = SeparationSettings(smallest_body_px=60, edge_distance_px=2)
ALL = pytest.mark.parametrize("method", TABLE2)
MASKED = pytest.mark.parametrize("method", [name for name in TABLE2 if name != "flow"])
ENDS = pytest.mark.parametrize("ends", [{}, {"after": None}, {"before": None}], ids=["both", "before", "after"])


def cells(gap, method, settings=SMALL):
    return np.stack(list(separate(gap, method, settings)))


def test_the_methods_are_the_rows_of_the_table():
    assert list(TABLE2) == [
        "mask",
        "mask+boundary",
        "flow",
        "mask+flow",
        "mask+boundary+flow",
        "mask+boundary+flow frames",
    ]


@ALL
@ENDS
def test_a_static_stack_is_the_identity(method, ends):
    """Exactly where cells are apart; where they touch, a mask alone says only roughly where they meet."""
    stack = static()
    labels = cells(stack.gap(**ends), method)
    for z, kept in ((0, "before"), (-1, "after")):
        if kept not in ends:
            assert np.array_equal(labels[z], stack.truth[z])
    if method in ("flow", "mask+flow"):
        assert np.array_equal(labels, stack.truth)
    assert dice(labels, stack.truth) > 0.99
    assert np.array_equal(labels == 3, stack.truth == 3)
    assert np.array_equal(labels[1], labels[-2])  # and nothing drifts
    apart = np.isin(stack.truth, (3, 7))
    gap = stack.gap(before=stack.truth[0] * apart[0], interior=(apart * 255).astype(np.uint8), after=None)
    assert np.array_equal(cells(gap, method), stack.truth * apart)


@ALL
@ENDS
def test_moving_cells_that_touch_keep_their_ids(method, ends):
    stack = touching()
    labels = cells(stack.gap(**ends), method)
    assert labels.dtype == stack.truth.dtype
    assert set(np.unique(labels)) == set(np.unique(stack.truth))
    for plane, truth in zip(labels, stack.truth, strict=True):
        assert dice(plane, truth) > (0.97 if "boundary" in method else 0.85)


@MASKED
def test_the_interior_is_filled_and_nothing_else(method):
    stack = touching()
    labels = cells(stack.gap(), method)
    assert np.array_equal(labels > 0, stack.interior > 127)
    faint = stack.interior // 2
    assert not cells(stack.gap(interior=faint), method)[1:-1].any()
    settings_ = SeparationSettings(smallest_body_px=60, edge_distance_px=2, interior_threshold=127)
    assert np.array_equal(cells(stack.gap(interior=faint), method, settings_), labels)


@ALL
def test_the_same_every_time_and_however_planes_are_stored(method):
    stack = touching()
    once = cells(stack.gap(), method)
    assert np.array_equal(cells(stack.gap(), method), once)
    turned = {k: np.asfortranarray(getattr(stack, k)) for k in ("image", "interior", "boundary")}
    again = stack.gap(**turned, before=np.asfortranarray(stack.truth[0]), after=stack.truth[-1].T.copy().T)
    assert np.array_equal(cells(again, method), once)


@ALL
@pytest.mark.parametrize("ends", [{"after": None}, {"before": None}, {}], ids=["before", "after", "both"])
def test_upside_down_gives_the_same_upside_down(method, ends):
    stack = touching().cut(0, 8)
    gap = stack.gap(**ends)
    planes = {name: getattr(gap, name)[::-1] for name in ("image", "interior", "boundary")}
    turned = Gap(**planes, before=gap.after, after=gap.before)
    assert np.array_equal(cells(turned, method), cells(gap, method)[::-1])


@ALL
@pytest.mark.parametrize("top", [2**16 + 5, 2**24 + 1, 2**31 + 7, 2**32 - 1])
def test_large_ids_survive(method, top):
    stack = touching()
    ids = np.array([0, top - 2, top - 1, top], np.uint32)
    truth = ids[np.searchsorted([0, 3, 7, 70_001], stack.truth)]
    labels = cells(stack.gap(before=truth[0], after=truth[-1]), method)
    assert labels.dtype == np.uint32
    assert set(np.unique(labels)) == set(ids)
    assert dice(labels, truth) > 0.9


@ALL
def test_ids_of_both_sides_may_have_different_types(method):
    stack = touching()
    labels = cells(stack.gap(before=stack.truth[0].astype(np.uint32)), method)
    assert labels.dtype == np.int64
    assert np.array_equal(labels, cells(stack.gap(), method))


def islands():
    """A cell and two small cross-sections of its protrusions, one of which is there from slice 4 on."""
    discs = [
        Disc(4, (50, 50), 22, (0.4, 0.3)),
        Disc(9, (50, 110), 22, (0.2, -0.3)),
        Disc(4, (90, 60), 3.5, (0, 0.8)),
        Disc(500, (20, 80), 3.5, (0.3, 0), slices=range(4, 100)),
    ]
    return stack_of(discs, 11)


@MASKED
def test_islands_go_to_the_cell_that_covers_them_or_are_new(method):
    stack = islands()
    before = stack.truth[0]
    labels = cells(stack.gap(after=None), method)
    for z in range(11):
        island = ndimage.label(stack.truth[z] == 4)[0]
        small = island == 1 + np.argmin([(island == k).sum() for k in (1, 2)])
        if z < 4 or "frames" in method:  # it moves fast: what is unmoved or carried from slice 0 loses it
            assert (labels[z][small] == 4).all()
    new = np.unique(labels[stack.truth == 500])
    assert new.tolist() == [int(before.max()) + 1]
    assert set(np.unique(labels[:4])) == {0, 4, 9}


@MASKED
def test_a_cell_that_begins_in_the_gap_has_the_id_of_the_labelled_slice_that_knows_it(method):
    discs = [Disc(2, (40, 40), 20, (0.3, 0.3)), Disc(8, (80, 105), 16, (-0.3, 0.2), slices=range(3, 100))]
    stack = stack_of(discs, 12)
    labels = cells(stack.gap(), method)
    assert np.array_equal(labels, stack.truth)


@MASKED
def test_a_cell_that_ends_in_the_gap_keeps_its_id_to_the_end_and_no_longer(method):
    discs = [Disc(2, (40, 40), 20, (0.3, 0.3)), Disc(8, (80, 105), 16, (-0.3, 0.2), slices=range(9))]
    stack = stack_of(discs, 12)
    assert np.array_equal(cells(stack.gap(), method), stack.truth)


@MASKED
@pytest.mark.parametrize("ends", [{}, {"after": None}, {"before": None}], ids=["both", "before", "after"])
def test_a_cell_that_no_labelled_slice_meets_is_one_new_object(method, ends):
    discs = [Disc(2, (40, 40), 20), Disc(77, (80, 105), 16, (-0.3, 0.2), slices=range(2, 10))]
    stack = stack_of(discs, 12)
    for first, wanted in ((3, None), (1000, 1000)):
        labels = cells(stack.gap(first_new_id=wanted, **ends), method)
        assert np.array_equal(labels, np.where(stack.truth == 77, first, stack.truth))


@MASKED
def test_two_new_objects_are_two(method):
    discs = [
        Disc(2, (30, 40), 18),
        Disc(8, (85, 110), 14, slices=range(1, 9)),
        Disc(9, (85, 40), 14, slices=range(1, 9)),
    ]
    stack = stack_of(discs, 10)
    labels = cells(stack.gap(), method)
    assert np.array_equal(np.unique(labels), [0, 2, 3, 4])
    for i in (8, 9):
        assert np.unique(labels[stack.truth == i]).size == 1


@ALL
def test_an_empty_stack_stays_empty(method):
    stack = static()
    nothing = np.zeros_like(stack.truth[0])
    gap = stack.gap(before=nothing, after=nothing, interior=np.zeros_like(stack.interior))
    assert not cells(gap, method).any()


@MASKED
def test_without_a_labelled_cell_every_part_is_new(method):
    stack = stack_of([Disc(2, (40, 40), 20), Disc(8, (80, 105), 16)], 5)
    labels = cells(stack.gap(before=np.zeros_like(stack.truth[0]), after=None), method)
    assert not labels[0].any()
    expected = np.select([stack.truth == 2, stack.truth == 8], [1, 2])
    assert np.array_equal(labels[1:], expected[1:])


@ALL
def test_one_cell_that_fills_the_slice(method):
    stack = stack_of([Disc(6, (56, 72), 400)], 5)
    assert (cells(stack.gap(), method) == 6).all()
    assert (cells(stack.gap(before=None), method) == 6).all()


@pytest.mark.parametrize("method", METHODS)
def test_cells_go_on_through_a_missing_slice(method):
    stack = touching()
    planes = {}
    for name in ("image", "interior", "boundary"):
        planes[name] = getattr(stack, name).copy()
        planes[name][3] = 0
    for ends in ({}, {"after": None}):
        labels = cells(stack.gap(**planes, **ends), method)
        assert set(np.unique(labels)) == set(np.unique(stack.truth))
        for z in (2, 3, 4, 5, 7):
            assert dice(labels[z], stack.truth[z]) > (0.83 if method in ("mask", "flow", "mask+flow") else 0.94)
        again = cells(stack.gap(**planes, **ends, missing=frozenset({3})), method)
        assert np.array_equal(again, labels)


def test_only_what_lies_between_slices_that_are_there_is_bridged():
    stack = touching()
    planes = {name: getattr(stack, name).copy() for name in ("image", "interior", "boundary")}
    for plane in planes.values():
        plane[2:4] = plane[7:] = 0
    labels = cells(stack.gap(**planes, after=None), "paths")
    assert labels[2:4].any(axis=(1, 2)).all()
    assert not labels[7:].any()
    assert labels[2].max() and np.array_equal(labels[3] > 0, stack.interior[4] > 127)
    assert np.array_equal(bridged(stack.gap()).interior, stack.interior)


@pytest.mark.parametrize("method", ["mask+flow", "mask+boundary+flow", "mask+boundary+flow frames"])
@pytest.mark.parametrize("lost", [["image", "interior"], ["interior"]])
def test_a_border_that_only_flow_knows_survives_slices_without_image_or_interior(method, lost):
    """Two cells fill the plane, and their border moves by 2.5 px per slice."""
    stack = stack_of([Disc(1, (56, -340), 400, (0, 2.5)), Disc(2, (56, 460), 400, (0, 2.5))], 9)
    planes = {name: getattr(stack, name).copy() for name in lost}
    for plane in planes.values():
        plane[3:5] = 0
    labels = cells(stack.gap(after=None, boundary=np.zeros_like(stack.boundary), **planes), method)
    assert labels[3:5].any() == ("image" in lost)  # a slice without image is missing, one with it is empty
    for z in (1, 2, 5, 6, 7, 8):
        assert dice(labels[z], stack.truth[z]) > 0.97


def test_an_island_that_meets_a_body_belongs_to_it():
    """From the slice on where they touch, also where results are carried on from frame to frame."""
    island = Disc(9, (50, 82), 4, (0, -1.5), slices=range(1, 100))
    stack = stack_of([Disc(2, (50, 50), 20), island], 11)
    for method in TABLE2:
        if method != "flow":
            labels = cells(stack.gap(after=None, boundary=np.zeros_like(stack.boundary)), method)
            assert set(np.unique(labels[2])) == {0, 2, 3}
            assert set(np.unique(labels[9])) == {0, 2}


def test_frames_follow_what_composed_flow_and_copies_cannot():
    """An image without texture gives no flow: only going from result to result keeps up with a fast cell."""
    discs = [Disc(1, (30, 30), 14, (0, 2.5)), Disc(2, (30, 62), 14, (0, 2.5)), Disc(3, (85, 70), 14)]
    stack = stack_of(discs, 12)
    gap = stack.gap(image=np.full_like(stack.image, 50), after=None)
    assert dice(cells(gap, "mask+boundary+flow frames"), stack.truth) > 0.97
    assert dice(cells(gap, "mask+boundary+flow"), stack.truth) < 0.9


@pytest.mark.parametrize("lines", ["all", "selective"])
def test_outlines_that_are_off_harm_no_lone_cell(lines):
    stack = stack_of([Disc(1, (40, 40), 20), Disc(2, (40, 74), 20), Disc(3, (90, 110), 14)], 1)
    truth = stack.truth[0]
    labels = combine(np.roll(truth, 5, axis=1), truth > 0, None, lines, SMALL)
    assert np.array_equal(labels == 3, truth == 3)
    assert set(np.unique(labels[np.isin(truth, (1, 2))])) == {1, 2}
    assert dice(labels, truth) > 0.93


def test_selective_outlines_leave_edges_to_the_network():
    truth = stack_of([Disc(1, (40, 40), 20), Disc(2, (40, 74), 20)], 1).truth[0]
    carried = np.roll(truth, 5, axis=1)
    every, selective = (combine(carried, truth > 0, None, lines, SMALL) for lines in ("all", "selective"))
    differ = every != selective
    assert differ.any()
    assert (depth_inside(truth > 0)[differ] < 8).all()


def test_outlines_decide_where_a_mask_alone_cannot():
    """A bar of two cells has no neck; the border between them runs along the carried outline."""
    truth = np.zeros((40, 90), np.int32)
    truth[10:30, 10:30], truth[10:30, 30:80] = 1, 2
    for lines in ("all", "selective"):
        assert dice(combine(truth, truth > 0, None, lines, SMALL), truth) > 0.98
    assert dice(combine(truth, truth > 0, None, "none", SMALL), truth) < 0.9


def test_the_boundary_of_the_network_parts_cells_where_flow_is_wrong():
    stack = stack_of([Disc(1, (50, 45), 24), Disc(2, (50, 85), 24)], 1)
    carried = np.roll(stack.truth[0], 12, axis=1)
    inside = stack.truth[0] > 0
    exact = combine(carried, inside, stack.boundary[0] > 0, "none", SMALL)
    assert dice(exact, stack.truth[0]) > 0.98


@pytest.mark.parametrize(("edge_distance_px", "smallest_body_px", "strip"), [(8, 60, 1), (2, 60, -1), (2, 400, 1)])
def test_what_the_network_cuts_off(edge_distance_px, smallest_body_px, strip):
    """Near the edge it is not cut off; a body is a new object if no cell is carried there, crumbs are not."""
    truth, carried = np.zeros((100, 100), np.int32), np.zeros((100, 100), np.int32)
    truth[20:80, 20:80] = 1
    carried[20:80, 30:80] = 1
    boundary = np.zeros(truth.shape, bool)
    boundary[:, 25] = True
    settings_ = SeparationSettings(smallest_body_px=smallest_body_px, edge_distance_px=edge_distance_px)
    labels = combine(carried, truth > 0, boundary, "none", settings_)
    assert (labels[30:70, 20:25] == strip).all()
    assert (labels[30:70, 27:80] == 1).all()


def test_a_cell_that_slipped_over_an_edge_is_not_seeded_there():
    truth = stack_of([Disc(1, (50, 35), 24), Disc(2, (50, 95), 24)], 1).truth[0]
    carried = np.where((np.roll(truth, 20, axis=1) == 1) | (truth == 1), 1, truth)
    slipped = (carried == 1) & (truth == 0)
    assert slipped.any()
    carried[38:62, 71:90] = 1
    assert ((carried == 1) & (truth == 2)).sum() > 0.1 * max((carried == 1).sum(), (truth == 2).sum())
    for lines in ("none", "all", "selective"):
        assert np.array_equal(combine(carried, truth > 0, None, lines, SMALL), truth)


def test_a_new_cell_that_a_carried_one_only_grazes_is_new():
    truth = stack_of([Disc(1, (50, 35), 24), Disc(2, (50, 95), 24)], 1).truth[0]
    carried = np.where(truth == 1, 1, 0).astype(np.int32)
    carried[45:55, 68:78] = 1
    grazed = int(((carried == 1) & (truth == 2)).sum())
    assert 0 < grazed < 0.1 * (truth == 2).sum()
    expected = np.where(truth == 2, -1, truth)
    assert np.array_equal(combine(carried, truth > 0, None, "all", SMALL), expected)
    generous = SeparationSettings(smallest_body_px=60, edge_distance_px=2, least_share=0)
    assert np.array_equal(combine(carried, truth > 0, None, "all", generous), np.where(truth > 0, 1, 0))


def test_a_carried_island_beside_another_cell_is_not_swallowed_by_it():
    truth = stack_of([Disc(1, (50, 35), 24), Disc(2, (50, 110), 16)], 1).truth[0]
    truth[46:54, 59:67] = 2  # an island of 2 that touches 1, with nothing to part them
    assert np.array_equal(combine(truth.astype(np.int32), truth > 0, None, "all", SMALL), truth)
    # What hangs together with its cell has only slipped onto the neighbour.
    slipped = np.where(truth == 2, 0, truth).astype(np.int32)
    slipped[44:56, 55:111] = 2
    slipped[34:66, 94:126] = 2
    found = combine(slipped, truth > 0, None, "all", SMALL)
    assert (found[truth == 1] == 1).mean() > 0.97


def test_islands_are_never_cut_and_bodies_are():
    stack = stack_of([Disc(1, (50, 45), 10), Disc(2, (50, 60), 12)], 1)
    area = int((stack.truth[0] > 0).sum())
    for smallest, expected in ((area, {1, 2}), (area + 1, {2})):
        settings_ = SeparationSettings(smallest_body_px=smallest)
        labels = combine(stack.truth[0], stack.truth[0] > 0, None, "all", settings_)
        assert set(np.unique(labels)) == {0, *expected}


@pytest.mark.parametrize("lines", ["none", "all", "selective"])
@given(data=st.data())
@settings(max_examples=60)
def test_combining_fills_the_mask_with_carried_cells_and_new_objects(lines, data):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=16))
    carried = data.draw(hnp.arrays(np.int32, shape, elements=st.integers(0, 4)))
    inside, boundary = (data.draw(hnp.arrays(bool, shape)) for _ in range(2))
    settings_ = SeparationSettings(
        smallest_body_px=data.draw(st.sampled_from([0, 3, 40])),
        edge_distance_px=data.draw(st.sampled_from([0.0, 1.0])),
        seeds=data.draw(st.sampled_from(["depth", "centroid"])),
    )
    labels = combine(carried, inside, data.draw(st.sampled_from([None, boundary])), lines, settings_)
    assert labels.dtype == np.int32
    assert np.array_equal(labels != 0, inside)
    found = np.unique(labels[labels > 0])
    assert np.isin(found, carried[inside]).all()
    new = np.unique(-labels[labels < 0])
    assert np.array_equal(new, np.arange(1, new.size + 1))
    parts, n = ndimage.label(inside)
    for part in range(1, n + 1):
        if not carried[parts == part].any():
            assert (labels[parts == part] < 0).all()


@pytest.mark.parametrize("method", ["flow", "mask+flow", "mask+boundary+flow"])
def test_both_neighbours_do_at_least_as_well_as_the_nearest(method):
    stack = touching()
    nearest = dice(cells(stack.gap(), method)[4], stack.truth[4])
    two = SeparationSettings(smallest_body_px=60, edge_distance_px=2, neighbours="both")
    labels = cells(stack.gap(), method, two)
    assert dice(labels[4], stack.truth[4]) > nearest - 0.005
    assert np.array_equal(labels[[0, -1]], stack.truth[[0, -1]])
    assert np.array_equal(cells(stack.gap(after=None), method, two), cells(stack.gap(after=None), method))


@pytest.mark.parametrize("flow", [PRESETS["machireddy2023"], PRESETS["released"], Farneback(reduction=2)])
def test_other_flows_and_the_seeds_of_the_paper(flow):
    stack = touching()
    settings_ = SeparationSettings(smallest_body_px=60, edge_distance_px=2, flow=flow, seeds="centroid")
    for method in TABLE2:
        assert dice(cells(stack.gap(), method, settings_), stack.truth) > 0.93


@pytest.mark.parametrize("n", [1, 2, 3])
@ALL
def test_short_gaps(method, n):
    stack = touching().cut(0, n)
    if n > 1:
        assert dice(cells(stack.gap(), method), stack.truth) > 0.93
    assert cells(stack.gap(after=None), method).shape == stack.truth.shape
    assert np.array_equal(cells(stack.gap(before=None), method)[-1], stack.truth[-1])


@pytest.mark.parametrize("method", [name for name in TABLE2 if "boundary" in name])
def test_without_a_boundary_map_methods_that_need_one_say_so(method):
    with pytest.raises(DataError, match="boundary map"):
        separate(touching().gap(boundary=None), method, SMALL)


def test_wrong_requests_are_refused():
    with pytest.raises(UsageError, match="unknown method 'mask flow'"):
        separate(touching().gap(), "mask flow", SMALL)
    for wrong in (
        dict(interior_threshold=0),
        dict(boundary_threshold=256),
        dict(edge_distance_px=-1),
        dict(smallest_body_px=-1),
        dict(least_share=1.5),
        dict(seeds="middle"),
        dict(neighbours="none"),
    ):
        with pytest.raises(UsageError):
            SeparationSettings(**wrong)


def test_new_ids_that_do_not_fit_are_refused():
    stack = stack_of([Disc(2, (40, 40), 20), Disc(255, (80, 105), 16, slices=range(1, 4))], 5, dtype=np.uint8)
    with pytest.raises(DataError, match="above all ids"):
        cells(stack.gap(first_new_id=2), "mask")
    full = np.where(stack.truth == 2, 255, 0).astype(np.uint8)
    with pytest.raises(DataError, match="do not fit uint8"):
        cells(stack.gap(before=full[0], after=full[-1]), "mask")
    known = np.where(stack.truth == 2, 254, 0).astype(np.uint8)
    assert cells(stack.gap(before=known[0], after=known[-1]), "mask").max() == 255


def test_a_cell_that_the_boundary_covers_keeps_its_id():
    truth = np.zeros((30, 40), np.int32)
    truth[5:25, 2:18], truth[10, 25:28] = 1, 2
    inside, boundary = truth > 0, truth == 2
    found = combine(truth, inside, boundary, "none", SeparationSettings(smallest_body_px=0, edge_distance_px=0))
    assert np.array_equal(found, truth)
    nobody = combine(
        truth * (truth == 1), inside, boundary, "none", SeparationSettings(smallest_body_px=0, edge_distance_px=0)
    )
    assert set(np.unique(nobody)) == {-1, 0, 1}


@pytest.mark.parametrize(("neighbours", "per_pair"), [("nearest", 1), ("both", 4)])
def test_no_two_slices_are_matched_more_often_than_needed(monkeypatch, neighbours, per_pair):
    """From both sides: up and down, and each there and back. One step less than there are pairs."""
    matched = []
    monkeypatch.setattr(propagate, "dense_flow", lambda *planes: matched.append(1) or dense_flow(*planes))
    stack = touching()
    cells(stack.gap(), "mask+flow", replace(SMALL, neighbours=neighbours))
    assert len(matched) == (len(stack.truth) - 2) * per_pair

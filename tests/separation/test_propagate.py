"""Laws of propagation: identity where nothing moves, labelled slices come out as they went in, no step half-way."""

import tracemalloc

import numpy as np
import pytest
from synthetic_gaps import Disc, dice, stack_of, static, touching

from cristae.errors import DataError
from cristae.flow import PRESETS, Dis
from cristae.separation.gap import Gap
from cristae.separation.propagate import halves, propagate_both, propagate_nearest
from cristae.separation.runs import compress

DIS = PRESETS["dis"]


def nearest(gap, method=DIS):
    return np.stack(list(propagate_nearest(gap, method)))


def both(gap, method=DIS):
    labels, confidence = zip(*propagate_both(gap, method), strict=True)
    return np.stack(labels), np.stack(confidence)


ENDS = pytest.mark.parametrize("ends", [{}, {"after": None}, {"before": None}], ids=["both", "before", "after"])


@ENDS
@pytest.mark.parametrize("method", PRESETS.values(), ids=PRESETS)
def test_a_static_stack_is_the_identity(ends, method):
    gap = static().gap(**ends)
    assert np.array_equal(nearest(gap, method), static().truth)
    labels, confidence = both(gap, method)
    assert np.array_equal(labels, static().truth)
    assert labels.dtype == static().truth.dtype
    assert confidence.dtype == np.float32
    assert confidence.min() > 0 and confidence.max() == 1


@ENDS
def test_moving_cells_are_followed_and_labelled_slices_kept(ends):
    gap = touching().gap(**ends)
    for labels in (nearest(gap), both(gap)[0]):
        assert labels.shape == touching().truth.shape
        for z, kept in ((0, gap.before), (-1, gap.after)):
            assert kept is None or np.array_equal(labels[z], kept)
        scores = [dice(plane, truth) for plane, truth in zip(labels, touching().truth, strict=True)]
        assert min(scores) > (0.85 if ends else 0.93)  # the labels of the far end, copied: 0.71
    assert ends or min(scores) > 0.975  # from both sides


def test_each_half_starts_at_its_labelled_slice():
    cases = ((9, True, True, 5), (8, True, True, 4), (9, True, False, 9), (9, False, True, 0), (2, True, True, 1))
    for n, before, after, expected in cases:
        ends = {name: None for name, there in (("before", before), ("after", after)) if not there}
        gap = touching().cut(0, n).gap(**ends)
        up, down = halves(gap)
        assert list(up) == list(range(expected))
        assert list(down) == list(range(n - 1, expected - 1, -1))


@ENDS
def test_upside_down_gives_the_same_upside_down(ends):
    """For an even number of slices, where the middle belongs to nobody."""
    n = 8
    gap = touching().cut(0, n).gap(**ends)
    planes = {name: getattr(gap, name) for name in ("image", "interior", "boundary")}
    turned = Gap(**{name: plane[::-1] for name, plane in planes.items()}, before=gap.after, after=gap.before)
    assert np.array_equal(nearest(turned), nearest(gap)[::-1])
    one, other = both(gap)[1], both(turned)[1][::-1]
    assert np.abs(one - other).max() < 0.25  # one of the two waits at a quarter of the size
    assert np.abs(one - other).mean() < 0.01


def test_confidence_is_full_at_labelled_slices_and_falls_between():
    labels, confidence = both(touching().gap())
    assert (confidence[0] == 1).all() and (confidence[-1] == 1).all()
    means = confidence.mean(axis=(1, 2))
    assert (np.diff(means[:5]) < 0).all() and (np.diff(means[4:]) > 0).all()
    wrong = labels != touching().truth
    assert confidence[wrong].mean() < confidence[~wrong].mean() - 0.2
    one_sided = both(touching().gap(after=None))[1].mean(axis=(1, 2))
    assert (np.diff(one_sided) < 0).all()


def test_what_appears_in_the_image_is_not_trusted():
    image = touching().image.copy()
    image[3:6, 10:40, 100:140] = np.random.default_rng(5).integers(1, 255, (3, 30, 40))
    confidence = both(touching().gap(image=image))[1]
    plain = both(touching().gap())[1]
    assert confidence[4, 15:35, 105:135].mean() < 0.7 * plain[4, 15:35, 105:135].mean()


def test_no_step_half_way():
    """Without an image to follow, a growing cell grows bit by bit from both sides, and at once from the nearest."""
    stack = stack_of([Disc(5, (56, 72), 14, growth=1.5)], 17)
    gap = stack.gap(image=np.zeros_like(stack.image))
    steps_nearest = np.diff((nearest(gap) == 5).sum(axis=(1, 2)))
    steps_both = np.diff((both(gap)[0] == 5).sum(axis=(1, 2)))
    assert np.count_nonzero(steps_nearest) == 1
    assert (steps_both > 0).all()
    assert steps_both.max() < 0.15 * steps_nearest.max()


def test_a_cell_that_only_one_side_knows_shrinks_away_from_it():
    stack = stack_of([Disc(5, (40, 40), 14), Disc(6, (70, 100), 14)], 9)
    after = np.where(stack.truth[-1] == 6, 0, stack.truth[-1])
    gap = stack.gap(image=np.zeros_like(stack.image), after=after)
    areas = (both(gap)[0] == 6).sum(axis=(1, 2))
    assert areas[0] > 600 and areas[-1] == 0
    assert (np.diff(areas) <= 0).all()
    assert ((both(gap)[0] == 5).sum(axis=(1, 2)) == areas[0]).all()


def test_a_missing_slice_is_passed_over():
    image = touching().image.copy()
    image[[2, 6]] = 0
    for labels in (nearest(touching().gap(image=image)), both(touching().gap(image=image))[0]):
        for z, truth in enumerate(touching().truth):
            assert dice(labels[z], truth) > (0.88 if z in (2, 6) else 0.92)


def test_all_slices_missing_and_the_labelled_ones_too():
    gap = touching().gap(image=np.full_like(touching().image, 9))
    assert np.array_equal(nearest(gap)[:5], np.repeat(touching().truth[:1], 5, axis=0))
    assert np.array_equal(both(gap)[0][[0, -1]], touching().truth[[0, -1]])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.int64])
def test_ids_and_their_type_survive(dtype):
    top = np.iinfo(dtype).max
    truth = np.select([touching().truth == 7, touching().truth == 3], [top, top - 1], 0).astype(dtype)
    gap = touching().gap(before=truth[0], after=truth[-1])
    for labels in (nearest(gap), both(gap)[0]):
        assert labels.dtype == dtype
        assert set(np.unique(labels)) == {0, top - 1, top}
        assert dice(labels[4], truth[4]) > 0.92


class Lazy:
    """Planes that are made when asked for, one at a time."""

    def __init__(self, planes, n):
        self.planes, self.n, self.asked = planes, n, []

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        assert isinstance(index, int)
        self.asked.append(index)
        return self.planes[index % len(self.planes)].copy()


@pytest.mark.parametrize(("function", "part"), [(propagate_nearest, 0.5), (propagate_both, 1)])
def test_of_a_slice_that_waits_only_runs_and_coarse_trust_are_held(function, part):
    """Memory grows with the gap, but by far less than planes."""
    peaks = []
    for n in (20, 60):
        image = Lazy(touching().image, n)
        gap = touching().gap(image=image, interior=image, boundary=None)
        for _ in function(gap, Dis("ultrafast", reduction=2)):
            pass
        tracemalloc.start()
        for _ in function(gap, Dis("ultrafast", reduction=2)):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    n_pixels = touching().truth[0].size
    runs = max(one.lengths.nbytes + one.ids.nbytes for one in map(compress, touching().truth))
    trust = n_pixels / 16 if function is propagate_both else 0
    more = (peaks[1] - peaks[0]) / 40
    assert more < part * (runs + trust + 1000)  # 1000: Python's own, for the objects of a slice


def test_planes_of_another_size_or_type_are_refused():
    image = touching().image
    for wrong in (image[:, 1:], image.astype(np.float32), image.astype(np.uint16)):
        with pytest.raises(DataError, match="image of slice"):
            nearest(touching().gap(image=wrong))
    with pytest.raises(DataError, match="boundary map"):
        touching().gap(boundary=None).boundary_at(0)


def test_impossible_gaps_are_refused():
    labels = touching().truth[0]
    for changes, message in (
        ({"before": None, "after": None}, "labelled slice"),
        ({"before": labels[1:]}, "differ in size"),
        ({"before": labels.astype(np.float32)}, "integers"),
        ({"before": touching().truth}, "integers"),
        ({"before": -labels}, "0 .background. and above"),
        ({"before": labels.astype(np.int64), "after": labels.astype(np.uint64)}, "no integer"),
        ({"interior": touching().interior[1:]}, "as many slices"),
        ({"boundary": touching().boundary[1:]}, "as many slices"),
        ({name: labels[None].astype(np.uint8) for name in ("image", "interior", "boundary")}, "at least 2 slices"),
    ):
        with pytest.raises(DataError, match=message):
            touching().gap(**changes)


@pytest.mark.parametrize("empty", ["before", "after"])
def test_an_empty_labelled_slice_takes_nothing_away_before_half_way(empty):
    stack = static()
    gap = stack.gap(**{empty: np.zeros_like(stack.truth[0])})
    planes = [both.labels for both in propagate_both(gap, PRESETS["dis"])]
    if empty == "before":
        planes.reverse()
    kept = [(plane > 0).sum() / (stack.truth[0] > 0).sum() for plane in planes]
    assert kept[0] == 1 and kept[1] > 0.8 and kept[-1] == 0
    assert (np.diff(kept) <= 0).all()

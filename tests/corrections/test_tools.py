from __future__ import annotations

import numpy as np
import pytest
from edited_layers import HIGH, SHAPE, cells, everything, store_layer

from cristae.corrections import chunks, tools
from cristae.corrections.store import Corrections
from cristae.errors import UsageError
from cristae.geometry import Grid
from cristae.volume import Volume


@pytest.fixture
def corrections(tmp_path):
    layer = store_layer(tmp_path / "cell.ome.zarr", cells())
    with Corrections(tmp_path / "cell", layer) as opened:
        yield opened


def expect(corrections, *changes):
    """Compare with the original after `changes`: pairs of an index and a label."""
    expected = cells()
    for where, label in changes:
        expected[where] = label
    assert np.array_equal(everything(corrections), expected)


def test_painting_and_erasing_change_one_slice(corrections):
    done = tools.paint(corrections, 2, [(9, 4), (9, 20)], 77, radius=0)
    assert (done.kind, done.n_voxels, done.ids, done.box.start[0]) == ("paint", 17, (77,), 2)
    expect(corrections, (np.s_[2, 9, 4:21], 77))
    done = tools.erase(corrections, 2, [(9, 4), (9, 20)], radius=0)
    assert (done.kind, done.n_voxels) == ("erase", 17)
    expect(corrections, (np.s_[2, 9, 4:21], 0))
    assert tools.erase(corrections, 2, [(9, 4), (9, 20)], radius=0) is None  # nothing left to erase
    assert tools.paint(corrections, 2, [(900, 4)], 77, radius=2) is None
    assert len(corrections.entries) == 2


def test_painting_over_one_id_only(corrections):
    tools.paint(corrections, 0, [(9, 0), (9, 29)], 77, radius=0, only=0)
    expect(corrections, (np.s_[0, 9, :2], 77), (np.s_[0, 9, 25:], 77))
    tools.erase(corrections, 0, [(9, 0), (9, 29)], radius=0, only=HIGH)
    expect(corrections, (np.s_[0, 9, :2], 77), (np.s_[0, 9, 25:], 77), (np.s_[0, 9, 12:25], 0))


def test_a_bucket_fills_what_hangs_together_in_a_slice_or_in_the_volume(corrections):
    tools.fill(corrections, (1, 19, 22), 5)
    expect(corrections, (np.s_[1, 18:22, 20:26], 5))
    corrections.undo()
    tools.fill(corrections, (1, 19, 22), 5, "volume")
    expect(corrections, (np.s_[1:3, 18:22, 20:26], 5))
    tools.fill(corrections, (0, 0, 0), HIGH)
    background = cells()[0] == 0
    expect(corrections, (np.s_[1:3, 18:22, 20:26], 5), ((0, background), HIGH))


def test_an_island_is_reassigned_and_its_cell_stays(corrections):
    done = tools.reassign(corrections, (2, 20, 21), HIGH)
    assert (done.kind, done.n_voxels, done.ids) == ("reassign", 48, (3, HIGH))
    expect(corrections, (np.s_[1:3, 18:22, 20:26], HIGH))
    with pytest.raises(UsageError, match="background at 0,0,0"):
        tools.reassign(corrections, (0, 0, 0), 3)


def test_merging_then_splitting_again(corrections):
    tools.merge(corrections, [3, HIGH])
    expect(corrections, (cells() == HIGH, 3))
    done = tools.split(corrections, [[(2, 9, 4)], [(2, 9, 22)]], [50])
    assert done.ids == (3, 50)
    now = everything(corrections)
    parts = now[:, 3:15, 2:25]
    assert set(np.unique(parts)) == {3, 50} and (parts[2, :, 0] == 3).all() and (parts[2, :, -1] == 50).all()
    assert np.array_equal(now > 0, cells() > 0)
    assert (now[1:3, 18:22, 20:26] == 3).all()  # the island hangs together with neither
    assert done.n_voxels == (now == 50).sum()
    corrections.undo()
    corrections.undo()
    expect(corrections)


def test_merging_what_was_painted_keeps_what_is_painted_later(corrections):
    tools.paint(corrections, 0, [(20, 2), (20, 8)], 3, radius=0)
    tools.merge(corrections, [HIGH, 3])
    tools.paint(corrections, 0, [(22, 2), (22, 8)], 3, radius=0)
    painted = [(np.s_[0, 20, 2:9], HIGH), (np.s_[0, 22, 2:9], 3)]
    expect(corrections, (cells() == 3, HIGH), *painted)
    tools.merge(corrections, [8, HIGH])
    expect(corrections, (cells() > 0, 8), (painted[0][0], 8), painted[1])
    for _ in range(4):
        corrections.undo()
    expect(corrections)
    for _ in range(4):
        corrections.redo()
    expect(corrections, (cells() > 0, 8), (painted[0][0], 8), painted[1])


def test_removing_an_object(corrections):
    tools.remove(corrections, [HIGH])
    expect(corrections, (cells() == HIGH, 0))


def test_a_split_in_some_slices_leaves_the_others(corrections):
    tools.split(corrections, [[(2, 9, 13)], [(2, 9, 24)]], [50], slices=(2, 3))
    now = everything(corrections)
    assert (now[[0, 1, 4]] == cells()[[0, 1, 4]]).all()
    assert {50} == set(np.unique(now[2:4][now[2:4] != cells()[2:4]]))
    with pytest.raises(UsageError, match="outside of slices 0 to 1"):
        tools.split(corrections, [[(2, 9, 4)], [(2, 9, 8)]], [51], slices=(0, 1))


def test_a_split_follows_the_boundary_map(corrections):
    boundary = np.zeros(SHAPE, np.uint8)
    boundary[:, :, 20] = 250
    volume = Volume(boundary, Grid(SHAPE, (30.0, 6.0, 6.0)), "probability")
    tools.split(corrections, [[(2, 9, 14)], [(2, 9, 23)]], [50], boundary=volume)
    assert (everything(corrections)[:, 3:15, 12:20] == HIGH).all()
    assert (everything(corrections)[:, 3:15, 21:25] == 50).all()


def test_an_object_longer_than_the_first_look_is_found_whole(tmp_path):
    labels = np.zeros((2, 30, 900), np.uint32)
    labels[:, 10:20, 5:890] = 4
    layer = store_layer(tmp_path / "long.ome.zarr", labels)
    with Corrections(tmp_path / "long", layer) as corrections:
        assert tools.reassign(corrections, (0, 12, 10), 6).n_voxels == (labels == 4).sum()
        tools.split(corrections, [[(0, 15, 20)], [(1, 15, 25)]], [7])
        assert not (everything(corrections) == 4).any() and (everything(corrections)[:, 10:20, 800:890] == 7).all()


def test_what_is_too_large_is_refused_with_the_next_step(corrections):
    for edit in (
        lambda: tools.reassign(corrections, (0, 9, 4), 6, most=10),
        lambda: tools.fill(corrections, (0, 9, 4), 6, most=10),
        lambda: tools.split(corrections, [[(0, 9, 4)], [(0, 9, 8)]], [50], most=10),
    ):
        with pytest.raises(UsageError, match="some slices at a time"):
            edit()
    assert not corrections.entries


@pytest.fixture
def bar(tmp_path):
    """Two balls with a bar between them, and a membrane across the bar."""
    z, y, x = np.ogrid[:12, :40, :90]
    labels = np.where(((y - 20) ** 2 + (x - 20) ** 2 < 15**2) | ((y - 20) ** 2 + (x - 70) ** 2 < 15**2), 4, 0) + 0 * z
    labels[:, 17:23, 20:70] = 4
    layer = store_layer(tmp_path / "bar.ome.zarr", labels.astype(np.uint32))
    with Corrections(tmp_path / "bar", layer) as opened:
        yield opened


@pytest.mark.parametrize(("at_once", "step"), [(2**27, 1), (8_000, 2), (2_000, 4)])
@pytest.mark.parametrize("membrane", [False, True])
def test_what_is_too_large_to_be_cut_at_once_is_cut_in_steps(bar, monkeypatch, at_once, step, membrane):
    monkeypatch.setattr(tools, "AT_ONCE", at_once)
    before = everything(bar)
    walls = np.zeros(before.shape, np.uint8)
    walls[:, :, 61] = 250
    boundary = Volume(walls, Grid(before.shape, (30.0, 6.0, 6.0)), "probability") if membrane else None
    done = tools.split(bar, [[(5, 20, 12)], [(5, 20, 80)]], [9], boundary=boundary)
    found = everything(bar)
    assert done.note == ({"step": [1, step, step]} if step > 1 else {})  # voxels are deep as they are
    assert np.array_equal(found > 0, before > 0) and set(np.unique(found)) == {0, 4, 9}
    cut = (found[:, 20] == 4).sum(axis=1) + np.argmax(before[5, 20] > 0)  # per slice, where the second part begins
    assert (found[:, :, :20] != 9).all() and (found[:, :, 71:] != 4).all()
    assert (np.abs(cut - 61) <= step).all() if membrane else ((cut > 20) & (cut < 70)).all()
    bar.undo()
    assert np.array_equal(everything(bar), before)


def test_seeds_in_one_step_are_refused(bar, monkeypatch):
    monkeypatch.setattr(tools, "AT_ONCE", 2_000)
    with pytest.raises(UsageError, match=r"too near to that of another part .* in steps of 1,4,4 voxels"):
        tools.split(bar, [[(5, 20, 20)], [(5, 20, 21)]], [9])
    assert not bar.entries


def test_a_large_edit_does_not_wait_in_memory(bar, monkeypatch):
    monkeypatch.setattr(chunks, "MANY", 3)
    waiting = []
    write = chunks.Chunks.write

    def watched(self, *what):
        write(self, *what)
        waiting.append(self.n_waiting)

    monkeypatch.setattr(chunks.Chunks, "write", watched)
    before = everything(bar)
    tools.reassign(bar, (5, 20, 12), 6)
    assert np.array_equal(everything(bar), np.where(before == 4, 6, before)) and max(waiting) <= 3
    bar.undo()
    assert np.array_equal(everything(bar), before)


@pytest.mark.parametrize(
    ("seeds", "new", "words"),
    [
        ([[(0, 9, 4)], [(0, 9, 20)]], [50], "3 at 0,9,4, 2147483655 at 0,9,20"),
        ([[(0, 9, 4)], [(0, 0, 0)]], [50], "0 at 0,0,0"),
        ([[(0, 9, 4)], [(1, 19, 22)]], [50], "do not hang together"),
        ([[(0, 9, 4)]], [], "each of two parts"),
        ([[(0, 9, 4)], []], [50], "each of two parts"),
        ([[(0, 9, 4)], [(0, 9, 6)]], [], "an id for each part"),
        ([[(0, 9, 4)], [(7, 9, 6)]], [50], "no voxel 7,9,6"),
    ],
)
def test_splits_that_cannot_be_are_refused(corrections, seeds, new, words):
    with pytest.raises(UsageError, match=words):
        tools.split(corrections, seeds, new)
    assert not corrections.entries


def test_other_edits_that_cannot_be_are_refused(corrections, tmp_path):
    for edit, words in (
        (lambda: tools.paint(corrections, 5, [(1, 1)], 4, radius=1), "no slice 5"),
        (lambda: tools.paint(corrections, 0, [(1, 1)], -1, radius=1), "got -1"),
        (lambda: tools.paint(corrections, 0, [], 4, radius=1), "finite"),
        (lambda: tools.fill(corrections, (0, -1, 0), 4), "no voxel"),
        (lambda: tools.merge(corrections, [3]), "two objects"),
        (lambda: tools.remove(corrections, [0]), "background"),
    ):
        with pytest.raises(UsageError, match=words):
            edit()
    assert not corrections.entries
    mask = store_layer(tmp_path / "mask.ome.zarr", (cells() > 0).astype(np.uint8))
    with Corrections(tmp_path / "mask", mask) as of_mask:
        for edit in (
            lambda: tools.merge(of_mask, [1, 2]),
            lambda: tools.remove(of_mask, [1]),
            lambda: tools.split(of_mask, [[(0, 9, 4)], [(0, 9, 6)]], [2]),
        ):
            with pytest.raises(UsageError, match="mask, without objects"):
                edit()
        tools.paint(of_mask, 0, [(0, 0)], 1, radius=0)
        assert everything(of_mask)[0, 0, 0] == 1

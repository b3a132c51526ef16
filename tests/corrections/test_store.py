from __future__ import annotations

import json
import pickle
import shutil
import zlib

import numpy as np
import pytest
from edited_layers import HIGH, SHAPE, cells, everything, put, store_layer
from hypothesis import given, settings
from hypothesis import strategies as st

from cristae.corrections import chunks, overlay, store
from cristae.corrections.journal import Journal
from cristae.corrections.store import Change, Corrections
from cristae.errors import DataError, ResourceError, UsageError
from cristae.geometry import Box

LABELS = st.sampled_from([0, 3, HIGH, 9, 2**32 - 2])
BOXES = st.tuples(*(st.tuples(st.integers(0, n - 1), st.integers(1, n)) for n in SHAPE))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), BOXES, LABELS),
        st.tuples(st.just("rename"), LABELS, LABELS),
        st.just(("undo",)),
        st.just(("redo",)),
        st.just(("again",)),
    ),
    max_size=12,
)


def box_mask(corners):
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(low, low + n) for low, n in corners)] = True
    return mask


class Model:
    """What corrections should come to, kept as whole arrays."""

    def __init__(self, labels):
        self.history, self.ahead = [labels], []

    @property
    def now(self):
        return self.history[-1]

    def edit(self, labels):
        if (labels != self.now).any():
            self.history.append(labels)
            self.ahead.clear()


def step(corrections, model, action):
    if action[0] == "put":
        mask = box_mask(action[1])
        put(corrections, mask, action[2])
        model.edit(np.where(mask, np.uint32(action[2]), model.now))
    elif action[0] == "rename":
        _, one, other = action
        if one and one != other:
            done = corrections.rename("merge", {one: other}, [other, one])
            labels = np.where(model.now == one, np.uint32(other), model.now)
            # A renaming of what occurs nowhere is an edit all the same: nobody looks through the volume for it.
            if done is not None:
                model.history.append(labels)
                model.ahead.clear()
    elif action[0] == "undo" and corrections.can_undo:
        corrections.undo()
        model.ahead.append(model.history.pop())
    elif action[0] == "redo" and corrections.can_redo:
        corrections.redo()
        model.history.append(model.ahead.pop())


@pytest.fixture(autouse=True, scope="module")
def no_waiting():
    """Crashes are simulated here, so that nobody need wait for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def layer(tmp_path_factory):
    return store_layer(tmp_path_factory.mktemp("layer") / "cell.ome.zarr", cells())


@settings(max_examples=25)
@given(STEPS)
def test_any_edits_give_what_whole_arrays_would_and_undoing_all_gives_the_original(tmp_path_factory, layer, steps):
    folder = tmp_path_factory.mktemp("corrections") / "cell"
    model, corrections = Model(cells()), Corrections(folder, layer)
    for action in steps:
        if action[0] == "again":
            corrections.close()
            corrections = Corrections(folder, layer)
        step(corrections, model, action)
        assert np.array_equal(everything(corrections), model.now)
    while corrections.can_undo:
        corrections.undo()
    assert everything(corrections).tobytes() == cells().tobytes()
    assert not corrections.names
    corrections.close()
    assert not list((folder / "changes.ome.zarr").glob("0/c/*/*/*"))  # no chunk is left
    assert np.array_equal(layer.read(), cells())  # the original was only read


@settings(max_examples=25)
@given(STEPS, st.integers(0, 100), st.sampled_from(["overlay and notes", "overlay", "neither"]))
def test_a_crash_at_any_byte_of_the_journal_loses_the_edit_in_flight_at_most(
    tmp_path_factory, layer, steps, share, kept
):
    root = tmp_path_factory.mktemp("crash")
    model = Model(cells())
    states, ends = [cells()], []
    with Corrections(root / "cell", layer) as corrections:
        journal = root / "cell" / "journal.jsonl"
        ends.append(journal.stat().st_size)
        for action in steps:
            n = len(corrections.entries)
            step(corrections, model, action)
            if len(corrections.entries) > n:
                states.append(model.now)
                ends.append(journal.stat().st_size)
    cut = ends[-1] * share // 100
    content = journal.read_bytes()[:cut]
    n_whole = sum(end <= cut for end in ends)  # the header is one
    # Of the overlay there may be nothing yet, or all of it, even of lines that are lost.
    shutil.copytree(root / "cell", root / "crashed")
    if "notes" not in kept:
        (root / "crashed" / "state.json").unlink(missing_ok=True)
    if "overlay" not in kept:
        shutil.rmtree(root / "crashed" / "changes.ome.zarr", ignore_errors=True)
    (root / "crashed" / "journal.jsonl").write_bytes(content)
    with Corrections(root / "crashed", layer) as found:
        assert np.array_equal(everything(found), states[max(0, n_whole - 1)])
        put(found, box_mask(((0, 2), (0, 5), (0, 5))), 12)  # and one can go on
        expected = everything(found)
    with Corrections(root / "crashed", layer) as found:
        assert np.array_equal(everything(found), expected)


@pytest.mark.parametrize("garbage", [b"\0" * 40, b"1234", b"deadbeef {}\n", b'00000000 {"kind": "paint"'])
def test_what_a_crash_left_behind_the_last_line_is_dropped(tmp_path, layer, garbage):
    with Corrections(tmp_path / "cell", layer) as corrections:
        put(corrections, box_mask(((0, 2), (0, 5), (0, 5))), 12)
        expected = everything(corrections)
    with (tmp_path / "cell" / "journal.jsonl").open("ab") as file:
        file.write(garbage)
    with Corrections(tmp_path / "cell", layer) as corrections:
        assert np.array_equal(everything(corrections), expected)
        assert len(corrections.entries) == 1


def test_an_overlay_that_is_behind_the_journal_catches_up(tmp_path, layer, monkeypatch):
    corrections = Corrections(tmp_path / "cell", layer)
    put(corrections, box_mask(((0, 2), (0, 5), (0, 5))), 12)
    expected = np.where(box_mask(((0, 3), (0, 9), (0, 9))), np.uint32(13), everything(corrections))
    monkeypatch.setattr(corrections._overlay, "write_changes", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(ResourceError, match="full"):
        put(corrections, box_mask(((0, 3), (0, 9), (0, 9))), 13)
    with Corrections(tmp_path / "cell", layer) as again:  # the lock is free, and the edit is not lost
        assert np.array_equal(everything(again), expected)


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path, layer, monkeypatch):
    with Corrections(tmp_path / "cell", layer) as corrections:
        put(corrections, box_mask(((0, 2), (0, 5), (0, 5))), 12)
        before, size = everything(corrections), (tmp_path / "cell" / "journal.jsonl").stat().st_size
        with monkeypatch.context() as patch:
            patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
            with pytest.raises(ResourceError, match="full"):
                put(corrections, box_mask(((0, 3), (0, 9), (0, 9))), 13)
        assert (tmp_path / "cell" / "journal.jsonl").stat().st_size == size
        assert np.array_equal(everything(corrections), before)
        put(corrections, box_mask(((0, 3), (0, 9), (0, 9))), 13)
        after = everything(corrections)
    with Corrections(tmp_path / "cell", layer) as again:
        assert np.array_equal(everything(again), after)


def test_checkpoints_between_change_nothing(tmp_path, layer, monkeypatch):
    monkeypatch.setattr(store, "CHECKPOINT_EVERY", 2)
    with Corrections(tmp_path / "cell", layer) as corrections:
        for label in range(20, 25):
            put(corrections, box_mask(((0, 1 + label % 4), (0, label), (0, 9))), label)
            corrections._beside and corrections._beside.join()
        expected = everything(corrections)
        assert json.loads((tmp_path / "cell" / "state.json").read_text())["applied"] == 4
    with Corrections(tmp_path / "cell", layer) as again:
        assert np.array_equal(everything(again), expected)


@settings(max_examples=10)
@given(STEPS, st.integers(1, 3))
def test_nothing_depends_on_what_is_kept_in_memory(tmp_path_factory, layer, steps, few):
    folder = tmp_path_factory.mktemp("few")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "FEW", few - 1)
        patch.setattr(chunks, "KEPT", few)
        patch.setattr(overlay, "CHUNK", (few, 7, 11))
        patch.setattr(store, "CHECKPOINT_EVERY", few)
        model = Model(cells())
        with Corrections(folder / "cell", layer) as corrections:
            for action in steps:
                step(corrections, model, action)
                assert np.array_equal(everything(corrections), model.now)
        with Corrections(folder / "cell", layer) as corrections:
            assert np.array_equal(everything(corrections), model.now)


def test_a_damaged_line_before_good_ones_is_refused_and_kept(tmp_path, layer):
    with Corrections(tmp_path / "cell", layer) as corrections:
        for label in (12, 13):
            put(corrections, box_mask(((0, 2), (0, 5), (0, 5))), label)
    journal = tmp_path / "cell" / "journal.jsonl"
    content = journal.read_bytes().replace(b'"kind":"paint"', b'"kind":"erase"', 1)
    journal.write_bytes(content)
    with pytest.raises(DataError, match=r"line 2 of .* is damaged"):
        Corrections(tmp_path / "cell", layer)
    assert journal.read_bytes() == content


def test_two_cannot_correct_at_once_but_others_can_look(tmp_path, layer):
    with Corrections(tmp_path / "cell", layer) as corrections:
        put(corrections, box_mask(((0, 2), (0, 5), (0, 5))), 12)
        with pytest.raises(ResourceError, match="another process is correcting cell"):
            Corrections(tmp_path / "cell", layer)
        assert not (tmp_path / "cell" / "changes.ome.zarr").exists()  # it is in the journal only
        looking = Corrections(tmp_path / "cell", layer, read_only=True)
        assert np.array_equal(everything(looking), everything(corrections))
        with pytest.raises(UsageError, match="opened to look at"):
            put(looking, box_mask(((0, 2), (0, 5), (0, 5))), 13)
    with pytest.raises(UsageError, match="or are closed"):
        corrections.undo()


def test_corrections_of_another_layer_and_of_a_newer_cristae_are_refused(tmp_path, layer):
    with Corrections(tmp_path / "cell", layer, about={"run": "track-1"}) as corrections:
        put(corrections, box_mask(((0, 2), (0, 5), (0, 5))), 12)
    with pytest.raises(DataError, match="run track-1 and not track-2"):
        Corrections(tmp_path / "cell", layer, about={"run": "track-2"})
    other = store_layer(tmp_path / "other.ome.zarr", cells().astype(np.uint16))
    with pytest.raises(DataError, match="another layer"):
        Corrections(tmp_path / "cell", other, about={"run": "track-1"})
    Journal(tmp_path / "newer.jsonl", {}).close()
    text = json.dumps({"format": 99}).encode()
    (tmp_path / "newer.jsonl").write_bytes(b"%08x %s\n" % (zlib.crc32(text), text))
    with pytest.raises(DataError, match="newer cristae"):
        Journal(tmp_path / "newer.jsonl", {})


def test_the_guard_keeps_edits_away_while_the_layer_is_made_anew(tmp_path, layer):
    allowed = True

    def guard():
        if not allowed:
            raise DataError("being made anew")

    with Corrections(tmp_path / "cell", layer, guard=guard) as corrections:
        put(corrections, box_mask(((0, 2), (0, 5), (0, 5))), 12)
        allowed = False
        for edit in (corrections.undo, lambda: corrections.rename("merge", {3: 9})):
            with pytest.raises(DataError, match="anew"):
                edit()
        assert len(corrections.entries) == 1


def test_what_was_changed_is_known_even_of_whole_objects(tmp_path, layer):
    with Corrections(tmp_path / "cell", layer) as corrections:
        mask = box_mask(((0, 1), (0, 2), (0, 2)))
        put(corrections, mask, 12)
        assert np.array_equal(corrections.changed(layer.grid.box), mask)
        corrections.rename("merge", {3: HIGH})
        assert np.array_equal(corrections.changed(layer.grid.box), mask | (cells() == 3))


def test_the_layer_as_it_is_can_be_read_elsewhere(tmp_path, layer):
    with Corrections(tmp_path / "cell", layer) as corrections:
        put(corrections, box_mask(((0, 2), (0, 5), (0, 5))), 12)
        corrections.rename("merge", {3: HIGH})
        volume = pickle.loads(pickle.dumps(corrections.volume()))
        assert np.array_equal(volume.read(), everything(corrections))
        assert volume.grid == layer.grid


def test_labels_outside_of_the_mask_do_not_matter(tmp_path, layer):
    with Corrections(tmp_path / "cell", layer) as corrections:
        mask = box_mask(((0, 1), (0, 2), (0, 2)))
        labels = np.where(mask, np.uint32(12), np.uint32(2**32 - 1))
        assert corrections.put("paint", [Change(layer.grid.box, labels, mask)]).n_voxels == 4
        assert np.array_equal(everything(corrections), np.where(mask, np.uint32(12), cells()))


def test_labels_that_cannot_be_stored_and_signed_layers_are_refused(tmp_path, layer):
    with Corrections(tmp_path / "cell", layer) as corrections:
        with pytest.raises(UsageError, match="0 to 4294967294; got 4294967295"):
            put(corrections, box_mask(((0, 2), (0, 5), (0, 5))), 2**32 - 1)
        with pytest.raises(UsageError, match="got 4294967295"):
            corrections.rename("merge", {3: 2**32 - 1})
        with pytest.raises(UsageError, match="background"):
            corrections.rename("merge", {0: 3})
        with pytest.raises(DataError, match="leaves the volume"):
            corrections.read(Box((0, 0, 0), (9, 9, 99)))
        for nothing in (corrections.undo, corrections.redo):
            with pytest.raises(UsageError, match="nothing to"):
                nothing()
        assert not corrections.entries
    signed = store_layer(tmp_path / "signed.ome.zarr", cells().astype(np.int64))
    with pytest.raises(DataError, match="unsigned"):
        Corrections(tmp_path / "signed", signed)
    Corrections(tmp_path / "signed2", layer).close()  # a refusal leaves no lock behind

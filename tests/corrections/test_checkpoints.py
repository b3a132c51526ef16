"""What is noted of the overlay never runs ahead of it, whatever is scheduled when, and whatever journal lies beside."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from edited_layers import SHAPE, cells, everything, put, store_layer

from cristae.corrections import store
from cristae.corrections.store import Corrections


@pytest.fixture(scope="module")
def layer(tmp_path_factory):
    return store_layer(tmp_path_factory.mktemp("layer") / "cell.ome.zarr", cells())


def row(number):
    """Return a mask of some voxels, others for each number."""
    mask = np.zeros(SHAPE, bool)
    mask[number % 5, 20, number : number + 3] = True
    return mask


def crash(corrections):
    """Leave what a process leaves behind that is gone."""
    corrections._journal.close()
    corrections._lock.release()


def test_an_edit_that_is_not_drawn_yet_is_not_noted_as_safe(tmp_path, layer, monkeypatch):
    corrections = Corrections(tmp_path / "cell", layer)
    put(corrections, row(1), 5)
    draw = corrections._draw

    def slowly(*what):
        beside = threading.Thread(target=corrections.checkpoint)  # as the one beside may be scheduled
        beside.start()
        beside.join(1)
        draw(*what)
        beside.join()

    monkeypatch.setattr(corrections, "_draw", slowly)
    put(corrections, row(2), 6)
    crash(corrections)
    with Corrections(tmp_path / "cell", layer) as found:
        assert (everything(found)[row(2)] == 6).all() and (everything(found)[row(1)] == 5).all()


def test_a_chunk_that_changes_while_it_is_written_is_written_again(tmp_path, layer, monkeypatch):
    corrections = Corrections(tmp_path / "cell", layer)
    put(corrections, row(1), 5)
    chunks = corrections._overlay._changes
    keep, reached, edited = chunks._keep, threading.Event(), threading.Event()

    def slowly(corner, chunk):
        keep(corner, chunk)
        if threading.current_thread() is beside:
            reached.set()
            edited.wait(1)

    monkeypatch.setattr(chunks, "_keep", slowly)
    beside = threading.Thread(target=corrections.checkpoint)
    beside.start()
    assert reached.wait(10)
    put(corrections, row(1), 6)  # in the same chunk
    edited.set()
    beside.join()
    assert (everything(corrections)[row(1)] == 6).all()
    corrections.close()
    with Corrections(tmp_path / "cell", layer) as found:
        assert (everything(found)[row(1)] == 6).all()


def test_whoever_fails_to_draw_lets_nobody_in_before_the_checkpoint_beside_has_ended(tmp_path, layer, monkeypatch):
    monkeypatch.setattr(store, "CHECKPOINT_EVERY", 1)
    corrections = Corrections(tmp_path / "cell", layer)
    going, flush = threading.Event(), corrections._overlay.flush

    def slowly(**how):
        going.wait(5)
        flush(**how)

    monkeypatch.setattr(corrections._overlay, "flush", slowly)
    put(corrections, row(1), 5)
    beside = corrections._beside
    assert beside.is_alive()
    monkeypatch.setattr(corrections._overlay, "write_changes", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    threading.Timer(0.3, going.set).start()
    with pytest.raises(Exception, match="full"):
        put(corrections, row(2), 6)
    assert not beside.is_alive()
    with Corrections(tmp_path / "cell", layer) as found:
        assert (everything(found)[row(2)] == 6).all()


def test_an_older_journal_put_back_brings_the_layer_back_to_it(tmp_path, layer):
    folder = tmp_path / "cell"
    with Corrections(folder, layer) as corrections:
        put(corrections, row(1), 5)
        older, expected = (folder / "journal.jsonl").read_bytes(), everything(corrections)
        put(corrections, row(2), 6)
        put(corrections, row(3), 7)
    (folder / "journal.jsonl").write_bytes(older)
    looking = Corrections(folder, layer, read_only=True)
    assert np.array_equal(everything(looking), expected)  # and nothing on disk was touched:
    found = Corrections(folder, layer)
    assert np.array_equal(everything(found), expected) and found.standing == (1,)
    for number, label in ((4, 8), (6, 9), (7, 10)):  # as many as are noted, and more
        put(found, row(number), label)
    expected = everything(found)
    crash(found)
    with Corrections(folder, layer) as again:
        assert np.array_equal(everything(again), expected)


def test_another_journal_of_the_same_length_is_noticed(tmp_path, layer):
    for name, label in (("one", 5), ("other", 6)):
        with Corrections(tmp_path / name, layer) as corrections:
            put(corrections, row(1), label)
    (tmp_path / "one" / "journal.jsonl").write_bytes((tmp_path / "other" / "journal.jsonl").read_bytes())
    with Corrections(tmp_path / "one", layer) as found:
        assert (everything(found)[row(1)] == 6).all()


def test_an_overlay_without_notes_is_made_anew(tmp_path, layer):
    with Corrections(tmp_path / "cell", layer) as corrections:
        put(corrections, row(1), 5)
        expected = everything(corrections)
        older = (tmp_path / "cell" / "journal.jsonl").read_bytes()
        put(corrections, row(2), 6)
    (tmp_path / "cell" / "journal.jsonl").write_bytes(older)
    (tmp_path / "cell" / "state.json").unlink()
    with Corrections(tmp_path / "cell", layer) as found:
        assert np.array_equal(everything(found), expected)


def test_who_looks_on_writes_nothing(tmp_path, layer, monkeypatch):
    corrections = Corrections(tmp_path / "cell", layer)
    for number in range(4):
        put(corrections, row(number), 5 + number)
    before = {path.name for path in (tmp_path / "cell").iterdir()}
    monkeypatch.setattr(store, "CHECKPOINT_EVERY", 1)
    looking = Corrections(tmp_path / "cell", layer, read_only=True)
    looking.close()
    assert looking._beside is None
    assert np.array_equal(everything(looking), everything(corrections))
    assert {path.name for path in (tmp_path / "cell").iterdir()} == before
    corrections.close()

"""New ids: found once, noted, and never those of an object that is or was there."""

from __future__ import annotations

import numpy as np
import pytest
from edited_layers import HIGH, SHAPE, cells, store_layer

from cristae.corrections import tools
from cristae.corrections.ids import highest_id, known_highest, new_ids, note_highest
from cristae.corrections.store import Corrections
from cristae.errors import UsageError
from cristae.geometry import Grid
from cristae.volume import Volume


def test_the_highest_id_is_found(tmp_path):
    labels = cells()
    labels[4, 23, 29] = 2**32 - 2
    layer = store_layer(tmp_path / "a.ome.zarr", labels)
    told: list[tuple[int, int]] = []
    assert highest_id(layer, progress=lambda done, total: told.append((done, total))) == 2**32 - 2
    assert told == [(n, 2 * 2 * 2) for n in range(1, 9)]  # each file is read once
    assert highest_id(layer, slices=[0, 3]) == HIGH
    assert highest_id(layer, slices=[]) == 0
    assert highest_id(store_layer(tmp_path / "b.ome.zarr", np.zeros(SHAPE, np.uint32))) == 0
    in_memory = Volume(labels, Grid(SHAPE, (30.0, 6.0, 6.0)), "labels")
    assert highest_id(in_memory) == 2**32 - 2


def test_reading_ends_with_what_progress_raises(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        highest_id(store_layer(tmp_path / "a.ome.zarr", cells()), progress=stop)


def test_ids_are_above_all_that_are_or_were(tmp_path, monkeypatch):
    layer = store_layer(tmp_path / "a.ome.zarr", cells())
    with Corrections(tmp_path / "cell", layer) as opened:
        assert known_highest(opened) is None
        assert new_ids(opened, 2) == (HIGH + 1, HIGH + 2)
        assert known_highest(opened) == HIGH
        tools.paint(opened, 0, [(0, 0)], HIGH + 40, radius=0)
        opened.undo()
        monkeypatch.setattr(Volume, "read", None)  # and nothing is read again for it
        assert new_ids(opened, 1) == (HIGH + 41,)


def test_a_damaged_note_is_made_anew_and_full_layers_are_refused(tmp_path):
    with Corrections(tmp_path / "cell", store_layer(tmp_path / "a.ome.zarr", cells())) as opened:
        (tmp_path / "cell" / "highest.json").write_text("{")
        assert new_ids(opened, 1) == (HIGH + 1,)
        note_highest(opened, 2**32 - 2)
        with pytest.raises(UsageError, match="ids of this layer are 0 to"):
            new_ids(opened, 1)

"""Which method is used, given how each did on left-out slices."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from cristae.geometry import Grid
from cristae.separation.gap import Gap
from cristae.stages import choose
from cristae.stages.cells_settings import CellsSettings
from cristae.stages.choose import best_method


def table(**methods):
    rows = [
        {"method": name, "dice": dice, "islands": share, "n_island_px": n}
        for name, slices in methods.items()
        for dice, share, n in slices
    ]
    return pd.DataFrame(rows)


def test_the_highest_mean_dice_wins():
    assert best_method(table(mask=[(0.8, 1.0, 50), (0.7, 1.0, 50)], paths=[(0.9, 0.5, 50), (0.8, 0.5, 50)])) == "paths"


def test_of_those_as_good_the_one_that_brings_more_of_the_islands_home():
    assert best_method(table(mask=[(0.991, 0.6, 100)], paths=[(0.989, 0.9, 100)], flow=[(0.9, 1.0, 100)])) == "paths"


def test_islands_count_by_their_voxels_not_by_slices():
    few, many = [(0.9, 1.0, 10), (0.9, 0.5, 1000)], [(0.9, 0.0, 10), (0.9, 0.9, 1000)]
    assert best_method(table(mask=few, paths=many)) == "paths"


def test_without_islands_dice_alone_decides():
    nothing = math.nan
    assert best_method(table(mask=[(0.991, nothing, 0)], paths=[(0.993, nothing, 0)])) == "paths"
    assert best_method(table(mask=[(0.993, nothing, 0)], paths=[(0.991, nothing, 0)])) == "mask"


def test_of_methods_that_do_exactly_as_well_it_is_the_one_that_is_used_untried():
    assert best_method(table(mask=[(1.0, math.nan, 0)], paths=[(1.0, math.nan, 0)])) == "paths"
    assert best_method(table(mask=[(1.0, math.nan, 0)], basins=[(1.0, math.nan, 0)])) == "mask"


def tried_on(monkeypatch, first, middle, found):
    """Try methods, given by what they find, on a slice between two that look like `first`."""
    image = np.zeros((3, 8, 8), np.uint8)
    sources = SimpleNamespace(
        labelled=(0, 1, 2),
        project=SimpleNamespace(image=SimpleNamespace(grid=Grid((3, 8, 8), (10.0, 10.0, 10.0)))),
        gap=lambda *_: Gap(image, image, image, first, first),
        labels=lambda z, factor: (first, middle, first)[z],
        seen=lambda z, factor: np.ones((8, 8), bool),
    )
    rows = {}
    for name, plane in found.items():
        monkeypatch.setattr(choose, "separate", lambda *_, plane=plane: iter((first, plane, first)))
        rows[name] = choose._try(sources, CellsSettings(smallest_body_um2=0.0), 1, name)
    return rows


def test_a_cell_that_is_carried_on_where_it_has_ended_counts_as_wrong(monkeypatch):
    first, middle = np.zeros((2, 8, 8), np.int32)
    first[:, :4], first[:, 4:] = 1, 2  # cell 2 ends before the slice that is left out
    middle[:, :4] = 1
    tried = tried_on(monkeypatch, first, middle, {"ended": middle, "smeared": first})
    assert tried["ended"]["dice"] == 1 and tried["ended"]["n_smeared"] == 0
    assert tried["smeared"]["dice"] == pytest.approx(0.5) and tried["smeared"]["worst"] == 0


def test_what_is_left_of_a_cell_that_has_ended_counts_by_its_size(monkeypatch):
    first, middle = np.zeros((2, 8, 8), np.int32)
    first[:, :4], first[:, 4:] = 1, 2
    middle[:, :4] = 1
    rest = middle.copy()
    rest[0, 7] = 2
    tried = tried_on(monkeypatch, first, middle, {"rest": rest, "smeared": first})
    assert tried["rest"]["n_smeared"] == tried["smeared"]["n_smeared"] == 1
    assert tried["rest"]["dice"] == pytest.approx(32 / 33)
    assert tried["smeared"]["dice"] == pytest.approx(0.5)


def test_on_a_slice_without_cells_finding_none_is_right_and_finding_any_is_wrong(monkeypatch):
    first, nothing = np.zeros((2, 8, 8), np.int32)
    first[:, :4] = 1
    invented = np.where(first, 7, 0).astype(np.int32)
    tried = tried_on(monkeypatch, first, nothing, {"none": nothing, "smeared": first, "invented": invented})
    assert {name: (row["dice"], row["worst"]) for name, row in tried.items()} == {
        "none": (1, 1),
        "smeared": (0, 0),
        "invented": (0, 0),
    }
    assert best_method(pd.DataFrame(tried.values())) == "none"

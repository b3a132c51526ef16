"""Which method is used, given how each did on left-out slices."""

import math

import pandas as pd

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

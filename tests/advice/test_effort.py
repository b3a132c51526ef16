"""The meter of effort counts what was done by the time of each score."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cristae.advice.effort import COLUMNS, count_corrections, meter, minutes_at_work

BEGAN = pd.Timestamp("2026-01-05T10:00:00", tz="UTC")


def _after(minutes: float) -> pd.Timestamp:
    return BEGAN + pd.Timedelta(minutes=minutes)


SCORES = pd.DataFrame(
    {
        "time": [_after(60), _after(0)],
        "run": ["b", "a"],
        "basis": "truth",
        "class": "mito",
        "n_labelled_slices": [5, 3],
        "dice": [0.9, 0.7],
    }
)
CORRECTIONS = pd.DataFrame(
    {
        "time": [_after(one) for one in (12, 10, 11, 30, 61, 31)],
        "kind": ["paint", "paint", "merge", "erase", "paint", "undo"],
    }
)


def test_corrections_count_from_when_they_were_made():
    found = meter(SCORES, CORRECTIONS)
    assert found["run"].tolist() == ["a", "b"] and found["n_corrections"].tolist() == [0, 3]  # one was undone
    assert found["correcting_min"].tolist() == [0, 2]
    assert found.dtypes.astype(str).replace("object", "str").to_dict() == COLUMNS
    assert count_corrections(CORRECTIONS) == (4, 2.0)


def test_what_was_undone_counts_until_it_was_and_again_when_it_is_done_again():
    kinds = ["paint", "fed", "paint", "undo", "undo", "redo", "tick"]
    table = pd.DataFrame({"time": [_after(n) for n in range(len(kinds))], "kind": kinds})
    scores = pd.DataFrame([SCORES.iloc[0].to_dict() | {"time": _after(n + 0.5)} for n in range(len(kinds))])
    assert meter(scores, table)["n_corrections"].tolist() == [1, 1, 2, 1, 0, 1, 1]
    assert count_corrections(table) == (1, 2.0)
    assert count_corrections(table.drop(columns="kind"))[0] == 7


def test_order_does_not_matter():
    shuffled = meter(SCORES.iloc[::-1], CORRECTIONS.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(shuffled, meter(SCORES, CORRECTIONS))


def test_nobody_corrects():
    assert meter(SCORES)["n_corrections"].tolist() == [0, 0]
    assert meter(SCORES.iloc[:0]).empty and count_corrections(None) == (0, 0.0)


def test_pauses_are_no_work():
    times = np.array([0, 60, 120, 1000, 1030], "datetime64[s]")
    assert minutes_at_work(times) == 2.5
    assert minutes_at_work(times, 2000) == pytest.approx(1030 / 60)

"""A meter of human effort: what was labelled and corrected by the time of each score."""

from __future__ import annotations

import numpy as np
import pandas as pd

PAUSE_S = 300.0
"""Seconds without a correction from which on nobody was at work."""
COLUMNS = {
    "time": "datetime64[ns, UTC]",
    "run": "str",
    "basis": "str",
    "class": "str",
    "n_labelled_slices": "int64",
    "n_corrections": "int64",
    "correcting_min": "float64",
    "dice": "float64",
}
"""Columns of the meter with their types; `basis` says what the Dice was taken against."""
COUNTS = {"undo": -1, "redo": 1, "fed": 0, "tick": 0}
"""What entries of a journal add to the number of corrections that hold; edits add one."""


def meter(scores: pd.DataFrame, corrections: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return what had been labelled and corrected by the time of each score.

    Parameters
    ----------
    scores
        A row per score: ``time`` (UTC), ``run``, ``basis``, ``class``, ``n_labelled_slices`` and ``dice``.
    corrections
        A row per entry of a journal of corrections: ``time`` (UTC) and ``kind``. None where nobody corrects.

    Returns
    -------
    pd.DataFrame
        As `COLUMNS`, by time: beside the score the number of corrections that held then, and the minutes at work on
        them, those that were undone too.
    """
    table = scores.copy()
    table["time"] = pd.to_datetime(table["time"], utc=True).astype("datetime64[ns, UTC]")
    when, holding = _times(corrections), _holding(corrections)
    at = table["time"].to_numpy("datetime64[ns]")
    table["n_corrections"] = [int(holding[holding.index <= moment].sum()) for moment in at]
    table["correcting_min"] = [minutes_at_work(when[when <= moment]) for moment in at]
    table = table.astype(COLUMNS)[list(COLUMNS)]
    return table.sort_values(["time", "run", "class"], kind="stable").reset_index(drop=True)


def count_corrections(corrections: pd.DataFrame | None) -> tuple[int, float]:
    """Return how many corrections hold, and the minutes at work on them."""
    return int(_holding(corrections).sum()), minutes_at_work(_times(corrections))


def minutes_at_work(times: np.ndarray, pause_s: float = PAUSE_S) -> float:
    """Return the minutes between events that follow each other without a pause.

    Parameters
    ----------
    times
        datetime64, ascending, ``(n,)``.
    pause_s
        Seconds from which on there was a pause, which does not count.
    """
    gaps = np.diff(times) / np.timedelta64(1, "s")
    return float(gaps[gaps < pause_s].sum() / 60)


def _times(corrections: pd.DataFrame | None) -> np.ndarray:
    """Return when edits were made, ascending."""
    if corrections is None or corrections.empty:
        return np.array([], "datetime64[ns]")
    kept = corrections[~corrections["kind"].isin(COUNTS)] if "kind" in corrections else corrections
    return np.sort(pd.to_datetime(kept["time"], utc=True).to_numpy("datetime64[ns]"))


def _holding(corrections: pd.DataFrame | None) -> pd.Series:
    """Return what each entry adds to the number of corrections that hold, by its time."""
    if corrections is None or corrections.empty:
        return pd.Series([], np.array([], "datetime64[ns]"), dtype="int64")
    kinds = corrections["kind"] if "kind" in corrections else [""] * len(corrections)
    when = pd.to_datetime(corrections["time"], utc=True).to_numpy("datetime64[ns]")
    return pd.Series([COUNTS.get(kind, 1) for kind in kinds], when)

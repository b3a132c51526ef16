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
UNDOES = ("undo", "redo", "fed")
"""Kinds of entries of a journal that are no corrections."""


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
        As `COLUMNS`, by time: beside the score the number of corrections until then, and the minutes at work on them.
    """
    table = scores.copy()
    table["time"] = pd.to_datetime(table["time"], utc=True).astype("datetime64[ns, UTC]")
    when = _times(corrections)
    at = table["time"].to_numpy("datetime64[ns]")
    table["n_corrections"] = np.searchsorted(when, at, side="right")
    table["correcting_min"] = [minutes_at_work(when[when <= moment]) for moment in at]
    table = table.astype(COLUMNS)[list(COLUMNS)]
    return table.sort_values(["time", "run", "class"], kind="stable").reset_index(drop=True)


def count_corrections(corrections: pd.DataFrame | None) -> tuple[int, float]:
    """Return how many corrections there are, and the minutes at work on them."""
    when = _times(corrections)
    return len(when), minutes_at_work(when)


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
    if corrections is None or corrections.empty:
        return np.array([], "datetime64[ns]")
    kept = corrections[~corrections["kind"].isin(UNDOES)] if "kind" in corrections else corrections
    return np.sort(pd.to_datetime(kept["time"], utc=True).to_numpy("datetime64[ns]"))

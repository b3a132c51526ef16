"""Advice in words: why a slice, and the list that people work off."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

_MUCH, _UNLIKE, _ALIKE = 1.25, 1.0, 0.5


def why(row: pd.Series, trust: float) -> str:
    """Return why a slice is worth a label, in words.

    Parameters
    ----------
    row
        Of the table of `cristae.stages.advise.advise`: ``doubt``, ``novelty``, ``distance_slices`` and
        ``nearest_labelled`` count.
    trust
        Weight of doubt; at 0 it says nothing of it.
    """
    words = []
    if trust and not math.isnan(float(row["doubt"])):
        doubt = float(row["doubt"])
        words.append(f"{doubt:.1f} times the usual doubt" if doubt >= _MUCH else f"doubt {doubt:.1f} (1 is usual)")
    if pd.isna(row["distance_slices"]):
        words.append("nothing is labelled yet")
    else:
        n = int(row["distance_slices"])
        words.append(f"{n} {'slice' if n == 1 else 'slices'} from labelled slice {row['nearest_labelled']}")
        novelty = float(row["novelty"])
        if novelty >= _UNLIKE:
            words.append("unlike every labelled slice")
        elif novelty <= _ALIKE:
            words.append("much like a labelled slice")
    return "; ".join(words)


def task_list(name: str, classes: Sequence[str], table: pd.DataFrame, boxes: pd.DataFrame) -> str:
    """Return the task list as Markdown.

    Parameters
    ----------
    name
        Of the project.
    classes
        To be labelled.
    table, boxes
        As the stage makes them.
    """
    what = ", ".join(classes) or "every class"
    covered = "doubt" if table["why"].str.contains("doubt").any() else "volume"
    lines = [f"# What to label next in {name}", "", f"Paint every object of {what} on these slices, in this order:", ""]
    lines += [
        f"- [ ] slice {row.z}: {row.why} (covers {_percent(row.gain)} more of the {covered})"
        for row in table[table["advised"]].itertuples()
    ]
    if len(boxes):
        lines += ["", "Or, for less work, only these places (leave the rest of the slice unlabelled):", ""]
        lines += [
            f"- [ ] slice {row.z}, y {row.y_start}–{row.y_stop}, x {row.x_start}–{row.x_stop}: "
            f"{_percent(row.share_of_slice)} of the doubt on this slice"
            for row in boxes.itertuples()
        ]
    lines += [
        "",
        "Then import the labels, train again, and ask again: what to label next depends on what was learnt.",
        "",
    ]
    return "\n".join(lines)


def advice_in_words(table: pd.DataFrame) -> str:
    """Return the advised slices as lines of text."""
    rows = table[table["advised"]].itertuples()
    return "\n".join(f"{row.rank:3}. slice {row.z}: {row.why}" for row in rows)


def _percent(share: object) -> str:
    return f"{float(str(share)):.0%}".replace("%", " %")

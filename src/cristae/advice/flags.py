"""What looks wrong in a result, without truth: a list for whoever proofreads, worst first.

Three kinds of signs::

    an object unlike its kind      far smaller, larger, longer or more ragged than the others of its class
    a slice unlike its neighbours  much more or less of a class than before and after, or in other places
    anatomy that cannot be         organelles in no cell or across two, cells with two nuclei, islands without a cell

How odd something is, is told in robust standard deviations (median and median absolute deviation), that a few odd
ones cannot bend; `severity` puts all kinds on one scale from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cristae.preprocess.spread import outlying

COLUMNS = {
    "kind": "str",
    "class": "str",
    "object_id": "int64",
    "z": "int64",
    "severity": "float64",
    "reason": "str",
}
"""Columns of all flags with their types: `object_id` is 0 where a slice is meant, `z` −1 where an object is."""
FEWEST = 8
"""Objects of a class, or slices of a volume, from which on one can be called odd."""
_MAD = 1.4826
_FLOORS = {"volume_um3": 0.25, "fill": 0.1, "elongation": 0.15}
"""Smallest spread of the logarithms that is believed in."""
_WORDS = {
    "volume_um3": ("{ratio} times smaller than is usual", "{ratio} times larger than is usual"),
    "fill": ("ragged: it fills little of its box", "it fills its box as no other does"),
    "elongation": ("rounder than all others", "{ratio} times as long for its width as is usual"),
}


def severity_of(deviations: np.ndarray, threshold: float) -> np.ndarray:
    """Return the severity of what lies this far off, 0–1: 0 at the threshold, ½ at its double."""
    return np.asarray(1 - threshold / np.maximum(np.abs(deviations), threshold))


def robust_deviations(values: np.ndarray, floor: float) -> np.ndarray:
    """Return how many robust standard deviations each value lies from the median, float ``(n,)``; `floor` the least."""
    known = np.asarray(values, np.float64)
    middle = np.nanmedian(known)
    return (known - middle) / max(_MAD * float(np.nanmedian(np.abs(known - middle))), floor)


def odd_objects(objects: pd.DataFrame, threshold: float = 4.0) -> pd.DataFrame:
    """List objects that are unlike those of their class.

    Parameters
    ----------
    objects
        ``class``, ``object_id``, ``volume_um3``; with ``fill`` (share of its box that an object fills) and
        ``elongation`` (longest side of the box over the shortest), these too. Rows in which ``touches_edge`` is true
        are neither flagged nor a measure for others.
    threshold
        Robust standard deviations of the logarithm.

    Returns
    -------
    pd.DataFrame
        As `COLUMNS`; a row per object with what is oddest about it.
    """
    rows = []
    whole = objects[~objects["touches_edge"].astype(bool)] if "touches_edge" in objects else objects
    for name, group in whole.groupby("class", sort=False):
        if len(group) < FEWEST:
            continue
        odd = {
            column: robust_deviations(np.log(np.maximum(group[column].to_numpy(float), 1e-12)), floor)
            for column, floor in _FLOORS.items()
            if column in group
        }
        table = np.stack(list(odd.values()))
        worst = np.abs(table).argmax(axis=0)
        for at in np.flatnonzero(np.abs(table).max(axis=0) > threshold):
            column, deviation = list(odd)[worst[at]], float(table[worst[at], at])
            value, usual = float(group[column].iloc[at]), float(group[column].median())
            ratio = max(value, usual) / max(min(value, usual), 1e-12)
            reason = _WORDS[column][deviation > 0].format(ratio=f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}")
            severity = float(severity_of(np.array(deviation), threshold))
            rows.append(("odd object", name, int(group["object_id"].iloc[at]), -1, severity, reason))
    return _table(rows)


def jumps(slices: pd.DataFrame, threshold: float = 5.0) -> pd.DataFrame:
    """List slices on which there is much more or less of a class than around, or which overlap little with the last.

    Parameters
    ----------
    slices
        A row per class and slice, ascending: ``class``, ``z``, ``n_predicted``, ``n_before`` (of the slice before; NaN
        where there is none) and ``n_shared`` (on both). Slices that are left out as bad have ``usable`` false.
    threshold
        Robust standard deviations.

    Returns
    -------
    pd.DataFrame
        As `COLUMNS`.
    """
    rows = []
    for name, group in slices.groupby("class", sort=False):
        if len(group) < FEWEST:
            continue
        usable = group["usable"].to_numpy(bool) if "usable" in group else np.ones(len(group), bool)
        area, before = group["n_predicted"].to_numpy(float), group["n_before"].to_numpy(float)
        usual = max(1.0, float(np.median(area[area > 0]))) if (area > 0).any() else 1.0
        # Square roots count a small object that comes or goes for less than half of a large one.
        size = outlying(np.sqrt(area / usual), usable, 0.05)
        both = np.nan_to_num(area + before)
        differing = np.where(both > 0, 1 - 2 * group["n_shared"].to_numpy(float) / np.maximum(both, 1), np.nan)
        place = outlying(np.where(both > 0.1 * usual, differing, np.nan), usable, 0.03)
        place = np.where(place > 0, place, 0)
        for at in np.flatnonzero(usable & (np.maximum(np.abs(size), place) > threshold)):
            by_size = abs(size[at]) > threshold
            words = ("more" if size[at] > 0 else "less") + f" of {name} than on the slices around"
            reason = words if by_size else f"{name} lies elsewhere than on the slice before"
            severity = float(severity_of(np.array(max(abs(size[at]), place[at])), threshold))
            rows.append(("jump", name, 0, int(group["z"].iloc[at]), severity, reason))
    return _table(rows)


def doubtful(slices: pd.DataFrame, threshold: float = 4.0) -> pd.DataFrame:
    """List slices whose expected Dice is far below that of the others of the class.

    Parameters
    ----------
    slices
        ``class``, ``z``, ``expected_dice``, and ``usable``.
    threshold
        Robust standard deviations below the median.

    Returns
    -------
    pd.DataFrame
        As `COLUMNS`.
    """
    rows = []
    for name, group in slices[slices["usable"].astype(bool)].groupby("class", sort=False):
        if len(group) < FEWEST:
            continue
        below = -robust_deviations(group["expected_dice"].to_numpy(float), 0.03)
        usual = float(group["expected_dice"].median())
        for at in np.flatnonzero(below > threshold):
            expected = float(group["expected_dice"].iloc[at])
            reason = f"its Dice is expected to be {expected:.2f}, where {usual:.2f} is usual"
            severity = float(severity_of(below[at], threshold))
            rows.append(("doubtful", name, 0, int(group["z"].iloc[at]), severity, reason))
    return _table(rows)


def anatomy_flags(
    parents: pd.DataFrame, across: pd.DataFrame, cell: str = "cell", nucleus: str = "nucleus"
) -> pd.DataFrame:
    """List objects in no cell, objects across cells, nucleoli in no nucleus, and cells with several nuclei.

    Parameters
    ----------
    parents, across
        As `cristae anatomy` writes them.
    cell, nucleus
        Names of the classes.

    Returns
    -------
    pd.DataFrame
        As `COLUMNS`. How severe something is grows with the share that lies where it must not.
    """
    rows: list[tuple[object, ...]] = []
    named = [parents[column].tolist() for column in ("class", "object_id", "parent_cell_id", "share_inside")]
    for name, number, parent, inside in zip(*named, strict=True):
        if parent == 0:
            rows.append(("no parent", name, number, -1, 0.9 if name == nucleus else 0.6, f"{name} in no {cell}"))
        elif inside < 0.5:
            reason = f"only {inside:.0%} of it lies in its {cell}".replace("%", " %")
            rows.append(("no parent", name, number, -1, 0.5 * (1 - inside), reason))
    if "parent_nucleus_id" in parents:
        homeless = parents[(parents["parent_nucleus_id"] == 0).fillna(False).astype(bool)]
        for name, number in zip(homeless["class"], homeless["object_id"], strict=True):
            rows.append(("no parent", name, number, -1, 0.8, f"{name} in no {nucleus}"))
    for key, group in across.groupby(["class", "object_id"], sort=False):
        name, number = str(key[0]), int(str(key[1]))
        beyond = 1 - float(group["share"].max())
        cells = ", ".join(str(int(one)) for one in group["cell_id"])
        rows.append(
            ("across cells", str(name), int(number), -1, min(1.0, 0.4 + beyond), f"lies across {cell}s {cells}")
        )
    nuclei = parents[(parents["class"] == nucleus) & (parents["parent_cell_id"] != 0)]
    for parent, group in nuclei.groupby("parent_cell_id"):
        if len(group) > 1:
            reason = f"holds {len(group)} nuclei: {', '.join(str(int(one)) for one in group['object_id'])}"
            rows.append(("several nuclei", cell, parent, -1, 0.8, reason))
    return _table(rows)


def island_flags(tracked: pd.DataFrame, cell: str = "cell") -> pd.DataFrame:
    """List islands that reach no cell, from the table ``objects`` of `cristae track`; columns as `COLUMNS`.

    The larger an island among the lonely ones, the more severe.
    """
    islands = tracked[tracked["kind"] == "island"]
    size = islands["n_voxels"].rank(pct=True).to_numpy() if "n_voxels" in islands else np.full(len(islands), 0.5)
    rows = [
        ("lonely island", cell, int(number), -1, 0.2 + 0.4 * float(rank), f"an island that reaches no {cell}")
        for number, rank in zip(islands["object"], size, strict=True)
    ]
    return _table(rows)


def put_together(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return all flags, the worst first, ties by class, slice and id."""
    found = pd.concat([_table([]), *[one for one in tables if len(one)]], ignore_index=True).astype(COLUMNS)
    return found.sort_values(["severity", "class", "z", "object_id"], ascending=[False, True, True, True]).reset_index(
        drop=True
    )


def _table(rows: Sequence[tuple[object, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)

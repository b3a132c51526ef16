"""Labels that disagree with what the other labelled slices teach.

A slice is left out, a network learns from the others, and is compared with the labels it never saw. That it errs
is expected, and how much can be told from its probabilities (`cristae.advice.expected`); that it is sure, and the
label says otherwise, is worth a look::

    label        .  .  ■ ■  .       forgotten: the network is sure of an object that nobody painted
    network      ■  .  ■ ■  .       invented:  painted where the network is sure that there is nothing
    outlines     are drawn by hand and differ by a voxel or two everywhere, so a band along them does not count

What a network is sure of is not always true. This ranks slices to look at; it changes nothing. Learning which labels
are wrong from out-of-sample probabilities: C. Northcutt, L. Jiang & I. Chuang (2021), JAIR 70, 1373.
"""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd

from cristae.advice.flags import robust_deviations

IGNORE = 255
"""Label of voxels that nobody looked at."""
REGION_COLUMNS = {
    "kind": "str",
    "y_start": "int64",
    "x_start": "int64",
    "y_stop": "int64",
    "x_stop": "int64",
    "n_pixels": "int64",
    "probability": "float64",
}


def sure_disagreement(
    probability: np.ndarray, label: np.ndarray, *, sure: float = 0.9, band: int = 3, smallest: int = 16
) -> pd.DataFrame:
    """List the places of a slice at which a network that never saw it is sure, and the label says otherwise.

    Parameters
    ----------
    probability
        uint8 ``(y, x)``, × 255.
    label
        uint8 ``(y, x)``: 1 the class, 0 not, 255 nobody looked (no disagreement).
    sure
        Probability, between ½ and 1, from which on the network is sure of the class; that it is not, below 1 − `sure`.
    band
        A place has to hold a disc of this radius in px.
    smallest
        Pixels of a place, at least.

    Returns
    -------
    pd.DataFrame
        As `REGION_COLUMNS`, largest first: ``kind`` is ``forgotten`` or ``invented``; a half-open box, pixels, and the
        mean probability there.

    Raises
    ------
    ValueError
        If shapes or types differ from these.
    """
    if probability.shape != label.shape or probability.dtype != np.uint8 or label.dtype != np.uint8:
        raise ValueError(
            f"expected uint8 of one shape, got {probability.dtype} {probability.shape} and {label.dtype} {label.shape}"
        )
    if not 0.5 < sure < 1:
        raise ValueError(f"expected a sureness between 0.5 and 1, got {sure}")
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    rows = []
    for kind, wrong in (
        ("forgotten", (probability >= 255 * sure) & (label == 0)),
        ("invented", (probability <= 255 * (1 - sure)) & (label == 1)),
    ):
        kept = cv2.morphologyEx(wrong.astype(np.uint8), cv2.MORPH_OPEN, disc)
        n, parts, boxes, _ = cv2.connectedComponentsWithStats(kept, connectivity=8)
        for part in range(1, n):
            x, y, width, height, n_pixels = (int(one) for one in boxes[part])
            if n_pixels >= smallest:
                inside = (slice(y, y + height), slice(x, x + width))
                mean = float(probability[inside][parts[inside] == part].mean()) / 255
                rows.append((kind, y, x, y + height, x + width, n_pixels, mean))
    found = pd.DataFrame(rows, columns=list(REGION_COLUMNS)).astype(REGION_COLUMNS)
    return found.sort_values(["n_pixels", "y_start", "x_start"], ascending=[False, True, True]).reset_index(drop=True)


def suspicion(left_out: pd.DataFrame, floor: float = 0.05) -> pd.DataFrame:
    """Rank labelled slices by how much their labels disagree with what the others teach.

    Parameters
    ----------
    left_out
        A row per class and left-out slice: ``class``, ``z``, ``dice`` (of network and label), ``expected_dice`` (from
        the probabilities, calibrated on the others), ``n_sure_wrong`` (pixels of sure disagreement), ``n_truth`` and
        ``n_predicted``.
    floor
        The least spread of either sign among slices that is believed in; with few slices little is known of it.

    Returns
    -------
    pd.DataFrame
        The rows with ``shortfall`` (expected − found Dice, at least 0), ``sure_share`` (pixels of sure disagreement for
        each that is painted or predicted) and ``suspicion``: the sum of both in robust standard deviations above the
        median of the class, 0 at least; the most suspicious slice first, and within it the class.
    """
    table = left_out.copy()
    table["shortfall"] = (table["expected_dice"] - table["dice"]).clip(lower=0).fillna(0.0)
    extent = (table["n_truth"] + table["n_predicted"]).clip(lower=1)
    table["sure_share"] = (table["n_sure_wrong"] / extent).clip(upper=1.0)
    table["suspicion"] = 0.0
    for _, rows in table.groupby("class"):
        signs = [robust_deviations(rows[column].to_numpy(float), floor) for column in ("shortfall", "sure_share")]
        table.loc[rows.index, "suspicion"] = sum(np.maximum(one, 0) for one in signs)
    table["_slice"] = table.groupby("z")["suspicion"].transform("max")
    ranked = table.sort_values(["_slice", "z", "suspicion", "class"], ascending=[False, True, False, True])
    return ranked.drop(columns="_slice").reset_index(drop=True)

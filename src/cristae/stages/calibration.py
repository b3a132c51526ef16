"""Whether a prediction knows where it is wrong: doubt against error, and probability against truth.

Counting rides on the scoring of slices: every slice passes by once, and only counts per level are kept. Slices that do
not enter the headline Dice (painted for training) do not count here either.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cristae.files import write_atomically
from cristae.io.ome_zarr import CHUNK
from cristae.metrics.calibration import (
    LEVELS,
    LevelCounts,
    bin_edges,
    calibration_error,
    count_levels,
    error_auc,
    errors_found,
    in_bins,
    margin_doubt,
    mean_in_bins,
    relevelled,
)
from cristae.project import Run
from cristae.stages.layers import disagreeing, disagreement_of, open_layer
from cristae.stages.planes import Planes
from cristae.stages.score_masks import Pair
from cristae.volume import Volume

DISAGREEMENT_BINS = 16
PROBABILITY_BINS = 20
UNSURE_PERCENT = (1, 5, 10)
"""Parts of all voxels, the most doubtful ones, in which errors are counted."""

SLAB_BYTES = 2**27
"""Read at once of each of two layers, or one slice of them."""
_COLUMNS = ("from", "to", "mean")


class Certainty:
    """Counts of a prediction, added up while its slices pass by.

    Parameters
    ----------
    predicted
        The run.
    classes
        To be scored.
    left_out
        Per class, the z of slices that do not count.

    Raises
    ------
    DataError
        If a layer of the prediction is missing.
    """

    def __init__(self, predicted: Run, classes: Sequence[str], left_out: Mapping[str, Sequence[int]]) -> None:
        unsure = disagreeing(predicted)
        self._left_out = {name: frozenset(left_out.get(name, ())) for name in classes}
        self._margin = margin_doubt(float(predicted.manifest.get("threshold", 0.5)))
        self._probability = {name: open_layer(predicted, name) for name in classes}
        self._disagreement = {name: open_layer(predicted, disagreement_of(name)) for name in classes if name in unsure}
        self.by_probability = {name: LevelCounts() for name in classes}
        """Counts per level of the mean probability."""
        self.by_disagreement = {name: LevelCounts() for name in self._disagreement}
        """Counts per level of how far two networks are apart; classes of one network have none."""

    def watch(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Yield the pairs as they are, and count those that are not left out."""
        current, readers = "", []
        for name, z, mask, truth in pairs:
            if name != current:  # slabs of the class before are let go
                current, readers = name, [(self.by_probability, _planes(self._probability[name]))]
                if name in self._disagreement:
                    readers.append((self.by_disagreement, _planes(self._disagreement[name])))
            if z not in self._left_out[name]:
                for counts, planes in readers:
                    counts[name] = counts[name] + count_levels(planes[z], mask, truth)
            yield name, z, mask, truth

    def scores(self, name: str) -> dict[str, float | None]:
        """Return what ``scores.json`` keeps of a class; None where it cannot be told."""
        probability, disagreement = self.by_probability[name], self.by_disagreement.get(name)
        found: dict[str, float] = {
            "calibration_error": calibration_error(probability, PROBABILITY_BINS),
            "probability_auc": error_auc(relevelled(probability, self._margin)),
            "disagreement_auc": error_auc(disagreement) if disagreement else math.nan,
        }
        for percent in UNSURE_PERCENT:
            share = errors_found(disagreement, percent / 100) if disagreement else math.nan
            found[f"errors_in_most_unsure_{percent}_percent"] = share
        return {key: None if math.isnan(value) else value for key, value in found.items()}

    def write(self, folder: Path) -> None:
        """Write ``reliability`` and, of two networks, ``calibration`` into a run's folder, as CSV and Parquet."""
        for old in folder.glob("calibration.*"):
            old.unlink()
        tables = {"reliability": reliability_table(self.by_probability)}
        if self.by_disagreement:
            tables["calibration"] = calibration_table(self.by_disagreement)
        for stem, table in tables.items():
            table.to_parquet(folder / f"{stem}.parquet", index=False)
            write_atomically(folder / f"{stem}.csv", table.to_csv(index=False))


def calibration_table(counts: Mapping[str, LevelCounts], n_bins: int = DISAGREEMENT_BINS) -> pd.DataFrame:
    """Return how often voxels are wrong by how far two networks are apart.

    Parameters
    ----------
    counts
        Per class, by disagreement × 255.
    n_bins
        Bins of equally many levels.

    Returns
    -------
    DataFrame
        One row per class and bin: ``class``, ``disagreement_from``, ``_to`` and ``_mean`` (0–1, of what is in it),
        ``n_voxels``, ``n_wrong``, ``error_rate`` (NaN without voxels), and ``share_of_voxels`` and
        ``share_of_errors`` of the class in that bin.
    """
    tables = []
    for name, one in counts.items():
        table = _bins(name, "disagreement", one, n_bins)
        table["n_wrong"] = in_bins(one.wrong, n_bins)
        table["error_rate"] = table["n_wrong"] / table["n_voxels"].replace(0, np.nan)
        table["share_of_voxels"] = _shares(table["n_voxels"])
        table["share_of_errors"] = _shares(table["n_wrong"])
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def reliability_table(counts: Mapping[str, LevelCounts], n_bins: int = PROBABILITY_BINS) -> pd.DataFrame:
    """Return which share of voxels is of the class by the probability that was predicted for them.

    Parameters
    ----------
    counts
        Per class, by probability × 255.
    n_bins
        Bins of equally many levels, or one more or less.

    Returns
    -------
    DataFrame
        One row per class and bin: ``class``, ``probability_from``, ``_to`` and ``_mean`` (0–1, of what is in it),
        ``n_voxels``, ``n_true``, ``true_share`` (NaN without voxels) and ``share_of_voxels``.
    """
    tables = []
    for name, one in counts.items():
        table = _bins(name, "probability", one, n_bins)
        table["n_true"] = in_bins(one.true, n_bins)
        table["true_share"] = table["n_true"] / table["n_voxels"].replace(0, np.nan)
        table["share_of_voxels"] = _shares(table["n_voxels"])
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _planes(volume: Volume) -> Planes:
    _, height, width = volume.shape
    return Planes(volume, thickness=max(1, min(CHUNK[0], SLAB_BYTES // max(1, height * width))))


def _bins(name: str, what: str, counts: LevelCounts, n_bins: int) -> pd.DataFrame:
    edges = bin_edges(n_bins)
    values = (edges[:-1] / (LEVELS - 1), (edges[1:] - 1) / (LEVELS - 1), mean_in_bins(counts, n_bins))
    columns = {f"{what}_{column}": value for column, value in zip(_COLUMNS, values, strict=True)}
    return pd.DataFrame({"class": [name] * n_bins, **columns, "n_voxels": in_bins(counts.voxels, n_bins)})


def _shares(counts: pd.Series) -> pd.Series:
    return counts / max(1, int(counts.sum()))

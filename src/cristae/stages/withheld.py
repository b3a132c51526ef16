"""Labelled slices that a network never saw, with what it said of them: what a cross-validation leaves behind.

::

    runs/crossvalidate-<id>/without-z0012/left_out.npz      probability:<class>, truth:<class>    uint8 (y, x)

By them is learnt what probabilities mean (`cristae.stages.quality`), and which labels look wrong
(`cristae.stages.doctor`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from cristae.errors import DataError
from cristae.project import Project, Run
from cristae.stages.status import fresh

FILE = "left_out.npz"


@dataclass(frozen=True)
class Withheld:
    """One class on one labelled slice that was left out of a training.

    Parameters
    ----------
    name, z
        Class, and slice.
    probability
        uint8 ``(y, x)`` × 255, of the network that never saw the slice.
    truth
        uint8 ``(y, x)`` of 1, 0 and 255 (nobody looked): its labels.
    distance_slices
        To the nearest slice that this network saw labels of; None without.
    """

    name: str
    z: int
    probability: np.ndarray
    truth: np.ndarray
    distance_slices: int | None


def keep_withheld(folder: Path, planes: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Keep probability and labels ``(y, x)`` of each class on a left-out slice, in the folder of its training."""
    arrays = {
        f"{kind}:{name}": plane
        for name, pair in planes.items()
        for kind, plane in zip(("probability", "truth"), pair, strict=True)
    }
    partial = folder / f".{FILE}.partial"
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # stubs take no mapping of arrays
    partial.replace(folder / FILE)


def read_withheld(run: Run) -> Iterator[Withheld]:
    """Yield what a cross-validation left behind, by slices; one slice is in memory at a time.

    Raises
    ------
    DataError
        If it left nothing: an earlier version of cristae made it.
    """
    for folder in sorted(run.path.glob("without-z*")):
        try:
            table = pd.read_parquet(folder / "slices.parquet").set_index("class")
            with np.load(folder / FILE, allow_pickle=False) as stored:
                planes = {name: stored[name] for name in stored.files}
        except (OSError, ValueError) as error:
            raise DataError(
                f"{folder / FILE} is missing or damaged; cross-validate again: cristae evaluate "
                f"{run.path.parents[1]} --cross-validate --force"
            ) from error
        for key, plane in planes.items():
            kind, _, name = key.partition(":")
            if kind == "probability":
                distance = table.loc[name, "distance_slices"]
                yield Withheld(
                    name,
                    int(folder.name.removeprefix("without-z")),
                    plane,
                    planes[f"truth:{name}"],
                    None if pd.isna(distance) else int(distance),
                )


def current_cross_validation(project: Project) -> Run | None:
    """Return the last cross-validation if image and labels are those it was made with; None without one."""
    return fresh(project, "crossvalidate")

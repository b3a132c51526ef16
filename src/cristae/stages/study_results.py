"""The files of `cristae study networks`: tables as far as it has come, and at the end what they say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from cristae.files import write_atomically
from cristae.project import Project, Run
from cristae.stages.study_grid import Trial
from cristae.stages.study_ruler import Ruler
from cristae.stages.study_tables import markdown, methods_table, summary
from cristae.stages.study_trial import Bench, read_trial

GROWING = ("study.parquet", "study.csv", "slices.parquet")
"""Written after each training."""
Row = dict[str, Any]


class Tables:
    """The tables of all finished trials of a study, on disk after each of them.

    Parameters
    ----------
    bench, trials, ruler
        What is studied; the number of a trial is its place in `trials`.
    run
        Where trials and tables are.
    """

    def __init__(self, bench: Bench, trials: Sequence[Trial], run: Run, ruler: Ruler) -> None:
        self._bench, self._run, self._ruler = bench, run, ruler
        self._numbers = {trial: number for number, trial in enumerate(trials)}
        self._found: dict[int, tuple[list[Row], pd.DataFrame]] = {}

    def add(self, trials: Sequence[Trial]) -> list[Row]:
        """Take finished trials from disk, write the tables, and return the rows of these trials, one per class."""
        new: list[Row] = []
        for trial in trials:
            number = self._numbers[trial]
            found, slices = read_trial(self._run.path / self._bench.name(trial))
            rows = [{"trial": number} | row for row in self._ruler.rows(self._bench, found, slices)]
            self._found[number] = rows, slices.assign(trial=number, scored=self._ruler.counts(slices))
            new += rows
        if self._found:
            self._write()
        return new

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._run.path

    @property
    def folders(self) -> dict[int, Path]:
        """Folder of each trial, by its number."""
        return {number: self._run.path / self._bench.name(trial) for trial, number in self._numbers.items()}

    @property
    def rows(self) -> pd.DataFrame:
        """A row per trial and class."""
        table = pd.DataFrame([row for _, (rows, _) in sorted(self._found.items()) for row in rows])
        numbers = {"n_parameters": "Int64", "worst_slice": "Int64"}
        floats = dict.fromkeys(("training_seconds", "dice_3d", "dice_2d", "dice_2d_sd", "worst_dice"), "float64")
        return table.astype(numbers | floats)

    @property
    def slices(self) -> pd.DataFrame:
        """A row per trial, class and slice."""
        return pd.concat([slices for _, (_, slices) in sorted(self._found.items())], ignore_index=True)

    def _write(self) -> None:
        for name, table in (("study.parquet", self.rows), ("slices.parquet", self.slices)):
            partial = self._run.path / f".{name}.partial"
            table.to_parquet(partial, index=False)
            partial.replace(self._run.path / name)
        write_atomically(self._run.path / "study.csv", self.rows.to_csv(index=False))


def write_answer(project: Project, tables: Tables, words: Sequence[str], notes: Sequence[str]) -> str:
    """Write means, answer and figures of a finished study; return why there is none in 3D, empty if there is one."""
    from cristae.stages.study_curves import draw_along_z, draw_curves  # noqa: PLC0415  plotting is slow to load
    from cristae.stages.study_shapes_figure import draw_shapes  # noqa: PLC0415

    folder, rows = tables.folder, tables.rows
    write_atomically(folder / "methods.csv", methods_table(rows).to_csv(index=False))
    write_atomically(folder / "summary.csv", summary(rows).to_csv(index=False))
    write_atomically(folder / "study.md", markdown(rows, words, notes))
    draw_curves(rows, folder / "curves.svg", folder / "curves.png")
    draw_along_z(rows, tables.slices, folder / "along_z.svg", folder / "along_z.png")
    return draw_shapes(project, rows, tables.folders, folder / "shapes.svg", folder / "shapes.png")

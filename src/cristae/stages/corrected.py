"""Layers of a project that people can correct, and the corrected ones that later stages take in their place.

Corrections lie beside the run whose layer they are of, and that run is never changed. Applied, they are a run of their
own, ``runs/correct-<id>/<class>.ome.zarr``: stages, the report and viewers that show or rest on cells, objects or masks
take that, by `corrected_layer` and `corrected_objects`. Scores and pictures of what a network predicted do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cristae.errors import DataError
from cristae.io.ome_zarr import open_volume
from cristae.project import Project, Run
from cristae.volume import Volume


@dataclass(frozen=True)
class Correctable:
    """A layer of labels that can be corrected.

    Parameters
    ----------
    name
        What it is called: ``cell``, ``mito/objects``, or ``mito`` (a mask).
    of
        Its class.
    run
        The run that made it.
    path
        Where it is.
    shown
        Under which name it is shown beside the image.
    """

    name: str
    of: str
    run: Run
    path: Path
    shown: str

    def folder(self, project: Project) -> Path:
        """Return where its corrections are kept."""
        return project.path / "corrections" / self.run.path.name / self.of


def correctable(project: Project) -> dict[str, Correctable]:
    """Return the layers that can be corrected now, by name: cells first, then objects, then masks."""
    found: dict[str, Correctable] = {}
    cells, objects, predicted = newest_cells(project), project.latest("objects"), project.latest("predict")
    if cells is not None:
        name = str(cells.manifest["name"])
        found[name] = Correctable(name, name, cells, cells.path / f"{name}.ome.zarr", name)
    for name in map(str, objects.manifest["classes"] if objects else ()):
        assert objects is not None
        path = objects.path / f"{name}.ome.zarr"
        found[f"{name}/objects"] = Correctable(f"{name}/objects", name, objects, path, f"{name}_objects")
    for name in map(str, predicted.manifest["classes"] if predicted else ()):
        assert predicted is not None
        mask = predicted.path / f"{name}.ome.zarr" / "labels" / name
        if name not in found and mask.is_dir():
            found[name] = Correctable(name, name, predicted, mask, name)
    return found


def newest_cells(project: Project) -> Run | None:
    """Return the run whose cells are in use: those that were tracked last, or else separated last."""
    return project.latest("track") or project.latest("cells")


def corrected_run(project: Project, run: Run, name: str) -> Run:
    """Return the run that holds a layer with the corrections applied last, or `run` itself where there is none."""
    fits = [
        one
        for one in project.runs("correct")
        if one.finished
        and one.manifest.get("name") == name
        and one.manifest.get("inputs", {}).get("source") == run.as_input
    ]
    return max(fits, key=lambda one: float(one.manifest.get("asked_again", one.manifest["ended"])), default=run)


def corrected_layer(project: Project, run: Run, name: str) -> Path:
    """Return where the layer of a run is, with the corrections applied last; of a prediction, where its mask is."""
    holds = corrected_run(project, run, name)
    path = holds.path / f"{name}.ome.zarr"
    return path / "labels" / name if holds.stage == "predict" else path


def corrected_objects(project: Project, run: Run, name: str) -> pd.DataFrame | None:
    """Return the objects of a corrected layer: ``class``, ``object_id``, ``n_voxels``, ``volume_um3``.

    None where the layer was not corrected, or is a mask: then what the run itself noted holds.

    Raises
    ------
    DataError
        If the table is missing or damaged.
    """
    holds = corrected_run(project, run, name)
    if holds == run or run.stage == "predict":
        return None
    path = holds.path / "objects.parquet"
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read; make it again: cristae correct apply {project.path} --layer "
            f"{holds.manifest['layer']} --force"
        ) from error


def as_corrected(project: Project, tracked: Run, objects: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table of tracked objects that corrections left, with the voxels that these have now.

    Raises
    ------
    DataError
        As `corrected_objects`.
    """
    now = corrected_objects(project, tracked, str(tracked.manifest["name"]))
    if now is None:
        return objects
    n_voxels = objects["object"].map(now.set_index("object_id")["n_voxels"])
    left = n_voxels.notna()
    return objects[left].assign(n_voxels=n_voxels[left].astype("int64"))


def layers_of(run: Run) -> tuple[str, ...]:
    """Return the layers that a run has made, by their classes."""
    return tuple(str(name) for name in run.manifest.get("classes") or [run.manifest.get("name", "")])


def n_corrections(run: Run) -> int:
    """Return how many corrections a run, such as `corrected_run` returns, holds; 0 of one that nobody corrected."""
    return int(run.manifest.get("n_edits", 0)) if run.stage == "correct" else 0


def with_corrections(n: int) -> str:
    """Return "with 3 corrections", or nothing for none."""
    return f"with {n} correction{'s' * (n != 1)}" if n else ""


def in_words(runs: Mapping[str, Run]) -> str:
    """Say which layers hold corrections: "cell with 3 corrections"; nothing where none does."""
    return ", ".join(f"{name} {with_corrections(n)}" for name, run in runs.items() if (n := n_corrections(run)))


def corrections_of(project: Project, run: Run | None, names: Sequence[str]) -> dict[str, str]:
    """Return what is to be said of applied corrections among the inputs of a run; nothing where there are none."""
    if run is None:
        return {}
    found = {name: corrected_run(project, run, name) for name in names}
    said = ", ".join(f"{name} {one.path.name}" for name, one in sorted(found.items()) if one != run)
    return {f"corrected_{run.stage}": said} if said else {}


def open_mask(project: Project, predicted: Run, name: str) -> Volume:
    """Open the mask of a predicted class, with the corrections that were applied."""
    return open_volume(corrected_layer(project, predicted, name))

"""`cristae correct`: people mend what was found; it is kept beside the run, applied on request, and learnt from.

::

    runs/track-<id>/cell.ome.zarr ──────────┬──> what people see, and correct      ┌──> runs/correct-<id>/ (apply)
    corrections/track-<id>/cell/  (edits) ──┘                                      └──> annotations.ome.zarr (feed)

Corrections are of one run. A name stands for the newest result of that name; who has another one open hands that on.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cristae.blockwise import Execution, Journal, map_blocks
from cristae.corrections.ids import known_highest, note_highest
from cristae.corrections.store import Corrections
from cristae.errors import DataError, UsageError
from cristae.geometry import Block, blocks
from cristae.io.ome_zarr import Storage, build_pyramid, create_volume, open_volume, shard_shape
from cristae.io.stored import StoredArray
from cristae.metrics.instance import Contingency, add_up, contingency
from cristae.project import Project, Run
from cristae.stages.corrected import Correctable, correctable, corrected_run
from cristae.stages.objects import write_table
from cristae.stages.options import Options
from cristae.stages.predict import publish
from cristae.volume import Volume

Layer = str | Correctable | None
"""A layer by its name, or as it was found; None for the cells, or the only one."""


class CorrectSettings(BaseModel):
    """What corrections are applied to; there is nothing else to choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str = Field(description="layer whose corrections are applied")


def find_layer(project: Project, layer: Layer = None) -> Correctable:
    """Return a layer that can be corrected by its name; without one, the cells, or the only layer.

    A layer that was found before is returned as it is, even where there is a newer result by now.

    Raises
    ------
    DataError
        If there is nothing to correct, or the layer is of another image than the one in use.
    UsageError
        If there is no such layer, or several and none is named.
    """
    if isinstance(layer, Correctable):
        if layer.run.manifest.get("prepared", "") != (project.file.prepared or ""):
            raise DataError(
                f"{layer.name} of {layer.run.path.name} is of another image than the one in use; its edits are kept, "
                "and can be fed and applied when that image is in use again"
            )
        return layer
    there = correctable(project)
    if not there:
        raise DataError(
            f"{project.path} has no masks, objects or cells yet that could be corrected; find some with: cristae "
            f"predict {project.path}, or cristae cells {project.path}"
        )
    cells = next((name for name, one in there.items() if one.run.stage in ("track", "cells")), None)
    chosen = layer or cells or (next(iter(there)) if len(there) == 1 else None)
    if chosen not in there:
        what = f"no layer {layer!r} to correct" if layer else "several layers can be corrected; name one (--layer)"
        raise UsageError(f"{what}; there are {', '.join(there)}")
    return there[chosen]


def newer_in_words(project: Project, found: Correctable) -> str:
    """Say that there is a newer result than the one that is corrected; nothing where there is none."""
    newest = correctable(project).get(found.name, found).run
    if newest == found.run:
        return ""
    return (
        f"{newest.path.name} is newer than {found.run.path.name}, whose {found.name} is corrected here, and holds none "
        "of these edits; later stages take the newer one"
    )


def open_corrections(
    project: Project, layer: Layer = None, *, by: str = "python", read_only: bool = False
) -> Corrections:
    """Open the corrections of a layer; nobody else can correct it until they are closed.

    Parameters
    ----------
    project
        Whose layer.
    layer
        ``cell`` (ids), ``<class>/objects`` (ids) or ``<class>`` (a mask), or one that was found; see `find_layer`.
    by
        Name of the front end, kept with each edit.
    read_only
        Only look, also while another process corrects.

    Raises
    ------
    DataError
        If there is nothing to correct, or the journal is damaged.
    UsageError
        If there is no such layer.
    ResourceError
        If another process is correcting this layer.
    """
    found = find_layer(project, layer)

    def guard() -> None:
        if not found.run.finished:
            raise DataError(
                f"{found.run.path.name}, whose {found.name} is corrected, is being made anew; wait until it is finished"
            )

    guard()
    about = {"layer": found.name, "run": found.run.path.name}
    folder = found.folder(project)
    opened = Corrections(folder, open_volume(found.path), by=by, about=about, guard=guard, read_only=read_only)
    highest = _highest_made(found)
    if not read_only and highest is not None and known_highest(opened) != highest:
        note_highest(opened, highest)
    return opened


def _highest_made(found: Correctable) -> int | None:
    """Return the highest id that a run has given, where it noted that: then nobody need look for it."""
    facts = found.run.manifest
    highest = facts.get("highest_id", facts.get("n_objects") if found.run.stage == "objects" else None)
    if isinstance(highest, Mapping):  # objects are numbered from 1 without holes
        highest = highest.get(found.of)
    return None if highest is None else int(highest)


def boundary_of(project: Project, layer: Layer = None) -> Volume | None:
    """Return the predicted boundary of the class of a layer, None where there is none on its grid."""
    found, predicted = find_layer(project, layer), project.latest("predict")
    path = predicted.path / f"{found.of}_boundary.ome.zarr" if predicted else None
    if path is None or not path.is_dir():
        return None
    volume = open_volume(path)
    return volume if volume.shape == open_volume(found.path).shape and volume.dtype == np.uint8 else None


def audit(corrections: Corrections) -> pd.DataFrame:
    """Return a row per line of the journal: what was done, when, where, with what; nothing about persons."""
    standing = set(corrections.standing)
    rows = []
    for entry in corrections.entries:
        box = entry.box
        row: dict[str, Any] = {
            "number": entry.number,
            "time_utc": entry.time,
            "kind": entry.kind,
            "front_end": entry.by,
            "holds": entry.number in standing if entry.is_edit else pd.NA,
            "of": entry.of or pd.NA,
            "ids": " ".join(map(str, entry.ids)),
            "n_voxels": pd.NA if entry.n_voxels is None else entry.n_voxels,
        }
        for axis, name in enumerate("zyx"):
            row[f"{name}_start"] = box.start[axis] if box else pd.NA
            row[f"{name}_stop"] = box.stop[axis] if box else pd.NA
        rows.append(row)
    whole = ["of", "n_voxels", *(f"{name}_{end}" for name in "zyx" for end in ("start", "stop"))]
    columns = ["number", "time_utc", "kind", "front_end", "holds", "of", "ids", *whole[1:]]
    text = ["time_utc", "kind", "front_end", "ids"]
    table = pd.DataFrame(rows, columns=columns)
    return table.astype(dict.fromkeys(whole, "Int64") | {"number": "int64", "holds": "boolean"}).astype(
        dict.fromkeys(text, "str")
    )


def edits_of(project: Project) -> dict[str, tuple[int, bool]]:
    """Return per corrected layer how many edits hold, and whether just these were applied."""
    found = {}
    for name, one in correctable(project).items():
        if (one.folder(project) / "journal.jsonl").is_file():
            with open_corrections(project, one, read_only=True) as corrections:
                edits, n = _fingerprint(corrections), len(corrections.standing)
            applied = corrected_run(project, one.run, one.of)
            found[name] = n, applied != one.run and applied.manifest["inputs"]["edits"] == edits
    return found


def apply_corrections(project: Project, layer: Layer = None, options: Options | None = None) -> Run:
    """Make a run of a layer as it was corrected: measured, meshed and exported in place of the one that was found.

    Writes ``<class>.ome.zarr``, shown beside the image too unless there is a newer result, and as Parquet and CSV
    ``edits`` (the audit table) and, of layers with ids, ``objects`` (a row per object: ``class``, ``object_id``,
    ``n_voxels``, ``volume_um3``).

    Raises
    ------
    DataError
        If there is nothing to correct, or no correction holds.
    UsageError
        If there is no such layer.
    ResourceError
        If the layer is being corrected, the project is in use or the disk is full.
    """
    options = options or Options()
    found = find_layer(project, layer)
    settings = CorrectSettings(layer=found.name)
    with open_corrections(project, found) as corrections:
        if not corrections.standing and not project.runs("correct"):
            raise DataError(f"nothing of {found.name} of {found.run.path.name} has been corrected yet")
        inputs = {"source": found.run.as_input, "edits": _fingerprint(corrections)}
        run = project.run("correct", settings, inputs)
        if run.finished and not options.force:
            with project.lock():
                _show(project, found, run, options)
                run.update(asked_again=pd.Timestamp.now().timestamp())
            options.notify(f"correct: nothing to do, {run.path.name} is finished (do it again with --force)")
            return run
        options.check()
        with project.lock(), project.record(run, settings, inputs):
            _write_corrected(corrections, run, found, options)
            if corrections.original.dtype != np.uint8:
                write_table(_count(run, found.of, options), run.path / "objects")
            write_table(audit(corrections), run.path / "edits")
            _show(project, found, run, options)
            n_edits = len(corrections.standing)
            run.update(layer=found.name, name=found.of, corrects=found.run.path.name, n_edits=n_edits)
    return run


def _show(project: Project, found: Correctable, run: Run, options: Options) -> None:
    """Show the corrected layer beside the image; where there is a newer result, leave that, and say so."""
    if newer := newer_in_words(project, found):
        options.notify(f"correct: {newer}")
    else:
        publish(run.path / f"{found.of}.ome.zarr", project.image_path / "labels" / found.shown)


def _write_corrected(corrections: Corrections, run: Run, found: Correctable, options: Options) -> None:
    """Write the layer as it is now, block by block, stored as the original is."""
    path, journal = run.path / f"{found.of}.ome.zarr", Journal(run.path / "blocks")
    if options.force or not path.exists():
        shutil.rmtree(path, ignore_errors=True)
        journal.path.unlink(missing_ok=True)
        shard = shard_shape(corrections.original)
        stored = corrections.original.array
        chunk = stored.chunks if isinstance(stored, StoredArray) else shard
        storage = Storage(chunk=(chunk[0], chunk[1], chunk[2]), shard=shard)
        create_volume(path, corrections.original.grid, corrections.original.dtype, "labels", storage)
    target = open_volume(path, mode="r+")
    execution = Execution(options.executor, options.progress("correct"), journal)
    map_blocks(_same, [corrections.volume()], [target], block_shape=shard_shape(target), execution=execution)
    build_pyramid(path, options.crew(run.path).unordered)


def _count(run: Run, name: str, options: Options) -> pd.DataFrame:
    """Return a row per object of the corrected layer."""
    volume = open_volume(run.path / f"{name}.ome.zarr")
    todo = list(blocks(volume.grid.box, shard_shape(volume)))
    progress = options.progress(f"count {name}")

    def work(block: Block) -> Contingency:
        labels = volume.read(block.write)
        return contingency(labels, labels)

    counts = []
    for done, count in enumerate(options.crew(run.path).unordered(work, todo), start=1):
        counts.append(count)
        progress(done, len(todo))
    found = add_up(counts)
    there = found.truth != 0
    n_voxels = found.n_voxels[there]
    return pd.DataFrame(
        {
            "class": pd.Series([name] * int(there.sum()), dtype="str"),
            "object_id": found.truth[there],
            "n_voxels": n_voxels,
            "volume_um3": n_voxels * (math.prod(volume.grid.voxel_size) / 1e9),
        }
    )


def _same(_: Any, labels: np.ndarray) -> np.ndarray:
    return labels


def _fingerprint(corrections: Corrections) -> str:
    """Return a hash of the edits that hold."""
    when = {entry.number: entry.time for entry in corrections.entries}
    text = json.dumps([[number, when[number]] for number in corrections.standing])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

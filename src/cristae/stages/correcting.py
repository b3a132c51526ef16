"""`cristae correct`: people mend what was found; it is kept beside the run, applied on request, and learnt from.

::

    runs/track-<id>/cell.ome.zarr ──────────┬──> what people see, and correct      ┌──> runs/correct-<id>/ (apply)
    corrections/track-<id>/cell/  (edits) ──┘                                      └──> annotations.ome.zarr (feed)
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from cristae.annotations import IGNORE, IGNORE_ID, Annotations
from cristae.blockwise import Execution, Journal, map_blocks
from cristae.corrections.ids import known_highest, note_highest
from cristae.corrections.store import Corrections
from cristae.errors import DataError, UsageError
from cristae.geometry import Block, Box, blocks
from cristae.io.ome_zarr import Storage, build_pyramid, create_volume, open_volume, shard_shape
from cristae.io.stored import StoredArray
from cristae.metrics.instance import Contingency, add_up, contingency
from cristae.project import Project, Run
from cristae.stages.corrected import Correctable, correctable, corrected_run
from cristae.stages.objects import write_table
from cristae.stages.options import Options
from cristae.stages.predict import publish
from cristae.volume import Volume
from cristae.wording import number_ranges


class CorrectSettings(BaseModel):
    """What corrections are applied to; there is nothing else to choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layer: str = Field(description="layer whose corrections are applied")


def find_layer(project: Project, layer: str | None = None) -> Correctable:
    """Return a layer that can be corrected by its name; without one, the cells, or the only layer.

    Raises
    ------
    DataError
        If there is nothing to correct.
    UsageError
        If there is no such layer, or several and none is named.
    """
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


def open_corrections(
    project: Project, layer: str | None = None, *, by: str = "python", read_only: bool = False
) -> Corrections:
    """Open the corrections of a layer; nobody else can correct it until they are closed.

    Parameters
    ----------
    project
        Whose layer.
    layer
        ``cell`` (ids), ``<class>/objects`` (ids) or ``<class>`` (a mask); see `find_layer`.
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


def boundary_of(project: Project, layer: str | None = None) -> Volume | None:
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
            with open_corrections(project, name, read_only=True) as corrections:
                edits, n = _fingerprint(corrections), len(corrections.standing)
            applied = corrected_run(project, one.run, one.of)
            found[name] = n, applied != one.run and applied.manifest["inputs"]["edits"] == edits
    return found


def apply_corrections(project: Project, layer: str | None = None, options: Options | None = None) -> Run:
    """Make a run of a layer as it was corrected: measured, meshed and exported in place of the one that was found.

    Writes ``<class>.ome.zarr``, shown beside the image too, and as Parquet and CSV ``edits`` (the audit table) and, of
    layers with ids, ``objects`` (a row per object: ``class``, ``object_id``, ``n_voxels``, ``volume_um3``).

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
    with open_corrections(project, found.name) as corrections:
        if not corrections.standing and not project.runs("correct"):
            raise DataError(f"nothing of {found.name} of {found.run.path.name} has been corrected yet")
        inputs = {"source": found.run.as_input, "edits": _fingerprint(corrections)}
        run = project.run("correct", settings, inputs)
        if run.finished and not options.force:
            with project.lock():
                publish(run.path / f"{found.of}.ome.zarr", project.image_path / "labels" / found.shown)
                run.update(asked_again=pd.Timestamp.now().timestamp())
            options.notify(f"correct: nothing to do, {run.path.name} is finished (do it again with --force)")
            return run
        options.check()
        with project.lock(), project.record(run, settings, inputs):
            _write_corrected(corrections, run, found, options)
            if corrections.original.dtype != np.uint8:
                write_table(_count(run, found.of, options), run.path / "objects")
            write_table(audit(corrections), run.path / "edits")
            publish(run.path / f"{found.of}.ome.zarr", project.image_path / "labels" / found.shown)
            n_edits = len(corrections.standing)
            run.update(layer=found.name, name=found.of, corrects=found.run.path.name, n_edits=n_edits)
    return run


def feed_corrections(
    project: Project,
    layer: str | None = None,
    slices: Sequence[int] | None = None,
    *,
    complete: bool = False,
    options: Options | None = None,
) -> Annotations:
    """Make annotations of what was corrected, to learn from in the next training.

    Parameters
    ----------
    project
        Whose layer.
    layer
        As in `open_corrections`.
    slices
        Which slices; without, all on which something was corrected.
    complete
        Whether every object of the class on these slices is right now, the untouched ones too: then all of the slice
        is learnt from. Else only voxels that somebody changed or annotated are; nobody looked at the others.
    options
        Told what was done.

    Returns
    -------
    Annotations
        Those of the project. What people painted there before stays, but for voxels that were corrected since.

    Raises
    ------
    DataError
        If nothing was corrected there.
    UsageError
        If there is no such layer or slice, or all slices would be complete without being named.
    ResourceError
        If the layer is being corrected, or a stage is at work on the project.
    """
    options = options or Options()
    found = find_layer(project, layer)
    if complete and slices is None:
        raise UsageError("name the slices that are complete (--slices 3,7): an untouched object there is learnt, too")
    with open_corrections(project, found.name) as corrections, project.lock():
        depth = corrections.original.shape[0]
        if outside := [z for z in slices or () if not 0 <= z < depth]:
            raise UsageError(f"the layer has slices 0 to {depth - 1}; there is no slice {number_ranges(outside)}")
        annotations = project.annotations
        chosen = sorted(set(slices)) if slices is not None else _changed_slices(corrections)
        if not chosen:
            raise DataError(f"nothing of {found.name} of {found.run.path.name} has been corrected yet")
        ids = annotations.has_instances(found.of) if found.of in annotations.classes else found.name == found.of
        instances = ids and corrections.original.dtype != np.uint8
        if not complete:
            chosen = [z for z in chosen if corrections.changed(_plane(corrections, z)).any()]
            if not chosen:
                raise DataError(
                    f"nothing of {found.name} was corrected on these slices; if they are right as they are, feed them "
                    "as complete (--complete)"
                )
        was = set(annotations.complete_slices(found.of))
        for whole in (True, False):
            some = [z for z in chosen if (complete or z in was) == whole]
            pages = (
                (z, _annotated(corrections, annotations, found.of, z, whole and complete, instances)) for z in some
            )
            annotations.write_slices(found.of, pages, complete=whole, background_seen=True)
        project.add_classes((found.of,))
        corrections.remember("fed", slices=chosen, complete=complete)
    options.notify(f"annotations: {found.of} on slices {number_ranges(chosen)}{', complete' * complete}")
    return annotations


def _annotated(
    corrections: Corrections, annotations: Annotations, name: str, z: int, complete: bool, instances: bool
) -> np.ndarray:
    """Return what is known of a slice: corrections before annotations before what was found."""
    box = _plane(corrections, z)
    found, changed = corrections.read(box)[0], corrections.changed(box)[0]
    labels = found.astype(np.uint32) if instances else (found != 0).astype(np.uint8)
    ignore = IGNORE_ID if instances else IGNORE
    before = np.full(labels.shape, ignore, labels.dtype)
    if z in annotations.labelled_slices(name):
        before = (annotations.read_ids if instances else annotations.read_slice)(name, z)
    rest = np.where(before == ignore, labels, before) if complete else before
    return np.where(changed, labels, rest).astype(labels.dtype)


def _plane(corrections: Corrections, z: int) -> Box:
    _, height, width = corrections.original.shape
    return Box((z, 0, 0), (z + 1, height, width))


def _changed_slices(corrections: Corrections) -> list[int]:
    """Return the slices in which voxels were corrected; those of renamed objects only if they were touched besides."""
    standing = {entry.number: entry for entry in corrections.entries if entry.number in set(corrections.standing)}
    return sorted({z for entry in standing.values() if entry.box for z in _slices_of(entry.box)})


def _slices_of(box: Box) -> Iterator[int]:
    yield from range(box.start[0], box.stop[0])


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

"""`cristae correct feed`: what people corrected becomes labels, to be learnt from in the next training."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from cristae.annotations import IGNORE, IGNORE_ID, Annotations
from cristae.corrections.store import Corrections
from cristae.editing.rename import renamed
from cristae.errors import DataError, UsageError
from cristae.geometry import Box, blocks
from cristae.io.ome_zarr import shard_shape
from cristae.project import Project
from cristae.stages.corrected import Correctable
from cristae.stages.correcting import Layer, find_layer, newer_in_words, open_corrections
from cristae.stages.options import Options
from cristae.wording import number_ranges


def feed_corrections(
    project: Project,
    layer: Layer = None,
    slices: Sequence[int] | None = None,
    *,
    complete: bool = False,
    options: Options | None = None,
) -> Annotations:
    """Make annotations of what was corrected, to learn from in the next training.

    Objects that were merged, removed or renamed as a whole are learnt on every slice that they are on.

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
        is learnt from. Else only voxels that somebody changed or annotated are, and of objects with ids the whole
        of those that somebody painted in: what lies beside a labelled cell is taken for others. Nobody looked at the
        rest.
    options
        Told what was done, and that there is a newer result by now.

    Returns
    -------
    Annotations
        Those of the project. What people painted there before stays, but for voxels that were corrected since.

    Raises
    ------
    DataError
        If nothing was corrected there, or the layer is of another image than the one in use.
    UsageError
        If there is no such layer or slice, or all slices would be complete without being named.
    ResourceError
        If the layer is being corrected, or a stage is at work on the project.
    """
    options = options or Options()
    found = find_layer(project, layer)
    if complete and slices is None:
        raise UsageError("name the slices that are complete (--slices 3,7): an untouched object there is learnt, too")
    with open_corrections(project, found) as corrections:
        chosen = _choose(corrections, found, slices, complete, options)
        with project.lock():
            annotations = project.annotations
            ids = annotations.has_instances(found.of) if found.of in annotations.classes else found.name == found.of
            instances = ids and corrections.original.dtype != np.uint8
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
    if newer := newer_in_words(project, found):
        options.notify(f"annotations: {newer}")
    return annotations


def _choose(
    corrections: Corrections, found: Correctable, slices: Sequence[int] | None, complete: bool, options: Options
) -> list[int]:
    """Return the slices to be fed, ascending: those that are complete, or on which something is corrected."""
    depth = corrections.original.shape[0]
    if outside := [z for z in slices or () if not 0 <= z < depth]:
        raise UsageError(f"the layer has slices 0 to {depth - 1}; there is no slice {number_ranges(outside)}")
    chosen = sorted(set(slices)) if slices is not None else _slices_to_look_at(corrections, found, options)
    if not complete:
        chosen = _changed(corrections, chosen, options)
    if not chosen and slices is None:
        raise DataError(f"nothing of {found.name} of {found.run.path.name} has been corrected yet")
    if not chosen:
        raise DataError(
            f"nothing of {found.name} was corrected on these slices; if they are right as they are, feed them as "
            "complete (--complete)"
        )
    return chosen


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
    seen = np.ones_like(changed) if complete else np.zeros_like(changed)
    if instances and not complete:  # the rest of a cell that was painted in would else be taken for another cell
        seen = np.isin(labels, np.setdiff1d(labels[changed], 0))
    rest = np.where((before == ignore) & seen, labels, before)
    return np.where(changed, labels, rest).astype(labels.dtype)


def _plane(corrections: Corrections, z: int) -> Box:
    _, height, width = corrections.original.shape
    return Box((z, 0, 0), (z + 1, height, width))


def _slices_to_look_at(corrections: Corrections, found: Correctable, options: Options) -> list[int]:
    """Return the slices on which something may have been corrected, ascending."""
    standing = set(corrections.standing)
    painted = {
        z
        for entry in corrections.entries
        if entry.number in standing and entry.box
        for z in range(entry.box.start[0], entry.box.stop[0])
    }
    if not corrections.names:
        return sorted(painted)
    noted = _noted_slices(found, corrections.names)
    if noted is None:
        return sorted(_slices_of(corrections, painted, options))
    return sorted(painted.union(noted).intersection(range(corrections.original.shape[0])))


def _noted_slices(found: Correctable, ids: Collection[int]) -> set[int] | None:
    """Return the slices between the first and the last of objects; None where the run did not note them."""
    path = found.run.path / "objects.parquet"
    if found.run.stage != "track" or not path.is_file():
        return None
    table = pd.read_parquet(path, columns=["object", "first_slice", "last_slice"])
    rows = table[table["object"].isin(list(ids))]
    return {
        z for first, last in zip(rows["first_slice"], rows["last_slice"], strict=True) for z in range(first, last + 1)
    }


def _slices_of(corrections: Corrections, painted: Collection[int], options: Options) -> set[int]:
    """Return the slices with renamed objects, and those painted on; the others are read once, file by file."""
    volume, names, slices = corrections.original, corrections.names, set(painted)
    progress = options.progress("look for renamed objects")
    todo = [block.write for block in blocks(volume.grid.box, shard_shape(volume))]
    for done, box in enumerate(todo, start=1):
        if not slices.issuperset(range(box.start[0], box.stop[0])):
            labels = volume.read(box)
            there = (renamed(labels, names) != labels).any(axis=(1, 2))
            slices.update(box.start[0] + int(z) for z in np.flatnonzero(there))
        progress(done, len(todo))
    return slices


def _changed(corrections: Corrections, slices: Sequence[int], options: Options) -> list[int]:
    """Return those of some slices on which voxels are not as they were found."""
    if not slices:
        return []
    progress, changed = options.progress("look at slices"), []
    for done, z in enumerate(slices, start=1):
        if corrections.changed(_plane(corrections, z)).any():
            changed.append(z)
        progress(done, len(slices))
    return changed

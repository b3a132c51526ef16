"""Changes that people made elsewhere: an exported file that comes back, and nothing of it but what they changed.

The file is held against the note of its export, slice by slice. Slices that are as they went out are not touched, so
work that was done here in the meantime stays. On the others only the voxels that differ change, whether a slice counts
as complete stays as it was, and a slice that changed at both ends is refused.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cristae.annotations import IGNORE, IGNORE_ID, Annotations, check_class_name
from cristae.errors import DataError, UsageError
from cristae.files import writable
from cristae.geometry import Box
from cristae.io.label_rules import LabelRules, LabelSource
from cristae.io.labels import open_labels, plain_name
from cristae.io.opened import IGNORE_NAME
from cristae.project import Project
from cristae.stages.change_rules import Count, MapOfClasses, changed_ids, changed_mask, count, vouched_mask
from cristae.stages.export_layers import Layer, for_ilastik, open_layer
from cristae.stages.options import Options
from cristae.stages.receipts import Receipt, digest_of, parts_of, receipts, save_receipt
from cristae.volume import Volume
from cristae.wording import number_ranges


class ImportChangesSettings(BaseModel):
    """How changes to an exported file are taken in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slices: tuple[int, ...] | None = Field(
        None, description="z in the image of each page in order, if the file has only some of the slices"
    )
    classes: dict[str, int | None] = Field(
        default_factory=dict, description="new classes, and their value in the file; none: by the name in the file"
    )
    complete: bool = Field(
        False,
        description="whether the file is right all over on slices that changed: classes that were not labelled there "
        "before are then labelled completely; if not, only where they changed",
    )
    dry_run: bool = Field(False, description="say what would change, and change nothing")


@dataclass(frozen=True)
class Changes:
    """What changed.

    Parameters
    ----------
    layer
        The layer that had been exported.
    counts
        Per slice and class; slices that did not change are absent.
    complete
        Classes and slices that count as complete now and did not before.
    """

    layer: str
    counts: Mapping[int, Mapping[str, Count]]
    complete: tuple[tuple[str, int], ...] = ()

    @property
    def slices(self) -> tuple[int, ...]:
        """The slices that changed, ascending."""
        return tuple(sorted(self.counts))

    @property
    def n_voxels(self) -> int:
        """Voxels that changed, of all layers."""
        return sum(one.total for counts in self.counts.values() for one in counts.values())

    def table(self) -> str:
        """Return a line per slice and class."""
        if not self.counts:
            return f"{self.layer}: nothing was changed"
        lines = [f"{self.layer}: {self.n_voxels} voxels changed on slices {number_ranges(self.slices)}"]
        lines.append(f"{'slice':>6}  {'class':20}{'added':>10}{'removed':>10}{'now unseen':>12}{'now seen':>10}")
        for z in self.slices:
            for name, one in self.counts[z].items():
                lines.append(f"{z:6}  {name:20}{one.added:10}{one.removed:10}{one.unseen:12}{one.seen:10}")
        return "\n".join(lines)

    def facts(self) -> dict[str, object]:
        """Return the same for programs."""
        counts = {z: {name: vars(one) for name, one in names.items()} for z, names in sorted(self.counts.items())}
        return {"layer": self.layer, "slices": self.slices, "n_voxels": self.n_voxels, "changes": counts}


@dataclass
class _Work:
    """A file that came back, and what it is held against."""

    project: Project
    receipt: Receipt
    source: LabelSource
    recode: np.ndarray | None
    added: dict[str, int]
    settings: ImportChangesSettings
    target: Annotations
    base: Volume
    planned: dict[str, dict[int, np.ndarray]] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)

    def page(self, page: int) -> np.ndarray:
        ids = self.source.read(page).astype(np.uint32)
        if self.recode is None:
            return ids
        return np.where(ids < len(self.recode), self.recode[np.minimum(ids, len(self.recode) - 1)], ids)

    def digest(self, page: int) -> str:
        if page not in self.digests:
            self.digests[page] = digest_of(self.page(page))
        return self.digests[page]


def import_changes(
    project: Project, source: Path | str, settings: ImportChangesSettings | None = None, options: Options | None = None
) -> Changes:
    """Take in what people changed in a file that `cristae.stages.exporting.export` wrote.

    Parameters
    ----------
    project
        From which it was exported. Changes to ``annotations`` and ``truth`` go where these are; changes to what was
        predicted, ``masks`` or one class of them, become annotations.
    source
        The file, folder or layer, under any name and in any format that labels are read from.
    settings
        How.
    options
        With ``force``, on slices that changed here too, the file counts.

    Returns
    -------
    Changes
        Per slice and class how many voxels changed.

    Raises
    ------
    DataError
        If the file is none that was exported, holds values of no class, or slices changed at both ends. Nothing is
        written then.
    UsageError
        If settings do not fit.
    ResourceError
        If another process works on the project, the disk is full, or the folder cannot be written.
    """
    settings, options = settings or ImportChangesSettings(), options or Options()
    for name in settings.classes:
        check_class_name(name)
    with project.lock(), writable(project.path):
        work = _recognise(project, source, settings, options)
        changed = [(z, page) for z, page in work.source.pages if work.digest(page) != work.receipt.digest(z)]
        _check_both_ends(work, changed, options)
        counts = {}
        told = options.progress("comparing changed slices")
        for done, (z, page) in enumerate(changed, start=1):
            found = _plan(work, z, work.page(page))
            if found:
                counts[z] = found
            told(done, len(changed))
        finished = tuple((name, z) for name, layers in work.planned.items() for z in layers if _newly(work, name, z))
        changes = Changes(work.receipt.layer, counts, finished)
        if changed and not settings.dry_run:
            _write(work)
            _note(work, changed)
        return changes


def _recognise(project: Project, source: Path | str, settings: ImportChangesSettings, options: Options) -> _Work:
    """Find the export that a file was: that of which most slices are unchanged, the newest of several."""
    known = receipts(project)
    if not known:
        raise DataError(
            f"nothing was exported from {project.path} so far, so that changes cannot be told; bring labels in with: "
            f"cristae import labels {project.path} {source} --class NAME"
        )
    shape = known[0].shape if not project.has_image else project.image.shape
    rules = LabelRules({"all": None}, settings.slices, int(project.raw_facts.get("first_number", 0)), instances=True)
    opened = open_labels(source, shape, rules)
    for sentence in opened.notes:
        options.notify(sentence)
    best: tuple[int, _Work] | None = None
    seen: dict[bytes, dict[int, str]] = {}
    for receipt in known:
        work = _held_against(project, receipt, opened, settings)
        if work is None:
            continue
        coding = b"" if work.recode is None else work.recode.tobytes()
        work.digests = seen.setdefault(coding, work.digests)
        same = sum(work.digest(page) == receipt.digest(z) for z, page in opened.pages)
        if same == len(opened.pages):
            return work
        if (same or receipt.destination == Path(source).name) and (best is None or same > best[0]):
            best = same, work
    if best is None:
        raise DataError(
            f"{source} is none of what was exported from {project.path}: no slice of it is as it went out. If all of "
            f"it is new, bring it in with: cristae import labels {project.path} {source} --class NAME"
        )
    options.notify(f"{source} is {best[1].receipt.layer} as exported to {best[1].receipt.destination}")
    return best[1]


def _held_against(
    project: Project, receipt: Receipt, opened: LabelSource, settings: ImportChangesSettings
) -> _Work | None:
    """Return how a file is held against an export; None where that cannot be."""
    if receipt.aligned != (project.file.aligned or "") or not parts_of(project, receipt.layer):
        return None
    base = _as_exported(project, receipt)
    if base.shape != receipt.shape:
        return None
    target = project.truth if receipt.kind == "truth" else project.annotations
    recode, added = _recoding(receipt, opened, settings)
    return _Work(project, receipt, opened, recode, added, settings, target, base)


def _as_exported(project: Project, receipt: Receipt) -> Volume:
    """Return the layer as it would be exported now, with the values that it had."""
    unseen = "background" if receipt.unseen is None and receipt.kind != "masks" and receipt.values else "ignore"
    named = bool(receipt.values) and receipt.unseen != IGNORE
    opened = open_layer(project, receipt.layer, named=named, unseen=unseen)
    if receipt.background == 1 and receipt.unseen == 0:
        opened = for_ilastik(Layer(opened.volume, opened.materials), tuple(parts_of(project, receipt.layer)))
    return opened.volume


def _recoding(
    receipt: Receipt, opened: LabelSource, settings: ImportChangesSettings
) -> tuple[np.ndarray | None, dict[str, int]]:
    """Return the values of the export for those of the file, where it numbers its materials anew, and new classes."""
    known = {plain_name(name): value for name, value in receipt.values.items()}
    if receipt.unseen is not None:
        known[plain_name(IGNORE_NAME)] = receipt.unseen
    if receipt.background:
        known["background"] = receipt.background
    theirs = {plain_name(material.name): material.value for material in opened.materials}
    added = {}
    for name, value in settings.classes.items():
        if value is None and plain_name(name) not in theirs:
            raise UsageError(f"the file names no material {name!r}; give its value: --class {name}=VALUE")
        added[name] = int(value if value is not None else theirs[plain_name(name)])
    if not receipt.values or not theirs or not set(known) & set(theirs):
        return None, added
    # New values begin where no value of the export is.
    table = np.arange(max(theirs.values()) + 1, dtype=np.uint32)
    free = 1000
    for name, value in theirs.items():
        table[value] = known.get(name, free)
        if name not in known:
            added = {one: free if number == value else number for one, number in added.items()}
            free += 1
    return table, added


def _check_both_ends(work: _Work, pages: list[tuple[int, int]], options: Options) -> None:
    clashes = []
    for z, page in pages:
        ours = digest_of(_plane(work.base, z))
        if ours not in (work.receipt.ours.get(z, work.receipt.digest(z)), work.digest(page)):
            clashes.append(z)
    if clashes and not options.force:
        raise DataError(
            f"slices {number_ranges(clashes)} of {work.receipt.layer} changed in the file and, since it was exported, "
            "in the project too. To have those of the file, add --force; to have both, export again and bring the "
            "changes there"
        )


def _plane(volume: Volume, z: int) -> np.ndarray:
    _, height, width = volume.shape
    return volume.read(Box((z, 0, 0), (z + 1, height, width)))[0].astype(np.uint32)


def _plan(work: _Work, z: int, after: np.ndarray) -> dict[str, Count]:
    """Work out what becomes of every class on a slice, and return what changes."""
    before = _plane(work.base, z)
    _check_values(work, z, before, after)
    counts = {}
    for name, (old, new) in _layers(work, z, before, after):
        found = count(old, new)
        if found.total or _newly(work, name, z):
            work.planned.setdefault(name, {})[z] = new
            counts[name] = found
    return counts


def _layers(
    work: _Work, z: int, before: np.ndarray, after: np.ndarray
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """Yield per class its layer before and after."""
    receipt, target = work.receipt, work.target
    if not receipt.values:
        name = receipt.layer.rpartition("/")[2]
        yield name, (_ids(target, name, z), changed_ids(after, receipt.unseen))
        return
    meaning = MapOfClasses({**receipt.values, **work.added}, receipt.unseen, receipt.inside)
    for name in meaning.values:
        if target.has_instances(name):
            continue  # a map of classes does not show ids, so it cannot change them
        old = _mask(target, name, z)
        if _newly(work, name, z):
            yield name, (old, vouched_mask(name, after, old, meaning))
            continue
        known = (receipt.kind == "masks" and name in receipt.values) or z in target.noted(name)
        yield name, (old, changed_mask(name, (before, after), old, meaning, known=known))


def _newly(work: _Work, name: str, z: int) -> bool:
    """Say whether a slice becomes a complete one of a class by what people vouch for."""
    return work.settings.complete and bool(work.receipt.values) and z not in work.target.noted(name)


def _mask(target: Annotations, name: str, z: int) -> np.ndarray:
    if name in target.classes:
        return target.read_slice(name, z)
    return np.full(target.grid.shape[1:], IGNORE, np.uint8)


def _ids(target: Annotations, name: str, z: int) -> np.ndarray:
    if name in target.classes:
        return target.read_ids(name, z)
    return np.full(target.grid.shape[1:], IGNORE_ID, np.uint32)


def _check_values(work: _Work, z: int, before: np.ndarray, after: np.ndarray) -> None:
    receipt = work.receipt
    if not receipt.values:
        return
    came = {int(value) for value in np.unique(after[before != after])}
    known = {0, receipt.background, receipt.unseen, *receipt.values.values(), *work.added.values()}
    if unknown := sorted(came - {value for value in known if value is not None}):
        raise DataError(
            f"{work.source.source}: slice {z} holds {', '.join(map(str, unknown[:10]))} where it changed, which is no "
            f"class of {receipt.layer} ({_said(receipt)}); name it as a new class: --class NAME=VALUE"
        )
    for name, value in receipt.values.items():
        if value in came and work.target.has_instances(name):
            raise DataError(
                f"{name} has ids of objects, and {receipt.layer} does not show them: which {name} slice {z} gained "
                f"cannot be told. Export {receipt.kind}/{name} by itself, and change it there"
            )


def _said(receipt: Receipt) -> str:
    return ", ".join(f"{value} {name}" for name, value in receipt.values.items())


def _write(work: _Work) -> None:
    target = work.target
    for name, layers in work.planned.items():
        noted = target.noted(name)
        complete = {z for z in layers if (bool(noted[z]["complete"]) if z in noted else _newly(work, name, z))}
        for flag in (True, False):
            slices = [(z, layer) for z, layer in sorted(layers.items()) if (z in complete) is flag]
            if slices:
                target.write_slices(name, slices, complete=flag, background_seen=True)
    if work.receipt.kind != "truth":
        work.project.add_classes(tuple(work.planned))


def _note(work: _Work, pages: list[tuple[int, int]]) -> None:
    """Note the file as it is now: when more is changed in it, it comes back once more."""
    base, receipt = _as_exported(work.project, work.receipt), work.receipt
    theirs = {z: work.digest(page) for z, page in pages}
    ours = {z: digest_of(_plane(base, z)) for z in theirs}
    update = {
        "digests": {**receipt.digests, **theirs},
        "ours": {**receipt.ours, **{z: digest for z, digest in ours.items() if digest != theirs[z]}},
        "values": {**receipt.values, **work.added},
        "exported": time.time(),
    }
    save_receipt(work.project, receipt.model_copy(update=update))

"""`Project` and `Run`: the folder through which stages talk, and the record of each computation.

::

    bx1/
    ├── project.toml              voxel size, classes, and the settings that differ from the defaults
    ├── image.ome.zarr            the micrograph; labels/<class> beside it once predicted
    ├── annotations.ome.zarr      labelled slices            truth.ome.zarr: what results are scored against
    ├── runs/<stage>-<id>/        settings.toml (complete) · manifest.json · outputs
    ├── labels/<align run>/       annotations and truth as they lie on aligned slices
    └── report/index.html

The id of a run is a hash of its complete settings, the fingerprints of its inputs and the version of cristae: the
same id and finished is skipped, the same id and unfinished is resumed, another id leaves the old run alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tomli_w
from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from cristae.annotations import Annotations
from cristae.errors import DataError, ResourceError, UsageError
from cristae.files import writable, write_atomically
from cristae.geometry import Grid, Nanometres
from cristae.io.ome_zarr import list_labels, open_volume, read_facts
from cristae.project_file import FORMAT, PREPARING, ProjectFile, without_none
from cristae.project_run import Run, last_wanted, recorded
from cristae.settings import explain
from cristae.volume import Volume
from cristae.wording import number_ranges

__all__ = ["Project", "Run"]


@dataclass(frozen=True)
class Project:
    """A project folder. Make one with `Project.create`, open one with `Project.open`."""

    path: Path

    @classmethod
    def create(cls, path: Path | str, voxel_size: Nanometres, classes: tuple[str, ...] = ()) -> Project:
        """Make a new project folder.

        Raises
        ------
        UsageError
            If the voxel size or a class name cannot be, or there is a project already.
        ResourceError
            If the folder cannot be written.
        """
        project = cls(Path(path))
        if project._file.exists():
            raise UsageError(f"{path} holds a project already; choose another folder, or import into this one")
        try:
            content = ProjectFile(voxel_size_nm=voxel_size, classes=classes)
        except ValidationError as error:
            raise UsageError(explain(error)) from error
        with writable(project.path):
            project.path.mkdir(parents=True, exist_ok=True)
            project._save(content)
        return project

    @classmethod
    def open(cls, path: Path | str) -> Project:
        """Open a project folder.

        Raises
        ------
        DataError
            If there is no project, it was made by a newer cristae, or its file cannot be understood.
        """
        project = cls(Path(path))
        project.file  # noqa: B018  reads and checks
        return project

    @property
    def file(self) -> ProjectFile:
        """The content of ``project.toml``, read anew each time."""
        try:
            content = tomllib.loads(self._file.read_text())
        except FileNotFoundError as error:
            raise DataError(
                f"{self.path} holds no project.toml; make a project with: cristae init {self.path}"
            ) from error
        except tomllib.TOMLDecodeError as error:
            raise DataError(f"{self._file} is not valid TOML: {error}") from error
        if isinstance(content.get("format"), int) and content["format"] > FORMAT:
            raise DataError(
                f"{self.path} was made by a newer cristae (folder format {content['format']}, this version reads up to "
                f"{FORMAT}); update cristae: pip install --upgrade cristae"
            )
        try:
            return ProjectFile.model_validate(content)
        except ValidationError as error:
            raise DataError(f"{self._file}: {explain(error)}") from error

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.resolve().name

    @property
    def classes(self) -> tuple[str, ...]:
        """Structures to segment."""
        return self.file.classes

    @property
    def raw_path(self) -> Path:
        """Where the micrograph is as it was imported, or will be."""
        return self.path / "image.ome.zarr"

    @property
    def image_path(self) -> Path:
        """Where the micrograph in use is: the raw one, or a prepared one in the folder of the run that made it.

        Raises
        ------
        DataError
            If the prepared one is gone.
        """
        name = self.file.prepared
        if not name:
            return self.raw_path
        path = self.path / "runs" / name / "image.ome.zarr"
        if not path.exists():
            raise DataError(
                f"{self._file} says that the image of runs/{name} is in use, and it is not there; make it again, or go "
                f"back to the raw image: cristae align {self.path} --use raw"
            )
        return path

    @property
    def image(self) -> Volume:
        """The micrograph in use, read lazily.

        Raises
        ------
        DataError
            If no image has been imported completely.
        """
        if not self.has_image:
            raise DataError(f"{self.path} has no image yet; import one with: cristae import image {self.path} SOURCE")
        return open_volume(self.image_path)

    @property
    def has_image(self) -> bool:
        """Whether an image has been imported completely."""
        return "digest" in self.image_facts

    @property
    def image_facts(self) -> dict[str, Any]:
        """What is noted of the image in use: digest, mean and deviation of each slice, missing slices."""
        return read_facts(path) if (path := self.image_path).exists() else {}

    @property
    def raw_facts(self) -> dict[str, Any]:
        """The same of the image as it was imported."""
        return read_facts(self.raw_path) if self.raw_path.exists() else {}

    @property
    def labels_folder(self) -> Path:
        """Where labels lie that fit the image in use: the project, or a folder of its own for aligned slices."""
        return self.labels_of(self.file.aligned or "")

    def labels_of(self, aligned: str) -> Path:
        """Return where labels lie that fit the slices of an align run, or, of an empty name, the raw ones."""
        return self.path / "labels" / aligned if aligned else self.path

    @property
    def lost_slices(self) -> tuple[int, ...]:
        """Slices that nothing is learnt or measured from, ascending: missing in the import, or found to be bad.

        Raises
        ------
        DataError
            If ``bad_slices`` in the project file names slices that the image does not have.
        """
        return self._lost(self.image_facts)

    @property
    def image_fingerprint(self) -> str:
        """What results depend on of the image: its content, and which slices are left out as bad."""
        return self._fingerprint(self.image_facts)

    def _fingerprint(self, facts: Mapping[str, Any]) -> str:
        bad = {*self._lost(facts)} - set(facts.get("missing", ()))
        return str(facts.get("digest")) + (f" without {number_ranges(bad)}" if bad else "")

    @property
    def lost_raw_slices(self) -> tuple[int, ...]:
        """The same of the image as it was imported."""
        return self._lost(self.raw_facts)

    @property
    def raw_fingerprint(self) -> str:
        """The same of the image as it was imported."""
        return self._fingerprint(self.raw_facts)

    def _lost(self, facts: Mapping[str, Any]) -> tuple[int, ...]:
        bad, depth = self.file.bad_slices, len(facts.get("slice_mean", ()))
        if bad and depth and bad[-1] >= depth:
            raise DataError(f"bad_slices in {self._file} names {bad[-1]}; correct it: slices are 0 to {depth - 1}")
        return tuple(sorted({*(int(z) for z in facts.get("missing", ())), *bad}))

    @property
    def annotations(self) -> Annotations:
        """The labelled slices."""
        return Annotations(self.labels_folder / "annotations.ome.zarr", self._grid)

    @property
    def truth(self) -> Annotations:
        """What results are scored against, or all there is: then it has a grid of its own."""
        path = self.labels_folder / "truth.ome.zarr"
        if not self.has_image and self.truth_classes:
            return Annotations(path, open_volume(path / "labels" / self.truth_classes[0]).grid)
        return Annotations(path, self._grid)

    @property
    def truth_classes(self) -> tuple[str, ...]:
        """Classes that there is a truth of; none where nothing was imported."""
        return list_labels(self.labels_folder / "truth.ome.zarr")

    @property
    def _grid(self) -> Grid:
        return self.image.grid

    @property
    def _file(self) -> Path:
        return self.path / "project.toml"

    def add_classes(self, names: tuple[str, ...]) -> None:
        """Enter class names that are not in the project file yet."""
        content = self.file
        new = tuple(name for name in names if name not in content.classes)
        if new:
            self._save(content.model_copy(update={"classes": content.classes + new}))

    def set_bad_slices(self, slices: Iterable[int]) -> tuple[int, ...]:
        """Keep in the project file which slices are bad, in place of those that are noted there; return them.

        Raises
        ------
        UsageError
            If the image does not have these slices, or no other slice would be left.
        """
        bad = sorted(set(slices))
        depth = self.image.shape[0]
        if outside := [z for z in bad if not 0 <= z < depth]:
            raise UsageError(f"the image has slices 0 to {depth - 1}; there is no slice {number_ranges(outside)}")
        if len({*bad, *self.image_facts.get("missing", ())}) >= depth:
            raise UsageError("no slice would be left; leave some in")
        self._save(self.file.model_copy(update={"bad_slices": tuple(bad)}))
        return tuple(bad)

    def put_to_use(self, prepared: str, aligned: str) -> None:
        """Enter which prepared image, and which aligned slices, are in use; see `cristae.stages.prepared.use_image`."""
        self._save(self.file.model_copy(update={"prepared": prepared or None, "aligned": aligned or None}))

    def stage_settings(self, stage: str) -> dict[str, Any]:
        """Return the settings of a stage that differ from the defaults, as the project file has them."""
        return dict(self.file.settings.get(stage, {}))

    def set_settings(self, stage: str, changes: Mapping[str, Any]) -> None:
        """Keep settings of a stage in the project file, for this and all later runs."""
        content = self.file
        settings = {**content.settings, stage: {**content.settings.get(stage, {}), **changes}}
        self._save(content.model_copy(update={"settings": settings}))

    def run(self, stage: str, settings: BaseModel, inputs: Mapping[str, str]) -> Run:
        """Return the run of `stage` with these complete settings and inputs, begun or not; nothing is written."""
        identity = {
            "stage": stage,
            "settings": settings.model_dump(mode="json"),
            "inputs": dict(inputs),
            "cristae": version("cristae"),
        }
        text = json.dumps(identity, sort_keys=True)
        run_id = hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
        return Run(self.path / "runs" / f"{stage}-{run_id}", stage, run_id)

    def runs(self, stage: str | None = None) -> list[Run]:
        """Return all runs begun so far, of one stage or of all, the one begun last at the end."""
        folders = (self.path / "runs").glob(f"{stage}-*" if stage else "*-*")
        found = [Run(path, *path.name.rsplit("-", 1)) for path in folders if (path / "manifest.json").is_file()]
        return sorted(found, key=lambda run: (float(run.manifest.get("started", 0)), run.id))

    def latest(self, stage: str) -> Run | None:
        """Return the run of `stage` on the image in use that finished, or was asked for again, last; if any did."""
        used = self.file.prepared or ""
        # Slices of another image lie otherwise, and may be larger.
        fits = [run for run in self.runs(stage) if stage in PREPARING or run.manifest.get("prepared", "") == used]
        finished = [run for run in fits if run.finished]
        return max(finished, key=lambda run: last_wanted(run.manifest), default=None)

    def ask_again(self, run: Run) -> None:
        """Make a finished run the latest of its stage: later stages rest on it, not on one made in between."""
        if self.latest(run.stage) != run:
            with self.lock():
                run.update(asked_again=time.time())

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process from changing this project.

        Raises
        ------
        ResourceError
            If another process is at work here, or the folder cannot be written.
        """
        with writable(self.path):
            lock = FileLock(self.path / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise ResourceError(
                    f"another process is working on {self.path}; wait until it ends (cristae status {self.path})"
                ) from error
        try:
            for left in self.path.glob(".project.toml.*.partial"):  # by one who was killed
                left.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    @property
    def locked(self) -> bool:
        """Whether another process is at work on this project now."""
        if not (self.path / ".lock").exists() or not os.access(self.path / ".lock", os.W_OK):
            return False
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    @contextlib.contextmanager
    def record(self, run: Run, settings: BaseModel, inputs: Mapping[str, str]) -> Iterator[Run]:
        """Run a stage inside this: settings and manifest are written, then time, memory and how it ended.

        An interrupted or failed run keeps what it has, to be resumed under the same id. One that is refused before it
        has written anything leaves nothing.
        """
        facts = {"inputs": dict(inputs), "prepared": self.file.prepared or ""}
        with writable(self.path), recorded(run, without_none(settings.model_dump(mode="json")), facts):
            yield run

    def inside(self, path: Path | str) -> Path:
        """Return `path`, which a file of this project names, as a path inside the project.

        Raises
        ------
        DataError
            If it leads out of the project.
        """
        root = self.path.resolve()
        target = (root / path).resolve()
        if not target.is_relative_to(root):
            raise DataError(f"{path} leads out of the project {self.path}; paths in a project stay inside it")
        return target

    def _save(self, content: ProjectFile) -> None:
        with writable(self.path):
            write_atomically(self._file, tomli_w.dumps(without_none(content.model_dump(mode="json"))))

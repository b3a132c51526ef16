"""`Project` and `Run`: the folder through which stages talk, and the record of each computation.

::

    bx1/
    ├── project.toml              voxel size, classes, and the settings that differ from the defaults
    ├── image.ome.zarr            the micrograph; labels/<class> beside it once predicted
    ├── annotations.ome.zarr      labelled slices            truth.ome.zarr: what results are scored against
    ├── runs/<stage>-<id>/        settings.toml (complete) · manifest.json · outputs
    └── report/index.html

The id of a run is a hash of its complete settings, the fingerprints of its inputs and the version of cristae: the
same id and finished is skipped, the same id and unfinished is resumed, another id leaves the old run alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import tomli_w
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cristae.annotations import Annotations, check_class_name
from cristae.environment import environment, peak_memory_mb
from cristae.errors import DataError, ResourceError, UsageError
from cristae.files import writable, write_atomically
from cristae.geometry import Grid, Nanometres
from cristae.io.ome_zarr import list_labels, open_volume, read_facts
from cristae.settings import explain
from cristae.volume import Volume

FORMAT = 1
"""Version of the project folder; a project with a larger number was made by a newer cristae."""

Status = Literal["running", "finished", "interrupted", "failed"]


class ProjectFile(BaseModel):
    """What stands in ``project.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(FORMAT, ge=1, description="version of the project folder")
    voxel_size_nm: Nanometres = Field(description="voxel size along z, y, x in nanometres")
    classes: tuple[str, ...] = Field((), description="names of the structures to segment")
    settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="per stage, the settings that differ from the defaults"
    )

    @field_validator("voxel_size_nm")
    @classmethod
    def _positive(cls, value: Nanometres) -> Nanometres:
        if not all(0 < size < 1e6 for size in value):
            raise ValueError(f"the voxel size is three positive numbers of nanometres (z, y, x), got {value}")
        return value

    @field_validator("classes")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            check_class_name(name)
        if len(set(value)) != len(value):
            raise ValueError(f"class names must differ, got {', '.join(value)}")
        return value


@dataclass(frozen=True)
class Run:
    """One computation of one stage: a folder with its settings, its manifest and its outputs."""

    path: Path
    stage: str
    id: str

    @property
    def manifest(self) -> dict[str, Any]:
        """What is known of this run; empty before it begins."""
        try:
            return dict(json.loads((self.path / "manifest.json").read_text()))
        except FileNotFoundError:
            return {}
        except json.JSONDecodeError as error:
            raise DataError(f"{self.path / 'manifest.json'} is damaged; delete {self.path} and run again") from error

    @property
    def finished(self) -> bool:
        """Whether all outputs are there."""
        return self.manifest.get("status") == "finished"

    @property
    def settings(self) -> dict[str, Any]:
        """The complete settings of this run."""
        return tomllib.loads((self.path / "settings.toml").read_text())

    def update(self, **facts: Any) -> None:
        """Add facts (anything JSON can hold) to the manifest, all or nothing."""
        write_atomically(self.path / "manifest.json", json.dumps({**self.manifest, **facts}, indent=1) + "\n")


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
    def image_path(self) -> Path:
        """Where the micrograph is, or will be."""
        return self.path / "image.ome.zarr"

    @property
    def image(self) -> Volume:
        """The micrograph, read lazily.

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
        """What the import noted of the image: digest, mean and deviation of each slice, missing slices."""
        return read_facts(self.image_path) if self.image_path.exists() else {}

    @property
    def annotations(self) -> Annotations:
        """The labelled slices."""
        return Annotations(self.path / "annotations.ome.zarr", self._grid)

    @property
    def truth(self) -> Annotations:
        """What results are scored against, or all there is: then it has a grid of its own."""
        path = self.path / "truth.ome.zarr"
        if not self.has_image and self.truth_classes:
            return Annotations(path, open_volume(path / "labels" / self.truth_classes[0]).grid)
        return Annotations(path, self._grid)

    @property
    def truth_classes(self) -> tuple[str, ...]:
        """Classes that there is a truth of; none where nothing was imported."""
        return list_labels(self.path / "truth.ome.zarr")

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
        """Return the run of `stage` that finished, or was asked for again, last; if any did."""
        finished = [run for run in self.runs(stage) if run.finished]
        return max(finished, key=lambda run: _last_wanted(run.manifest), default=None)

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
        new = not run.path.exists()
        before = {} if run.finished else run.manifest  # one that is done again starts from nothing
        with writable(self.path):
            run.path.mkdir(parents=True, exist_ok=True)
            for left in run.path.glob(".*.json.*.partial"):  # by one who was killed
                left.unlink(missing_ok=True)
            complete = _without_none(settings.model_dump(mode="json"))
            write_atomically(run.path / "settings.toml", tomli_w.dumps(complete))
            run.update(
                stage=run.stage,
                id=run.id,
                status="running",
                started=before.get("started", time.time()),
                resumed=before.get("resumed", -1) + 1,
                inputs=dict(inputs),
                environment=environment(),
            )
        earlier, begin = float(before.get("seconds", 0.0)), time.monotonic()
        status: Status = "failed"
        try:
            with writable(self.path):
                yield run
            status = "finished"
        except KeyboardInterrupt:
            status = "interrupted"
            raise
        except (DataError, UsageError):
            if new and _holds_no_output(run.path):
                shutil.rmtree(run.path, ignore_errors=True)
            raise
        finally:
            with contextlib.suppress(OSError):
                run.update(
                    status=status,
                    ended=time.time(),
                    seconds=round(earlier + time.monotonic() - begin, 3),
                    peak_memory_mb=peak_memory_mb(),
                )

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
            write_atomically(self._file, tomli_w.dumps(_without_none(content.model_dump(mode="json"))))


def _last_wanted(manifest: Mapping[str, Any]) -> float:
    return max(float(manifest["ended"]), float(manifest.get("asked_again", 0)))


def _holds_no_output(path: Path) -> bool:
    return {file.name for file in path.rglob("*") if not file.is_dir()} <= {"settings.toml", "manifest.json"}


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    """TOML has no null: a setting that is None is simply absent, and absent means None."""
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }

"""Public volumes by name: what there is, and a project made of one.

Files go from their source into the cache of this computer, are checked, and are imported like any others. What is
listed is data: ``samples.toml`` in the package, or a list of one's own in the same form, as a group keeps one.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files as package_files
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cristae.errors import DataError, ResourceError, UsageError
from cristae.files import writable, write_atomically
from cristae.geometry import Nanometres
from cristae.io.download import Fetched, Remote, fetch
from cristae.project import Project
from cristae.settings import explain
from cristae.stages.importing import (
    ImportImageSettings,
    ImportLabelsSettings,
    import_image,
    import_labels,
    import_truth,
)
from cristae.stages.options import Options

_MB = 10**6


class SampleSettings(BaseModel):
    """How a public volume becomes a project."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labelled: int | None = Field(
        None, ge=1, description="evenly spaced slices that are labelled; none: as the list proposes. All are truth"
    )
    accept_changed: bool = Field(
        False, description="take files whose checksum is another than the one that was published or remembered"
    )


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SampleFile(_Entry):
    """A file to fetch; see `cristae.io.download.Remote`."""

    url: str
    name: str
    n_bytes: int | None = None
    checksum: str = ""
    checksum_by: str = ""

    @field_validator("checksum")
    @classmethod
    def _usable(cls, value: str, info: Any) -> str:
        try:
            Remote(info.data.get("url", ""), info.data.get("name", ""), checksum=value)
        except UsageError as error:
            raise ValueError(str(error)) from error
        return value


class SamplePart(_Entry):
    """A file, or members of a ZIP archive by a pattern, in which ``*`` stands for anything."""

    file: str
    members: str = ""


class SampleLabels(SamplePart):
    """Labels of one class, on every slice."""

    name: str = Field(alias="class")
    instances: bool = False


class Sample(_Entry):
    """A public volume: what it is, whose, and where."""

    title: str
    what: str
    voxel_size_nm: Nanometres
    licence: str
    cite: str
    home: str
    image: SamplePart
    files: tuple[SampleFile, ...] = Field(min_length=1)
    labels: tuple[SampleLabels, ...] = ()
    labelled: int = Field(7, ge=1)

    @property
    def n_bytes(self) -> int | None:
        """Length of all files; None if that of one is not known."""
        sizes = [file.n_bytes for file in self.files]
        return sum(size for size in sizes if size is not None) if None not in sizes else None

    def describe(self) -> str:
        """Return what people should read before they fetch it."""
        size = f"{self.n_bytes / _MB:.0f} MB" if self.n_bytes else "not stated by the source before the download"
        by = sorted({file.checksum_by or "its source" for file in self.files if file.checksum})
        unchecked = [file.name for file in self.files if not file.checksum]
        checks = [f"checked against those that {' and '.join(by)} published"] if by else []
        checks += [f"none published for {', '.join(unchecked)}: the first download is remembered"] if unchecked else []
        lines = (
            self.title,
            f"  {self.what}",
            f"  labels     {', '.join(one.name for one in self.labels) or 'none'}",
            f"  download   {size}",
            f"  checksums  {'; '.join(checks)}",
            f"  licence    {self.licence}",
            f"  cite       {self.cite}",
            f"  from       {self.home}",
        )
        return "\n".join(lines)


def list_samples(registry: Path | None = None) -> dict[str, Sample]:
    """Return the volumes that can be fetched by name.

    Parameters
    ----------
    registry
        A list of one's own, in the form of ``samples.toml`` of the package; none: that one.

    Raises
    ------
    DataError
        If the list cannot be read.
    """
    source = registry or package_files("cristae") / "samples.toml"
    try:
        entries = tomllib.loads(source.read_text(encoding="utf-8"))
        return {name: Sample.model_validate(entry) for name, entry in entries.items()}
    except OSError as error:
        raise DataError(f"{source} cannot be read ({error.strerror}); expected a list of samples in TOML") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{source} is no TOML: {error}") from error
    except ValidationError as error:
        raise DataError(f"{source}: {explain(error)}") from error


def find_sample(name: str, registry: Path | None = None) -> Sample:
    """Return a volume of the list by its name; nothing is fetched.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    known = list_samples(registry)
    if name not in known:
        raise UsageError(f"there is no sample {name!r}; there are: {', '.join(known)}. List them with: cristae sample")
    return known[name]


def cache_folder() -> Path:
    """Return where downloads are kept: ``$CRISTAE_CACHE``, else cristae in ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    if stated := os.environ.get("CRISTAE_CACHE"):
        return Path(stated).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME", "")
    # The rule of XDG: a path that is not absolute counts as none.
    return (Path(shared) if Path(shared).is_absolute() else Path.home() / ".cache") / "cristae"


def sample(
    name: str,
    folder: Path | str,
    *,
    registry: Path | None = None,
    settings: SampleSettings | None = None,
    options: Options | None = None,
) -> Project:
    """Fetch a public volume and make a project of it, with some slices labelled and all of them as truth.

    Parameters
    ----------
    name
        One of `list_samples`.
    folder
        Project to make. If a call was interrupted, the same call goes on.
    registry
        List that the name is looked up in; see `list_samples`.
    settings, options
        How.

    Returns
    -------
    Project
        With image, labels and truth, ``LICENCE.txt`` with terms and citation beside them.

    Raises
    ------
    UsageError
        If there is no such sample, or the folder holds another project.
    DataError, ResourceError
        As `cristae.io.download.fetch`, and the imports, do.
    """
    settings, options = settings or SampleSettings(), options or Options()
    entry, path = find_sample(name, registry), Path(folder)
    project = _project(path, name, entry)
    options.notify(entry.describe())
    cache = cache_folder() / name
    fetched = {one.name: _fetch(one, cache, settings, options) for one in entry.files}
    with _unpacked(fetched, cache) as part:
        import_image(project, part(entry.image), ImportImageSettings(), options)
        depth = project.image.shape[0]
        n_labelled = min(settings.labelled or entry.labelled, depth)
        slices = tuple(round(float(z)) for z in np.linspace(0, depth - 1, n_labelled))
        for labels in entry.labels:
            source, classes = part(labels), {labels.name: None}
            truth = ImportLabelsSettings(classes=classes, instances=labels.instances)
            import_truth(project, source, truth, options)
            taught = ImportLabelsSettings(classes=classes, instances=labels.instances, slices=slices)
            _import_taught(project, source, taught, options)
    return project


def _import_taught(project: Project, source: Path, settings: ImportLabelsSettings, options: Options) -> None:
    try:
        import_labels(project, source, settings, options)
    except DataError as error:
        # A rare structure may occur on none of these few slices; it can still be scored.
        if "no voxel of class" not in str(error):
            raise
        options.notify(f"{', '.join(settings.classes)}: on none of the labelled slices, so it is truth only")


def _project(path: Path, name: str, entry: Sample) -> Project:
    """Make the project, or go on with the same one."""
    terms = path / "LICENCE.txt"
    text = f"sample {name}\n\n{entry.describe()}\n"
    if (path / "project.toml").exists():
        if not terms.is_file() or terms.read_text(encoding="utf-8").partition("\n")[0] != f"sample {name}":
            raise UsageError(f"{path} holds another project; choose another folder for the sample {name}")
        return Project.open(path)
    project = Project.create(path, entry.voxel_size_nm)
    with writable(path):
        write_atomically(terms, text)
    return project


def _fetch(one: SampleFile, cache: Path, settings: SampleSettings, options: Options) -> Fetched:
    told = options.progress(f"fetching {one.name} (MB)")

    def in_megabytes(done: int, total: int) -> None:
        told(done // _MB, max(1, total // _MB) if total else done // _MB + 1)

    remote = Remote(one.url, one.name, one.n_bytes, one.checksum)
    got = fetch(remote, cache, told=in_megabytes, accept_changed=settings.accept_changed)
    words = {
        "published": f"its checksum is that published by {one.checksum_by or 'its source'}",
        "first download": "its checksum is that of the first download; none was published",
        "nothing": f"unchecked: held against no published checksum. Its own, sha256:{got.sha256}, is remembered",
    }
    from_here = "" if got.n_received else " from the cache"
    options.notify(f"{one.name}: {got.path.stat().st_size / _MB:.1f} MB{from_here}; {words[got.checked]}")
    return got


@contextmanager
def _unpacked(fetched: dict[str, Fetched], cache: Path) -> Iterator[Callable[[SamplePart], Path]]:
    """Give what returns the place of a part, unpacking archives into a folder that goes away at the end."""
    with writable(cache), TemporaryDirectory(dir=cache, prefix=".unpacked-") as folder:

        def part(wanted: SamplePart) -> Path:
            if wanted.file not in fetched:
                raise DataError(f"the list of samples names {wanted.file!r}, which is none of {', '.join(fetched)}")
            path = fetched[wanted.file].path
            return _extract(path, wanted.members, Path(folder)) if wanted.members else path

        yield part


def _extract(archive: Path, pattern: str, folder: Path) -> Path:
    """Unpack the members that a pattern fits, flat; return the only file, or the folder of several."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [one for one in opened.infolist() if fnmatch.fnmatch(one.filename, pattern) and _is_ours(one)]
            _check_members(archive, pattern, members, folder)
            target = folder / f"{abs(hash(pattern)):x}"
            target.mkdir(exist_ok=True)
            for one in members:
                # Only the last part of the name counts, so nothing can be written elsewhere.
                place = target / PurePosixPath(one.filename).name
                if place.is_file() and place.stat().st_size == one.file_size:
                    continue
                with opened.open(one) as source, place.open("wb") as file:
                    shutil.copyfileobj(source, file, 2**20)
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive} is no ZIP archive ({error}); remove it, and fetch it again") from error
    return target / PurePosixPath(members[0].filename).name if len(members) == 1 else target


def _is_ours(member: zipfile.ZipInfo) -> bool:
    """Say whether a member is a file that its authors put there, not one that a system left."""
    path = PurePosixPath(member.filename)
    return not member.is_dir() and "__MACOSX" not in path.parts and not path.name.startswith(".")


def _check_members(archive: Path, pattern: str, members: Sequence[zipfile.ZipInfo], folder: Path) -> None:
    names = {PurePosixPath(one.filename).name for one in members}
    if not members or len(names) < len(members):
        raise DataError(f"{archive} holds {len(members)} files like {pattern}, {len(names)} by name: not as expected")
    n_bytes, free = sum(one.file_size for one in members), shutil.disk_usage(folder).free
    if n_bytes > free:
        raise ResourceError(
            f"{archive} unpacks to {n_bytes / _MB:.0f} MB, and {folder.parent} has {free / _MB:.0f} MB left; free some "
            "space, or keep downloads elsewhere (CRISTAE_CACHE=FOLDER)"
        )


__all__ = ["Sample", "SampleSettings", "cache_folder", "find_sample", "list_samples", "sample"]

"""What all writers share: hidden names until a file is whole, slabs of slices, joined layers."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from cristae.errors import ResourceError, UsageError
from cristae.geometry import Box
from cristae.volume import Volume

Told = Callable[[int, int], object]
"""Called with the number of slices written and their total."""

_SLAB_BYTES = 2**28


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep others from writing to that name, be they threads or processes.

    Raises
    ------
    ResourceError
        If someone is writing there already.
    UsageError
        If nothing can be written below that name.
    """
    make_folder(path.parent)
    name = path.with_name(f".{path.name}.lock")
    lock = FileLock(name)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ResourceError(
            f"another process is writing {path}; wait until it is done, or choose another name"
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            name.unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def partial_file(path: Path, overwrite: bool) -> Iterator[Path]:
    """Give a hidden name to write to; it becomes `path` at the end, and nothing is left of it on failure.

    Raises
    ------
    UsageError
        If there is something under that name already.
    ResourceError
        If someone else is writing there.
    """
    with alone(path):
        check_free(path, overwrite)
        if path.is_dir():
            raise UsageError(f"{path} is a folder; choose another name")
        suffixes = "".join(path.suffixes[-2:])  # libraries tell formats by them
        partial = path.with_name(f".{path.name}.partial{suffixes}")
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def partial_folder(path: Path, overwrite: bool) -> Iterator[Path]:
    """Give a hidden folder to write to; it becomes `path` at the end, and nothing is left of it on failure.

    What it replaces is set aside for a moment. A kill just then is made good the next time.

    Raises
    ------
    UsageError
        If there is something under that name already.
    ResourceError
        If someone else is writing there.
    """
    partial, replaced = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.replaced")
    with alone(path):
        _bring_back(replaced, path)
        check_free(path, overwrite)
        remove(partial)
        partial.mkdir()
        try:
            yield partial
            if path.exists():
                path.rename(replaced)
            partial.rename(path)
        finally:
            remove(partial)
            _bring_back(replaced, path)


def _bring_back(replaced: Path, path: Path) -> None:
    """Give what was set aside its name again, or remove it where something else has taken the name."""
    if replaced.exists() and not path.exists():
        replaced.rename(path)
    remove(replaced)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there and can be removed."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def check_free(path: Path, overwrite: bool) -> None:
    """Raise UsageError if something would be overwritten that must not be."""
    taken = path.exists() and not (path.is_dir() and not any(path.iterdir()))
    if taken and not overwrite:
        raise UsageError(f"{path} exists already; choose another name, or say that it may be overwritten (--force)")


def is_new(path: Path) -> bool:
    """Say whether nothing is there, or an empty folder; hidden parts of files that a kill left do not count."""
    return not path.exists() or (
        path.is_dir() and all(one.name.startswith(".") and one.name.endswith(".partial") for one in path.iterdir())
    )


def make_folder(path: Path) -> None:
    """Make a folder and those above it.

    Raises
    ------
    UsageError
        If there is a file in its place.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UsageError(f"{path} is a file, so nothing can be written below it; choose another name") from error


def reserve(path: Path) -> None:
    """Take the space of a file that is written through a memory map: a full disk would end the process otherwise."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def slabs(volume: Volume, told: Told | None) -> Iterator[tuple[Box, np.ndarray]]:
    """Yield whole slices from first to last, as many at a time as memory should hold, and where they belong."""
    n_slices, height, width = volume.shape
    step = max(1, min(16, _SLAB_BYTES // max(1, height * width * volume.dtype.itemsize)))
    for start in range(0, n_slices, step):
        box = Box((start, 0, 0), (min(start + step, n_slices), height, width))
        yield box, np.ascontiguousarray(volume.read(box))
        if told:
            for z in range(*box.slices[0].indices(n_slices)):
                told(z + 1, n_slices)

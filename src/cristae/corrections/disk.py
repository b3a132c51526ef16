"""Holding a folder of corrections, and bringing files of it safely to disk."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock, Timeout

from cristae.errors import ResourceError
from cristae.files import writable


def hold(folder: Path) -> FileLock:
    """Make the folder of the corrections of a layer, and keep all others from writing in it.

    Raises
    ------
    ResourceError
        If another process is correcting this layer, or the folder cannot be made.
    """
    with writable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ResourceError(
                f"another process is correcting {folder.name} of {folder.parent.name}; close it there, or wait until "
                "it is done"
            ) from error
    return lock


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

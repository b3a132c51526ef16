"""Writing small files safely, and saying in words why something could not be written."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cristae.errors import ResourceError


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk or a read-only folder into a sentence with the next step."""
    try:
        yield
    except OSError as error:
        if isinstance(error, PermissionError | NotADirectoryError) or error.errno in (30,):  # EROFS
            raise ResourceError(
                f"cannot write in {path}: {error.strerror}; check its permissions, or put the project elsewhere"
            ) from error
        if error.errno in (28, 122, 27):  # ENOSPC, EDQUOT, EFBIG
            raise ResourceError(
                f"the disk of {path} is full ({error.strerror}); what is finished is kept: free some space and run "
                "the same command again"
            ) from error
        raise


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder as `shutil.copytree` does, except that the first error comes through as what it is."""
    target.mkdir()
    for path in sorted(source.iterdir()):
        (copy_folder if path.is_dir() else shutil.copy2)(path, target / path.name)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader or a crash sees either the old content or the new, never a part."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".partial")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

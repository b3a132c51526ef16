"""Writing small files safely, and saying in words why something could not be written."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cristae.errors import CristaeError, ResourceError


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk or a read-only folder into a sentence with the next step."""
    try:
        yield
    except CristaeError:
        raise
    except Exception as error:
        number = system_error(error)
        words = os.strerror(number)
        if number in (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EROFS):
            raise ResourceError(
                f"cannot write in {path}: {words}; check its permissions, or put the project elsewhere"
            ) from error
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise ResourceError(
                f"the disk of {path} is full ({words}); what is finished is kept: free some space and run "
                "the same command again"
            ) from error
        raise


def system_error(error: Exception) -> int:
    """Return the number of the error of the system that an exception stands for, 0 for none.

    Compiled libraries put it in words only.
    """
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = re.search(r"os error (\d+)|\[Errno (\d+)\]", str(error))
    return int(found[1] or found[2]) if found else 0


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

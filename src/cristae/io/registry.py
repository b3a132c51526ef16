"""Which suffix which format: the one list of what can be read and written, beside TIFF, PNG, JPEG and OME-Zarr.

A module of a format is loaded when a file of it is opened. To add one, write ``open_NAME(path, inside) -> Opened`` and
enter it here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from cristae.errors import DataError
from cristae.io.opened import Opened


@dataclass(frozen=True)
class Format:
    """A file format.

    Parameters
    ----------
    name
        What people call it.
    suffixes
        How its files end, in small letters.
    reader
        Module and function that opens a file, as in ``cristae.io.mrc:open_mrc``.
    has_parts
        Whether one file can hold several volumes, told apart by a name behind a colon.
    """

    name: str
    suffixes: tuple[str, ...]
    reader: str
    has_parts: bool = False


FORMATS = (
    Format("MRC", (".mrc", ".rec", ".map", ".st", ".ali"), "cristae.io.mrc:open_mrc"),
    Format("HDF5", (".h5", ".hdf5", ".hdf"), "cristae.io.hdf5:open_hdf5", has_parts=True),
    Format("Amira mesh", (".am",), "cristae.io.amira:open_amira", has_parts=True),
    Format("NRRD", (".nrrd", ".nhdr"), "cristae.io.nrrd:open_nrrd"),
    Format("NIfTI", (".nii", ".nii.gz"), "cristae.io.nifti:open_nifti"),
    Format("MIB model", (".model", ".mat"), "cristae.io.mib:open_mib", has_parts=True),
)
SUFFIXES = tuple(suffix for known in FORMATS for suffix in known.suffixes)


def format_of(path: Path) -> Format | None:
    """Return the format that a file has by its name; None of those that are read elsewhere or nowhere."""
    name = path.name.lower()
    return next((known for known in FORMATS if name.endswith(known.suffixes)), None)


def split_source(source: Path | str) -> tuple[Path, str]:
    """Return the file and what is named inside it: ``stack.h5:/volumes/raw`` or ``stack.h5/volumes/raw``.

    What is there under its full name is that, and nothing is named inside it.
    """
    path = Path(source)
    if path.exists():
        return path, ""
    text = str(source)
    for known in FORMATS:
        for suffix in known.suffixes if known.has_parts else ():
            for mark in (":", "/"):
                place = text.lower().find(suffix + mark)
                if place >= 0 and (mark == ":" or Path(text[: place + len(suffix)]).is_file()):
                    stop = place + len(suffix)
                    return Path(text[:stop]), "/" + text[stop + 1 :].strip("/")
    return path, ""


def open_format(path: Path, inside: str = "") -> Opened:
    """Open a file by the reader of its format.

    Raises
    ------
    DataError
        If there is no such file or format, or the reader refuses it.
    """
    known = format_of(path)
    if known is None:
        raise DataError(f"{path} is of a kind that cannot be read; expected a file that ends in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"{path} does not exist; give a {known.name} file")
    module, _, function = known.reader.partition(":")
    reader: Callable[[Path, str], Opened] = getattr(import_module(module), function)
    return reader(path, inside)

"""Data sets of nnU-Net v2, written: ``imagesTr``, ``labelsTr`` and ``dataset.json``, one case per project.

Voxels that nobody looked at get the highest label, called ``ignore``, as nnU-Net asks of sparse annotations.

Isensee, F. et al. (2021). nnU-Net. Nature Methods 18, 203-211.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cristae.errors import DataError, UsageError
from cristae.files import write_atomically
from cristae.io.nifti import write_nifti
from cristae.io.opened import Material
from cristae.io.writing import Told, is_new, make_folder, partial_file
from cristae.volume import Volume

_ENDING = ".nii.gz"


def write_nnunet(
    image: Volume,
    labels: Volume,
    path: Path,
    case: tuple[str, Sequence[Material]],
    *,
    overwrite: bool = False,
    told: Told | None = None,
) -> Path:
    """Write an image and its labels as a case of an nnU-Net data set, which is made or added to.

    Parameters
    ----------
    image, labels
        Of one grid; labels are 0 and the values of the materials.
    path
        Folder of the data set, called ``Dataset001_<name>`` or so, as nnU-Net asks.
    case
        Name of the case, and the classes in the order of their values, ``ignore`` last.
    overwrite
        Whether a case of that name may be replaced.
    told
        Told after each slice of the labels.

    Raises
    ------
    UsageError
        If the case is there already, the folder is called otherwise, or holds something else.
    ResourceError
        If someone else is writing this case.
    DataError
        If the data set has other classes.
    """
    if not re.fullmatch(r"Dataset\d{3}_\w[\w-]*", path.name):
        raise UsageError(f"nnU-Net knows data sets by name: expected one such as Dataset001_bx1, got {path.name!r}")
    name, materials = re.sub(r"[^A-Za-z0-9-]+", "-", case[0]).strip("-") or "case", case[1]
    classes = {"background": 0, **{material.name: material.value for material in materials}}
    if sorted(classes.values()) != list(range(len(classes))):
        raise DataError(f"nnU-Net asks for classes 0, 1, 2 … without gaps; got {classes}")
    known = _known(path, classes)
    of_image, of_labels = path / "imagesTr" / f"{name}_0000{_ENDING}", path / "labelsTr" / f"{name}{_ENDING}"
    if (of_image.exists() or of_labels.exists()) and not overwrite:
        raise UsageError(f"{path} has a case {name!r} already; say that it may be replaced (--force)")
    make_folder(path)
    # At once, so that the folder is known for what it is if this is not brought to its end.
    _note(path, known)
    # Both are put in place together: an image never stands beside the labels of another.
    with partial_file(of_labels, True) as new_labels, partial_file(of_image, True) as new_image:
        write_nifti(image, new_image, overwrite=True)
        write_nifti(labels, new_labels, overwrite=True, told=told)
    _note(path, known)
    return path


def _note(path: Path, known: dict[str, Any]) -> None:
    n_cases = len(list((path / "labelsTr").glob(f"[!.]*{_ENDING}")))
    write_atomically(path / "dataset.json", json.dumps({**known, "numTraining": n_cases}, indent=4))


def _known(path: Path, classes: dict[str, int]) -> dict[str, Any]:
    """Return ``dataset.json`` of the data set that is there, or of a new one."""
    file = path / "dataset.json"
    if not file.is_file():
        if not is_new(path):
            raise UsageError(f"{path} holds something that is no nnU-Net data set; choose another name")
        return {"channel_names": {"0": "EM"}, "labels": classes, "numTraining": 0, "file_ending": _ENDING}
    try:
        known: dict[str, Any] = json.loads(file.read_text())
        labels, ending = dict(known["labels"]), known["file_ending"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is damaged; remove the data set, or choose another name") from error
    if labels != classes or ending != _ENDING:
        raise DataError(
            f"{path} has classes {labels} in files that end in {ending}; expected {classes} in {_ENDING}, as here. "
            "Choose another name"
        )
    return known

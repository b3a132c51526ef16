"""Ids of cells from files into a project."""

import numpy as np
import pytest
import tifffile

import cristae
from cristae.annotations import IGNORE_ID
from cristae.errors import DataError, UsageError

SHAPE = (3, 40, 50)


@pytest.fixture
def project(tmp_path) -> cristae.Project:
    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / "raw.tif", rng.integers(1, 255, SHAPE).astype(np.uint8), photometric="minisblack")
    project = cristae.init(tmp_path / "p", voxel_size=(8, 8, 8))
    cristae.import_image(project, tmp_path / "raw.tif")
    return project


def _file(project: cristae.Project, ids: np.ndarray):
    path = project.path.parent / "cells.tif"
    tifffile.imwrite(path, ids, photometric="minisblack")
    return path


def _ids(*values: int, dtype: str = "uint32") -> np.ndarray:
    ids = np.zeros(SHAPE, dtype)
    for i, value in enumerate(values):
        ids[:, 10 * i : 10 * i + 8, :] = value
    return ids


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int32"])
def test_ids_are_kept_whatever_the_type_of_the_file(project, dtype) -> None:
    largest = {"uint8": 255, "uint16": 65_535, "uint32": 2**32 - 2, "int32": 2**31 - 1}[dtype]
    source = _file(project, _ids(1, 7, largest, dtype=dtype))
    annotations = cristae.import_labels(project, source, classes={"cell": None}, instances=True)
    assert annotations.has_instances("cell")
    assert set(np.unique(annotations.read_ids("cell", 1))) == {0, 1, 7, largest}
    assert project.classes == ("cell",)


def test_what_nobody_looked_at_stays_so_and_values_can_be_chosen(project) -> None:
    source = _file(project, _ids(1, 7, 9))
    rules = {"classes": {"cell": (1, 7)}, "instances": True, "ignore_value": 9}
    annotations = cristae.import_labels(project, source, **rules, slices=(0, 2))
    assert annotations.labelled_slices("cell") == (0, 2)
    assert set(np.unique(annotations.read_ids("cell", 0))) == {0, 1, 7, IGNORE_ID}


def test_partly_painted_cells_leave_the_rest_unknown(project) -> None:
    source = _file(project, _ids(1, 7))
    annotations = cristae.import_labels(project, source, classes={"cell": None}, instances=True, partial=("cell",))
    assert set(np.unique(annotations.read_ids("cell", 0))) == {1, 7, IGNORE_ID}
    assert annotations.complete_slices("cell") == ()


@pytest.mark.parametrize(("wrong", "dtype"), [(-4, "int32"), (2**32 - 1, "uint32")])
def test_ids_that_cannot_be_are_named_and_nothing_is_written(project, wrong, dtype) -> None:
    source = _file(project, _ids(1, wrong, dtype=dtype))
    with pytest.raises(DataError, match=f"slice 0 holds the id {wrong}"):
        cristae.import_labels(project, source, classes={"cell": None}, instances=True)
    assert project.annotations.classes == ()


def test_instances_are_of_one_class_and_no_ids_is_an_error(project) -> None:
    source = _file(project, _ids(1, 7))
    with pytest.raises(UsageError, match="each class of instances by itself"):
        cristae.import_labels(project, source, classes={"a": (1,), "b": (7,)}, instances=True)
    with pytest.raises(DataError, match="no voxel of class 'cell'"):
        cristae.import_labels(project, _file(project, _ids(0)), classes={"cell": None}, instances=True)

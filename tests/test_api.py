from __future__ import annotations

import inspect

import pytest

import cristae
from cristae import api


def test_public_surface():
    assert set(cristae.__all__) == set(cristae._HOME)
    for name in cristae.__all__:
        assert getattr(cristae, name) is not None
        assert name in dir(cristae)
    own = {
        name
        for name, value in vars(api).items()
        if inspect.isfunction(value) and value.__module__ == api.__name__ and not name.startswith("_")
    }
    assert own - {"open_project"} == {name for name, home in cristae._HOME.items() if home == "api"}


def test_every_public_name_is_documented():
    for name in cristae.__all__:
        value = getattr(cristae, name)
        assert name == "IGNORE" or inspect.getdoc(value), name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'segment'"):
        cristae.segment  # noqa: B018


def test_a_project_is_given_as_folder_or_as_project(tmp_path):
    project = cristae.init(tmp_path / "p", voxel_size=(8, 4, 4), classes=["mito"])
    assert project.classes == ("mito",)
    assert cristae.status(project) == cristae.status(project.path) == cristae.status(str(project.path))

"""Plugins are found by entry point; those that fail are named and the others go on."""

import math
from importlib.metadata import EntryPoint
from typing import ClassVar

import numpy as np
import pytest

from cristae.errors import UsageError
from cristae.features import registry
from cristae.features.crops import Crop
from cristae.features.definitions import Definition
from cristae.features.registry import FEATURES, feature_names, load_features, measure_crop


class Voxels:
    """A well-behaved plugin."""

    definitions: ClassVar = {"n_true": Definition("", "voxels")}
    meaningless_when_cut = frozenset({"n_true"})

    def __call__(self, mask, image, voxel_size):
        return {"n_true": float(mask.sum())}


class Clash(Voxels):
    definitions: ClassVar = {"volume_um3": Definition("µm³", "volume")}
    meaningless_when_cut = ()


class Undefined(Voxels):
    definitions: ClassVar = {}


class Unmade(Voxels):
    def __init__(self):
        raise RuntimeError("no licence")


class Failing(Voxels):
    definitions: ClassVar = {"fails_a": Definition("", ""), "fails_b": Definition("", "")}
    meaningless_when_cut = ()

    def __call__(self, mask, image, voxel_size):
        raise ZeroDivisionError("division by zero")


class Infinite(Failing):
    definitions: ClassVar = {"infinite": Definition("", "")}

    def __call__(self, mask, image, voxel_size):
        mask[...] = False
        return {"infinite": math.inf}


class Forgetful(Failing):
    definitions: ClassVar = {"forgotten": Definition("", ""), "kept": Definition("", "")}

    def __call__(self, mask, image, voxel_size):
        return {"kept": 1.0}


@pytest.fixture
def plugins(monkeypatch):
    classes = (Voxels, Clash, Undefined, Unmade, Failing, Infinite, Forgetful)
    points = [EntryPoint(cls.__name__.lower(), f"{__name__}:{cls.__name__}", registry.GROUP) for cls in classes]
    points.append(EntryPoint("absent", "no_such_package:Feature", registry.GROUP))
    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == registry.GROUP else [])


def crop():
    return Crop(np.pad(np.ones((6, 7, 8), bool), 1), None, (10.0, 10.0, 10.0))


def test_those_of_cristae_go_through_the_same_door():
    assert set(feature_names()) >= {"curvature", "invagination", "skeleton"}
    loaded = load_features(FEATURES)
    assert not loaded.problems
    values, problems = measure_crop(loaded.features, crop())
    assert not problems
    assert list(values) == [*loaded.definitions, "crop_factor"]
    assert all(map(math.isfinite, values.values()))


def test_plugins_are_found(plugins):
    assert "voxels" in feature_names()
    loaded = load_features(["voxels", "curvature"])
    assert list(loaded.features) == ["voxels", "curvature"]
    assert loaded.meaningless_when_cut["n_true"]
    assert measure_crop(loaded.features, crop())[0]["n_true"] == 6 * 7 * 8


def test_plugins_that_cannot_be_loaded_are_named_and_the_others_go_on(plugins):
    names = ["absent", "unmade", "undefined", "clash", "voxels"]
    loaded = load_features(names, taken=["volume_um3"])
    assert list(loaded.features) == ["voxels"]
    assert set(loaded.problems) == set(names) - {"voxels"}
    assert "no_such_package" in loaded.problems["absent"]
    assert "no licence" in loaded.problems["unmade"]
    assert "definitions" in loaded.problems["undefined"]
    assert "volume_um3 of cristae" in loaded.problems["clash"]


def test_plugins_that_fail_on_an_object_are_named_and_their_columns_stay_empty(plugins):
    loaded = load_features(["failing", "infinite", "forgetful", "voxels"])
    one = crop()
    values, problems = measure_crop(loaded.features, one)
    assert set(problems) == {"failing", "infinite", "forgetful"}
    assert "ZeroDivisionError" in problems["failing"]
    assert "infinite" in problems["infinite"]
    assert "forgotten" in problems["forgetful"]
    assert values["n_true"] == one.mask.sum() == 6 * 7 * 8
    assert sum(map(math.isnan, values.values())) == 5


def test_unknown_names_are_refused_with_the_known_ones(plugins):
    with pytest.raises(UsageError, match=r"roughness.*curvature.*voxels"):
        load_features(["roughness"])

"""Names, units and headings of features, and which columns are features at all."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from cristae.stages.measured import by_family, feature_columns, read_measured, settings_that_differ, title_of, unit_of
from measured_projects import MEANINGS, measured_objects, measured_project


@pytest.mark.parametrize(
    ("column", "title"),
    [
        ("volume_um3", "volume"),
        ("glcm_homogeneity", "GLCM homogeneity"),
        ("szm_szhge", "SZM SZHGE"),
        ("szm_n_zones", "SZM number of zones"),
        ("n_skeleton_ends", "number of skeleton ends"),
        ("ps_opening_3", "PS opening 3"),
        ("mean_curvature_sd_per_um", "mean curvature sd"),
        ("gaussian_curvature_per_um2", "gaussian curvature"),
        ("mitochondrion_per_um3", "mitochondrion density"),
        ("um3", "um3"),
    ],
)
def test_titles(column, title):
    assert title_of(column) == title


def test_units_are_those_of_the_dictionary_or_of_the_name():
    assert unit_of("depth_nm", {}) == "nm"
    assert unit_of("depth_nm", {"depth_nm": {"unit": "fathom"}}) == "fathom"
    assert unit_of("solidity", {}) == ""


def test_every_feature_of_cristae_has_one_heading():
    table = measured_objects("all")
    features = feature_columns(table)
    found = by_family(features)
    assert sorted(name for names in found.values() for name in names) == sorted(features)
    assert found["Size and shape"][0] == "volume_um3"
    assert {"mesh_volume_um3", "filled_volume_um3"} <= set(found["Size and shape"])
    assert set(found["Size zones"]) == {name for name in features if name.startswith("szm_")}
    nothing_to_compare = {*MEANINGS} - {*features}
    assert {"centroid_z_nm", "bbox_z_start_px", "orientation_x", "n_voxels", "touches_edge"} <= nothing_to_compare
    assert not [name for name in nothing_to_compare if name.startswith(("glcm", "szm", "ps", "mean", "skeleton"))]


def test_features_are_numbers_with_values():
    table = pd.DataFrame(
        {
            "word": ["a", "b"],
            "empty": [np.nan, np.inf],
            "whole": pd.array([1, None], "Int64"),
            "flag": pd.array([True, None], "boolean"),
            "nearest_nucleus_id": [1, 2],
        }
    )
    assert feature_columns(table) == ["whole", "flag"]


def test_edges_that_nobody_noted_are_none(tmp_path):
    objects = measured_objects("some", few=True).drop(columns="touches_edge")
    measured = read_measured(measured_project(tmp_path, "some", objects))
    assert not measured.objects["touches_edge"].any()
    assert measured.sample == "some"
    assert measured.violations is None
    assert settings_that_differ([measured.run, measured.run]) == []


def test_cells_of_one_id_cannot_be_told_apart(tmp_path):
    objects = measured_objects("twice", few=True)
    objects.loc[objects["class"] == "cell", "object_id"] = 7
    assert read_measured(measured_project(tmp_path, "twice", objects)).contents is None

"""Cut objects lose what means nothing for them, and nothing else."""

import numpy as np
import pandas as pd
import pytest

from cristae.features.edge import MEANINGLESS_WHEN_CUT, blank_cut, meaningless_when_cut
from cristae.features.holes import DEFINITIONS as HOLES
from cristae.features.registry import FEATURES, load_features


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "n_voxels": [5, 6, 7],
            "touches_edge": [False, True, False],
            "n_holes": [0, 1, 2],
            "volume_um3": [0.5, 0.6, 0.7],
            "glcm_contrast": [1.0, 2.0, 3.0],
        }
    )


def test_cut_objects_are_emptied_where_it_means_nothing(table):
    before = table.copy()
    found = blank_cut(table, meaningless_when_cut(table.columns))
    np.testing.assert_array_equal(found["n_holes"], [0, np.nan, 2])
    np.testing.assert_array_equal(found["volume_um3"], [0.5, np.nan, 0.7])
    for name in ("n_voxels", "touches_edge", "glcm_contrast"):
        pd.testing.assert_series_equal(found[name], before[name])
    pd.testing.assert_frame_equal(table, before)


def test_types_do_not_depend_on_whether_something_is_cut(table):
    columns = meaningless_when_cut(table.columns)
    some, none = blank_cut(table, columns), blank_cut(table, columns, cut=np.zeros(3, bool))
    assert (some.dtypes == none.dtypes).all()
    assert blank_cut(table.head(0), columns)["n_holes"].dtype == np.float64
    np.testing.assert_array_equal(none["n_holes"], table["n_holes"])


def test_a_second_object_can_be_what_is_cut(table):
    table["proximity_to_envelope"] = [0.1, 0.2, 0.3]
    found = blank_cut(table, ["proximity_to_envelope"], cut=table["touches_edge"] | np.array([True, False, False]))
    np.testing.assert_array_equal(found["proximity_to_envelope"], [np.nan, np.nan, 0.3])


def test_what_nobody_knows_is_not_guessed(table):
    table["roughness_nm"] = 1.0
    with pytest.raises(ValueError, match="roughness_nm"):
        meaningless_when_cut(table.columns)
    assert "roughness_nm" in meaningless_when_cut(table.columns, {"roughness_nm": True})
    assert "roughness_nm" not in meaningless_when_cut(table.columns, {"roughness_nm": False})


def test_every_column_of_crops_and_holes_is_known():
    loaded = load_features(FEATURES)
    for name in (*HOLES, *loaded.definitions):
        assert name in MEANINGLESS_WHEN_CUT
    assert loaded.meaningless_when_cut.items() <= MEANINGLESS_WHEN_CUT.items()

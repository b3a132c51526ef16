"""Named starting points of cells, and what they mean for runs that are there already."""

from __future__ import annotations

import numpy as np
import pytest

from cristae.errors import UsageError
from cristae.flow import Farneback
from cristae.separation.gap import Gap
from cristae.stages.cells_settings import CellsSettings, cells_settings, separation

GAP = Gap(np.zeros((3, 8, 8), np.uint8), None, None, np.ones((8, 8), np.uint8), None)


def test_the_preset_of_the_paper_matches_whole_slices_and_seeds_centroids_of_the_nearest(small_project):
    settings = cells_settings(small_project, {"preset": "machireddy2023"})
    at_4_nm = separation(settings, GAP, (4.0, 4.0, 4.0))
    assert isinstance(at_4_nm.flow, Farneback) and at_4_nm.flow.reduction == 1
    assert (at_4_nm.seeds, at_4_nm.neighbours) == ("centroid", "nearest")
    assert (at_4_nm.edge_distance_px, at_4_nm.smallest_body_px) == (5.0, 5000)


def test_settings_come_from_preset_then_project_file_then_the_call(small_project):
    small_project.set_settings("cells", {"preset": "machireddy2023", "neighbours": "both"})
    settings = cells_settings(small_project, {"flow_reduction": 2})
    assert (settings.seeds, settings.neighbours, settings.flow_reduction) == ("centroid", "both", 2)


def test_an_unknown_preset_names_those_that_exist(small_project):
    with pytest.raises(UsageError, match="unknown preset 'paper'; there are default, machireddy2023"):
        cells_settings(small_project, {"preset": "paper"})


def test_separations_from_before_there_were_presets_stay_valid():
    assert not {"preset", "seeds"} & set(CellsSettings().model_dump(mode="json"))
    assert CellsSettings(preset="machireddy2023").model_dump(mode="json")["preset"] == "machireddy2023"

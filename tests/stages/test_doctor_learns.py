"""The label doctor with networks that learn from the spoilt label, too."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import cristae

PAINTED = (1, 6, 11, 16, 21)
BAD = 11


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dropped", "of another slice", "swapped"])
def test_the_spoilt_slice_is_ranked_first(build, tiny, tmp_path, kind):
    project = build(tmp_path / "p", shape=(24, 64, 64), labelled=PAINTED)
    right = {name: project.truth.read_slice(name, BAD) for name in ("disc", "dot")}
    spoilt = {
        "dropped": {"disc": np.zeros_like(right["disc"])},
        "of another slice": {name: project.truth.read_slice(name, BAD + 11) for name in right},
        "swapped": {"disc": right["dot"], "dot": right["disc"]},
    }[kind]
    for name, labels in spoilt.items():
        project.annotations.write_slice(name, BAD, labels)
    cristae.cross_validate(project, **dict(tiny) | {"updates": 60, "base_width": 4})
    run = cristae.doctor(project)
    assert pd.read_parquet(run.path / "labels.parquet")["z"].iloc[0] == BAD
    assert run.manifest["slices"][:1] == [BAD]

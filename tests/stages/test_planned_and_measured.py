"""What was planned against what stages really take, each in a process of its own."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_no_stage_takes_more_than_was_planned(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    row = importlib.import_module("benchmarks.pipeline_memory")
    found = row.measure(16, row.Scene((256, 224), 16.0, 30), tmp_path)
    above = {
        stage: (peak, found["planned_mb"][stage])
        for stage, peak in found["peak_mb"].items()
        if peak > found["planned_mb"][stage]
    }
    assert not above, "peak and plan in MB"
    assert 0.5 < found["disk_mb"] / found["planned_disk_mb"] < 2
    again = row.measure(16, row.Scene((256, 224), 16.0, 30), tmp_path)
    assert again == found, "what is finished is kept"

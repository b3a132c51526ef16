"""What the report tells of deciding, of tables written by hand."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, write_facts
from cristae.project import Project
from cristae.report.build import build_report
from cristae.report.quality import MOST, meter_figure

GRID = Grid((8, 32, 32), (20.0, 4.0, 4.0))


@pytest.fixture
def project(tmp_path) -> Project:
    project = Project.create(tmp_path / "bx1", GRID.voxel_size, ("mito",))
    image = create_volume(project.image_path, GRID, np.uint8, "image")
    image.write(GRID.box, np.random.default_rng(0).integers(90, 160, GRID.shape).astype(np.uint8))
    write_facts(project.image_path, {"digest": "0", "missing": []})
    return project


def _run(project, stage: str, ended: float, tables: dict[str, pd.DataFrame], **facts: object) -> None:
    folder = project.path / "runs" / f"{stage}-{'a' * 12}"
    folder.mkdir(parents=True)
    (folder / "settings.toml").touch()
    (folder / "manifest.json").write_text(
        json.dumps({"status": "finished", "stage": stage, "started": ended - 1, "ended": ended, "inputs": {}, **facts})
    )
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet", index=False)


def _flags(n: int) -> pd.DataFrame:
    box = dict(zip(("z_start", "y_start", "x_start", "z_stop", "y_stop", "x_stop"), (1, 2, 3, 4, 6, 9), strict=True))
    rows = [
        {"kind": "odd object", "class": "mito", "object_id": one, "z": -1, "severity": 0.8, "reason": "ragged", **box}
        for one in range(1, n)
    ]
    rows.append({"kind": "jump", "class": "mito", "object_id": 0, "z": 5, "severity": 0.1, "reason": "less", **box})
    return pd.DataFrame(rows)


CLASSES = pd.DataFrame(
    [
        {
            "class": "mito",
            "expected_dice_3d": 0.87,
            "dice_3d_low": 0.8,
            "dice_3d_high": 0.95,
            "coverage": 0.8,
            "n_left_out": 5,
        }
    ]
)
LABELS = pd.DataFrame(
    {"class": "mito", "z": [3, 6], "dice": [0.4, 0.9], "expected_dice": [0.9, 0.9], "suspicion": [12.0, 0.3]}
)
ADVICE = pd.DataFrame(
    {"rank": [1, 2], "z": [4, 2], "advised": [True, False], "why": ["2.1 times the usual doubt", "x"]}
)


def test_everything_that_was_decided_is_on_the_page(project):
    _run(project, "quality", 100, {"classes": CLASSES, "flags": _flags(3)}, expected_dice_3d={"mito": 0.87})
    _run(project, "doctor", 101, {"labels": LABELS})
    _run(project, "advise", 102, {"advice": ADVICE})
    _run(project, "evaluate", 103, {}, dice_3d={"mito": 0.85})
    page = build_report(project).read_text()
    assert "What to trust, mend and label next" in page and 'href="#quality"' in page
    assert "mito: 3D Dice about 0.87, by 80 % between 0.80 and 0.95" in page
    assert "mito 2" in page and "z 1–3, y 2–5, x 3–8" in page and "mito, slice 5" in page and "severe" in page
    doctored = page[page.index("Labels to look at again") : page.index("What to label next</h3>")]
    assert '<th scope="row">3<' in doctored and '<th scope="row">6<' not in doctored
    assert "2.1 times the usual doubt" in page and ">x</td>" not in page
    assert "Effort and what it brought" in page and "1970-01-01 00:01 UTC" in page and "0.850" in page
    assert "Dice against the number of labelled slices" in page


def test_of_many_flags_the_worst_are_shown(project):
    _run(project, "quality", 100, {"classes": CLASSES, "flags": _flags(60)})
    page = build_report(project).read_text()
    assert f"The {MOST} worst of 60" in page and page.count("ragged") == MOST


def test_without_flags_and_suspicions_it_says_so(project):
    _run(project, "quality", 100, {"classes": CLASSES, "flags": _flags(2).iloc[:0]})
    _run(project, "doctor", 101, {"labels": LABELS.iloc[1:]})
    page = build_report(project).read_text()
    assert "no object is unlike its class" in page and "no label disagrees" in page


def test_a_damaged_table_costs_no_report(project):
    _run(project, "quality", 100, {"classes": CLASSES, "flags": _flags(2)})
    (project.path / "runs" / f"quality-{'a' * 12}" / "flags.parquet").write_bytes(b"nothing")
    assert "3D Dice about 0.87" in build_report(project).read_text()


def test_without_any_of_it_there_is_no_section(project):
    assert "What to trust" not in build_report(project).read_text()


def test_the_meter_has_a_panel_for_each_basis():
    history = pd.DataFrame(
        {
            "basis": ["truth", "truth", "expected"],
            "class": "mito",
            "n_labelled_slices": [2, 4, 4],
            "dice": [0.5, 0.8, 0.7],
        }
    )
    assert meter_figure(history, ["mito"]).count("<path") > meter_figure(history.iloc[:2], ["mito"]).count("<path")

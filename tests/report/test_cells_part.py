"""The section on cells: colours that hold, slices well chosen, and the page of a project with cells."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pydantic import BaseModel

import cristae
from cristae.corrections import tools
from cristae.geometry import Grid
from cristae.io.ome_zarr import create_volume, write_facts
from cristae.palette import rgb
from cristae.project import Project
from cristae.report.build import build_report
from cristae.report.cells import middles
from cristae.report.layers import shown_layers
from cristae.report.objects import BASE, colours_of, draw_objects, parts_of
from cristae.report.rows import object_rows
from cristae.stages.choose import flow_adds_nothing
from cristae.stages.evaluate import evaluate
from report_pages import words_of

GRID = Grid((9, 20, 30), (10.0, 10.0, 10.0))
LABELLED = (0, 8)


class Settings(BaseModel):
    interior_threshold: float = 0.5


def cells() -> np.ndarray:
    found = np.zeros(GRID.shape, np.uint32)
    found[:, 2:18, 2:11] = 1
    found[:, 2:18, 11:20] = 70_000
    found[2:4, 4:6, 26:28] = 90
    return found


@given(
    arrays(np.uint32, (2, 4, 5), elements=st.sampled_from([0, 1, 2, 3, 4, 2**32 - 2])),
    st.integers(0, 1),
)
def test_neighbours_differ_and_every_id_has_one_colour(planes, turned):
    colours = colours_of(planes)
    assert set(colours) == set(np.unique(planes).tolist()) - {0}
    for line in [line for plane in planes for lines in (plane, plane.T) for line in lines]:
        beside = set(line.tolist()) - {0}
        assert len({colours[name] for name in beside}) == len(beside)
    assert colours_of(planes[::-1] if turned else planes) == colours


def test_more_objects_than_colours_share_them_when_far_apart():
    row = np.repeat(np.arange(1, 41), 20)[None].repeat(12, axis=0)
    colours = colours_of([row])
    assert set(colours.values()) <= set(BASE)
    assert all(colours[name] != colours[name + 1] for name in range(1, 40))


def test_an_id_has_its_colour_on_every_slice():
    planes = [np.zeros((40, 40), np.uint32) for _ in range(2)]
    planes[0][5:20, 5:20], planes[1][25:38, 20:38] = 7, 7
    planes[1][2:12, 2:12] = 2**32 - 2
    colours, grey = colours_of(planes), np.full((40, 40), 128, np.uint8)
    inside = []
    for plane, (y, x) in zip(planes, ((12, 12), (31, 29)), strict=True):
        picture = np.asarray(Image.open(io.BytesIO(draw_objects(grey, plane, (8.0, 8.0), colours, numbers=False))))
        assert picture.shape == (480, 480, 3)
        inside.append(picture[y * 12, x * 12].astype(int))
        assert np.abs(np.diff(picture[20 * 12, 1 * 12].astype(int))).max() < 12, "grey where there is nothing"
    assert np.abs(inside[0] - inside[1]).max() < 12
    towards = np.array(rgb(colours[7])) - np.mean(rgb(colours[7]))
    assert np.corrcoef(inside[0] - inside[0].mean(), towards)[0, 1] > 0.95


def test_large_objects_carry_their_number():
    plane = np.zeros((200, 200), np.uint32)
    plane[20:180, 20:180] = 8
    grey = np.full((200, 200), 90, np.uint8)
    with_it, without = (
        np.asarray(Image.open(io.BytesIO(draw_objects(grey, plane, (4.0, 4.0), colours_of([plane]), numbers=numbers))))
        for numbers in (True, False)
    )
    assert with_it[220:260, 220:260].max() > 220 > without[220:260, 220:260].max()


def test_parts_are_numbered_and_join_at_corners():
    mask = np.array([[1, 0, 0, 1], [0, 1, 0, 1]], bool)
    parts = parts_of(mask)
    assert parts.max() == 2 and (parts > 0).tolist() == mask.tolist()
    assert parts[0, 0] == parts[1, 1] != parts[0, 3]


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30), max_size=10), st.integers(1, 4))
def test_middles_lie_between_labelled_slices(labelled, missing, n):
    labelled = sorted(labelled)
    found = middles(labelled, 31, sorted(missing), n)
    assert len(found) <= n
    assert [z for z, _ in found] == sorted({z for z, _ in found})
    for z, distance in found:
        assert z not in labelled and z not in missing
        assert not labelled or distance == min(abs(z - other) for other in labelled)


def test_the_middle_of_a_gap_is_its_middle():
    assert middles([0, 20, 40, 60], 61, [30], 3) == [(10, 10), (29, 9), (50, 10)]
    assert middles([4], 9, [], 3) == [(2, 2), (6, 2)]


def test_flow_adds_nothing_only_where_it_does_not():
    assert flow_adds_nothing(pd.Series({"mask": 0.9, "mask+flow": 0.9}))
    assert flow_adds_nothing(pd.Series({"mask": 0.9, "mask+boundary": 0.95, "mask+flow": 0.951}))
    assert not flow_adds_nothing(pd.Series({"mask": 0.9, "mask+flow": 0.95}))
    assert not flow_adds_nothing(pd.Series({"mask": 0.9, "paths": 0.95}))


@pytest.fixture
def project(tmp_path):
    project = Project.create(tmp_path / "bx1", GRID.voxel_size, ("cell",))
    noise = np.random.default_rng(0).integers(90, 160, GRID.shape).astype(np.uint8)
    create_volume(project.image_path, GRID, np.uint8, "image").write(GRID.box, noise)
    write_facts(project.image_path, {"digest": "0"})
    project.annotations.write_slices("cell", [(z, cells()[z]) for z in LABELLED])
    return project


def give_cells(project, tried=True):
    predicted = project.run("predict", Settings(), {})
    with project.record(predicted, Settings(), {}):
        layer = create_volume(predicted.path / "cell_interior.ome.zarr", GRID, np.uint8, "probability")
        layer.write(GRID.box, np.where(cells() > 0, np.uint8(200), np.uint8(20)))
        predicted.update(classes=["cell_interior"])
    inputs = {"predict": f"{predicted.id} of {predicted.manifest['ended']}"}
    run = project.run("cells", Settings(), inputs)
    with project.record(run, Settings(), inputs):
        create_volume(run.path / "cell.ome.zarr", GRID, np.uint32, "labels").write(GRID.box, cells())
        if tried:
            rows = [("paths", 4, 0.97, 0.91, 1.0), ("mask", 4, 0.9, 0.5, 0.5), ("mask+flow", 4, 0.8, 0.4, 2.0)]
            table = pd.DataFrame(rows, columns=["method", "z", "dice", "worst", "seconds"])
            table.to_csv(run.path / "methods.csv", index=False)
        run.update(name="cell", learnt=["cell"], method="paths", labelled_slices=list(LABELLED))
    return run


def give_tracks(project, separated, n_islands=12):
    inputs = {"cells": f"{separated.id} of {separated.manifest['ended']}"}
    run = project.run("track", Settings(), inputs)
    with project.record(run, Settings(), inputs):
        create_volume(run.path / "cell.ome.zarr", GRID, np.uint32, "labels").write(GRID.box, cells())
        rows = [
            {"object": 500 + i, "kind": "island", "first_slice": 2, "last_slice": 3, "n_voxels": 1000 * i + 7}
            for i in range(n_islands)
        ]
        table = pd.DataFrame([*rows, {**rows[0], "object": 1, "kind": "labelled"}]).assign(touches_edge=True)
        table.to_csv(run.path / "objects.csv", index=False)
        conflict = {"object": 1, "next_object": 70_000, "slice": 4, "next_slice": 5, "overlap_px": 1234, "iou": 0.75}
        pd.DataFrame([conflict]).to_csv(run.path / "conflicts.csv", index=False)
        run.update(name="cell", n_objects=3, n_lonely_islands=n_islands, n_new_bodies=0, n_conflicts=1)


def page_of(project):
    page = build_report(project)
    source = words_of(page)
    assert "http://" not in source and "https://" not in source
    assert set(re.findall(r'src="([^"]+)"', source)) == {"data:,"}
    return source


def section_of(source):
    found = re.search(r'<section id="cells">.*?</section>', source, re.DOTALL)
    assert found
    return found[0]


def test_without_cells_there_is_no_section(project):
    source = page_of(project)
    assert 'id="cells"' not in source and "#cells" not in source
    assert "cells have not been separated yet" in source


def test_cells_without_tracks_or_truth_are_shown(project):
    give_cells(project, tried=False)
    source = page_of(project)
    section = section_of(source)
    assert 'href="#cells"' in source and "cells have not been followed yet" in source
    assert "no others were tried" in section and "Methods tried" not in section
    assert "Slice 4 before" in section and "Slice 4 after: 2 objects" in section
    assert "How good are the cells?" not in section and "Tracking" not in section


def give_cells_and_truth(project):
    """Tracked cells, and a truth in which two of them are one."""
    separated = give_cells(project)
    give_tracks(project, separated)
    truth = cells()
    truth[truth == 90] = 1
    project.truth.write_slices("cell", list(enumerate(truth)))


def test_all_of_it(project):
    give_cells_and_truth(project)
    run = evaluate(project)
    scores = json.loads((run.path / "scores.json").read_text())["cells"]
    source = page_of(project)
    section = section_of(source)
    assert "Flow adds nothing here" in section and "paths (used)" in section
    assert re.findall(r'<th scope="row">(paths|mask|mask\+flow)\b', section) == ["paths", "mask", "mask"]
    for key in ("dice_mean", "dice_worst", "pq", "ap50", "voi_split", "voi_merge", "arand", "island_share"):
        assert f"{scores[key]:.3f}" in section
    assert "Mean Dice of cells in every slice" in section
    assert [f"{1000 * i + 7:,}" for i in range(11, 1, -1)] == re.findall(r"<td class=\"n\">([\d,]+007)</td>", section)
    assert "1,234" in section and "0.750" in section
    assert "How good is it?" not in source, "no masks were scored"


def test_what_people_corrected_is_what_is_shown(project):
    give_cells_and_truth(project)
    before = json.loads((evaluate(project).path / "scores.json").read_text())["cells"]
    assert "correction" not in page_of(project)
    with cristae.correct(project) as opened:
        tools.merge(opened, [1, 90])
        tools.paint(opened, 6, [(10, 28)], 501, radius=0)  # of all islands in the table, one is there
    source = page_of(project)
    assert (
        "cell is shown without its last corrections (2 hold)" in source and "correct apply bx1 --layer cell" in source
    )
    assert "before corrections" not in source
    cristae.apply_corrections(project)
    source = page_of(project)
    assert "cells were corrected since they were scored" in source and "without its last" not in source
    assert "Shown as people corrected it: cell with 2 corrections." in source
    run = evaluate(project)
    after = json.loads((run.path / "scores.json").read_text())["cells"]
    assert after["dice_mean"] > before["dice_mean"]
    source = page_of(project)
    section = section_of(source)
    assert "corrected since they were scored" not in source
    assert "Cells are shown with 2 corrections" in section and "Slice 4 after: 2 objects" in section
    row = section.partition("Mean Dice per cell")[2].partition("</tr>")[0]
    assert f"{after['dice_mean']:.3f}" in row and f"{before['dice_mean']:.3f}" in row
    assert "Dashed lines: before corrections." in section
    assert "those that are left are listed" in section
    assert re.findall(r'<th scope="row" class="n">(\d+)</th><td class="n">2–3', section) == ["501"]
    assert "By hand, cell was corrected in 2 edits." in source
    told = f"the mean Dice of cells was {after['dice_mean']:.3f} ({before['dice_mean']:.3f} before corrections by hand)"
    assert told in source
    shown = shown_layers(project)
    assert set(np.unique(shown.layers[0].levels[0].read())) == {0, 1, 501, 70_000}
    rows = object_rows(project, shown, 1e-6).table.set_index("object_id")["n_voxels"]
    assert rows.to_dict() == {1: int(np.isin(cells(), (1, 90)).sum()), 501: 1, 70_000: int((cells() == 70_000).sum())}


def test_scores_of_earlier_cells_are_named(project):
    separated = give_cells(project)
    project.truth.write_slices("cell", list(enumerate(cells())))
    evaluate(project)
    assert "scores of cells are not those" not in page_of(project)
    give_tracks(project, separated)
    assert "scores of cells are not those" in page_of(project)


def test_damaged_tables_cost_their_part_only(project):
    separated = give_cells(project)
    give_tracks(project, separated)
    (separated.path / "methods.csv").write_bytes(b"\xff\xfe\x00")
    (project.latest("track").path / "objects.csv").unlink()
    section = section_of(page_of(project))
    assert "no others were tried" in section and "Conflicts between labelled slices" in section


def test_what_cells_were_made_from_and_has_changed_is_named(project):
    separated = give_cells(project)
    give_tracks(project, separated)
    assert "Please note" not in page_of(project)
    separated.update(inputs={**separated.manifest["inputs"], "labels": "others", "predict": "another"}, ended=1.0)
    source = page_of(project)
    for words in ("labels have changed since the cells", "earlier prediction", "separated anew since"):
        assert words in source

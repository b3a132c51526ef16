"""The section on measurements: what it tells, with one object and with thousands, and what it leaves out."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cristae.report.build import build_report
from cristae.report.strips import Panel, Strip, draw_strips, save, thinned
from measured_projects import MEANINGS, measured_objects, measured_project
from report_pages import words_of


def page_of(project):
    page = words_of(build_report(project))
    for name in re.findall(r'(?:src|href)="([^"#:,]+)"', page):
        assert (project.path / "report" / name).exists(), name
    assert not re.search(r'(src|href)="https?:', page), "readable offline"
    return page


def section(page):
    page = page[page.index('<section id="measurements">') :]
    return page[: page.index("</section>")]


def dictionary(page):
    found = re.search(r'<section id="dictionary">.*?</section>', page, re.DOTALL)
    return found[0] if found else ""


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    objects = measured_objects("bx1", few=True)
    project = measured_project(tmp_path_factory.mktemp("projects"), "bx1", objects)
    run = project.latest("measure")
    wrong = pd.DataFrame(
        {"class": "nucleolus", "object_id": range(1, 31), "kind": ["no parent"] * 20 + ["across"] * 10}
    )
    wrong.assign(share_outside=1 / 3).to_csv(run.path / "violations.csv", index=False)
    page = page_of(project)
    return project, objects, section(page) + dictionary(page)


def test_numbers_of_objects_and_medians(measured):
    _, objects, page = measured
    for kind, rows in objects.groupby("class"):
        n, cut = len(rows), int(rows["touches_edge"].sum())
        assert f'<th scope="row">{kind}</th><td class="n">{n}</td><td class="n">{cut}</td>' in page
    volumes = objects.loc[objects["class"] == "mitochondrion", "volume_um3"].dropna()
    low, middle, high = np.quantile(volumes, [0.25, 0.5, 0.75])
    assert f"<strong>{middle:.3g}</strong>" in page
    assert f"{low:.3g} – {high:.3g}<br>of {len(volumes)}" in page
    assert "µm³" in page


def test_violations_dictionary_and_tables(measured):
    project, _, page = measured
    assert "30 in all: 20 no parent, 10 across." in page
    assert page.count("<td>nucleolus</td>") == 20, "the first of them"
    assert f"({len(MEANINGS)} columns)" in page
    assert "how much of its convex hull the object fills" in page
    assert f'href="../runs/{project.latest("measure").path.name}/objects.csv"' in page
    assert "relations.csv" not in page, "there is none"


def test_what_cells_hold_and_strips_are_drawn(measured):
    _, _, page = measured
    assert "What 9 cells hold: " in page
    assert "A bar per cell" in page
    assert "Size and shape: strips of volume, solidity, sphericity" in page
    assert "evenly spread" not in page, "nothing is thinned"


def test_thousands_of_objects_are_thinned_and_it_says_so(tmp_path):
    numbers = {"cell": 80, "mitochondrion": 5000}
    project = measured_project(tmp_path, "large", measured_objects("large", numbers=numbers, few=True))
    page = section(page_of(project))
    assert "300 are drawn, evenly spread" in page
    assert "5,000" in page
    assert "A point per cell" in page
    figures = [path for path in (project.path / "report").glob("figure-*.svg")]
    assert max(path.stat().st_size for path in figures) < 2**20


def test_one_object(tmp_path):
    objects = measured_objects("one", numbers={"nucleus": 1}, few=True)
    page = section(page_of(measured_project(tmp_path, "one", objects)))
    assert "What cells hold" not in page
    assert "<strong>" in page


def test_no_objects(tmp_path):
    page = section(page_of(measured_project(tmp_path, "none", measured_objects("none", numbers={}))))
    assert "No objects were found." in page
    assert "figure" not in page


def test_columns_of_others_are_shown_as_they_are(tmp_path):
    objects = measured_objects("own", numbers={"<b>golgi": 3}, few=True)[["class", "object_id", "n_voxels"]]
    objects["rough_ness"] = [1.0, 2.0, 4.0]
    page = section(page_of(measured_project(tmp_path, "own", objects)))
    assert "rough ness" in page
    assert "<strong>2</strong>" in page
    assert "&lt;b&gt;golgi" in page
    assert "<b>golgi" not in page


def test_what_has_changed_or_cannot_be_read_is_told(tmp_path):
    project = measured_project(tmp_path, "old", inputs={"image": "an earlier one"})
    assert "What was measured has changed since" in section(page_of(project))
    (project.latest("measure").path / "objects.parquet").unlink()
    page = section(page_of(project))
    assert "objects.parquet is missing" in page
    assert "<table>" not in page


def test_classes_without_objects_problems_and_a_plain_dictionary(tmp_path):
    objects = measured_objects("some", numbers={"cyte": 2, "nucleus": 3}, few=True)
    objects["parent_cell_id"] = pd.array([None, None, 1, 1, 0], "Int64")
    facts = {"classes": ["cyte", "golgi", "nucleus"], "cell": "cyte", "problems": ["roughness failed on 2 objects"]}
    project = measured_project(tmp_path, "some", objects, **facts)
    path = project.latest("measure").path / "dictionary.json"
    path.write_text(json.dumps({"solidity": {"unit": "", "meaning": "how full it is"}}))
    whole = page_of(project)
    page = section(whole)
    assert '<th scope="row">golgi</th><td class="n">0</td>' in page
    assert "roughness failed on 2 objects" in page
    assert "What 2 cells hold: 2 nucleus" in page
    assert "how full it is" in dictionary(whole)
    path.write_text("{")
    assert "Data dictionary" not in page_of(project)


def test_no_section_without_measurements(tmp_path):
    project = measured_project(tmp_path, "bare")
    run = project.latest("measure")
    (run.path / "manifest.json").write_text(json.dumps({**run.manifest, "status": "interrupted"}))
    assert "measurements" not in page_of(project)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=60), st.integers(2, 40))
def test_thinning_keeps_the_ends_and_the_spread(values, most):
    values = np.array(values)
    kept = values[thinned(values, most)]
    assert len(kept) == min(len(values), most)
    assert (kept.min(), kept.max()) == (values.min(), values.max())
    if most > 10 and len(values) > most:
        rank = np.searchsorted(np.sort(values), np.median(kept)) / len(values)
        assert rank <= 0.5 + 2 / most


def test_strips_are_the_same_each_time_and_bear_odd_values():
    values = [np.array([1.0, np.nan, np.inf, 3.0]), np.full(5, np.nan), np.zeros(4), np.array([1e6])]
    strips = tuple(
        Strip(name, one, np.arange(len(one)) % 2 == 0, "#0072B2") for name, one in zip("abc$", values, strict=True)
    )
    panels = [Panel("a long title of a feature with its unit", "µm³", strips, "p 0.001 *"), Panel("b", "", strips[:1])]
    assert save(draw_strips(panels), "svg") == save(draw_strips(panels), "svg")
    assert save(draw_strips(panels), "png").startswith(b"\x89PNG")


def test_the_line_is_the_median_of_all_values_not_of_those_drawn():
    values = np.concatenate([np.zeros(4000), np.linspace(1, 2, 3000)])
    figure = draw_strips([Panel("a", "", (Strip("s", values, np.zeros(7000, bool), "#0072B2"),))])
    lines = [line.get_ydata() for line in figure.axes[0].get_lines()]
    assert any(np.allclose(line, 0) for line in lines), "the median"
    assert any(np.allclose(line, np.quantile(values, [0.25, 0.75])) for line in lines), "the quartiles"
    assert sum(len(one.get_offsets()) for one in figure.axes[0].collections) == 300

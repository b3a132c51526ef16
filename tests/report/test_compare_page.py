"""The page of a comparison: all that it refers to is there, it reads offline and without the projects."""

from __future__ import annotations

import re
import shutil

import pytest

from cristae.errors import DataError
from cristae.report.compare import build_comparison
from cristae.stages.compare import CompareSettings, compare
from measured_projects import measured_objects, measured_project

QUICK = CompareSettings(n_permutations=1999)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("projects")
    projects = [
        measured_project(root, name, measured_objects(name, seed, shift, few=True))
        for seed, (name, shift) in enumerate({"PTT <i>": 7.0, "Bx2": 0.0, "Bx4": 0.0}.items())
    ]
    out = compare(projects, root / "out", settings=QUICK)
    for project in projects:
        shutil.rmtree(project.path)
    return out


def test_the_page_is_complete(folder):
    page = build_comparison(folder).read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="https?:', page)
    for name in re.findall(r'(?:src|href)="([^"#:]+)"', page):
        assert (folder / name).is_file(), name
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{anchor}"' in page
    assert "PTT &lt;i&gt;, Bx2 and Bx4 compared" in page
    assert "<i>" not in page
    assert "nucleus, solidity: higher in PTT &lt;i&gt; than in Bx2" in page
    assert "not independent replicates" in page
    assert "Features in which any of the groups differs" in page
    assert len(list(folder.glob("figure-*.svg"))) == len(list(folder.glob("figure-*.png"))) == page.count("<img")


def test_made_again_it_is_the_same(folder):
    build_comparison(folder)
    first = {path.name: path.read_bytes() for path in folder.glob("figure-*")}
    (folder / "figure-99-99.svg").write_text("of an earlier one")
    build_comparison(folder)
    assert {path.name: path.read_bytes() for path in folder.glob("figure-*")} == first


def test_a_folder_of_something_else(tmp_path, folder):
    with pytest.raises(DataError, match="no comparison that can be read"):
        build_comparison(tmp_path)
    (tmp_path / "manifest.json").write_text('{"stage": "compare"}')
    with pytest.raises(DataError, match="was not finished"):
        build_comparison(tmp_path)

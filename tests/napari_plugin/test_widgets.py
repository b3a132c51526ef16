"""What the widgets do, without a screen: Qt draws nothing, and the viewer is a stand-in."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import cristae

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "stages"))

from corrected_projects import found_project  # noqa: E402


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    for name in ("qtpy", "PySide6"):
        if not find_spec(name):
            pytest.skip(f"needs {name}")
    return found_project(tmp_path_factory.mktemp("widgets") / "bx1")


@pytest.mark.parametrize(
    "check",
    [
        "an_empty_list",
        "nothing_to_correct",
        "a_newer_result",
        "applying",
        "writing_fails",
        "a_worker_that_cannot_start",
        "proofreading",
        "labels_wait_for_a_stage",
    ],
)
def test_widgets_without_a_screen(ready, tmp_path, check):
    shutil.copytree(ready.path, tmp_path / "bx1")
    project = cristae.Project.open(tmp_path / "bx1")
    words = [sys.executable, str(HERE / "stand_in.py"), str(project.path), check]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]

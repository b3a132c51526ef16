"""The plugin at a real window of napari, under Xvfb, with a mouse; and what must hold without a window."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

import cristae
from cristae.napari_plugin.window import WIDGETS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGE = ROOT / "src" / "cristae" / "napari_plugin"
sys.path.insert(0, str(HERE.parent / "stages"))

from cell_projects import QUICK, cell_project, predicted, three_cells  # noqa: E402


@pytest.fixture(scope="module")
def display():
    """A screen of its own, that nobody sees."""
    missing = [name for name in ("napari", "PySide6") if not find_spec(name)]
    if missing or not shutil.which("Xvfb"):
        pytest.skip(f"needs {', '.join([*missing, *([] if shutil.which('Xvfb') else ['Xvfb'])])} to open a window")
    reading, writing = os.pipe()
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", "1500x1000x24", "-nolisten", "tcp"]
    server = subprocess.Popen(command, pass_fds=[writing], stderr=subprocess.DEVNULL)
    os.close(writing)
    with os.fdopen(reading) as told:
        number = told.readline().strip()
    try:
        if not number:
            pytest.skip("Xvfb did not start")
        yield f":{number}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    labels = three_cells()
    made = cell_project(tmp_path_factory.mktemp("window") / "bx1", labels, (0, 4, 8), maps=())
    dots = np.zeros(labels.shape, np.uint8)
    dots[2:5, 10:16, 10:16] = 255
    dots[2:5, 30:36, 40:46] = 255
    maps = {"cell_interior": np.where(labels > 0, 230, 10), "cell_boundary": np.where(labels > 0, 10, 200), "dot": dots}
    predicted(made, maps)
    made.add_classes(("dot",))
    cristae.cells(made, method="paths", **QUICK)
    cristae.track(made, smallest_body_um2=0.002)
    cristae.objects(made, smallest_um3=0.0, classes=["dot"])
    return made


@pytest.mark.slow
def test_people_can_look_label_train_and_correct(project, display, tmp_path):
    surroundings = {**os.environ, "DISPLAY": display, "QT_QPA_PLATFORM": "xcb", "OMP_NUM_THREADS": "1"}
    words = [
        sys.executable,
        str(HERE / "gui_session.py"),
        str(project.path),
        str(tmp_path),
        "scene,correct,label,learn",
    ]
    done = subprocess.run(words, env=surroundings, capture_output=True, text=True, timeout=600, check=False)
    assert (tmp_path / "checks.json").is_file(), done.stderr[-3000:]
    checks = json.loads((tmp_path / "checks.json").read_text())
    assert {name: found for name, found in checks.items() if found is not True} == {}
    assert len(checks) > 40
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(pictures) == 8
    for path in pictures:  # a window without GL is black
        assert np.asarray(Image.open(path).convert("L")).std() > 15, path.name


def test_the_manifest_names_what_is_there():
    manifest = yaml.safe_load((PACKAGE / "napari.yaml").read_text())
    for command in manifest["contributions"]["commands"]:
        module, _, name = command["python_name"].partition(":")
        source = (ROOT / "src" / Path(*module.split("."))).with_suffix(".py").read_text()
        assert f"class {name}(" in source or f"def {name}(" in source
    shown = [widget["display_name"] for widget in manifest["contributions"]["widgets"]]
    assert sorted(shown) == sorted(WIDGETS)
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["napari.manifest"]
    assert entry == {"cristae": "cristae.napari_plugin:napari.yaml"}


def test_npe2_accepts_the_manifest():
    pytest.importorskip("npe2", reason="npe2 is not installed (extra napari)")
    path = str(PACKAGE / "napari.yaml")
    code = f"from npe2 import PluginManifest; print(PluginManifest.from_file({path!r}).name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "cristae", done.stderr


_SEARCH = """
import sys, threading, time
from qtpy.QtCore import QCoreApplication, QTimer
from cristae.errors import DataError
from cristae.napari_plugin.background import Background

app, said, here = QCoreApplication(sys.argv), [], threading.get_ident()

def work(progress):
    assert threading.get_ident() != here
    for n in range(4):
        time.sleep(0.15)
        progress(n, 4)
    return 7

def fail(progress):
    raise DataError("no")

def told(*what):
    assert threading.get_ident() == here
    said.append(what)

one = Background(work, told, lambda found: told("end", found))
other = Background(fail, told, lambda found: told(str(found)))
stopped = Background(work, lambda *_: sys.exit(3), lambda _: sys.exit(3))
stopped.stop()
QTimer.singleShot(1500, app.quit)
app.exec()
assert ("no",) in said and said[-1] == ("end", 7) and len(said) >= 4, said
"""


def test_reading_beside_the_window_is_told_in_its_thread():
    for name in ("qtpy", "PySide6"):
        if not find_spec(name):
            pytest.skip(f"needs {name}")
    done = subprocess.run([sys.executable, "-c", _SEARCH], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


def test_everything_but_the_widgets_loads_without_qt_and_napari():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('qtpy', 'PySide6', 'PyQt6', 'napari', 'vispy')))\n"
        "import cristae.api, cristae.cli, cristae.commands.view, cristae.napari_plugin.reader\n"
        "import cristae.napari_plugin.window, cristae.napari_plugin.worker, cristae.napari_plugin.painting\n"
        "import cristae.stages.labelling, cristae.viewing.browser, cristae.viewing.live"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("platform", "said"),
    [("offscreen", "napari could not open a window"), ("xcb", "the display :99999 cannot be opened")],
    ids=["no GL", "no server"],
)
def test_a_display_that_cannot_show_windows_is_a_sentence(project, platform, said):
    if not find_spec("napari") or not find_spec("PySide6"):
        pytest.skip("napari is not installed (extra napari)")
    surroundings = {**os.environ, "DISPLAY": ":99999", "QT_QPA_PLATFORM": platform}
    words = [sys.executable, "-c", "from cristae.cli import main; main()", "view", str(project.path)]
    done = subprocess.run(words, env=surroundings, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 4, done.stderr
    assert said in done.stderr and "--neuroglancer" in done.stderr

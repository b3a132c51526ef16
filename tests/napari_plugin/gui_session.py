"""Work at a window of napari with a mouse, as people do; started by the tests in a process of its own.

``python gui_session.py PROJECT FOLDER`` leaves pictures and ``checks.json`` in the folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import napari
import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QPushButton

from cristae.napari_plugin import panel
from cristae.napari_plugin.window import WIDGETS, open_window
from cristae.project import Project
from cristae.stages.correcting import open_corrections

CHECKS: dict[str, object] = {}


def check(name: str, holds: object, **said: object) -> None:
    CHECKS[name] = bool(holds) if not said or holds else {"failed": {key: str(value) for key, value in said.items()}}


def settle(seconds: float = 0.2) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)


class Hand:
    """A hand with a mouse over the canvas."""

    def __init__(self, viewer):
        self.viewer = viewer
        self.canvas = viewer.window._qt_viewer.canvas.native

    def place(self, y: float, x: float, layer) -> QPoint:
        """Return where a pixel of the slice that is shown lies on the canvas."""
        world = layer.data_to_world((self.viewer.dims.current_step[0], y, x))
        middle, zoom = self.viewer.scene.camera.center, self.viewer.scene.camera.zoom
        return QPoint(
            round((world[2] - middle[2]) * zoom + self.canvas.width() / 2),
            round((world[1] - middle[1]) * zoom + self.canvas.height() / 2),
        )

    def drag(self, places, layer):
        points = [self.place(y, x, layer) for y, x in places]
        QTest.mouseMove(self.canvas, points[0])
        settle(0.05)
        QTest.mousePress(self.canvas, Qt.LeftButton, Qt.NoModifier, points[0])
        for point in points[1:]:
            settle(0.02)
            move(self.canvas, point)
        settle(0.05)
        QTest.mouseRelease(self.canvas, Qt.LeftButton, Qt.NoModifier, points[-1])
        settle(0.2)

    def click(self, y, x, layer):
        self.drag([(y, x)], layer)

    def key(self, key, modifier=Qt.NoModifier):
        self.canvas.setFocus()
        QTest.keyClick(self.canvas, key, modifier)
        settle(0.2)


def move(widget, point) -> None:
    """Move the mouse with the button held, which `QTest.mouseMove` does not."""
    place = QPointF(point)
    event = QMouseEvent(
        QEvent.MouseMove, place, QPointF(widget.mapToGlobal(point)), Qt.LeftButton, Qt.LeftButton, Qt.NoModifier
    )
    QApplication.sendEvent(widget, event)


def press(widget, name: str) -> None:
    button = widget.findChild(QPushButton, name)
    QTest.mouseClick(button, Qt.LeftButton)
    settle(0.3)


def picture(viewer, folder: Path, name: str) -> np.ndarray:
    settle(0.5)
    viewer.window._qt_window.grab().save(str(folder / f"{name}.png"))
    return np.asarray(viewer.screenshot(canvas_only=True, flash=False))


def widget_of(viewer, name):
    return viewer.window.add_plugin_dock_widget("cristae", name)[1]


def scene(viewer, project):
    names = [layer.name for layer in viewer.layers]
    check(
        "all layers are there", {"image", "dot", "cell", "dot/objects", "annotations/cell"} <= set(names), names=names
    )
    scales = {tuple(layer.scale) for layer in viewer.layers}
    check("scales are those of the project", scales == {(10.0, 10.0, 10.0)}, scales=scales)
    units = {str(layer.units[0]) for layer in viewer.layers}
    check("units are nm", units == {"nanometer"}, units=units)
    check("cells are seen", viewer.layers["cell"].visible and viewer.layers["image"].visible)


def look_for_ids(widget, layer, corrections):
    """Let it look for the highest id, slowly, while one paints."""
    (corrections.folder / "highest.json").unlink()
    layer.selected_label = 1
    look, threads = panel.highest_id, []

    def slow(volume, slices, progress):
        threads.append(threading.current_thread())
        for n in range(15):
            time.sleep(0.1)
            progress(n, 15)
        return look(volume, slices, progress)

    panel.highest_id = slow
    press(widget, "New id")
    said = widget.told.line.text()
    check("the window waits for no search", layer.selected_label == 1 and "looking at the ids" in said, said=said)
    check("the search is in another thread", threads and threads[0] is not threading.main_thread())
    press(widget, "New id")
    check("a second search is not begun", len(threads) == 1)
    settle(2.0)
    check("and then the id is there", layer.selected_label == 70_002, told=widget.told.line.text())
    panel.highest_id = look


def correct(viewer, project, folder):
    widget = widget_of(viewer, "Correct")
    hand = Hand(viewer)
    viewer.dims.set_current_step(0, 4)
    press(widget, "List layers")
    check("layers to correct are offered", widget.layers.itemText(0) == "cell")
    press(widget, "Correct")
    check("a layer is open", widget.painting is not None, told=widget.told.line.text())
    layer, corrections = widget.painting.layer, widget.painting.corrections
    check("it is the active layer", viewer.layers.selection.active == layer)
    original = open_before = widget.painting.live[4].copy()
    before = picture(viewer, folder, "1-open")

    layer.mode, layer.selected_label, layer.brush_size = "paint", 77, 5
    hand.drag([(50, 10), (50, 20), (52, 30)], layer)
    painted = widget.painting.live[4] == 77
    check(
        "a stroke is one edit on disk", [e.kind for e in corrections.entries] == ["paint"], entries=corrections.entries
    )
    check("the stroke lies where the mouse was", painted[50, 10] and painted[50, 15] and painted[51, 25])
    check("and nowhere else", not painted[:45].any() and not painted[56:].any() and painted.sum() < 200)
    check("other slices are as they were", not (widget.painting.live[3] == 77).any())
    after = picture(viewer, folder, "2-painted")
    check("the stroke is seen", (before != after).any())
    again = open_corrections(project, "cell", read_only=True)
    check("another process sees it at once", (again.read(again.original.grid.box)[4] == 77).sum() == painted.sum())

    press(widget, "New id")
    check("a new id is one that nobody has", layer.selected_label == 70_002, label=layer.selected_label)
    look_for_ids(widget, layer, corrections)
    layer.mode = "erase"
    hand.drag([(20, 5), (20, 40)], layer)
    check("the eraser erases", not widget.painting.live[4][20, 12:38].any())
    hand.key(Qt.Key_Z, Qt.ControlModifier)
    check("Ctrl-Z takes it back", (widget.painting.live[4][20] == open_before[20]).all())
    check("and the journal knows", corrections.entries[-1].kind == "undo")
    hand.key(Qt.Key_Z, Qt.ControlModifier | Qt.ShiftModifier)
    check("Ctrl-Shift-Z does it again", not widget.painting.live[4][20, 12:38].any())
    press(widget, "Undo")
    press(widget, "Undo")
    check("the button undoes, too", np.array_equal(widget.painting.live[4], original))

    layer.mode, layer.selected_label = "fill", 5
    hand.click(52, 58, layer)
    check("the bucket fills", set(np.unique(widget.painting.live[4])) == {0, 5, 300, 70_001})
    press(widget, "Undo")

    layer.mode = "pan_zoom"
    widget.pick.setChecked(True)
    hand.click(20, 12, layer)
    hand.click(20, 40, layer)
    check("clicks pick objects", widget.ids.text() == "300 70001", ids=widget.ids.text())
    press(widget, "Merge")
    check("they are merged", set(np.unique(widget.painting.live[4])) == {0, 9, 300})
    picture(viewer, folder, "3-merged")
    widget.pick.setChecked(False)
    press(widget, "Seeds")
    seeds = next(one for one in viewer.layers if one.metadata.get("cristae_seeds"))
    viewer.layers.selection.active = seeds
    hand.click(22, 10, layer)
    hand.click(22, 44, layer)
    check("two seeds were clicked", len(seeds.data) == 2, seeds=seeds.data)
    picture(viewer, folder, "4-seeds")
    press(widget, "Split")
    now = widget.painting.live[4]
    check("the cell is split", now[22, 10] == 300 and now[22, 44] not in (0, 300), told=widget.told.line.text())
    press(widget, "Split")
    check("without seeds it says why not", "point in each of two parts" in widget.told.line.text())
    picture(viewer, folder, "5-split")

    widget.pick.setChecked(True)
    layer.selected_label = 12
    hand.click(52, 58, layer)
    press(widget, "Reassign island")
    check("an island is reassigned", widget.painting.live[4][52, 58] == 12, told=widget.told.line.text())
    widget.complete.setChecked(True)
    press(widget, "Feed slice")
    fed = project.annotations.read_ids("cell", 4)
    check(
        "a slice is fed back",
        4 in project.annotations.complete_slices("cell") and np.array_equal(fed, widget.painting.live[4]),
    )
    press(widget, "Apply")
    begun = time.monotonic()
    while widget._writing is not None and time.monotonic() - begun < 60:
        settle(0.1)
    check("corrections are applied", project.runs("correct") and project.runs("correct")[-1].finished)
    layer.mode, layer.selected_label = "paint", 78
    widget.pick.setChecked(False)
    hand.drag([(60, 10), (60, 20)], layer)
    check("and one can go on", (widget.painting.live[4] == 78).any())
    press(widget, "Stop")
    check("the layer is closed", widget.painting is None and layer not in viewer.layers)
    with open_corrections(project, "cell") as opened:
        check("all is kept", (opened.read(opened.original.grid.box)[4] == 78).any())


def label(viewer, project, folder):
    widget = widget_of(viewer, "Label slices")
    hand = Hand(viewer)
    widget.classes.setEditText("mito")
    viewer.dims.set_current_step(0, 2)
    press(widget, "Label")
    check("a new class can be labelled", widget.painting is not None, told=widget.told.line.text())
    layer = widget.painting.layer
    layer.mode, layer.brush_size = "paint", 6
    hand.drag([(30, 60), (34, 66)], layer)
    check("labels are a draft at first", "mito" not in project.annotations.classes)
    viewer.dims.set_current_step(0, 3)
    settle()
    stored = project.annotations.read_slice("mito", 2)
    check("a slice that is left is saved", stored[30, 60] == 1 and set(np.unique(stored)) == {1, 255})
    check("it is not complete", project.annotations.complete_slices("mito") == ())
    hand.drag([(10, 60), (10, 66)], layer)
    QTest.mouseClick(widget.complete, Qt.LeftButton, Qt.NoModifier, QPoint(8, widget.complete.height() // 2))
    settle()
    stored = project.annotations.read_slice("mito", 3)
    check("a complete slice has background", set(np.unique(stored)) == {0, 1}, told=widget.told.line.text())
    check("and is known as complete", project.annotations.complete_slices("mito") == (3,))
    viewer.dims.set_current_step(0, 2)
    settle()
    check("the box follows the slice", not widget.complete.isChecked())
    viewer.dims.set_current_step(0, 3)
    settle()
    check("and back", widget.complete.isChecked())
    picture(viewer, folder, "6-labels")
    layer.selected_label = 7
    hand.drag([(50, 60), (50, 66)], layer)
    check(
        "a mask takes no other label", "0 to 1" in widget.told.line.text() and not (widget.painting.live[3] == 7).any()
    )
    press(widget, "New id")
    check("and goes back to its own", layer.selected_label == 1)
    press(widget, "Stop")
    check("the draft is gone", not (project.path / "corrections" / "annotations" / "mito").exists())
    check("the class is in the project", "mito" in project.classes)


def learn(viewer, project, folder):
    widget = widget_of(viewer, "Train and predict")
    press(widget, "Train")
    check("a stage is at work", widget.running, told=widget.told.line.text())
    longest, begun, seen = 0.0, time.monotonic(), set()
    process = widget.process
    while widget.running and time.monotonic() - begun < 240:
        before = time.monotonic()
        QApplication.processEvents()
        longest = max(longest, time.monotonic() - before)
        seen.add(widget.task.text())
        if widget.bar.maximum() > 0 and widget.bar.value() > 0 and "cancel" not in seen:
            picture(viewer, folder, "7-training")
            press(widget, "Cancel")
            seen.add("cancel")
        time.sleep(0.01)
    del process
    run = project.runs("train")[-1]
    check(
        "training was cancelled",
        run.manifest.get("status") == "interrupted",
        status=run.manifest,
        notes=widget.notes.toPlainText(),
        seen=seen,
    )
    check("the window stayed alive", longest < 1.0, longest=longest)
    check("progress was shown", any(" of " in one for one in seen), seen=seen)


def main() -> int:
    project, folder = Project.open(sys.argv[1]), Path(sys.argv[2])
    try:
        viewer = open_window(project, widgets=False)
        viewer.window.resize(1400, 900)
        settle(1.5)
        found = napari.plugins._npe2.widget_iterator()
        check(
            "the plugin offers its widgets",
            any(set(WIDGETS) <= set(dict.fromkeys(names)) for _, (name, names) in found if name == "cristae"),
        )
        scene(viewer, project)
        viewer.reset_view()
        for part in sys.argv[3].split(","):
            if part == "scene":
                picture(viewer, folder, "0-scene")
            else:
                {"correct": correct, "label": label, "learn": learn}[part](*(viewer, project, folder))
    except BaseException:
        CHECKS["no error"] = {"failed": traceback.format_exc()}
    (folder / "checks.json").write_text(json.dumps(CHECKS, indent=1))
    os.kill(os.getpid(), signal.SIGKILL)  # a window of napari takes seconds to close, and its end is no part of this
    return 0


if __name__ == "__main__":
    main()

"""A viewer that shows nothing, for widgets without a screen; started by the tests in a process of its own.

``python stand_in.py PROJECT CHECK`` runs one of the functions below.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from types import SimpleNamespace

os.environ["QT_QPA_PLATFORM"] = "offscreen"

import numpy as np
import pandas as pd
from filelock import FileLock
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

import cristae
from cristae.corrections import tools
from cristae.errors import ResourceError
from cristae.napari_plugin import correct_widget, label_widget, learn_widget, proofread_widget
from cristae.napari_plugin.correct_widget import CorrectWidget
from cristae.napari_plugin.label_widget import LabelWidget
from cristae.napari_plugin.learn_widget import LearnWidget
from cristae.napari_plugin.proofread_widget import ProofreadWidget
from cristae.stages.cells_settings import CellsSettings


class Event:
    """Somebody may be told."""

    def __init__(self):
        self.told = []

    def connect(self, what):
        self.told.append(what)

    def disconnect(self, what):
        self.told.remove(what)

    def __call__(self, *what):
        for one in list(self.told):
            one(*what)


class Layer(SimpleNamespace):
    """A layer; nothing is drawn."""

    def __init__(self, data, **keywords):
        super().__init__(data=data, visible=True, editable=True, mode="pan_zoom", selected_label=1, **keywords)
        self.events, self.mouse_drag_callbacks = SimpleNamespace(paint=Event()), []

    def refresh(self):
        pass


class Layers(list):
    """Layers, and which is active."""

    def __init__(self, *layers):
        super().__init__(layers)
        self.events, self.selection = SimpleNamespace(removed=Event()), SimpleNamespace(active=None)

    def remove(self, layer):
        super().remove(layer)
        self.events.removed(SimpleNamespace(value=layer))


class Viewer:
    """What the widgets use of a viewer of napari."""

    def __init__(self, project):
        self.layers = Layers(Layer(None, name="image", metadata={"cristae_project": str(project.path.resolve())}))
        self.dims = SimpleNamespace(current_step=(0, 0, 0), events=SimpleNamespace(current_step=Event()))
        self.dims.set_current_step = lambda axis, z: self.show(z)
        self.camera = SimpleNamespace(center=(0.0, 0.0, 0.0))

    def add_labels(self, data, **keywords):
        self.layers.append(Layer(data, **keywords))
        return self.layers[-1]

    def show(self, z):
        self.dims.current_step = (z, 0, 0)
        self.dims.events.current_step()


def wait(until, seconds=60.0):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it took too long"
        QApplication.processEvents()
        time.sleep(0.01)


def opened(project):
    """Return a widget with the cells open for correction, and a stroke made."""
    widget = CorrectWidget(Viewer(project))
    widget.begin()
    assert widget.painting is not None, widget.told.line.text()
    widget.viewer.show(3)
    tools.paint(widget.painting.corrections, 3, [(60, 5), (60, 30)], 77, radius=1)
    return widget


def an_empty_list(project):
    """A widget whose list was made before there was anything to correct."""
    viewer = Viewer(project)
    image = viewer.layers.pop()
    widget = CorrectWidget(viewer)
    assert widget.layers.count() == 0
    viewer.layers.append(image)
    widget.begin()
    assert widget.painting.layer.name == "cell (corrected)" and widget.layers.currentText() == "cell"
    assert widget.painting.layer.mouse_drag_callbacks
    widget.end()


def nothing_to_correct(project):
    for run in project.runs():
        run.update(status="failed")
    widget = CorrectWidget(Viewer(project))
    widget.begin()
    assert widget.painting is None and "no masks, objects or cells yet" in widget.told.line.text()


def a_newer_result(project):
    """Feed and apply are for the layer that is shown, not for one that came meanwhile."""
    widget = opened(project)
    shown, folder = widget.painting.live[3].copy(), widget.painting.corrections.folder
    newer = cristae.track(project, smallest_body_um2=0.003)
    widget.complete.setChecked(True)
    widget.feed()
    assert np.array_equal(project.annotations.read_ids("cell", 3), shown) and (shown == 77).any()
    assert widget.painting.corrections.folder == folder and len(widget.painting.corrections.standing) == 1
    assert f"{newer.path.name} is newer than" in widget.told.line.text()
    widget.apply()
    wait(lambda: widget._writing is None)
    assert project.runs("correct")[-1].manifest["corrects"] == folder.parent.name
    assert f"{newer.path.name} is newer than" in widget.told.line.text()
    assert np.array_equal(widget.painting.live[3], shown)
    widget.begin()
    assert widget.painting.corrections.folder.parent.name == newer.path.name
    widget.end()


def applying(project):
    """The window goes on while the layer is written, and the layer waits."""
    apply, here, threads, go = correct_widget.apply_corrections, threading.get_ident(), [], threading.Event()

    def slowly(project, found, options):
        threads.append(threading.get_ident())
        options.progress("correct")(1, 7, anything=3.0)
        assert go.wait(30)
        return apply(project, found, options)

    correct_widget.apply_corrections = slowly
    widget = opened(project)
    widget.apply()
    wait(lambda: "1 of 7" in widget.told.line.text())
    assert threads and here not in threads
    assert not widget.painting.layer.editable
    for refused in (widget.apply, widget.feed, widget.merge, widget.undo, widget.split):
        widget.told.say("")
        widget.ids.setText("300 70001")
        refused()
        assert "is being written" in widget.told.line.text(), refused
    assert (widget.painting.live[3] == 77).any()  # it can be looked at
    go.set()
    wait(lambda: widget._writing is None)
    assert widget.told.line.text().startswith("applied: correct-"), widget.told.line.text()
    assert widget.painting.layer.editable and project.runs("correct")[-1].finished
    widget.merge()
    assert len(widget.painting.corrections.standing) == 2
    with FileLock(project.path / ".lock"):  # another stage is at work
        widget.apply()
        wait(lambda: widget._writing is None)
    assert "another process is working" in widget.told.line.text()
    widget.undo()
    assert len(widget.painting.corrections.standing) == 1
    go.clear()
    folder = widget.painting.corrections.folder
    widget.apply()
    widget.end()  # stopped: nothing is told any more, and the layer is free when its block is done
    with FileLock(folder / ".lock"):  # as the thread holds it
        widget.begin()
    assert "this window is still ending" in widget.told.line.text() and widget.painting is None
    go.set()
    wait(lambda: not any(one.name == "cristae background" for one in threading.enumerate()))
    widget.begin()
    assert len(widget.painting.corrections.standing) == 1
    widget.end()


def writing_fails(project):
    """Whatever ends the writing or keeps it from beginning is said, and one can go on correcting."""

    def fails(*_):
        raise MemoryError

    widget = opened(project)
    correct_widget.apply_corrections = fails
    widget.apply()
    wait(lambda: widget._writing is None)
    assert "cannot be written: MemoryError" in widget.told.line.text()
    assert widget.painting.layer.editable and widget.painting.corrections.open
    for action in (widget.apply, widget.feed):
        close, corrections = widget.painting.corrections.close, widget.painting.corrections

        def full(close=close):
            close()
            raise ResourceError("the disk is full")

        corrections.close = full
        action()
        assert widget.told.line.text() == "the disk is full" and widget._writing is None
        assert widget.painting.layer.editable and widget.painting.corrections.open
    LearnWidget.at_work.add(project.path.resolve())
    for action in (widget.apply, widget.feed):
        widget.told.say("")
        action()
        assert "a stage is at work in this window" in widget.told.line.text() and widget._writing is None
    widget.undo()
    assert not widget.painting.corrections.standing
    widget.end()


def a_worker_that_cannot_start(project):
    widget = LearnWidget(Viewer(project))
    sys.executable += ".not-there"
    widget.start("train")
    wait(lambda: not widget.running)
    assert "could not be started" in widget.told.line.text() and not LearnWidget.at_work
    LearnWidget.at_work.clear()

    class AtOnce(learn_widget.QProcess):
        def start(self, *_):
            self.errorOccurred.emit(learn_widget.QProcess.ProcessError.FailedToStart)

    learn_widget.QProcess = AtOnce
    widget.start("train")
    assert "could not be started" in widget.told.line.text() and not LearnWidget.at_work and not widget.running


def proofreading(project):
    """A flag leads to its place, and what was looked at stays ticked, until the objects are others."""
    widget = ProofreadWidget(Viewer(project))
    assert "cristae quality" in widget.told.line.text() and widget.flags.count() == 0

    def found(track):
        run = project.run("quality", CellsSettings(), {"track": track})
        flag = {"kind": "odd object", "class": "cell", "severity": 0.5, "reason": "ragged", "z": -1}
        box = {"z_start": 2, "z_stop": 5, "y_start": 10, "y_stop": 31, "x_start": 40, "x_stop": 61}
        slice_5 = dict.fromkeys(box, pd.NA) | {"kind": "jump", "class": "dot", "object_id": 0, "z": 5}
        rows = [flag | box | {"object_id": 300}, flag | slice_5, flag | dict.fromkeys(box, pd.NA) | {"object_id": 9}]
        with project.record(run, CellsSettings(), {"track": track}):
            pd.DataFrame(rows).astype(dict.fromkeys(box, "Int64")).to_parquet(run.path / "flags.parquet")

    found("track-a")
    widget.list_flags()
    assert widget.flags.count() == 3 and widget.count.text() == "0 of 3 looked at"
    widget.go_on()
    y, x = project.image.grid.voxel_size[1:]
    assert widget.viewer.dims.current_step[0] == 3 and widget.viewer.camera.center == (0.0, 20 * y, 50 * x)
    assert "cell 300" in widget.told.line.text()
    widget.go_on()
    assert widget.viewer.dims.current_step[0] == 5 and widget.viewer.camera.center == (0.0, 20 * y, 50 * x)
    assert widget.count.text() == "1 of 3 looked at"
    widget.flags.setCurrentRow(2)
    assert "not known" in widget.told.line.text() and widget.viewer.dims.current_step[0] == 5
    widget.go_on()
    assert widget.flags.currentRow() == 1  # the one that was left out
    widget.go_on()
    assert "all red flags" in widget.told.line.text()
    assert ProofreadWidget(Viewer(project)).count.text() == "3 of 3 looked at"
    widget.flags.item(1).setCheckState(Qt.Unchecked)
    assert ProofreadWidget(Viewer(project)).count.text() == "2 of 3 looked at"

    def full(*_):
        raise ResourceError("the disk is full")

    proofread_widget.note_looked_at = full
    widget.list_flags()
    widget.flags.item(1).setCheckState(Qt.Checked)
    assert widget.flags.item(1).checkState() == Qt.Unchecked and widget.count.text() == "2 of 3 looked at"
    assert "disk is full" in widget.told.line.text()
    found("track-b")
    widget.list_flags()
    assert widget.count.text() == "0 of 3 looked at"


def labels_wait_for_a_stage(project):
    """What cannot be saved while a stage runs is kept, with its tick, and saved when that has ended."""
    label_widget.RETRY_MS = 50
    widget = LabelWidget(Viewer(project))
    widget.classes.setEditText("mito")
    widget.begin()
    corrections = widget.painting.corrections

    def paint(z, y):
        widget.painting.live[z, y, 5:20] = 1
        widget.painting.layer.events.paint()
        assert widget.told.line.text().startswith("paint"), widget.told.line.text()

    def click(on):
        assert widget.complete.isChecked() != on
        widget.complete.click()

    with FileLock(project.path / ".lock"):
        paint(0, 10)
        widget.viewer.show(1)
        assert "labels of slices 0 are kept" in widget.told.line.text(), widget.told.line.text()
        assert not widget.told.line.styleSheet()  # it is no refusal
        paint(1, 12)
        click(True)
        assert "labels of slices 0, 1 are kept" in widget.told.line.text(), widget.told.line.text()
        assert widget.complete.isChecked()
        widget.viewer.show(0)
        assert not widget.complete.isChecked()
        widget.viewer.show(1)
        assert widget.complete.isChecked()
        paint(1, 14)
        end = time.monotonic() + 0.3
        wait(lambda: time.monotonic() > end)
        assert "mito" not in project.annotations.classes
    here = project.path.resolve()
    LearnWidget.at_work.add(here)  # between two stages of this window the project is free, but not for others
    end = time.monotonic() + 0.3
    wait(lambda: time.monotonic() > end)
    assert "mito" not in project.annotations.classes
    LearnWidget.at_work.discard(here)
    wait(lambda: "mito" in project.annotations.classes and not widget._again.isActive())
    assert "saved slices 0, 1" in widget.told.line.text(), widget.told.line.text()
    assert project.annotations.complete_slices("mito") == (1,)
    assert (project.annotations.read_slice("mito", 1)[[12, 14], 5:20] == 1).all()
    with FileLock(project.path / ".lock"):
        widget.viewer.show(2)
        paint(2, 10)
        widget.save()
        assert widget._again.isActive()
    widget.save()  # before it is tried again
    assert widget.told.line.text() == "saved" and not widget._again.isActive()
    widget.viewer.show(1)
    LearnWidget.at_work.add(here)
    paint(1, 16)
    widget.end()
    assert "the draft of mito is kept" in widget.told.line.text() and not corrections.open
    assert not (project.annotations.read_slice("mito", 1)[16, 5:20] == 1).any()
    LearnWidget.at_work.discard(here)
    widget.begin()
    corrections = widget.painting.corrections
    assert len(corrections.standing) == 5
    with FileLock(project.path / ".lock"):
        click(False)
        widget.end()
    assert "the draft of mito is kept" in widget.told.line.text() and not corrections.open
    widget.begin()
    assert not widget.complete.isChecked()
    widget.end()
    assert project.annotations.complete_slices("mito") == ()


if __name__ == "__main__":
    app = QApplication([])
    globals()[sys.argv[2]](cristae.Project.open(sys.argv[1]))
    os._exit(0)

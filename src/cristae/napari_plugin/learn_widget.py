"""The widget that trains and predicts in a process of its own: the window stays alive, and Cancel loses nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any, ClassVar

from qtpy.QtCore import QProcess, QProcessEnvironment
from qtpy.QtWidgets import QCheckBox, QPlainTextEdit, QProgressBar

from cristae.errors import UsageError
from cristae.napari_plugin.panel import Panel
from cristae.napari_plugin.parts import button, opened_project, row, wrapped
from cristae.napari_plugin.reader import PROJECT, layer_data
from cristae.project import Project
from cristae.viewing.layers import project_views


class LearnWidget(Panel):
    """Runs stages on the project that is open, with progress, and shows what came out, uncertainty too.

    Parameters
    ----------
    napari_viewer
        The viewer; napari gives it.
    """

    at_work: ClassVar[set[Path]] = set()
    """Projects on which stages of this window run: between two of them nobody else must take the project."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.process: QProcess | None = None
        self._project: Project | None = None
        self._rest = b""
        self.bar = QProgressBar()
        self.task = wrapped("")
        self.notes = QPlainTextEdit()
        self.notes.setReadOnly(True)
        self.notes.setMaximumBlockCount(500)
        self.cells = QCheckBox("cells too: separate, then follow")
        self.stack(
            row(
                button("Train", lambda: self.start("train"), "Learn from the labelled slices"),
                button("Predict", lambda: self.start("predict"), "Segment every slice"),
            ),
            self.cells,
            row(
                button("Train and predict", self.start_all, "One after the other"),
                button("Cancel", self.cancel, "Stop; the same goes on later where this stopped"),
            ),
            self.task,
            self.bar,
            self.notes,
            button("Show results", self.show_results, "Bring in all layers as they are now"),
        )

    @property
    def running(self) -> bool:
        """Whether a stage is at work."""
        return self.process is not None

    def start_all(self) -> None:
        """Train, predict, and separate and follow cells where that is wanted."""
        self.start("train,predict" + ",cells,track" * self.cells.isChecked())

    def start(self, stages: str) -> None:
        """Begin stages, named with commas between; the window goes on."""
        self.told.guarded(lambda: self._start(stages))

    def _start(self, stages: str) -> None:
        if self.running:
            raise UsageError("a stage is at work already; wait, or cancel it")
        self._project = opened_project(self.viewer)
        self.process, self._rest = QProcess(self), b""
        surroundings = QProcessEnvironment.systemEnvironment()
        surroundings.insert("PYTHONUNBUFFERED", "1")
        self.process.setProcessEnvironment(surroundings)
        self.process.readyReadStandardOutput.connect(self._read)
        self.process.finished.connect(self._finished)
        self.process.errorOccurred.connect(self._failed)
        self.bar.setRange(0, 0)
        self.task.setText(f"starting {stages}")
        arguments = ["-m", "cristae.napari_plugin.worker", stages, str(self._project.path)]
        self.at_work.add(self._project.path.resolve())  # before: what cannot be started says so at once
        self.process.start(sys.executable, arguments)
        if self._project.path.resolve() in self.at_work:
            self.told.say("at work; you can go on painting meanwhile: what you paint is saved when this has ended")

    def cancel(self) -> None:
        """Stop the stage as Ctrl-C does."""
        if self.process is not None:
            if os.name == "posix":
                os.kill(int(self.process.processId()), signal.SIGINT)
            else:
                self.process.kill()  # what is finished is on disk all the same
            self.told.say("stopping…")

    def show_results(self) -> None:
        """Bring in the layers of the project as they are now, in place of those that were."""
        self.told.guarded(self._show)

    def _show(self) -> None:
        project = opened_project(self.viewer)
        kept = {layer.name: layer.visible for layer in self.viewer.layers if "cristae_layer" in layer.metadata}
        for layer in [one for one in self.viewer.layers if "cristae_layer" in one.metadata]:
            self.viewer.layers.remove(layer)
        for place, view in enumerate(project_views(project)):
            data, keywords, kind = layer_data(view, {PROJECT: str(project.path.resolve())})
            keywords["visible"] = kept.get(view.name, view.visible)
            layer = (self.viewer.add_image if kind == "image" else self.viewer.add_labels)(data, **keywords)
            self.viewer.layers.move(self.viewer.layers.index(layer), place)

    def _read(self) -> None:
        assert self.process is not None
        content = self._rest + bytes(self.process.readAllStandardOutput().data())
        *lines, self._rest = content.split(b"\n")
        for line in lines:
            try:
                self._take(json.loads(line))
            except ValueError:
                self.notes.appendPlainText(line.decode(errors="replace"))

    def _take(self, facts: dict[str, Any]) -> None:
        if "task" in facts:
            left = facts.get("seconds_left")
            said = "" if left is None else f", {left / 60:.0f} min left" if left > 90 else f", {left:.0f} s left"
            self.task.setText(f"{facts['task']}: {facts['done']} of {facts['total']}{said}")
            self.bar.setRange(0, int(facts["total"]))
            self.bar.setValue(int(facts["done"]))
        for key in ("note", "error", "run"):
            if key in facts:
                self.notes.appendPlainText(str(facts[key]))
        if "error" in facts:
            self.told.say(str(facts["error"]))

    def _finished(self, code: int, *_: Any) -> None:
        if self.process is None:
            return
        self._read()
        failure = bytes(self.process.readAllStandardError().data()).decode(errors="replace").strip()
        self.process.deleteLater()
        self._gone()
        self.bar.setRange(0, 1)
        self.bar.setValue(int(code == 0))
        if code == 0:
            self.task.setText("done")
            self.told.say("done")
            self.show_results()
        else:
            self.task.setText("cancelled" if code == 130 else "failed")
            if code not in (130, 2, 3, 4) and failure:
                self.notes.appendPlainText(failure)

    def _failed(self, error: Any) -> None:
        if self.process is not None and error == QProcess.ProcessError.FailedToStart:
            self._gone()
            self.bar.setRange(0, 1)
            self.task.setText("failed")
            self.told.say(f"{sys.executable} could not be started")

    def _gone(self) -> None:
        self.process = None
        if self._project is not None:
            self.at_work.discard(self._project.path.resolve())

    def closeEvent(self, event: Any) -> None:  # noqa: N802  the name that Qt calls
        """Stop the stage with the widget; it can be resumed."""
        if self.process is not None:
            process = self.process
            self.cancel()
            self._gone()
            process.waitForFinished(10_000)
        super().closeEvent(event)

"""The widget that labels slices: one class at a time, with "this class is complete on this slice"."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel

from cristae.corrections.journal import Entry
from cristae.errors import CristaeError, ResourceError, UsageError
from cristae.napari_plugin.learn_widget import LearnWidget
from cristae.napari_plugin.painting import Painting
from cristae.napari_plugin.panel import PaintingPanel
from cristae.napari_plugin.parts import button, opened_project, row, wrapped
from cristae.napari_plugin.reader import PROJECT, mask_colours, placed
from cristae.palette import class_colour
from cristae.stages.labelling import Labelling
from cristae.wording import number_ranges

RETRY_MS = 2000
"""How often it is tried to save what waits for the end of a stage."""


class LabelWidget(PaintingPanel):
    """Paints annotations of the project that is open.

    Parameters
    ----------
    napari_viewer
        The viewer; napari gives it.
    """

    not_open = "choose a class to paint first, and click Label"

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.labelling: Labelling | None = None
        self._z = 0
        self._pending: set[int] = set()
        self._again = QTimer(self)
        self._again.setInterval(RETRY_MS)
        self._again.timeout.connect(self._retry)
        self.classes = QComboBox()
        self.classes.setEditable(True)
        self.classes.setObjectName("classes")
        self.instances = QCheckBox("objects have ids (cells)")
        self.instances.setObjectName("instances")
        self.complete = QCheckBox("this class is complete on this slice")
        self.complete.setObjectName("complete")
        self.complete.clicked.connect(lambda on: self.told.guarded(lambda: self._set_complete(on)))
        self.labelled = wrapped("")
        layout = self.stack(
            row(QLabel("class"), self.classes),
            self.instances,
            row(
                button("Label", self.begin, "Paint labels of this class"),
                button("Stop", self.end, "Save all, and close"),
            ),
            wrapped("Paint with the tools of the layer. What is not painted is background only where complete."),
            self.complete,
            self.history_buttons(
                button("Save", self.save, "Save all slices now; a slice is saved, too, when it is left")
            ),
            self.labelled,
        )
        layout.addStretch()
        self.told.guarded(lambda: self.classes.addItems(opened_project(self.viewer).classes))

    def begin(self) -> None:
        """Open the class that is named for painting."""
        self.told.guarded(self._begin)

    def _begin(self) -> None:
        self.end()
        project, name = opened_project(self.viewer), self.classes.currentText().strip()
        labelling = Labelling(project, name, instances=self.instances.isChecked(), by="napari")
        keywords: dict[str, Any] = placed(labelling.corrections.original) | {
            "name": f"{name} (labels)",
            "opacity": 0.6,
            "metadata": {PROJECT: str(project.path.resolve())},
        }
        if not labelling.instances:
            number = project.classes.index(name) if name in project.classes else len(project.classes)
            keywords["colormap"] = mask_colours(class_colour(number))
        try:
            slices = labelling.labelled_slices
            self.painting = Painting(self.viewer, labelling.corrections, keywords, self._edited, slices)
        except BaseException:
            labelling.corrections.close()
            raise
        self.labelling = labelling
        for layer in self.viewer.layers:
            if layer.metadata.get("cristae_layer") == f"annotations/{name}":
                layer.visible = False
        self.painting.layer.selected_label = 1
        self.viewer.layers.selection.active = self.painting.layer
        self.viewer.dims.events.current_step.connect(self._moved)
        self._z = self.painting.z
        self._show()
        again = f"; {labelling.recovered} strokes of an earlier session are there again" * bool(labelling.recovered)
        self.told.say(f"painting {name}{again}")

    def end(self) -> None:
        """Save all slices, and close the class."""
        super().end()
        if self.labelling is None or self.painting is None:
            return
        labelling, painting = self.labelling, self.painting
        self.labelling = self.painting = None
        self._again.stop()
        self._pending.clear()
        self.viewer.dims.events.current_step.disconnect(self._moved)
        kept = f"a stage is at work; the draft of {labelling.name} is kept: click Label after it"
        try:
            if labelling.unsaved and _at_work_here(labelling):
                labelling.corrections.close()
                self.told.say(kept)
            else:
                labelling.close()
                self.told.say(labelling.in_words())
        except ResourceError as error:
            if _busy(labelling):
                self.told.say(kept)
            else:
                self.told.refuse(error)
        except CristaeError as error:
            self.told.refuse(error)
        painting.close()
        self.labelled.setText("")
        self.complete.setChecked(False)

    def save(self) -> None:
        """Save all slices that were painted."""
        self.told.guarded(self._save)

    def _save(self) -> None:
        if self._keep(self._labelling().unsaved):
            self.told.say("saved")

    def _set_complete(self, on: bool) -> None:
        z = self.opened().z
        try:
            self._labelling().tick(z, complete=on)
            if self._keep({z}):
                self.told.say(f"slice {z} is {'complete' if on else 'not complete'}, and saved")
        finally:
            self._show()

    def _moved(self, *_: Any) -> None:
        """Save the slice that is left."""
        if self.painting is None or self.labelling is None or self.painting.z == self._z:
            return
        left, self._z = self._z, self.painting.z
        if left in self.labelling.unsaved:
            self.told.guarded(lambda: self._keep({left}))
        self._show()

    def _keep(self, slices: set[int]) -> bool:
        """Save slices, or say that they wait for the end of a stage; say whether they are saved."""
        labelling = self._labelling()
        self._pending |= slices & labelling.unsaved
        try:
            if not _busy(labelling):
                self._save_pending()
                return True
        except ResourceError:
            if not labelling.project.locked:
                raise
        finally:
            self._show()
        self._again.start()
        waiting = number_ranges(self._pending)
        self.told.say(f"a stage is at work; labels of slices {waiting} are kept, and saved when it has ended")
        return False

    def _save_pending(self) -> None:
        labelling = self._labelling()
        for z in sorted(self._pending):
            labelling.save(z, complete=labelling.complete(z))
            self._pending.discard(z)
        self._again.stop()

    def _retry(self) -> None:
        """Save what waits, as soon as no stage is at work."""
        if self.labelling is None or _busy(self.labelling):
            return
        waiting = number_ranges(self._pending)
        try:
            self._save_pending()
        except CristaeError as error:
            if not self.labelling.project.locked:
                self._again.stop()
                self.told.refuse(error)
            return
        self._show()
        self.told.say(f"saved slices {waiting}, which waited for the end of a stage")

    def _edited(self, what: Entry | CristaeError, prefix: str) -> None:
        if isinstance(what, CristaeError):
            self.told.refuse(what)
            return
        if what.box is not None:
            self._labelling().note(range(what.box.start[0], what.box.stop[0]))
        self.told.say(f"{prefix}{what.kind}, {what.n_voxels} pixels; kept")

    def _show(self) -> None:
        labelling = self._labelling()
        self.complete.setChecked(labelling.complete(self.opened().z))
        self.labelled.setText(labelling.in_words())

    def _labelling(self) -> Labelling:
        if self.labelling is None:
            raise UsageError(self.not_open)
        return self.labelling


def _busy(labelling: Labelling) -> bool:
    """Say whether a stage is at work on the project, of this window or another."""
    return _at_work_here(labelling) or labelling.project.locked


def _at_work_here(labelling: Labelling) -> bool:
    """Say whether stages of this window are at work on the project, which is not locked between two of them."""
    return labelling.project.path.resolve() in LearnWidget.at_work

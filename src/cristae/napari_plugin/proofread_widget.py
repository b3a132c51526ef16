"""The widget that leads from one red flag to the next, and keeps which were looked at."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QListWidget, QListWidgetItem

from cristae.napari_plugin.panel import Panel
from cristae.napari_plugin.parts import button, opened_project, row, wrapped
from cristae.project import Project
from cristae.stages.proofreading import Spot, note_looked_at, red_spots


class ProofreadWidget(Panel):
    """Lists what looks wrong, the worst first; a click goes there, a tick says that it was looked at.

    Parameters
    ----------
    napari_viewer
        The viewer; napari gives it.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self._project: Project | None = None
        self._spots: list[Spot] = []
        self.flags = QListWidget()
        self.flags.setObjectName("flags")
        self.flags.setWordWrap(True)
        self.flags.currentRowChanged.connect(self._go)
        self.flags.itemChanged.connect(self._ticked)
        self.count = QLabel("")
        layout = self.stack(
            row(
                button("List red flags", self.list_flags, "Those of the latest cristae quality"),
                button("Next", self.go_on, "Tick this one, and go to the next that nobody has looked at"),
            ),
            self.flags,
            self.count,
            wrapped("Mend it in the widget Correct. A tick says that it was looked at, right or mended."),
        )
        layout.setStretch(1, 1)
        self.told.guarded(self._list)

    def list_flags(self) -> None:
        """List the flags of the project that is open."""
        self.told.guarded(self._list)

    def _list(self) -> None:
        self._project = opened_project(self.viewer)
        self._spots = red_spots(self._project)
        self.flags.blockSignals(True)
        self.flags.clear()
        for spot in self._spots:
            item = QListWidgetItem(spot.words)
            item.setFlags(item.flags() | Qt.ItemIsUserCheckable)
            item.setCheckState(Qt.Checked if spot.looked_at else Qt.Unchecked)
            self.flags.addItem(item)
        self.flags.blockSignals(False)
        self._count()

    def go_on(self) -> None:
        """Tick the flag that is shown, and go to the next one without a tick; round again at the end."""
        n, here = self.flags.count(), self.flags.currentRow()
        if here >= 0:
            self.flags.item(here).setCheckState(Qt.Checked)
        open_ones = [i for i in range(n) if self.flags.item(i).checkState() != Qt.Checked]
        if not open_ones:
            self.told.say("all red flags were looked at" if n else "there are no red flags")
            return
        self.flags.setCurrentRow(min(open_ones, key=lambda i: (i <= here, i)))

    def _go(self, number: int) -> None:
        if not 0 <= number < len(self._spots):
            return
        spot = self._spots[number]
        if spot.z < 0:
            self.told.say(f"{spot.words}: its place is not known")
            return
        assert self._project is not None
        grid = self._project.image.grid
        self.viewer.dims.set_current_step(0, spot.z)
        if spot.centre is not None:
            place = [o + i * size for o, i, size in zip(grid.origin[1:], spot.centre, grid.voxel_size[1:], strict=True)]
            self.viewer.camera.center = (0.0, *place)
        self.told.say(spot.words)

    def _ticked(self, item: QListWidgetItem) -> None:
        ticked = item.checkState() == Qt.Checked
        if not self.told.guarded(lambda: self._note(self.flags.row(item), ticked)):
            self.flags.blockSignals(True)  # what could not be kept is not ticked
            item.setCheckState(Qt.Unchecked if ticked else Qt.Checked)
            self.flags.blockSignals(False)
        self._count()

    def _note(self, number: int, looked_at: bool) -> bool:
        assert self._project is not None
        note_looked_at(self._project, self._spots[number], looked_at)
        return True

    def _count(self) -> None:
        done = sum(self.flags.item(i).checkState() == Qt.Checked for i in range(self.flags.count()))
        self.count.setText(f"{done} of {self.flags.count()} looked at")

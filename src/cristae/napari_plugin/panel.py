"""What all widgets are: a stack of parts beside the viewer; and what those have in common in which people paint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from cristae.corrections.ids import highest_id, known_highest, new_ids, note_highest
from cristae.errors import CristaeError, DataError, UsageError
from cristae.napari_plugin.background import Background, in_words
from cristae.napari_plugin.painting import Painting
from cristae.napari_plugin.parts import Told, button, row


class Panel(QWidget):  # type: ignore[misc]
    """A widget of the plugin: parts one above the other, and below them a line that says what was done.

    Parameters
    ----------
    napari_viewer
        The viewer; napari gives it.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer, self.told = napari_viewer, Told()

    def stack(self, *parts: QWidget) -> QVBoxLayout:
        """Put parts one above the other, and the line of `told` below."""
        layout = QVBoxLayout(self)
        for part in (*parts, self.told.line):
            layout.addWidget(part)
        return layout


class PaintingPanel(Panel):
    """A widget that opens a layer for painting, with undo, redo and new ids; `end` closes the layer."""

    not_open = ""
    """What is said where a layer has to be open, and none is."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.painting: Painting | None = None
        self._search: Background | None = None

    def history_buttons(self, *more: QWidget) -> QWidget:
        """Return a row of buttons for undo, redo and a new id."""
        return row(
            button("Undo", self.undo, "Take back the last edit (Ctrl-Z)"),
            button("Redo", self.redo, "Do it again (Ctrl-Shift-Z)"),
            button("New id", self.new_id, "Paint with an id that no object has"),
            *more,
        )

    def undo(self) -> None:
        """Take back the last edit."""
        self.told.guarded(lambda: self.opened().undo())

    def redo(self) -> None:
        """Do the edit again that was undone last."""
        self.told.guarded(lambda: self.opened().redo())

    def new_id(self) -> None:
        """Paint with an id that no object has; 1 in a mask."""
        self.told.guarded(self._new_id)

    def _new_id(self) -> None:
        layer = self.opened().layer
        if self.opened().is_mask:
            layer.selected_label = 1
        else:
            self.with_new_ids(1, lambda ids: setattr(layer, "selected_label", ids[0]))

    def with_new_ids(self, n: int, action: Callable[[tuple[int, ...]], object]) -> None:
        """Do something with ids that no object has: now, or as soon as all of the layer was looked at for them.

        Parameters
        ----------
        n
            How many ids.
        action
            Given the ids; not called if the layer is closed before they are known.

        Raises
        ------
        UsageError
            If no layer is open, its ids are being looked at already, or there is no number left.
        """
        painting = self.opened()
        if known_highest(painting.corrections) is not None:
            action(new_ids(painting.corrections, n))
            return
        if self._search is not None:
            raise UsageError("the ids of this layer are still being looked at; do it again when that is done")
        original, slices = painting.corrections.original, painting.slices
        self.told.say("looking at the ids of this layer, once; you can go on meanwhile")
        self._search = Background(
            lambda progress: highest_id(original, slices, progress),
            lambda done, total: self.told.say(f"looking at the ids of this layer: {done} of {total} blocks"),
            lambda found: self.told.guarded(lambda: self._looked(found, n, action)),
        )

    def _looked(self, found: Any, n: int, action: Callable[[tuple[int, ...]], object]) -> None:
        self._search = None
        if isinstance(found, CristaeError):
            raise found
        if isinstance(found, Exception):
            raise DataError(f"the ids of this layer cannot be read: {in_words(found)}") from found
        note_highest(self.opened().corrections, found)
        self.told.say(f"the highest id was {found}")
        action(new_ids(self.opened().corrections, n))

    def opened(self) -> Painting:
        """Return what is painted in.

        Raises
        ------
        UsageError
            If no layer is open.
        """
        if self.painting is None:
            raise UsageError(self.not_open)
        return self.painting

    def end(self) -> None:
        """Close the layer that is open."""
        if self._search is not None:
            self._search.stop()
            self._search = None

    def closeEvent(self, event: Any) -> None:  # noqa: N802  the name that Qt calls
        """Close the layer with the widget."""
        self.end()
        super().closeEvent(event)

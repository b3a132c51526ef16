"""What all widgets are: a stack of parts beside the viewer; and what those have in common in which people paint."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QVBoxLayout, QWidget

from cristae.errors import UsageError
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
        """Paint with an id that no object has."""
        self.told.guarded(lambda: self.opened().choose_new_id())

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
        raise NotImplementedError

    def closeEvent(self, event: Any) -> None:  # noqa: N802  the name that Qt calls
        """Close the layer with the widget."""
        self.end()
        super().closeEvent(event)

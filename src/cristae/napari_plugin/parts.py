"""What the widgets share: the project that is open, rows of buttons, and errors in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from cristae.errors import CristaeError, DataError
from cristae.napari_plugin.reader import project_of
from cristae.palette import VERMILLION
from cristae.project import Project


def row(*widgets: QWidget) -> QWidget:
    """Return widgets side by side."""
    line = QWidget()
    layout = QHBoxLayout(line)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget)
    return line


def wrapped(text: str) -> QLabel:
    """Return a line of text that is broken where the widget ends."""
    line = QLabel(text)
    line.setWordWrap(True)
    return line


def button(text: str, what: Callable[[], object], tip: str, name: str = "") -> QPushButton:
    """Return a button; `name` is how tests and helpers find it."""
    made = QPushButton(text)
    made.clicked.connect(lambda *_: what())
    made.setToolTip(tip)
    made.setObjectName(name or text)
    return made


def opened_project(viewer: Any) -> Project:
    """Return the project whose layers a viewer shows.

    Raises
    ------
    DataError
        If there is none, or layers of several.
    """
    project = project_of(list(viewer.layers))
    if project is None:
        raise DataError("open the folder of one project first: drop it on the window, or start cristae view PROJECT")
    return project


class Told:
    """A line that says what was done, and what could not be."""

    def __init__(self) -> None:
        self.line = wrapped("")
        self.line.setObjectName("told")

    def say(self, words: str) -> None:
        """Say what was done."""
        self.line.setStyleSheet("")
        self.line.setText(words)

    def guarded(self, action: Callable[[], Any]) -> Any:
        """Do something, and say in words why it cannot be done; None then."""
        try:
            return action()
        except CristaeError as error:
            self.refuse(error)
            return None

    def refuse(self, error: CristaeError) -> None:
        """Say what cannot be."""
        self.line.setStyleSheet(f"color: {VERMILLION}")
        self.line.setText(str(error))

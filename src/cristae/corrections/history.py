"""What of a journal holds: edits that stand, those that can be done again, and new ids of whole objects."""

from __future__ import annotations

from cristae.corrections.journal import Entry


class History:
    """What the lines of a journal come to, taken one after another.

    Attributes
    ----------
    names
        New id of each original one that has another now.
    done
        Numbers of the edits that hold.
    undone
        Numbers of those that can be done again, the next at the end.
    """

    def __init__(self) -> None:
        self.names: dict[int, int] = {}
        self.done: list[int] = []
        self.undone: list[int] = []

    def note(self, entry: Entry, edit: Entry) -> None:
        """Take the next line.

        Parameters
        ----------
        entry
            The line.
        edit
            What it undoes or does again; of others the line itself.
        """
        if entry.kind == "undo":
            self.undone.append(self.done.pop())
        elif entry.kind == "redo":
            self.done.append(self.undone.pop())
        elif entry.is_edit:
            self.done.append(entry.number)
            self.undone.clear()
        for original, before, after in edit.names:
            name = before if entry.kind == "undo" else after
            if name is None:
                self.names.pop(original, None)
            else:
                self.names[original] = name

"""A layer of napari that people paint in, bound to corrections: each stroke is one edit, kept on disk at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cristae.corrections.journal import Entry
from cristae.corrections.store import Corrections
from cristae.errors import CristaeError
from cristae.viewing.live import LiveLabels


class Painting:
    """A layer of labels in a viewer whose strokes go into corrections, and whose undo is theirs.

    Parameters
    ----------
    viewer
        Of napari.
    corrections
        Where strokes go; closed with `close`.
    keywords
        Of the layer: name, scale, colours.
    told
        Called after each edit or undo with what it was, and with an error where a stroke was refused.
    slices
        Slices that held something when the layer was opened; None where that is not known.
    """

    def __init__(
        self,
        viewer: Any,
        corrections: Corrections,
        keywords: dict[str, Any],
        told: Callable[[Entry | CristaeError, str], None],
        slices: Sequence[int] | None = None,
    ) -> None:
        self.viewer, self.corrections, self._told, self.slices = viewer, corrections, told, slices
        self.live = LiveLabels(corrections)
        self.layer = viewer.add_labels(self.live, **keywords)
        self.layer.events.paint.connect(self._stroke_ended)
        # What napari remembers of strokes is another history than that on disk.
        self.layer.undo, self.layer.redo = self.undo, self.redo
        viewer.layers.events.removed.connect(self._removed)

    @property
    def z(self) -> int:
        """The slice that is shown."""
        return int(self.viewer.dims.current_step[0])

    def undo(self) -> None:
        """Take back the last edit."""
        if self.corrections.can_undo:
            self.edit(self.corrections.undo, "undone: ")

    def redo(self) -> None:
        """Do again what was undone last."""
        if self.corrections.can_redo:
            self.edit(self.corrections.redo, "done again: ")

    def edit(self, action: Callable[[], Entry | None], prefix: str = "") -> Entry | None:
        """Do an edit that is no stroke, and show what came of it; errors are told."""
        try:
            done = action()
        except CristaeError as error:
            self._told(error, "")
            return None
        finally:
            self.layer.refresh()
        if done is not None:
            self._told(done, prefix)
        return done

    @property
    def is_mask(self) -> bool:
        """Whether the layer is a mask, without objects."""
        return bool(self.corrections.original.dtype.itemsize == 1)

    def voxel(self, position: Any) -> tuple[int, int, int] | None:
        """Return the voxel at a place in the world, None outside of the layer."""
        z, y, x = (round(float(n)) for n in self.layer.world_to_data(position))
        inside = all(0 <= i < n for i, n in zip((z, y, x), self.live.shape, strict=True))
        return (z, y, x) if inside else None

    def close(self) -> None:
        """Take the layer out of the viewer, and let others correct."""
        if self.layer in self.viewer.layers:
            self.viewer.layers.remove(self.layer)
        self.corrections.close()

    def _stroke_ended(self, *_: Any) -> None:
        try:
            done = self.live.commit()
        except CristaeError as error:
            self.layer.refresh()
            self._told(error, "")
            return
        if done is not None:
            self._told(done, "")

    def _removed(self, event: Any) -> None:
        if event.value is self.layer:
            self.corrections.close()

"""The widget that corrects what was found.

Paint, erase and fill with the tools of napari; split, merge, remove, reassign, undo, redo, apply and feed with buttons.
Every edit is on disk before the next begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtWidgets import QCheckBox, QComboBox, QLabel, QLineEdit

from cristae.blockwise import Progress
from cristae.corrections import tools
from cristae.corrections.journal import Entry
from cristae.corrections.store import Corrections
from cristae.errors import CristaeError, ResourceError, UsageError
from cristae.geometry import Voxels
from cristae.napari_plugin.background import Background, in_words
from cristae.napari_plugin.learn_widget import LearnWidget
from cristae.napari_plugin.painting import Painting
from cristae.napari_plugin.panel import PaintingPanel
from cristae.napari_plugin.parts import button, opened_project, row, wrapped
from cristae.napari_plugin.reader import PROJECT, mask_colours, placed
from cristae.palette import VERMILLION, class_colour
from cristae.project import Project
from cristae.stages.corrected import Correctable, correctable
from cristae.stages.correcting import apply_corrections, boundary_of, find_layer, newer_in_words, open_corrections
from cristae.stages.feeding import feed_corrections
from cristae.stages.options import Options

SEEDS = "seeds of a split"
MOST = 2**27
"""Voxels that the window waits for while it is seen what hangs together: some seconds. The command line takes more."""


class CorrectWidget(PaintingPanel):
    """Corrects cells, objects and masks of the project that is open.

    Parameters
    ----------
    napari_viewer
        The viewer; napari gives it.
    """

    not_open = "open a layer for correction first: choose it, and click Correct"

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self._under: tuple[Project, Correctable] | None = None
        self._writing: Background | None = None
        self._stopped: tuple[Background, Correctable] | None = None
        self.picked: list[Voxels] = []
        self.layers = QComboBox()
        self.layers.setObjectName("layers")
        self.ids = QLineEdit()
        self.ids.setObjectName("ids")
        self.ids.setPlaceholderText("ids of objects, such as 3 7")
        self.pick = QCheckBox("click picks objects")
        self.pick.setObjectName("pick")
        self.pick.toggled.connect(self._picking)
        self.plane_only = QCheckBox("in this slice only")
        self.complete = QCheckBox("this slice is complete now")
        self.complete.setObjectName("complete")
        self.count = QLabel("")
        layout = self.stack(
            row(self.layers, button("List layers", self.list_layers, "Look what there is to correct")),
            row(
                button("Correct", self.begin, "Open a layer for correction"),
                button("Stop", self.end, "Close it, so that others can correct"),
            ),
            wrapped("Paint, erase and fill with the tools of the layer."),
            self.history_buttons(),
            self.pick,
            self.ids,
            row(
                button("Merge", self.merge, "Make these objects one, with the first id"),
                button("Remove", self.remove, "Remove these objects"),
            ),
            row(
                button("Seeds", self.seeds, "Click one point into each part of an object, then split"),
                button("Split", self.split, "Split the object at its points; a huge one: cristae correct split"),
            ),
            self.plane_only,
            button("Reassign island", self.reassign, "Give what was clicked last the selected label"),
            row(self.complete, button("Feed slice", self.feed, "Make labels of this slice, to learn from")),
            button("Apply", self.apply, "Make a run of the corrected layer, to be measured and exported"),
            self.count,
        )
        layout.addStretch()
        self.told.guarded(self.list_layers)

    def list_layers(self) -> None:
        """Offer what can be corrected."""
        found = self.told.guarded(lambda: list(correctable(opened_project(self.viewer))))
        self.layers.clear()
        self.layers.addItems(found or [])

    def begin(self) -> None:
        """Open the chosen layer for correction; the one that was open is closed."""
        self.told.guarded(self._begin)

    def _begin(self) -> None:
        project = opened_project(self.viewer)
        if not self.layers.count():
            self.list_layers()
        found = find_layer(project, self.layers.currentText() or None)
        self.end()
        try:
            corrections = open_corrections(project, found, by="napari")
        except ResourceError as error:
            if self._stopped and self._stopped[0].going_on and self._stopped[1] == found:
                raise ResourceError(
                    f"this window is still ending the writing of {found.name} that was stopped; click Correct again in "
                    "a moment"
                ) from error
            raise
        keywords: dict[str, Any] = placed(corrections.original) | {
            "name": f"{found.name} (corrected)",
            "opacity": 0.5,
            "metadata": {PROJECT: str(project.path.resolve())},
        }
        if corrections.original.dtype.itemsize == 1:
            known = found.of in project.classes
            keywords["colormap"] = mask_colours(class_colour(project.classes.index(found.of)) if known else "#ffffff")
        try:
            self.painting = Painting(self.viewer, corrections, keywords, self._edited)
        except BaseException:
            corrections.close()
            raise
        self._under = project, found
        for layer in self.viewer.layers:
            if layer.metadata.get("cristae_layer") in (found.name, f"annotations/{found.of}"):
                layer.visible = False
        if corrections.original.dtype.itemsize == 1:
            self.painting.layer.selected_label = 1
        self.viewer.layers.selection.active = self.painting.layer
        self.painting.layer.mouse_drag_callbacks.append(self._clicked)
        self._count()
        self._say(f"{found.name} of {found.run.path.name} is open for correction; every edit is kept at once")

    def opened(self) -> Painting:
        """Return what is painted in.

        Raises
        ------
        UsageError
            If no layer is open, or it is being written.
        """
        if self._writing is not None:
            raise UsageError("the corrected layer is being written; go on when that is done")
        return super().opened()

    def end(self) -> None:
        """Close the layer under correction."""
        super().end()
        if self._writing is not None:
            self._writing.stop()
            self._stopped, self._writing = (self._writing, self._of()[1]), None
        if self.painting is not None:
            self.painting.close()
            self.painting = None
        self._drop_seeds()
        self.picked.clear()
        self.count.setText("")

    def merge(self) -> None:
        """Merge the objects whose ids are given."""
        self.told.guarded(lambda: self._edit_objects(tools.merge))

    def remove(self) -> None:
        """Remove the objects whose ids are given."""
        self.told.guarded(lambda: self._edit_objects(tools.remove))

    def _edit_objects(self, tool: Callable[[Corrections, list[int]], Entry | None]) -> None:
        ids = self._ids()
        if self._edit(lambda c: tool(c, ids)) is not None:
            self.ids.clear()

    def reassign(self) -> None:
        """Give the island that was clicked last the selected label."""
        self.told.guarded(self._reassign)

    def _reassign(self) -> None:
        painting = self.opened()
        if not self.picked:
            raise UsageError("click an island first, with 'click picks objects' switched on")
        at, label = self.picked[-1], int(painting.layer.selected_label)
        scope: tools.Scope = "slice" if self.plane_only.isChecked() else "volume"
        self._edit(lambda c: tools.reassign(c, at, label, scope, most=MOST))

    def seeds(self) -> None:
        """Show a layer of points; each is a seed of a part."""
        self.told.guarded(self._seeds)

    def _seeds(self) -> None:
        painting = self.opened()
        self._drop_seeds()
        keywords = placed(painting.corrections.original) | {"name": SEEDS, "ndim": 3, "size": self._few_pixels()}
        points = self.viewer.add_points(None, **keywords, face_color=VERMILLION, metadata={"cristae_seeds": True})
        points.mode = "add"
        self.told.say("click one point into each part of one object, then Split")

    def _few_pixels(self) -> float:
        """Return how many voxels are a dozen pixels of the screen now."""
        voxel = self.opened().corrections.original.grid.voxel_size[2]
        return max(1.0, 12 / (float(self.viewer.scene.camera.zoom) * voxel))

    def split(self) -> None:
        """Split the object under the seeds."""
        self.told.guarded(self._split)

    def _split(self) -> None:
        painting = self.opened()
        points = [layer for layer in self.viewer.layers if layer.metadata.get("cristae_seeds")]
        places = [tuple(round(float(n)) for n in one) for layer in points for one in layer.data]
        if len(places) < 2:
            raise UsageError("a split needs a point in each of two parts at least; click Seeds, then into the parts")
        boundary = boundary_of(*self._of())
        slices = (painting.z, painting.z) if self.plane_only.isChecked() else None

        def action(ids: tuple[int, ...]) -> None:
            seeds = [[(z, y, x)] for z, y, x in places]
            if (
                self._edit(lambda c: tools.split(c, seeds, ids, boundary=boundary, slices=slices, most=MOST))
                is not None
            ):
                self._drop_seeds()
                self.viewer.layers.selection.active = painting.layer

        self.with_new_ids(len(places) - 1, action)

    def feed(self) -> None:
        """Make annotations of the slice that is shown."""
        self.told.guarded(self._feed)

    def _feed(self) -> None:
        painting, complete = self.opened(), self.complete.isChecked()
        z, (project, found) = painting.z, self._of()
        self._check_free(project)
        try:
            painting.corrections.close()
            feed_corrections(project, found, [z], complete=complete)
        finally:
            self._open_again()
        self._say(f"slice {z} is among the labels{', complete' * complete}; train again to learn from it")

    def apply(self) -> None:
        """Make a run of the corrected layer, while the window goes on; the layer is only shown until it is done."""
        self.told.guarded(self._apply)

    def _apply(self) -> None:
        painting, (project, found) = self.opened(), self._of()
        self._check_free(project)
        try:
            painting.corrections.close()
        except BaseException:
            self._open_again()
            raise
        painting.layer.editable = False
        self.told.say(f"writing {found.name} as it was corrected; look on meanwhile")
        self._writing = Background(
            lambda told: apply_corrections(project, found, Options(progress=_telling(told))),
            lambda done, total: self.told.say(f"writing {found.name} as it was corrected: {done} of {total} blocks"),
            lambda result: self.told.guarded(lambda: self._applied(result)),
        )

    def _applied(self, result: Any) -> None:
        self._writing = None
        self._open_again()
        if isinstance(result, CristaeError):
            raise result
        if isinstance(result, Exception):
            raise ResourceError(f"the corrected layer cannot be written: {in_words(result)}") from result
        self._say(f"applied: {result.path.name}")

    def _check_free(self, project: Project) -> None:
        """Refuse to take the project between two stages of this window."""
        if project.path.resolve() in LearnWidget.at_work:
            raise UsageError("a stage is at work in this window; feed and apply when it has ended, or cancel it")

    def _of(self) -> tuple[Project, Correctable]:
        """Return what is corrected: the result that was opened, whichever is the newest by now."""
        assert self._under is not None, "set with the painting"
        return self._under

    def _open_again(self) -> None:
        """Open the corrections of the layer that is shown, which were closed for somebody else."""
        painting = self.opened()
        if painting.layer not in self.viewer.layers:  # taken out meanwhile
            return
        painting.corrections = painting.live.corrections = open_corrections(*self._of(), by="napari")
        painting.layer.editable = True
        self._count()

    def _say(self, words: str) -> None:
        """Say what was done, and that there is a newer result if so."""
        newer = newer_in_words(*self._of())
        self.told.say(f"{words}. {newer}; to correct that one, click Correct" if newer else words)

    def _edit(self, action: Any) -> Entry | None:
        painting = self.opened()
        return painting.edit(lambda: action(painting.corrections))

    def _ids(self) -> list[int]:
        words = self.ids.text().replace(",", " ").split()
        try:
            return [int(word) for word in words]
        except ValueError as error:
            raise UsageError(f"{self.ids.text()!r}: expected ids such as 3 7") from error

    def _edited(self, what: Entry | CristaeError, prefix: str) -> None:
        if isinstance(what, CristaeError):
            self.told.refuse(what)
            return
        size = "" if what.n_voxels is None else f", {what.n_voxels} voxels"
        self.told.say(f"{prefix}{what.kind} {', '.join(map(str, what.ids))}{size}")
        self._count()

    def _count(self) -> None:
        n = len(self.opened().corrections.standing)
        self.count.setText(f"{n} edit{'s' * (n != 1)} hold; all on disk")

    def _picking(self, on: bool) -> None:
        if self.painting is not None and on:
            self.painting.layer.mode = "pan_zoom"

    def _clicked(self, layer: Any, event: Any) -> None:
        """Note the object that is clicked."""
        if not self.pick.isChecked() or self.painting is None or event.button != 1:
            return
        at = self.painting.voxel(event.position)
        if at is None:
            return
        label = int(self.painting.live[at])
        if label:
            self.picked.append(at)
            known = self.ids.text().split()
            if str(label) not in known:
                self.ids.setText(" ".join([*known, str(label)]))

    def _drop_seeds(self) -> None:
        for layer in [one for one in self.viewer.layers if one.metadata.get("cristae_seeds")]:
            self.viewer.layers.remove(layer)


def _telling(told: Callable[[int, int], object]) -> Callable[[str], Progress]:
    """Return the progress of any task of a stage, told as `Background` wants it."""

    def advance(done: int, total: int, **_: float) -> None:
        told(done, total)

    return lambda _: advance

"""The Python interface: every verb of the command line as one function.

A project is given as a folder or a `Project`; settings are keywords, and those left out come from the project file or
are the defaults of the stage::

    import cristae

    project = cristae.init("bx1", voxel_size=(4, 4, 4))
    cristae.import_image(project, "slices/")
    cristae.import_labels(project, "nuclei/", classes={"nucleus": None})
    cristae.train(project, updates=2000)
    cristae.predict(project)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cristae.annotations import Annotations
from cristae.corrections.store import Corrections
from cristae.geometry import Nanometres
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages import importing
from cristae.stages.adapt import adapt as _adapt
from cristae.stages.adapt import adapt_settings
from cristae.stages.advise import advise as _advise
from cristae.stages.advise import advise_settings
from cristae.stages.align import align as _align
from cristae.stages.align import align_settings
from cristae.stages.anatomy import anatomy as _anatomy
from cristae.stages.anatomy import anatomy_settings
from cristae.stages.cells import cells as _cells
from cristae.stages.cells_settings import cells_settings
from cristae.stages.changes import Changes, ImportChangesSettings
from cristae.stages.changes import import_changes as _import_changes
from cristae.stages.check import check as _check
from cristae.stages.check import check_settings, exclude_severe
from cristae.stages.check import exclude_slices as _exclude_slices
from cristae.stages.compare import CompareSettings
from cristae.stages.compare import compare as _compare
from cristae.stages.correcting import apply_corrections as _apply_corrections
from cristae.stages.correcting import open_corrections
from cristae.stages.cross_validate import cross_validate as _cross_validate
from cristae.stages.doctor import doctor as _doctor
from cristae.stages.doctor import doctor_settings
from cristae.stages.equalise import equalise as _equalise
from cristae.stages.equalise import equalise_settings
from cristae.stages.evaluate import EvaluateSettings
from cristae.stages.evaluate import evaluate as _evaluate
from cristae.stages.exporting import ExportSettings
from cristae.stages.exporting import export as _export
from cristae.stages.feeding import feed_corrections as _feed_corrections
from cristae.stages.measure import measure as _measure
from cristae.stages.measure import measure_settings
from cristae.stages.mesh import mesh as _mesh
from cristae.stages.mesh import mesh_settings
from cristae.stages.objects import objects as _objects
from cristae.stages.objects import objects_settings
from cristae.stages.options import Options
from cristae.stages.phantom import phantom as _phantom
from cristae.stages.pipeline import run as _run
from cristae.stages.planning import Plan
from cristae.stages.planning import plan as _plan
from cristae.stages.predict import predict as _predict
from cristae.stages.predict import predict_settings
from cristae.stages.prepared import use_image as _use_image
from cristae.stages.quality import quality as _quality
from cristae.stages.quality import quality_settings
from cristae.stages.render import render as _render
from cristae.stages.render import render_settings
from cristae.stages.samples import Sample, SampleSettings, list_samples
from cristae.stages.samples import sample as _sample
from cristae.stages.status import StageStatus
from cristae.stages.status import status as _status
from cristae.stages.study_cells import study_cells as _study_cells
from cristae.stages.study_cells import study_cells_settings
from cristae.stages.study_networks import study_networks as _study_networks
from cristae.stages.study_networks import study_networks_settings
from cristae.stages.track import track as _track
from cristae.stages.track import track_settings
from cristae.stages.train import train as _train
from cristae.stages.train_settings import train_settings
from cristae.stages.workload import PlanSettings
from cristae.volume import Volume

Folder = Project | Path | str


def init(path: Path | str, *, voxel_size: Nanometres, classes: Sequence[str] = ()) -> Project:
    """Make a project folder; `voxel_size` is z, y, x in nanometres. See `Project.create` for errors."""
    return Project.create(path, voxel_size, tuple(classes))


def import_image(project: Folder, source: Path | str, *, options: Options | None = None, **settings: Any) -> Volume:
    """Bring in the micrograph; settings are those of `ImportImageSettings`."""
    return importing.import_image(
        open_project(project), source, resolve_settings(importing.ImportImageSettings, settings), options
    )


def import_labels(
    project: Folder, source: Path | str, *, options: Options | None = None, **settings: Any
) -> Annotations:
    """Bring in labelled slices to learn from; settings are those of `ImportLabelsSettings`."""
    return importing.import_labels(
        open_project(project), source, resolve_settings(importing.ImportLabelsSettings, settings), options
    )


def import_truth(
    project: Folder, source: Path | str, *, options: Options | None = None, **settings: Any
) -> Annotations:
    """Bring in labels to score results against; settings are those of `ImportLabelsSettings`."""
    return importing.import_truth(
        open_project(project), source, resolve_settings(importing.ImportLabelsSettings, settings), options
    )


def import_changes(project: Folder, source: Path | str, *, options: Options | None = None, **settings: Any) -> Changes:
    """Take in what people changed in a file that `export` wrote; settings are those of `ImportChangesSettings`.

    Slices and voxels that are as they went out are not touched.
    """
    chosen = resolve_settings(ImportChangesSettings, settings)
    return _import_changes(open_project(project), source, chosen, options)


def check(project: Folder, *, exclude: bool = False, options: Options | None = None, **settings: Any) -> Run:
    """Look over the image and name what is wrong with it, and where; settings are those of `CheckSettings`.

    With `exclude` the slices with severe faults are added to ``bad_slices`` in the project file; see `exclude_slices`.
    """
    opened = open_project(project)
    run = _check(opened, check_settings(opened, settings), options)
    if exclude:
        exclude_severe(opened, run, options)
    return run


def exclude_slices(
    project: Folder, bad: Sequence[int], *, good: Sequence[int] = (), options: Options | None = None
) -> tuple[int, ...]:
    """Leave out `bad` slices from now on, take in `good` ones again, and return all that are left out.

    Nothing is learnt or measured from them; neighbours stand in for them, flow and tracking bridge them.
    """
    return _exclude_slices(open_project(project), bad, good, options)


def align(project: Folder, *, options: Options | None = None, **settings: Any) -> Run:
    """Lay the slices of the raw stack on one another; settings are those of `AlignSettings`.

    The aligned image is in use from then on, and labels lie on its slices. The raw ones stay: see `use_image`.
    """
    opened = open_project(project)
    return _align(opened, align_settings(opened, settings), options)


def equalise(project: Folder, *, options: Options | None = None, **settings: Any) -> Run:
    """Bring the grey values of every slice to one scale; settings are those of `EqualiseSettings`.

    The equalised image is in use from then on. What it was made of stays: see `use_image`.
    """
    opened = open_project(project)
    return _equalise(opened, equalise_settings(opened, settings), options)


def use_image(project: Folder, name: str, *, options: Options | None = None) -> Volume:
    """Take an image into use: ``raw``, or the run that made it. See `align` and `equalise`."""
    return _use_image(open_project(project), name, options)


def train(project: Folder, *, options: Options | None = None, **settings: Any) -> Run:
    """Learn from the labelled slices; settings are those of `TrainSettings`."""
    opened = open_project(project)
    return _train(opened, train_settings(opened, settings), options)


def adapt(project: Folder, source: Path | str, *, options: Options | None = None, **settings: Any) -> Run:
    """Adapt the networks of another project, or of a train run, without labels; settings are those of `AdaptSettings`.

    What comes out is a train run of `project`: predict goes on from it as from a training.
    """
    opened = open_project(project)
    return _adapt(opened, source, adapt_settings(opened, settings), options)


def predict(project: Folder, *, options: Options | None = None, **settings: Any) -> Run:
    """Segment every slice with the networks trained last; settings are those of `PredictSettings`."""
    opened = open_project(project)
    return _predict(opened, predict_settings(opened, settings), options)


def objects(project: Folder, *, options: Options | None = None, **settings: Any) -> Run:
    """Give every predicted organelle an id of its own; settings are those of `ObjectsSettings`."""
    opened = open_project(project)
    return _objects(opened, objects_settings(opened, settings), options)


def cells(project: Folder, *, options: Options | None = None, **settings: Any) -> Run:
    """Give every cell in every slice its id; settings are those of `CellsSettings`."""
    opened = open_project(project)
    return _cells(opened, cells_settings(opened, settings), options)


def track(project: Folder, *, options: Options | None = None, **settings: Any) -> Run:
    """Give every cell that was separated last one id through the volume; settings are those of `TrackSettings`."""
    opened = open_project(project)
    return _track(opened, track_settings(opened, settings), options)


def find_parents(project: Folder, *, options: Options | None = None, **settings: Any) -> Run:
    """Find the cell of every organelle (``cristae anatomy``); settings are those of `AnatomySettings`."""
    opened = open_project(project)
    return _anatomy(opened, anatomy_settings(opened, settings), options)


def study_cells(
    project: Folder, *, options: Options | None = None, cells: Mapping[str, Any] | None = None, **settings: Any
) -> Run:
    """Compare all methods of separating cells on a truth; settings are those of `StudyCellsSettings`.

    Settings of the separation are those of `cells` in the project file, with the changes in `cells`.
    """
    opened = open_project(project)
    how = cells_settings(opened, cells or {})
    return _study_cells(opened, study_cells_settings(opened, settings), options, how)


def study_networks(
    project: Folder, *, options: Options | None = None, train: Mapping[str, Any] | None = None, **settings: Any
) -> Run:
    """Compare networks, schemes and numbers of labelled slices; settings are those of `StudyNetworksSettings`.

    Settings of the training are those of `train` in the project file, with the changes in `train`.
    """
    opened = open_project(project)
    how = train_settings(opened, train or {})
    return _study_networks(opened, study_networks_settings(opened, settings), options, how)


def evaluate(project: Folder, *, options: Options | None = None, **settings: Any) -> Run:
    """Score the prediction against the truth; settings are those of `EvaluateSettings`."""
    opened = open_project(project)
    return _evaluate(opened, resolve_settings(EvaluateSettings, opened.stage_settings("evaluate"), settings), options)


def measure(project: Folder, *, options: Options | None = None, **settings: Any) -> Run:
    """Measure every object: shape, texture, relations; settings are those of `MeasureSettings`."""
    opened = open_project(project)
    return _measure(opened, measure_settings(opened, settings), options)


def mesh(project: Folder, *, options: Options | None = None, **settings: Any) -> Run:
    """Make smooth closed surfaces of objects and cells; settings are those of `MeshSettings`."""
    opened = open_project(project)
    return _mesh(opened, mesh_settings(opened, settings), options)


def render(
    project: Folder, *, options: Options | None = None, mesh: Mapping[str, Any] | None = None, **settings: Any
) -> Run:
    """Take a picture, or a movie, of objects and cells; settings are those of `RenderSettings`.

    Settings of the surfaces are those of `mesh` in the project file, with the changes in `mesh`.
    """
    opened = open_project(project)
    return _render(opened, render_settings(opened, settings), options, mesh)


def cross_validate(project: Folder, *, options: Options | None = None, **settings: Any) -> Run:
    """Score without truth: leave out one labelled slice at a time; settings are those of `TrainSettings`."""
    opened = open_project(project)
    return _cross_validate(opened, train_settings(opened, settings), options)


def advise(project: Folder, *, options: Options | None = None, **settings: Any) -> Run:
    """Rank the slices that are not labelled by what a label would teach; settings are those of `AdviseSettings`."""
    opened = open_project(project)
    return _advise(opened, advise_settings(opened, settings), options)


def quality(project: Folder, *, options: Options | None = None, **settings: Any) -> Run:
    """Estimate the Dice of every slice without truth, and list red flags; settings are those of `QualitySettings`."""
    opened = open_project(project)
    return _quality(opened, quality_settings(opened, settings), options)


def doctor(project: Folder, *, options: Options | None = None, **settings: Any) -> Run:
    """Rank labelled slices by how their labels disagree with the others; settings are those of `DoctorSettings`."""
    opened = open_project(project)
    return _doctor(opened, doctor_settings(opened, settings), options)


def compare(
    projects: Sequence[Folder],
    out: Path | str,
    *,
    groups: Mapping[str, Sequence[Folder]] | None = None,
    options: Options | None = None,
    **settings: Any,
) -> Path:
    """Compare what was measured in several projects, write tables and a page to the folder `out`, and return the page.

    `groups` are projects under names; without them, each is a group of its own. Settings are those of
    `CompareSettings`.
    """
    from cristae.report.compare import build_comparison  # noqa: PLC0415  plotting is slow to load

    members = {name: [open_project(one) for one in group] for name, group in (groups or {}).items()}
    opened = [open_project(one) for one in projects]
    folder = _compare(opened, Path(out), members or None, resolve_settings(CompareSettings, settings), options)
    page = folder / "index.html"
    return page if page.is_file() else build_comparison(folder, options)


def correct(project: Folder, layer: str | None = None, *, by: str = "python", read_only: bool = False) -> Corrections:
    """Open the corrections of a layer, in a ``with`` statement; `cristae.corrections.tools` are what edits it.

    `layer` is the class of the cells, ``<class>/objects`` or ``<class>``, a mask; without it, the cells. Edits are kept
    on disk at once, beside what was found, and can be undone. `by` is kept with each as the front end.
    """
    return open_corrections(open_project(project), layer, by=by, read_only=read_only)


def apply_corrections(project: Folder, layer: str | None = None, *, options: Options | None = None) -> Run:
    """Make a run of a layer as it was corrected, which is measured, meshed and exported from then on."""
    return _apply_corrections(open_project(project), layer, options)


def feed_corrections(
    project: Folder,
    layer: str | None = None,
    slices: Sequence[int] | None = None,
    *,
    complete: bool = False,
    options: Options | None = None,
) -> Annotations:
    """Make annotations of corrected slices, to learn from in the next training.

    Only what was corrected or annotated is learnt from, unless the `slices` are named as `complete`: right as they are.
    """
    return _feed_corrections(open_project(project), layer, slices, complete=complete, options=options)


def write_report(project: Folder, *, options: Options | None = None) -> Path:
    """Write ``report/index.html`` from what is in the project folder and return its path."""
    from cristae.report.build import build_report  # noqa: PLC0415  plotting is slow to load

    return build_report(open_project(project), options)


def run(
    project: Folder, *, options: Options | None = None, settings: Mapping[str, Mapping[str, Any]] | None = None
) -> Path:
    """Do all stages that the labels allow, evaluate where there is truth, and report; return the path of the report.

    `settings` are grouped by stage: ``{"train": {"updates": 2000}}``.
    """
    opened = open_project(project)
    _run(opened, settings or {}, options)
    return write_report(opened, options=options)


def plan(
    project: Folder | None = None,
    *,
    options: Options | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    **volume: Any,
) -> Plan:
    """Return what every stage takes on this machine, before anything runs.

    Of a project, or of a volume that there is not yet, whose settings are those of `PlanSettings`. `settings` are
    grouped by stage: ``{"train": {"network": "transunet"}}``; ``options.executor`` and ``options.max_ram_gb`` count.
    """
    opened = None if project is None else open_project(project)
    return _plan(opened, resolve_settings(PlanSettings, volume), settings, options)


def status(project: Folder) -> list[StageStatus]:
    """Return how far each stage of a project is."""
    return _status(open_project(project))


def export(
    project: Folder, layer: str, destination: Path | str, *, options: Options | None = None, **settings: Any
) -> Path:
    """Write a layer in the format of the suffix, or as a folder; settings are those of `ExportSettings`."""
    return _export(open_project(project), layer, Path(destination), resolve_settings(ExportSettings, settings), options)


def make_phantom(
    path: Path | str, *, options: Options | None = None, n_labelled: int = 7, with_cells: bool = False, **settings: Any
) -> Project:
    """Make a project with a synthetic tumour, its truth, and `n_labelled` evenly spaced labelled slices.

    Cells are among what is labelled only if `with_cells`. Settings are those of `cristae.phantom.PhantomSettings`.
    """
    from cristae.phantom.settings import PhantomSettings  # noqa: PLC0415  compiles its kernels when loaded

    return _phantom(path, resolve_settings(PhantomSettings, settings), n_labelled, with_cells, options)


def samples(registry: Path | None = None) -> dict[str, Sample]:
    """Return the public volumes that `sample` can fetch; `registry` is another list than the built-in one."""
    return list_samples(registry)


def sample(
    name: str,
    path: Path | str,
    *,
    registry: Path | None = None,
    options: Options | None = None,
    **settings: Any,
) -> Project:
    """Fetch a public volume and make a project of it; settings are those of `SampleSettings`.

    This alone uses the network. ``options.notify`` is told size, licence and citation before anything is fetched.
    """
    chosen = resolve_settings(SampleSettings, settings)
    return _sample(name, path, registry=registry, settings=chosen, options=options)


def open_project(project: Folder) -> Project:
    """Return the project of a folder; a `Project` is returned as it is."""
    return project if isinstance(project, Project) else Project.open(project)

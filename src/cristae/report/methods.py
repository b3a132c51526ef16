"""The paragraph on methods for a paper: what was done, with the settings and versions that the runs noted.

Each sentence comes from the manifest and the settings of one run, so that it says what was done, not what is usual.
What a run did not note is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cristae.project import Project, Run
from cristae.report.gather import Findings
from cristae.report.methods_training import network_of, training_sentence
from cristae.stages.corrected import correctable, corrected_run, n_corrections
from cristae.wording import listed, number_ranges

_PACKAGES = {"torch": "PyTorch", "numpy": "NumPy", "zarr": "zarr", "scikit-image": "scikit-image"}
_FAMILIES = {
    "shape": "size and shape",
    "holes": "holes",
    "texture": "grey-level co-occurrence",
    "zones": "size zones",
    "spectrum": "pattern spectra",
    "features": "curvature, invaginations and skeletons",
    "relations": "parents, contacts and distances",
}

Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Methods:
    """The paragraph as sentences, and the runs that they are about."""

    sentences: tuple[str, ...]
    runs: tuple[str, ...]


def methods_part(found: Findings) -> Methods | None:
    """Write the paragraph; None where nothing was computed yet."""
    project = found.project
    steps: list[tuple[Run | None, Callable[[Facts, Facts], str]]] = [
        (_prepared(project, "align"), _align),
        (_prepared(project, "equalise"), _equalise),
        (found.train, lambda facts, settings: training_sentence(facts, settings, network_of(found.train))),
        (found.predict, _predict),
        (project.latest("cells"), _cells),
        (project.latest("track"), _track),
        (project.latest("objects"), _objects),
        *((run, _corrected) for run in _corrections(project)),
        (project.latest("measure"), _measure),
        *((one.run, _score) for one in found.score_sets),
    ]
    sentences, runs = [], []
    for run, words in steps:
        if run is None or not run.finished:
            continue
        try:
            settings = run.settings
        except (OSError, ValueError):
            continue
        if sentence := words(run.manifest, settings):
            sentences.append(sentence)
            runs.append(run)
    if not runs:
        return None
    return Methods((*_image(found), *sentences, *_versions(runs)), tuple(run.path.name for run in runs))


def _prepared(project: Project, stage: str) -> Run | None:
    """Return the run of a preparation that the image in use was made by."""
    used = project.file
    return next((run for run in project.runs(stage) if run.path.name in (used.prepared, used.aligned)), None)


def _image(found: Findings) -> Iterator[str]:
    image = found.image
    if image is None:
        return
    n = " × ".join(f"{size:,}" for size in image.shape)
    size = " × ".join(f"{one:g}" for one in image.grid.voxel_size)
    bad = found.project.lost_slices
    without = f" Slices {number_ranges(bad)} were missing or left out." if bad else ""
    yield f"The volume had {n} voxels (z × y × x) of {size} nm.{without}"


def _align(facts: Facts, settings: Facts) -> str:
    return (
        f"Slices were aligned by {_said(settings, 'model')}, each matched to {_said(settings, 'neighbours')} slices "
        f"before it, and resampled once ({_said(settings, 'interpolation')})."
    )


def _equalise(facts: Facts, settings: Facts) -> str:
    how = {
        "histogram": "by histogram equalisation of every slice",
        "clahe": f"by CLAHE in tiles of {_said(settings, 'tile_px')} px, limit {_said(settings, 'limit')}",
        "match": f"by matching the histogram of every slice to that of {_said(settings, 'reference')}",
    }
    return f"Grey values were equalised {how.get(str(settings.get('method')), 'slice by slice')}."


def _predict(facts: Facts, settings: Facts) -> str:
    views = settings.get("views")
    also = f", averaged over {views} mirrored and turned views" if isinstance(views, int) and views > 1 else ""
    also += ", and over slices along z, y and x" if settings.get("axes") == "all" else ""
    smooth = settings.get("smooth_z")
    also += f", smoothed along z (Gaussian, σ = {smooth:g} slices)" if smooth else ""
    return f"Probabilities were predicted for every voxel{also}, and cut at {_said(facts, 'threshold')}."


def _cells(facts: Facts, settings: Facts) -> str:
    how = "chosen on left-out labelled slices" if settings.get("method") == "auto" else "as chosen"
    slices = facts.get("labelled_slices", ())
    return f"Cells were separated from {len(slices)} labelled slices by the method “{facts.get('method')}” ({how})."


def _track(facts: Facts, settings: Facts) -> str:
    return (
        f"Cells were followed through the slices by the method “{_said(settings, 'method')}”, with links over at most "
        f"{_said(settings, 'longest_gap')} slices."
    )


def _objects(facts: Facts, settings: Facts) -> str:
    n = settings.get("smallest_um3")
    dropped = f"; those below {n:g} µm³ were left out" if n else ""
    return f"Organelles were told apart as connected components ({_said(settings, 'connectivity')}-connected){dropped}."


def _corrections(project: Project) -> list[Run]:
    """Return the applied corrections of the layers that are in use."""
    runs = [corrected_run(project, one.run, one.of) for one in correctable(project).values()]
    return [run for run in runs if n_corrections(run)]


def _corrected(facts: Facts, settings: Facts) -> str:
    n = int(facts["n_edits"])
    return f"By hand, {facts['layer']} was corrected in {n} edit{'s' * (n != 1)}."


def _measure(facts: Facts, settings: Facts) -> str:
    families = [_FAMILIES.get(str(one), str(one)) for one in settings.get("families", ())]
    grey = {"texture", "zones", "spectrum"} & set(settings.get("families", ())) and facts.get("has_image")
    bins = (
        f"{settings.get('bins')} grey levels over the range of each object"
        if settings.get("quantise_by") == "number"
        else f"grey levels of {settings.get('bin_width')} grey values"
    )
    counts = facts.get("n_objects", {})
    told = ", ".join(f"{name} {n:,}" for name, n in counts.items()) if isinstance(counts, Mapping) else ""
    of = f" of all objects ({told})" if told else ""
    source = "the imported labels" if facts.get("source") == "truth" else "the segmentation"
    texture = f" Texture was computed with {bins}." if grey else ""
    return (
        f"Of {source}, these features{of} were measured: {listed(families)}; volume, surface and shape of objects "
        f"that the edge of the volume cuts were left out.{texture}"
    )


def _score(facts: Facts, settings: Facts) -> str:
    dices = {name: one for name, one in (facts.get("dice_3d") or {}).items() if one is not None}
    told = ", ".join(f"{name} {value:.3f}" for name, value in dices.items())
    of_cells = _cells_score(facts)
    if not dices and not of_cells:
        return ""
    crossed = facts.get("stage") == "crossvalidate"
    where = (
        "left-out labelled slices, each predicted by networks trained on the others" if crossed else "slices with truth"
    )
    if not crossed and settings.get("exclude_labelled"):
        where += " that were not used for training"
    words = [f"the 3D Dice was {told}"] if told else []
    return f"On {where}, {' and '.join([*words, *of_cells])}."


def _cells_score(facts: Facts) -> list[str]:
    """Return the mean Dice of cells in words, with what it was before corrections; nothing where it is not known."""
    if facts.get("dice_cells") is None:
        return []
    before = facts.get("dice_cells_before")
    also = "" if before is None else f" ({before:.3f} before corrections by hand)"
    return [f"the mean Dice of cells was {facts['dice_cells']:.3f}{also}"]


def _versions(runs: Sequence[Run]) -> Iterator[str]:
    noted = [run.manifest.get("environment", {}) for run in runs]
    known: dict[str, list[str]] = {}
    for one in noted:
        for name, value in dict(one.get("versions", {})).items():
            known.setdefault(name, [])
            if str(value) not in known[name]:
                known[name].append(str(value))
    pythons = list(dict.fromkeys(str(one["python"]) for one in noted if one.get("python")))
    if not known:
        return
    others = [f"{title} {' and '.join(known[name])}" for name, title in _PACKAGES.items() if name in known]
    python = [f"Python {' and '.join(pythons)}"] if pythons else []
    yield (
        f"All steps were done with cristae {' and '.join(known.get('cristae', ['?']))} "
        f"({', '.join([*python, *others])})."
    )


def _said(settings: Facts, name: str) -> str:
    value = settings.get(name)
    if value is None:
        return "?"
    return f"{value:g}" if isinstance(value, float) else str(value)

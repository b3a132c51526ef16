"""`cristae measure`: a row for every object, with its shape, texture and relations.

The volume is read block by block, once per class and family of features; what is counted in blocks is merged by id, so
that nothing depends on the blocks. A family that is measured is kept on disk until all are: a killed run goes on with
the family it was at::

    runs/measure-<id>/    .parts/<class>.<family>.parquet     objects · relations · violations (.parquet, .csv)
                          dictionary.json                     <class>.ome.zarr (ids of true masks)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from cristae.allocation import keep_freed_memory
from cristae.features.definitions import Definition
from cristae.features.glcm import step_lengths_nm
from cristae.files import write_atomically
from cristae.project import Project, Run
from cristae.settings import resolve_settings
from cristae.stages.finished import nothing_to_do
from cristae.stages.limits import keep_memory
from cristae.stages.measuring import tables
from cristae.stages.measuring.sample import Meter, Sample, Walk
from cristae.stages.measuring.settings import TEXTURES, MeasureSettings
from cristae.stages.measuring.sources import find_source, open_sample
from cristae.stages.measuring.whole import Measured, measure_sample
from cristae.stages.options import Options

__all__ = ["MeasureSettings", "measure", "measure_settings", "summary", "summary_table"]


def measure_settings(project: Project, changes: Mapping[str, Any]) -> MeasureSettings:
    """Return the settings of a measurement: defaults, then project file, then `changes`."""
    return resolve_settings(MeasureSettings, project.stage_settings("measure"), changes)


def measure(project: Project, settings: MeasureSettings | None = None, options: Options | None = None) -> Run:
    """Measure every object of every class.

    Rests on the objects of the last prediction, which are made first where there are none, and on the cells that were
    tracked last (separated last, where none were); or on the labels that were imported as truth, which need no image:
    without one there is no texture. Writes as Parquet and CSV ``objects`` (a row per object of all classes),
    ``relations`` (a row per pair that touches, overlaps or lies near), ``violations`` (what does not lie where it
    should), and ``dictionary.json``: what every column means, and the settings that texture depends on.

    Raises
    ------
    DataError
        If there is nothing to measure, or labels and image do not fit each other.
    UsageError
        If a class or a feature that is named is not there.
    ResourceError
        If the project is in use or the disk is full.
    """
    settings, options = settings or measure_settings(project, {}), options or Options()
    source = find_source(project, settings, options)
    # Memory decides how the work is done, not what comes out.
    run = project.run("measure", settings.model_copy(update={"max_ram_gb": None}), source.inputs)
    if nothing_to_do(project, run, options):
        return run
    options.check()
    settings, options = keep_memory("measure", project, settings, options)
    keep_freed_memory()
    with project.lock(), project.record(run, settings, source.inputs):
        if options.force:
            _clear(run)
        if source.corrections:
            options.notify(f"measure: {source.corrections}")
        sample = open_sample(project, source, settings, run, options)
        if sample.image is None and set(settings.families) & set(TEXTURES):
            options.notify("measure: there is no image, so nothing is said of texture")
        if sample.cell not in sample.layers:
            options.notify("measure: there are no cells, so nothing is said of what lies in which cell")
        crew, meter = options.crew(run.path), Meter(options.progress("measure"))
        walk = Walk(settings.block_side, crew, settings.max_ram_gb * 1e9, meter)
        found = measure_sample(sample, settings, run.path / ".parts", walk)
        for sentence in found.problems.values():
            options.notify(f"measure: {sentence}")
        _write(run, sample, settings, found)
        run.update(
            classes=list(source.classes),
            cell=sample.cell,
            nucleus=sample.nucleus,
            nucleolus=sample.nucleolus,
            source=settings.source,
            has_image=sample.image is not None,
            source_runs={name: one.path.name for name, one in source.runs.items() if name in source.classes},
            n_objects=_counts(found.objects, sample),
            n_relations=len(found.relations),
            n_violations=len(found.violations),
            problems=list(found.problems.values()),
            summary=summary(found.objects, sample.layers),
        )
        shutil.rmtree(run.path / ".parts")
        for folder in run.path.glob(".*.parts.*"):
            shutil.rmtree(folder)
    return run


def summary(objects: pd.DataFrame, classes: Any) -> dict[str, dict[str, Any]]:
    """Return per class how many objects there are, how many are cut, and the mean volume (µm³) of the others."""
    found = {}
    for name in classes:
        table = objects[objects["class"] == name] if len(objects) else objects
        volume = table["volume_um3"].dropna().astype(float) if len(table) else pd.Series(dtype=float)
        found[name] = {
            "n": len(table),
            "n_cut": int(table["touches_edge"].sum()) if len(table) else 0,
            "mean_volume_um3": float(volume.mean()) if len(volume) else None,
            "sd_volume_um3": float(volume.std()) if len(volume) > 1 else None,
        }
    return found


def summary_table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what `summary` says as lines of text."""
    lines = [f"{'':20}{'objects':>10}{'cut':>10}   mean volume of the others (µm³)"]
    for name, facts in found.items():
        mean, spread = facts["mean_volume_um3"], facts["sd_volume_um3"]
        words = "–" if mean is None else f"{mean:.4g}" + ("" if spread is None else f" ± {spread:.2g}")
        lines.append(f"{name:20}{facts['n']:>10}{facts['n_cut']:>10}   {words}")
    return "\n".join(lines)


def _counts(objects: pd.DataFrame, sample: Sample) -> dict[str, int]:
    n = objects["class"].value_counts()
    return {name: int(n.get(name, 0)) for name in sample.layers}


def _write(run: Run, sample: Sample, settings: MeasureSettings, found: Measured) -> None:
    meanings = {
        "objects": tables.definitions(list(found.objects.columns), settings.spectrum_radius, found.plugins),
        "relations": tables.relation_definitions(),
        "violations": tables.violation_definitions(),
    }
    for name, table in (
        ("objects", found.objects),
        ("relations", found.relations),
        ("violations", found.violations),
    ):
        tables.write_with_units(table, run.path / name, meanings[name])
    content = {name: [_entry(*item) for item in of_table.items()] for name, of_table in meanings.items()}
    facts = {"voxel_size_nm": sample.grid.voxel_size, "settings": _texture_settings(settings, sample)}
    write_atomically(
        run.path / "dictionary.json", json.dumps({**content, **facts}, indent=1, ensure_ascii=False) + "\n"
    )


def _entry(name: str, meaning: Definition) -> dict[str, str]:
    return {
        "name": name,
        **{"definition" if key == "meaning" else key: value for key, value in asdict(meaning).items()},
    }


def _texture_settings(settings: MeasureSettings, sample: Sample) -> dict[str, Any]:
    """Return what numbers depend on beside the voxels: to be stated with them."""
    return {
        "quantisation": {
            "by": settings.quantise_by,
            "bins": settings.bins if settings.quantise_by == "number" else None,
            "bin_width": settings.bin_width if settings.quantise_by == "width" else None,
            "range": "of each object",
        },
        "glcm": {
            "distances_px": settings.distances,
            "n_offsets": 26,
            "aggregation": settings.aggregation,
            "step_lengths_nm": step_lengths_nm(sample.grid.voxel_size, settings.distances),
        },
        "szm": {"connectivity": settings.zone_connectivity},
        "ps": {
            "structuring_element": f"{settings.spectrum_shape} of 2n + 1 voxels, inside the object",
            "largest_radius_px": settings.spectrum_radius,
            "floor": settings.spectrum_floor,
        },
        "surface": {"smoothing_sigma_px": settings.sigma_px},
        "relations": {"max_distance_nm": settings.max_distance_nm},
        "solidity": f"of {sample.nucleolus}: with holes filled; of other classes: with holes",
    }


def _clear(run: Run) -> None:
    for path in (*run.path.glob("*.ome.zarr"), *run.path.glob(".*parts*")):
        shutil.rmtree(path)
    for path in run.path.glob("*.blocks"):
        path.unlink()

"""Peak memory of every stage on a phantom of 64 and of 32 slices of 6000 × 4000: as planned, and not growing.

Each stage runs in a process of its own. The figure is the largest peak over what `cristae plan` said before. Labelled
slices lie 8 apart at both depths, and networks learn from the first three, so that only the depth differs. What is
finished is kept in ``benchmarks/.work`` (or ``$CRISTAE_BENCH_WORK``): killed, the same command goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cristae
from benchmarks.result import Result

STAGES = ("import", "train", "predict", "cells", "track", "objects", "anatomy", "evaluate", "measure", "report")
APART = 8
GROWTH = 0.10
_CODE = """
import json, sys, time
import cristae
from cristae.allocation import wait_asleep
from cristae.environment import peak_memory_mb
stage, folder, source, settings = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
begun = time.monotonic()
if stage == "phantom":
    cristae.make_phantom(source, **settings)
elif stage == "plan":
    print(json.dumps(cristae.plan(folder, settings=settings).facts()))
    raise SystemExit
elif stage == "import":
    cristae.import_image(folder, source + "/image.ome.zarr")
elif stage == "report":
    cristae.write_report(folder)
else:
    name = {"anatomy": "find_parents"}.get(stage, stage)
    getattr(cristae, name)(folder, **settings)
seconds = {"seconds": round(time.monotonic() - begun, 1), "core_seconds": round(time.process_time(), 1)}
print(json.dumps({"peak_mb": peak_memory_mb(), **seconds}))
"""


@dataclass(frozen=True)
class Scene:
    """Size of slices, voxel size in nm, and updates of the training."""

    side: tuple[int, int]
    voxel_nm: float
    updates: int


def run(quick: bool) -> Result:
    """Do all stages at both depths, or those that are missing."""
    depths, scene = ((16, 32), Scene((384, 320), 16.0, 30)) if quick else ((32, 64), Scene((6000, 4000), 4.0, 500))
    found = {depth: measure(depth, scene, place("quick" if quick else "full")) for depth in depths}
    short, deep = (found[depth] for depth in depths)
    used = {name: deep["peak_mb"][name] / deep["planned_mb"][name] for name in STAGES}
    growth = {name: deep["peak_mb"][name] / short["peak_mb"][name] - 1 for name in STAGES}
    paces = {name: deep["planned_s"][name] / max(0.1, deep["seconds"][name]) for name in STAGES}
    return Result(
        "pipeline_memory",
        max(used.values()),
        "largest peak over what was planned",
        "completes; no peak above the plan, and none more than 10 % above that of half the slices",
        None if quick else max(used.values()) <= 1 and max(growth.values()) <= GROWTH,
        details={
            "peak_mb": deep["peak_mb"],
            "planned_mb": deep["planned_mb"],
            "growth_over_half_the_slices": growth,
            "seconds": deep["seconds"],
            "core_seconds": deep["core_seconds"],
            "planned_seconds_over_measured": paces,
            "disk_mb": deep["disk_mb"],
            "planned_disk_mb": deep["planned_disk_mb"],
        },
    )


def place(name: str) -> Path:
    """Return the folder in which the work is kept."""
    stated = os.environ.get("CRISTAE_BENCH_WORK")
    folder = Path(stated) if stated else Path(__file__).parent / ".work"
    return folder / "pipeline_memory" / name


def measure(depth: int, scene: Scene, folder: Path) -> dict[str, Any]:
    """Return peaks, seconds and plan of all stages at one depth, from disk as far as they are there."""
    work, project = folder / str(depth), folder / str(depth) / "project"
    work.mkdir(parents=True, exist_ok=True)
    known = work / "measured.json"
    done: dict[str, Any] = json.loads(known.read_text()) if known.is_file() else {}
    voxel = (scene.voxel_nm,) * 3
    phantom = {"shape": (depth, *scene.side), "n_labelled": depth // APART + 1, "with_cells": True, "voxel_size": voxel}
    settings: dict[str, dict[str, Any]] = {"phantom": phantom, "cells": {"method": "paths"}}
    for stage in ("phantom", "import", "plan", *STAGES[1:]):
        if stage in done:
            continue
        if stage == "import":
            shutil.rmtree(project, ignore_errors=True)
            cristae.init(project, voxel_size=voxel)
        if stage in ("plan", "train"):
            settings["train"] = {"updates": scene.updates, **_learnt(cristae.Project.open(project))}
        given = settings.get(stage, {})
        if stage == "plan":
            given = {"train": settings["train"], "cells": settings["cells"]}
        done[stage] = _apart(stage, project, work / "phantom", given)
        if stage == "import":
            _copy_labels(work / "phantom", project)
        known.write_text(json.dumps(done, indent=1) + "\n")
    planned = {cost["stage"]: cost for cost in done["plan"]["stages"]}
    mb = 2**20
    return {
        "peak_mb": {name: done[name]["peak_mb"] for name in STAGES},
        "seconds": {name: done[name]["seconds"] for name in STAGES},
        "core_seconds": {name: done[name]["core_seconds"] for name in STAGES},
        "planned_mb": {name: round(planned[name]["ram_bytes"] / mb, 1) for name in STAGES},
        "planned_s": {name: planned[name]["seconds"] for name in STAGES},
        "disk_mb": round(sum(path.stat().st_size for path in project.rglob("*") if path.is_file()) / mb, 1),
        "planned_disk_mb": round(sum(cost["disk_bytes"] for cost in planned.values()) / mb, 1),
    }


def _copy_labels(phantom: Path, project: Path) -> None:
    """Give a project the labels and the truth of the phantom."""
    for name in ("annotations", "truth"):
        shutil.rmtree(project / f"{name}.ome.zarr", ignore_errors=True)
        shutil.copytree(phantom / f"{name}.ome.zarr", project / f"{name}.ome.zarr")
    opened = cristae.Project.open(project)
    opened.add_classes(opened.annotations.classes)


def _learnt(project: cristae.Project) -> dict[str, Any]:
    """Return the first three labelled slices, and the classes that are on them."""
    annotations = project.annotations
    slices = annotations.labelled_slices("cell")[:3]
    names = [name for name in annotations.classes if any((annotations.read_slice(name, z) == 1).any() for z in slices)]
    return {"slices": slices, "classes": names}


def _apart(stage: str, project: Path, phantom: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    begun = time.monotonic()
    command = [sys.executable, "-c", _CODE, stage, str(project), str(phantom), json.dumps(settings)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{stage} failed after {time.monotonic() - begun:.0f} s:\n{ended.stderr[-3000:]}")
    return dict(json.loads(ended.stdout.splitlines()[-1]))

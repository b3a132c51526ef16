"""Peak memory of every stage on a phantom of 64 and of 32 slices of 6000 × 4000: as planned, and not growing.

Each stage runs in a process of its own. The figure is the largest peak over what `cristae plan` said before; of stages
that are in no plan (pictures, exports, adaptation, studies), over what they say themselves when they are given a
limit. Labelled slices lie 8 apart at both depths, and networks learn from the first three, so that only the depth
differs. The image is aligned and equalised, and then the raw one is taken into use again. What is finished is kept in
``benchmarks/.work`` (or ``$CRISTAE_BENCH_WORK``): killed, the same command goes on.
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

PREPARING = ("check", "align", "equalise")
PLANNED = (
    "import", *PREPARING, "train", "predict", "cells", "track", "objects", "anatomy", "evaluate", "measure", "mesh",
    "report",
)  # fmt: skip
OTHERS = ("render", "export", "study_cells", "study_networks", "adapt")
"""In this order, for what is adapted is predicted from henceforth."""
STAGES = (*PLANNED, *OTHERS)
APART = 8
GROWTH = 0.10
_CODE = """
import json, re, sys, time
import cristae
from cristae.allocation import wait_asleep
from cristae.environment import peak_memory_mb
stage, folder, source, settings = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
begun, told = time.monotonic(), []
options = cristae.Options(max_ram_gb=1000.0, notify=told.append)
if stage == "phantom":
    cristae.make_phantom(source, **settings)
elif stage == "plan":
    print(json.dumps(cristae.plan(folder, settings=settings).facts()))
    raise SystemExit
elif stage == "import":
    cristae.import_image(folder, source + "/image.ome.zarr")
elif stage == "raw":
    cristae.use_image(folder, "raw")
elif stage == "report":
    cristae.write_report(folder)
elif stage == "export":
    cristae.export(folder, "image", source + ".nrrd", options=options)
elif stage == "adapt":
    trained = cristae.Project.open(folder).latest("train")
    cristae.adapt(folder, trained.path, options=options, **settings)
elif stage in ("render", "study_cells", "study_networks"):
    getattr(cristae, stage)(folder, options=options, **settings)
else:
    name = {"anatomy": "find_parents"}.get(stage, stage)
    getattr(cristae, name)(folder, **settings)
seconds = {"seconds": round(time.monotonic() - begun, 1), "core_seconds": round(time.process_time(), 1)}
needs = [1024 * float(gb) for text in told for gb in re.findall("takes up to ([0-9.]+) GB", text)]
print(json.dumps({"peak_mb": peak_memory_mb(), **seconds, "needs_mb": max(needs, default=None)}))
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
    paces = {name: deep["planned_s"][name] / max(0.1, deep["seconds"][name]) for name in PLANNED}
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
    settings: dict[str, dict[str, Any]] = {
        "phantom": phantom,
        "cells": {"method": "paths"},
        "study_cells": {"gaps": (APART,), "methods": ("paths",)},
        "adapt": {"learning": "self_training", "updates": scene.updates // 10, "slices": 4},
    }
    first = 1 + len(PREPARING)
    for stage in ("phantom", *STAGES[:first], "raw", "plan", *STAGES[first:]):
        if stage in done:
            continue
        if stage == "import":
            shutil.rmtree(project, ignore_errors=True)
            cristae.init(project, voxel_size=voxel)
        if stage == "plan":
            _copy_labels(work / "phantom", project)
        if stage in ("plan", "train"):
            settings["train"] = {"updates": scene.updates, **_learnt(cristae.Project.open(project))}
        if stage == "study_networks":
            settings[stage] = _study(cristae.Project.open(project), scene)
        given = settings.get(stage, {})
        if stage == "plan":
            given = {"train": settings["train"], "cells": settings["cells"]}
        done[stage] = _apart(stage, project, work / "phantom", given)
        known.write_text(json.dumps(done, indent=1) + "\n")
    (work / "phantom.nrrd").unlink(missing_ok=True)
    planned = {cost["stage"]: cost for cost in done["plan"]["stages"]}
    mb = 2**20
    needed = {name: round(planned[name]["ram_bytes"] / mb, 1) for name in PLANNED}
    return {
        "peak_mb": {name: done[name]["peak_mb"] for name in STAGES},
        "seconds": {name: done[name]["seconds"] for name in STAGES},
        "core_seconds": {name: done[name]["core_seconds"] for name in STAGES},
        "planned_mb": needed | {name: done[name]["needs_mb"] for name in OTHERS},
        "planned_s": {name: planned[name]["seconds"] for name in PLANNED},
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


def _study(project: cristae.Project, scene: Scene) -> dict[str, Any]:
    """Return a study of one network, shown what the training was shown and scored on other slices."""
    learnt = _learnt(project)
    about = {"classes": learnt["classes"], "slices": (2,), "networks": ("resunet",), "schemes": ("supervised",)}
    training = {"slices": learnt["slices"], "updates": scene.updates // 10}
    return {**about, "repeats": 1, "train": training}


def _apart(stage: str, project: Path, phantom: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    begun = time.monotonic()
    command = [sys.executable, "-c", _CODE, stage, str(project), str(phantom), json.dumps(settings)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{stage} failed after {time.monotonic() - begun:.0f} s:\n{ended.stderr[-3000:]}")
    return dict(json.loads(ended.stdout.splitlines()[-1]))

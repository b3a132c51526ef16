"""Prediction by OpenVINO against PyTorch: the default network and the small UNet++, on slices of 2048 × 2048 voxels.

The figure is how many times faster `cristae predict` is with `predict.engine=openvino` than with `torch`, for the
network of the two that gains least (one view, no reduction, no smoothing, from Zarr to Zarr, start of the process left
out). With 8 bits the trial on the labelled slices is part of the time. Each engine runs in a process of its own, so
that its peak memory is its own. Dice is that of the labelled parts by which cristae decides whether 8 bits are good
enough, and the largest difference is that of stored probabilities, of 255.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

import cristae
from benchmarks.result import Result
from benchmarks.sets import VNC, data_folder, stack_project
from cristae.io.ome_zarr import open_volume

ENGINES = ("torch", "openvino", "openvino-int8")
NETWORKS = ("resunet", "unetplusplus")

_CODE = """
import json, sys, time, cristae, torch
from pathlib import Path
begun, cpu = time.perf_counter(), time.process_time()
run = cristae.predict(sys.argv[1], engine=sys.argv[2], views=1, smooth_z=0.0, device="cpu")
# Not that of getrusage, which knows the memory of the process that started this one.
peak = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
facts = run.manifest["engines"]["all"]
seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds,
    "peak_memory_mb": round(peak / 1024, 1), "run": run.path.name,
    "threads": torch.get_num_threads(), "engine": facts}))
"""


def run(quick: bool) -> Result:
    """Train both networks shortly, and predict with every engine in turn."""
    details = {name: _network(name, quick) for name in NETWORKS}
    over = {name: details[name]["over_torch"] for name in NETWORKS}
    least = min(over[name]["openvino"] for name in NETWORKS)
    least_int8 = min(over[name]["openvino-int8"] for name in NETWORKS)
    # A network that has learnt nothing loses nothing.
    learnt = all(value > 0.4 for name in NETWORKS for value in details[name]["dice_float32"].values())
    held = learnt and all(details[name]["int8_taken"] for name in NETWORKS)
    return Result(
        "openvino",
        least,
        "times as fast as PyTorch",
        "fp32 ≥1.3×, int8 ≥2× with Dice held within 0.002",
        None if quick else least >= 1.3 and least_int8 >= 2 and held,
        1.0,
        least,
        details={"int8_over_torch": least_int8, **details},
    )


def _network(name: str, quick: bool) -> dict[str, Any]:
    """Return figures of all engines on one network."""
    # A trial of 8 bits costs the same for any volume: too few slices would show little else.
    n_slices, side = (6, 512) if quick else (24, 1024)
    raw = tifffile.imread(data_folder() / VNC / "raw.tif")
    truth = tifffile.imread(data_folder() / VNC / "labels_mitochondria.tif") > 0
    wide = 1 if quick else 2
    image = np.stack([np.tile(raw[z % 20, :side, :side], (wide, wide)) for z in range(n_slices)])
    labels = {"mitochondrion": {z: np.tile(truth[z, :side, :side], (wide, wide)) for z in (0, 5)}}
    with tempfile.TemporaryDirectory() as folder:
        project = stack_project(Path(folder) / "wide", image, (45.0, 4.6, 4.6), labels)
        train = {"network": name, "updates": 4 if quick else 200, "context_nm": 883.2}
        cristae.train(project, **train)
        one = {engine: _predicted(project.path, engine) for engine in ENGINES}
        layers = {engine: _layer(project.path, one[engine]["run"]) for engine in ENGINES}
    away = {engine: np.abs(layers[engine] - layers["torch"]) for engine in ENGINES[1:]}
    facts = one["openvino-int8"]["engine"]
    return {
        "over_torch": {engine: one["torch"]["seconds"] / one[engine]["seconds"] for engine in ENGINES[1:]},
        "over_torch_cpu_time": {
            engine: one["torch"]["cpu_seconds"] / one[engine]["cpu_seconds"] for engine in ENGINES[1:]
        },
        "mvoxel_per_s": {engine: image.size / 1e6 / one[engine]["seconds"] for engine in ENGINES},
        "peak_memory_mb": {engine: one[engine]["peak_memory_mb"] for engine in ENGINES},
        "largest_difference_of_255": {engine: int(values.max()) for engine, values in away.items()},
        "share_that_differs": {engine: float((values > 0).mean()) for engine, values in away.items()},
        "dice_float32": facts.get("dice_float32", {}),
        "dice_int8": facts.get("dice_int8", {}),
        "int8_taken": facts["engine"].startswith("openvino-int8"),
        "engine": one["openvino"]["engine"]["engine"],
        "threads": one["torch"]["threads"],
    }


def _predicted(project: Path, engine: str) -> dict[str, Any]:
    text = subprocess.run(
        [sys.executable, "-c", _CODE, str(project), engine], capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(text.stdout.splitlines()[-1])
    return found


def _layer(project: Path, run: str) -> np.ndarray:
    return open_volume(project / "runs" / run / "mitochondrion.ome.zarr").read().astype(np.int16)

"""Prediction of a phantom by one and by two worker processes of a local Dask cluster, one thread each.

The figure is how many times as fast two are as one: the whole of `cristae predict`, pyramids and smoothing included,
by workers that are running and have loaded what they need. What both predict has to be equal to the last bit, and to
what the serial executor predicts.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import cristae
from benchmarks.result import Result
from cristae import cluster
from cristae.io.ome_zarr import open_volume
from cristae.stages.options import Options

PREDICT = {"engine": "torch", "device": "cpu", "views": 1}


def run(quick: bool) -> Result:
    """Time both, twice in turn, and compare what comes out."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the workers, which inherit it
    torch.set_num_threads(1)
    shape = (32, 256, 256) if quick else (96, 768, 768)
    seconds: dict[str, list[float]] = {"dask:local:1": [], "dask:local:2": []}
    with tempfile.TemporaryDirectory() as folder:
        project = cristae.make_phantom(Path(folder) / "phantom", shape=shape, voxel_size=(20.0,) * 3, n_labelled=3)
        cristae.train(project, classes=("nucleus",), updates=2 if quick else 60, context_nm=shape[1] * 20.0 / 4)
        expected = _predicted(project, "serial")[1]
        same = True
        for executor, times in seconds.items():
            _predicted(project, executor)
            for _ in range(1 if quick else 2):
                took, found = _predicted(project, executor)
                times.append(took)
                same &= bool((found == expected).all())
            cluster.disconnect()
    one, two = map(min, seconds.values())
    return Result(
        "dask_scaling",
        one / two,
        "times as fast",
        "two workers ≥1.7× one, identical output",
        None if quick else one / two >= 1.7 and same,
        details={
            "seconds": seconds,
            "identical": same,
            "mvoxel_per_s": {"1": _rate(shape, one), "2": _rate(shape, two)},
        },
    )


def _predicted(project: cristae.Project, executor: str) -> tuple[float, np.ndarray]:
    """Return the seconds of a prediction, and its probabilities."""
    begun = time.perf_counter()
    done = cristae.predict(project, options=Options(force=True, executor=executor), **PREDICT)
    return time.perf_counter() - begun, open_volume(done.path / "nucleus.ome.zarr").read()


def _rate(shape: tuple[int, int, int], seconds: float) -> float:
    return float(np.prod(shape)) / 1e6 / seconds

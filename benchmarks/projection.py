"""How long the tumour Bx2 (5728 × 3511 × 2526 voxels) and ten times as much would take, from rates measured here.

Five classes of organelles and cells, a labelled slice in every hundred. From the raw stack to the report: import,
check, align, equalise, all stages of `cristae run`, and meshes.
Three ways: one workstation of 16 cores, where the network runs 0.8 × 8 times as fast as on these 2 (assumed); the
same with one graphics card, on which it runs 40 times as fast as on these 2 cores (**assumed**, not measured: about
13 TFLOP/s); 100 workers of 2 cores like these, of which 0.85 is of use (assumed); what no cluster shares (training,
trying the ways to separate cells, evaluation, the report) one of them does alone. Rates of the network, of a kernel and
of the store are measured in this row, all others are those of the committed rows (see `cristae.costs.pace`). The figure
is the hours of Bx2 on the workstation without a card.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.result import Result
from cristae.costs.pace import Rates
from cristae.costs.price import OPTIONAL, needed_stages, price
from cristae.costs.work import Machine, Work
from cristae.geometry import Grid
from cristae.stages.options import Options
from cristae.stages.speed import measure_rates
from cristae.stages.workload import Subject, planned, work_of

BX2 = (5728, 3511, 2526)
TEN_TIMES = (12341, 7564, 5442)
VOXEL = (4.0, 4.0, 4.0)
CORES, SPREAD = 16, 0.8
CARD = 40.0
WORKERS, OF_USE = 100, 0.85
ALONE = ("train", "evaluate", "report")
"""Stages that run where the command runs, whoever else is there."""


def run(quick: bool) -> Result:
    """Measure rates, and carry them over."""
    how = planned(None, {})
    groups = (5, 2)
    with tempfile.TemporaryDirectory() as folder:
        rates = measure_rates(how.train, groups, Path(folder), quick_engine=True)
    table: dict[str, Any] = {}
    for name, shape in {"Bx2": BX2, "10 × Bx2": TEN_TIMES}.items():
        labelled = tuple(range(0, shape[0], 100))
        n = len(labelled)
        subject = Subject(Grid(shape, VOXEL), 1, groups, 5, True, labelled, n, n, OPTIONAL)
        work = work_of(subject, how, Options())
        table[name] = {
            "workstation": _hours(replace(work, workers=CORES), _faster(rates, CORES / 2 * SPREAD), CORES),
            "with a card": _hours(replace(work, workers=CORES), _faster(rates, CARD), CORES),
            "100 workers": _on_workers(replace(work, workers=2), rates),
            "disk_tb": round(
                sum(price(s, work, Machine(2, 0, 0), rates).disk_bytes for s in needed_stages(work)) / 1e12, 2
            ),
            "ram_gb_of_one_worker": round(
                max(price(s, replace(work, workers=1), Machine(1, 0, 0), rates).ram_bytes for s in needed_stages(work))
                / 1e9,
                1,
            ),
        }
    return Result(
        "projection",
        table["Bx2"]["workstation"]["all"],
        "hours for Bx2 on a workstation of 16 cores",
        "reported",
        None,
        details={"hours": table, "million_voxels": {"Bx2": _million(BX2), "10 × Bx2": _million(TEN_TIMES)}},
    )


def _million(shape: tuple[int, int, int]) -> float:
    return round(shape[0] * shape[1] * shape[2] / 1e6)


def _faster(rates: Rates, by: float) -> Rates:
    """Return rates with networks that run so many times as fast."""
    return replace(
        rates,
        forward_s=tuple(one / by for one in rates.forward_s),
        training_s=tuple(one / by for one in rates.training_s),
    )


def _hours(work: Work, rates: Rates, cores: int) -> dict[str, float]:
    return _in_hours(_seconds(work, rates, cores))


def _on_workers(work: Work, rates: Rates) -> dict[str, float]:
    """Return hours where blocks are shared out to workers of two cores each; what cannot be shared takes its time."""
    untried = replace(work, separation=replace(work.separation, method="paths"))
    whole, shared = _seconds(work, rates, 2), {n: s for n, s in _seconds(untried, rates, 2).items() if n not in ALONE}
    return _in_hours({n: s - shared.get(n, 0) + shared.get(n, 0) / (WORKERS * OF_USE) for n, s in whole.items()})


def _seconds(work: Work, rates: Rates, cores: int) -> dict[str, float]:
    machine = Machine(cores, 64e9, 1e14)
    return {stage: price(stage, work, machine, rates).seconds for stage in needed_stages(work)}


def _in_hours(seconds: dict[str, float]) -> dict[str, float]:
    return {name: round(value / 3600, 2) for name, value in {**seconds, "all": sum(seconds.values())}.items()}

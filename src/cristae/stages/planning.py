"""`cristae plan`: memory, disk and time of every stage, before anything runs."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from cristae.costs.memory import MEMORY
from cristae.costs.pace import Rates
from cristae.costs.price import price, stages_of
from cristae.costs.work import Cost, Machine, Work
from cristae.environment import environment
from cristae.errors import UsageError
from cristae.geometry import Grid
from cristae.project import Project
from cristae.stages.options import Options
from cristae.stages.speed import measure_rates
from cristae.stages.workload import PlanSettings, planned, subject_of, work_of

PLANNED = ("train", "predict", "cells", "measure", "mesh")
"""Stages whose settings change a plan."""


@dataclass(frozen=True)
class Plan:
    """What every stage takes on a machine.

    Parameters
    ----------
    grid
        The volume.
    work
        What is to be done, in numbers.
    machine, rates
        What was found of the machine.
    costs
        By stage, in their order.
    problems
        Sentences on what will not fit.
    notes
        What was supposed.
    """

    grid: Grid
    work: Work
    machine: Machine
    rates: Rates
    costs: tuple[Cost, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Return all of it as JSON can hold it; what is optional is in no total."""
        needed = tuple(cost for cost in self.costs if not cost.optional)
        return {
            "shape": self.grid.shape,
            "voxel_size_nm": self.grid.voxel_size,
            "stages": [asdict(cost) for cost in self.costs],
            "total": {
                "ram_bytes": max(cost.ram_bytes for cost in needed),
                "vram_bytes": max(cost.vram_bytes for cost in needed),
                "disk_bytes": peak_disk(needed),
                "seconds": sum(cost.seconds for cost in needed),
            },
            "machine": asdict(self.machine),
            "rates": asdict(self.rates),
            "problems": list(self.problems),
            "notes": list(self.notes),
        }

    def table(self) -> str:
        """Return all of it as lines of text."""
        size = " × ".join(map(str, self.grid.shape))
        voxel = " × ".join(f"{length:g}" for length in self.grid.voxel_size)
        card = f", {self.machine.gpu} of {_gb(self.machine.vram_bytes)}" if self.machine.gpu else ", no graphics card"
        lines = [
            f"{size} voxels of {voxel} nm (z, y, x); {self.work.n_masks} classes of organelles"
            f"{', cells' * self.work.cells}; {self.work.n_labelled} labelled slices",
            f"{self.machine.cores} cores, {_gb(self.machine.ram_bytes)} of memory{card}, "
            f"{_gb(self.machine.disk_bytes)} of disk free",
            "",
            f"{'stage':10}{'memory':>10}{'graphics':>10}{'disk':>10}{'time':>12}   the most memory is for",
        ]
        for cost in self.costs:
            disk = _gb(cost.disk_bytes + cost.scratch_bytes)
            vram = _gb(cost.vram_bytes) if cost.vram_bytes else "–"
            lines.append(
                f"{f'({cost.stage})' if cost.optional else cost.stage:10}{_gb(cost.ram_bytes):>10}{vram:>10}{disk:>10}"
                f"{duration(cost.seconds):>12}   {cost.words}"
            )
        total = self.facts()["total"]
        vram = _gb(total["vram_bytes"]) if total["vram_bytes"] else "–"
        lines.append(
            f"{'all':10}{_gb(total['ram_bytes']):>10}{vram:>10}{_gb(total['disk_bytes']):>10}"
            f"{duration(total['seconds']):>12}"
        )
        return "\n".join([*lines, "", *self.problems, *self.notes])


def plan(
    project: Project | None,
    settings: PlanSettings | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    options: Options | None = None,
) -> Plan:
    """Return what every stage will take; nothing is written but a copy of some voxels, which is removed.

    Parameters
    ----------
    project
        Its image, labels and settings count; None where all is said by `settings`.
    settings
        The volume, in place of what the project has.
    changes
        Settings by stage, over those of the project.
    options
        ``executor`` and ``max_ram_gb`` are planned for.

    Raises
    ------
    UsageError
        If a stage that was named does not change a plan, or without a project no shape is given.
    DataError
        If the project has no image, and no shape is given.
    """
    settings, changes, options = settings or PlanSettings(), changes or {}, options or Options()
    if unknown := sorted(set(changes) - set(PLANNED)):
        raise UsageError(f"settings of {unknown[0]!r} do not change a plan; those of {', '.join(PLANNED)} do")
    if project is None and settings.shape is None:
        raise UsageError("give a project, or the size of a volume: cristae plan --shape Z Y X --voxel-size Z Y X")
    how = planned(project, changes)
    subject = subject_of(project, settings, how.train)
    work = work_of(subject, how, options)
    place = project.path if project else Path()
    machine = this_machine(place)
    options.notify("plan: measuring how quick this machine is")
    engine = how.predict.engine != "torch" and how.predict.device != "cuda"
    rates = measure_rates(how.train, subject.groups, place, quick_engine=engine)
    limit = options.max_ram_gb * 2**30 if options.max_ram_gb else math.inf
    costs = tuple(price(stage, work, machine, rates, limit) for stage in stages_of(work))
    problems = _problems(costs, work, machine, options)
    return Plan(subject.grid, work, machine, rates, costs, problems, _notes(work, costs))


def this_machine(place: Path) -> Machine:
    """Return what this machine has; the disk is that of `place`."""
    has_gpu = torch.cuda.is_available()
    return Machine(
        cores=int(environment()["cores"] or 1),
        ram_bytes=float(psutil.virtual_memory().total),
        disk_bytes=float(shutil.disk_usage(place.resolve()).free),
        gpu=torch.cuda.get_device_name() if has_gpu else "",
        vram_bytes=float(torch.cuda.get_device_properties(0).total_memory) if has_gpu else 0.0,
    )


def peak_disk(costs: tuple[Cost, ...]) -> float:
    """Return the most that is on the disk at a time."""
    kept, peak = 0.0, 0.0
    for cost in costs:
        peak = max(peak, kept + cost.disk_bytes + cost.scratch_bytes)
        kept += cost.disk_bytes
    return peak


def _problems(costs: tuple[Cost, ...], work: Work, machine: Machine, options: Options) -> tuple[str, ...]:
    """Say what will not fit."""
    found = []
    for cost in costs:
        if options.max_ram_gb and cost.ram_bytes > options.max_ram_gb * 2**30:
            needed = f"it needs {_gb(cost.ram_bytes)} ({cost.words})"
            found.append(f"{cost.stage} cannot keep --max-ram {options.max_ram_gb:g}: {needed}")
        elif cost.ram_bytes > machine.ram_bytes:
            least, _ = MEMORY[cost.stage](work).least
            found.append(
                f"{cost.stage} takes more memory than there is; with --max-ram it would take {_gb(least)} at least"
            )
        if cost.vram_bytes > machine.vram_bytes > 0:
            found.append(
                f"{cost.stage} takes more memory than the graphics card has: smaller batches or tiles would not"
            )
    at_most = peak_disk(tuple(cost for cost in costs if not cost.optional))
    if at_most > machine.disk_bytes:
        found.append(f"the disk is too full: {_gb(at_most)} are needed, and {_gb(machine.disk_bytes)} are free")
    return tuple(found)


def _notes(work: Work, costs: tuple[Cost, ...]) -> tuple[str, ...]:
    brackets = "Stages in brackets can be left out; `all` does not count them, as the project has not used them."
    network = "the network on one tile, " if work.networks else ""
    return (
        *((brackets,) if any(cost.optional for cost in costs) else ()),
        f"These are estimates: times from {network}a kernel and a copy of some voxels, tried just now, and from "
        "benchmarks scaled to this machine, as if nothing else ran on it; expect them within a factor of 2 or 3. "
        "Memory is planned generously; disk depends on how well probabilities compress.",
    )


def _gb(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.3g} GB" if n_bytes >= 2**30 / 10 else f"{n_bytes / 2**20:.3g} MB"


def duration(seconds: float) -> str:
    """Return a time in words of two digits: 40 s, 12 min, 5.5 h, 3.2 d."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"

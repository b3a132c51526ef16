"""Boundaries of `flyem_medulla` from five labelled slices: four networks, from labels alone and by CPS with CutMix.

They are ResUNet, UNet++, and of the others the two that are best in the committed `study_phantom`.
Every training has the same time on one core, each pair of networks included. Ranks are of the mean 3D Dice over seeds.
"""

from __future__ import annotations

from benchmarks.result import Result
from benchmarks.studies import study_row


def run(quick: bool) -> Result:
    """Run the study."""
    return study_row("flyem", "study_flyem", quick)

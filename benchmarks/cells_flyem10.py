"""Cells of `flyem_medulla` from every 10th slice, by the method chosen on left-out slices; baseline: copy the nearest.

Cells that a labelled slice meets are compared by id, others with what overlaps them best. Seeds are of the network.
"""

from __future__ import annotations

from benchmarks.cells import cells_row
from benchmarks.result import Result


def run(quick: bool) -> Result:
    """Run with three seeds."""
    return cells_row("cells_flyem10", "flyem_medulla", 10, (0.92, 0.025), quick)

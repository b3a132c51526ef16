"""Cells of `gala_fibsem/test` from every 10th slice, by the method chosen on left-out slices; baseline: copy nearest.

The figure is of the cells that a labelled slice meets, compared by id. Seeds are of the network.
"""

from __future__ import annotations

from benchmarks.cells import cells_row
from benchmarks.result import Result


def run(quick: bool) -> Result:
    """Run with three seeds."""
    return cells_row("cells_gala10", "gala_fibsem/test", 10, (0.95, None), quick)

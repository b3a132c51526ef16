"""What a column of a feature table means."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Definition:
    """One column of a table: its unit ("" for none), its meaning, its formula, and where it comes from."""

    unit: str
    meaning: str
    equation: str = ""
    paper: str = ""

"""Putting numbers in words, the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def number_ranges(numbers: Iterable[int]) -> str:
    """Write whole numbers as people do: ``0–19, 30``; ``none`` without any."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    # Two in a row are no range: "3, 4" reads better than "3–4".
    words = [f"{part[0]}–{part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts]
    return ", ".join(words) or "none"


def listed(names: Iterable[object]) -> str:
    """Return names or numbers as in a sentence: ``a``, ``a and b``, ``a, b and c``; ``nothing`` if there are none."""
    words = [str(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "nothing"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]

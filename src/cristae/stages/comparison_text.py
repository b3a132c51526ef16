"""A comparison in words: ``comparison.md``, and the sentences of its page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from cristae.comparison import ALPHA
from cristae.stages.measured import title_of, unit_of

MOST = 15
"""Differences that are told in words."""
FEW = 5
"""Effects that are told where none stays after correction, and on the page."""
_STRENGTHS = ((0.474, "large"), (0.33, "medium"), (0.147, "small"), (0.0, "negligible"))
"""Words for the size of Cliff's delta, after J. Romano et al. (2006)."""

Dictionary = Mapping[str, Mapping[str, str]]


def number(value: float) -> str:
    """Return a number as it is shown; – for none."""
    return "–" if math.isnan(value) else f"{value:.3g}".replace("-", "−")


def p_words(p: float) -> str:
    """Return a p-value as it is shown, – for none."""
    if math.isnan(p):
        return "–"
    return f"{p:.1g}" if p < 0.001 else f"{p:.3f}"


def in_a_row(names: Sequence[str]) -> str:
    """Return names as a sentence has them: ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), *names[-1:]] if len(names) > 2 else names)


def strength(delta: float) -> str:
    """Return in a word how large a Cliff's delta is."""
    return next(word for least, word in _STRENGTHS if abs(delta) >= least)


def strongest(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose difference stays after correction (Benjamini and Hochberg), the strongest first."""
    return _ordered(pairs[pairs["p_bh"] <= ALPHA]) if len(pairs) else pairs


def largest(pairs: pd.DataFrame, n: int = MOST) -> pd.DataFrame:
    """Return the rows of largest effects, whatever their p, the strongest first."""
    return _ordered(pairs[pairs["p"].notna()]).head(n) if len(pairs) else pairs


def _ordered(rows: pd.DataFrame) -> pd.DataFrame:
    # Between groups that do not overlap at all, delta is 1 whatever the distance.
    order = pd.DataFrame({"delta": rows["cliffs_delta"].abs().round(3), "g": rows["hedges_g"].abs().fillna(0)})
    return rows.loc[order.sort_values(["delta", "g"], ascending=False, kind="stable").index]


def sentences(rows: pd.DataFrame, dictionary: Dictionary) -> list[str]:
    """Return differences in words; rows without one are passed over."""
    found = []
    for _, row in rows[rows["higher"] != ""].iterrows() if len(rows) else ():
        higher_first = row["higher"] == row["group_a"]
        high, low = ("a", "b") if higher_first else ("b", "a")
        unit = unit_of(row["feature"], dictionary)
        size = "" if math.isnan(row["hedges_g"]) else f"Hedges' g {abs(row['hedges_g']):.2g}, "
        found.append(
            f"{row['class']}, {title_of(row['feature'])}: higher in {row[f'group_{high}']} than in "
            f"{row[f'group_{low}']} (median {number(row[f'median_{high}'])} against {number(row[f'median_{low}'])}"
            f"{f' {unit}' if unit else ''}; {size}Cliff's delta {abs(row['cliffs_delta']):.2f}, "
            f"{strength(row['cliffs_delta'])}; corrected p {p_words(row['p_bh'])})"
        )
    return found


def headline(pairs: pd.DataFrame) -> str:
    """Return in one sentence how many features differ."""
    tested = pairs[pairs["p"].notna()] if len(pairs) else pairs
    if not len(tested):
        return "There is nothing to test: no feature has values in two groups."
    n = int((tested["p_bh"] <= ALPHA).sum())
    exploratory = " (exploratory: objects were permuted, not samples)" if tested["exploratory"].all() else ""
    if n == 0:
        return f"None of {len(tested):,} comparisons differs after correction (BH, {ALPHA}){exploratory}."
    return f"{n:,} of {len(tested):,} comparisons differ after correction (BH, {ALPHA}){exploratory}."


def counts(pairs: pd.DataFrame) -> list[tuple[str, str, str, int, int]]:
    """Return per class and pair of groups: class, the two groups, how many features differ, of how many."""
    if not len(pairs):
        return []
    tested = pairs[pairs["p"].notna()]
    found = []
    for (kind, a, b), rows in tested.groupby(["class", "group_a", "group_b"], sort=False):
        found.append((str(kind), str(a), str(b), int((rows["p_bh"] <= ALPHA).sum()), len(rows)))
    return found


def markdown(
    pairs: pd.DataFrame, groups: Mapping[str, Sequence[str]], notes: Sequence[str], dictionary: Dictionary
) -> str:
    """Return the text of ``comparison.md``."""
    differ = strongest(pairs)
    told = sentences(differ.head(MOST) if len(differ) else largest(pairs, FEW), dictionary)
    lines = [f"# {in_a_row(list(groups))} compared", "", headline(pairs), ""]
    lines += [f"- **{name}**: {', '.join(samples)}" for name, samples in groups.items() if list(samples) != [name]]
    if told:
        title = "Strongest differences" if len(differ) else "Largest effects, none of which stays after correction"
        lines += ["", f"## {title}", "", *(f"{at}. {words}" for at, words in enumerate(told, 1))]
        more = len(differ) - len(told)
        if more > 0:
            lines += ["", f"{more:,} more are in comparison.csv."]
    lines += ["", "## How many features differ", "", "| class | groups | differ | tested |", "|---|---|---|---|"]
    lines += [f"| {kind} | {a} – {b} | {n} | {total} |" for kind, a, b, n, total in counts(pairs)]
    lines += ["", "## Please note", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"

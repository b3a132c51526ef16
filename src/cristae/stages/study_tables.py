"""The tables of Pagano et al. (2023) for a study of networks: effort, averages and ranks, Dice per number of slices.

A *method* is a network with a scheme (and a context, where several are compared).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cristae.stages.table2 import Entry
from cristae.wording import markdown_table

_METHOD = ["method", "network", "scheme", "context_nm"]
_MEASURES = {"dice_2d": "Mean 2D Dice", "dice_3d": "3D Dice"}
_DIGITS = 3
"""Dices that are equal to so many digits share a rank."""


@dataclass(frozen=True)
class Sheet:
    """A table to be shown: title, heads of the columns, and rows that begin with a name."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]


def with_methods(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of a study with one more column, ``method``: network and scheme in words."""
    several = table["context_nm"].nunique() > 1
    context = table["context_nm"].map(lambda nm: f", {nm:g} nm") if several else ""
    return table.assign(method=table["network"] + ", " + table["scheme"] + context)


def average_ranks(table: pd.DataFrame) -> pd.Series:
    """Return the average rank of each method over classes and numbers of slices, by 3D Dice; 1 is best.

    Parameters
    ----------
    table
        A row per trial and class: ``network``, ``scheme``, ``context_nm``, ``class``, ``n_slices``, ``repeat`` and
        ``dice_3d`` (0–1; a missing one is the worst), of which the mean over repeats is ranked.

    Returns
    -------
    Series
        By method, the best first. Methods that are equal to three digits share the mean of their ranks.
    """
    dice = with_methods(table).pivot_table(
        index=["class", "n_slices"], columns="method", values="dice_3d", aggfunc="mean", dropna=False
    )
    dice = dice.dropna(how="all", axis=0)
    ranks = dice.round(_DIGITS).rank(axis=1, ascending=False, method="average", na_option="bottom")
    return ranks.mean().sort_values(kind="stable").rename("average_rank")


def methods_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return Tables 1 and 2 in one: a row per method, the best first.

    Returns
    -------
    DataFrame
        ``method``, ``network``, ``scheme``, ``context_nm``, ``n_parameters``, ``updates`` (mean), ``training_seconds``
        and ``training_seconds_sd`` (over trials), ``dice_2d``, ``dice_3d`` and their ``_sd`` (of means over classes
        and numbers of slices, over repeats; NaN with one), ``worst_dice`` (lowest of any slice), ``average_rank``.
    """
    table = with_methods(table)
    trials = table.drop_duplicates("trial").groupby("method", sort=False)
    effort = trials.agg(
        network=("network", "first"),
        scheme=("scheme", "first"),
        context_nm=("context_nm", "first"),
        n_parameters=("n_parameters", "max"),
        updates=("updates", "mean"),
        training_seconds=("training_seconds", "mean"),
        training_seconds_sd=("training_seconds", "std"),
    )
    repeats = table.groupby(["method", "repeat"], sort=False)[list(_MEASURES)].mean().groupby("method", sort=False)
    means, spreads = repeats.mean(), repeats.std().add_suffix("_sd")
    worst = table.groupby("method", sort=False)["worst_dice"].min()
    joined = effort.join([means, spreads, worst, average_ranks(table)])
    best_first = joined.sort_values(["average_rank", "dice_3d"], ascending=[True, False], kind="stable")
    return best_first.reset_index()


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return Tables 3–6 in one: a row per method, class and number of slices, with means and sd over repeats."""
    groups = with_methods(table).groupby([*_METHOD, "class", "n_slices"], sort=False)
    return groups.agg(
        repeats=("repeat", "nunique"),
        **{name: (name, "mean") for name in _MEASURES},
        **{f"{name}_sd": (name, "std") for name in _MEASURES},
        worst_dice=("worst_dice", "min"),
        training_seconds=("training_seconds", "mean"),
    ).reset_index()


def sheets(table: pd.DataFrame) -> list[Sheet]:
    """Return the tables of the paper, methods down, the best first; the best of each column is marked."""
    methods = methods_table(table)
    several = methods["dice_3d_sd"].notna().any()
    found = [_effort(methods), _averages(methods)]
    means = summary(table)
    spread = ", mean ± sd over repeats" if several else ""
    for measure, words in _MEASURES.items():
        for name, rows in means.groupby("class", sort=False):
            found.append(_per_number(f"{words} of {name}{spread}", rows, measure, list(methods["method"])))
    return found


def markdown(table: pd.DataFrame, words: Sequence[str], notes: Sequence[str]) -> str:
    """Return the whole as Markdown: the answer in words, the tables, and notes."""
    lines = [f"**{words[0]}**", ""] if words else []
    lines += [line for sentence in words[1:] for line in (sentence, "")]
    for number, sheet in enumerate(sheets(table), start=1):
        rows = [[f"**{one.text}**" if one.best else one.text for one in row] for row in sheet.rows]
        lines += [f"Table {number}. {sheet.title}.", "", *markdown_table(sheet.head, rows), ""]
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"


def _effort(methods: pd.DataFrame) -> Sheet:
    rows = [
        (
            Entry(row["method"], False),
            Entry("–" if pd.isna(row["n_parameters"]) else f"{row['n_parameters']:,}", False),
            Entry(f"{row['updates']:.0f}", False),
            Entry(_mean_sd(row["training_seconds"], row["training_seconds_sd"], 1), False),
        )
        for _, row in methods.iterrows()
    ]
    head = ("Method", "Parameters", "Updates", "Training time in s")
    return Sheet("Parameters and training time of one training", head, tuple(rows))


def _averages(methods: pd.DataFrame) -> Sheet:
    columns = [methods[name].round(_DIGITS) for name in (*_MEASURES, "worst_dice", "average_rank")]
    best = [column.max() for column in columns[:3]] + [columns[3].min()]
    rows = []
    for index, (_, row) in enumerate(methods.iterrows()):
        texts = [
            *(_mean_sd(row[name], row[f"{name}_sd"]) for name in _MEASURES),
            _mean_sd(row["worst_dice"], np.nan),
            f"{row['average_rank']:.2f}",
        ]
        marked = [column.iloc[index] == top for column, top in zip(columns, best, strict=True)]
        rows.append((Entry(row["method"], False), *map(Entry, texts, marked)))
    head = ("Method", *_MEASURES.values(), "Worst slice", "Average rank")
    return Sheet("Averages over classes and numbers of slices, and average rank by 3D Dice", head, tuple(rows))


def _per_number(title: str, means: pd.DataFrame, measure: str, order: Sequence[str]) -> Sheet:
    """Return the table of one class and one measure: methods down, numbers of slices across."""
    numbers = sorted({int(n) for n in means["n_slices"]})
    columns = ("method", "n_slices", measure, f"{measure}_sd")
    found = {(str(one), int(n)): (mean, sd) for one, n, mean, sd in zip(*(means[c] for c in columns), strict=True)}
    best = {n: means.loc[means["n_slices"] == n, measure].round(_DIGITS).max() for n in numbers}
    rows = []
    for method in order:
        entries = [Entry(method, False)]
        for n in numbers:
            mean, spread = found[method, n]
            entries.append(Entry(_mean_sd(mean, spread), round(mean, _DIGITS) == best[n]))
        rows.append(tuple(entries))
    head = ("Method", *(f"{n} slice{'s' * (n > 1)}" for n in numbers))
    return Sheet(title, head, tuple(rows))


def _mean_sd(mean: float, spread: float, digits: int = _DIGITS) -> str:
    if math.isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" + ("" if math.isnan(spread) else f" ± {spread:.{digits}f}")
